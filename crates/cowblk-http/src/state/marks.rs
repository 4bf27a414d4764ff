//! Marks: what the daemon writes into labels of the store's own catalog, where it cannot disagree with it.
//!
//! Labels that begin with `cowblk.` are the daemon's; the API neither shows them nor lets anyone set them.

use cowblk::{Labels, Server, ServerMarks};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Label of a server: its status.
pub(crate) const STATUS: &str = "cowblk.status";
/// Label of a server: when it last changed, in UTC seconds.
pub(crate) const UPDATED_AT: &str = "cowblk.updated_at";
/// Label of a server or snapshot: the hash of the Idempotency-Key that made it.
pub(crate) const REQUEST: &str = "cowblk.request";
/// Label of a snapshot: the consistency that was reached, where it is more than that of a crash.
pub(crate) const CONSISTENCY: &str = "cowblk.consistency";
/// Label of a snapshot that is the daemon's own: what it is for.
pub(crate) const HIDDEN: &str = "cowblk.hidden";
/// Label of a snapshot that a schedule made.
pub(crate) const SCHEDULED: &str = "cowblk.scheduled";
/// Label of a backup, and of the hidden snapshot that it began as: who asked for it.
pub(crate) const BACKUP: &str = "cowblk.backup";
/// Label of a backup: the id of the hidden snapshot that it began as, which is its own.
pub(crate) const BACKUP_ID: &str = "cowblk.backup_id";
/// Label of a backup: its server.
pub(crate) const SERVER_ID: &str = "cowblk.server_id";
/// Label of a backup: what its server was called.
pub(crate) const SERVER_NAME: &str = "cowblk.server_name";
const PREFIX: &str = "cowblk.";

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServerStatus {
    /// Its guest may be running.
    Active,
    /// Its guest is not running.
    Stopped,
    /// Somebody has put it aside; only looking, deleting and taking that back is allowed.
    Suspended,
    /// A restore is under way.
    Restoring,
}

impl ServerStatus {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Stopped => "stopped",
            Self::Suspended => "suspended",
            Self::Restoring => "restoring",
        }
    }
}

/// The status in the labels. `restoring` is never written: it cannot outlive the process that restores.
pub(crate) fn status_of(marks: &ServerMarks) -> ServerStatus {
    match marks.labels.get(STATUS).map(String::as_str) {
        Some("active") => ServerStatus::Active,
        Some("suspended") => ServerStatus::Suspended,
        _ => ServerStatus::Stopped,
    }
}

/// Writes the status. Durable when this returns.
pub(crate) fn set_status(server: &Server, status: ServerStatus, now: u64) -> cowblk::Result<()> {
    let mut marks = server.marks();
    marks.labels.insert(STATUS.into(), status.word().into());
    marks.labels.insert(UPDATED_AT.into(), now.to_string());
    server.set_marks(marks)
}

/// The labels that are not the daemon's.
pub(crate) fn own_labels_of(labels: Labels) -> Labels {
    labels.into_iter().filter(|(key, _)| !is_reserved(key)).collect()
}

/// Refuses labels that are the daemon's.
pub(crate) fn own_labels(labels: &Labels) -> Result<(), String> {
    match labels.keys().find(|key| is_reserved(key)) {
        Some(key) => {
            Err(format!("the label `{key}` is the daemon's own: labels must not begin with `{PREFIX}`"))
        }
        None => Ok(()),
    }
}

fn is_reserved(key: &str) -> bool {
    key.starts_with(PREFIX)
}
