//! Marks: what users set on a server, a disk or a snapshot, beside what it holds.
//!
//! Floor 1. They are parts of catalog records (docs/format.md, "Catalog records").

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Free words that an embedder hangs on a server or a snapshot. The library never reads them.
pub type Labels = BTreeMap<String, String>;

/// What keeps a snapshot, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMarks {
    /// It cannot be deleted, not even with its server, until this is taken back.
    pub protected: bool,
    /// When it is deleted by itself, in UTC seconds since 1970; `None` for never.
    pub expires_at: Option<u64>,
    /// Free words: at most 16, and 512 bytes together.
    pub labels: Labels,
}

/// What a server may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerMarks {
    /// The most snapshots that users can make of it; those that a restore keeps do not count.
    pub max_snapshots: Option<u32>,
    /// The most bytes that the sizes of its disks can add up to.
    pub max_disk_bytes: Option<u64>,
    /// Free words: at most 16, and 512 bytes together.
    pub labels: Labels,
}

/// What a server is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServerKind {
    /// Users made it, and see it.
    #[default]
    User,
    /// It holds what is still being received; no listing shows it.
    Staging,
}

/// What a write to a disk does when the store is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WhenFull {
    /// It fails at once with [`ErrorKind::Full`](crate::ErrorKind::Full).
    #[default]
    Fail,
    /// It waits so many seconds for space, and fails then.
    WaitSeconds(u32),
}

impl WhenFull {
    /// How long a write waits for space.
    pub fn patience(self) -> Duration {
        match self {
            Self::Fail => Duration::ZERO,
            Self::WaitSeconds(seconds) => Duration::from_secs(seconds.into()),
        }
    }
}
