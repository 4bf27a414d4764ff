//! State: what outlives a crash beside the store, in a folder of its own that only its owner can read.
//!
//! ```text
//! pool.cow.serve/
//!   tokens.json       who may come in: hashes only
//!   servers/12.json   what a block store cannot know of server 12: hostname, hooks, schedule
//!   serving.json      where the daemon listens, while it does
//!   requests.journal  requests under way, and the answers of those that carried an Idempotency-Key
//!   audit.log         every request that changes something
//!   backups.cow       the separate store of backups
//! ```
//!
//! The store is the truth about servers, disks and snapshots. A server's status and its limits are labels in the
//! store's own catalog, so that they cannot disagree with it.

mod audit;
mod details;
mod files;
mod journal;
mod marks;
mod serving;
mod tokens;

pub(crate) use audit::{Audit, AuditLine};
pub(crate) use details::{Details, DetailsBook};
pub(crate) use journal::{Answer, Claim, Interrupted, Journal, Witness};
pub(crate) use marks::{
    BACKUP, BACKUP_ID, CONSISTENCY, HIDDEN, REQUEST, SCHEDULED, SERVER_ID, SERVER_NAME, STATUS, ServerStatus,
    UPDATED_AT, own_labels, own_labels_of, set_status, status_of,
};
pub(crate) use serving::Serving;
pub use serving::serving_at;
pub(crate) use tokens::Holder;
pub use tokens::{NewToken, Scope, TokenView, Tokens};

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where a daemon keeps its state: beside the store's file, under its name and `.serve`.
pub fn state_folder(store: &Path) -> PathBuf {
    let mut name = OsString::from(store);
    name.push(".serve");
    PathBuf::from(name)
}
