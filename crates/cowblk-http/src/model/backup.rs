//! Backups on the wire.

use super::snapshot::Owner;
use crate::state::{BACKUP, BACKUP_ID, SERVER_ID, SERVER_NAME};
use crate::times::{mebibytes, rfc3339};
use cowblk::{Server, Snapshot};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who asked for a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BackupType {
    /// A request.
    Manual,
    /// The daily schedule.
    Automatic,
}

impl BackupType {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Automatic => "automatic",
        }
    }
}

/// A backup: a copy of a server's disks in a store of its own.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BackupView {
    pub(crate) id: u64,
    pub(crate) server: Owner,
    pub(crate) backup_type: BackupType,
    /// `in_progress` until the copy is complete, then `completed`.
    pub(crate) status: &'static str,
    /// Its distinct blocks in MiB, rounded up; null while it is in progress.
    pub(crate) size_mb: Option<u64>,
    pub(crate) created_at: String,
    /// When it is deleted by itself; null for manual ones.
    pub(crate) expires_at: Option<String>,
    pub(crate) description: String,
}

/// A backup that is to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct NewBackupView {
    #[schema(example = 12345)]
    pub(crate) server_id: u64,
    /// At most 1024 bytes.
    #[serde(default)]
    pub(crate) description: Option<String>,
}

impl BackupView {
    /// One that is complete, as the store of backups has it.
    pub(crate) fn complete(snapshot: &Snapshot) -> Option<Self> {
        let marks = snapshot.marks();
        let label = |key: &str| marks.labels.get(key);
        let backup_type = type_of(label(BACKUP)?)?;
        Some(Self {
            id: label(BACKUP_ID)?.parse().ok()?,
            server: Owner { id: label(SERVER_ID)?.parse().ok()?, name: label(SERVER_NAME)?.clone() },
            backup_type,
            status: "completed",
            size_mb: snapshot.size_bytes().map(mebibytes),
            created_at: rfc3339(snapshot.created_at()),
            expires_at: marks.expires_at.map(rfc3339),
            description: snapshot.description(),
        })
    }

    /// One that is being copied, as the store of servers has it.
    pub(crate) fn under_way(snapshot: &Snapshot, server: &Server) -> Option<Self> {
        let backup_type = type_of(snapshot.marks().labels.get(BACKUP)?)?;
        Some(Self {
            id: snapshot.id().0,
            server: Owner::of(server),
            backup_type,
            status: "in_progress",
            size_mb: None,
            created_at: rfc3339(snapshot.created_at()),
            expires_at: None,
            description: snapshot.description(),
        })
    }
}

fn type_of(word: &str) -> Option<BackupType> {
    [BackupType::Manual, BackupType::Automatic].into_iter().find(|one| one.word() == word)
}
