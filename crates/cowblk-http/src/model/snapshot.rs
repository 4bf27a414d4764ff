//! Snapshots on the wire.

use crate::state::{CONSISTENCY, HIDDEN, own_labels_of};
use crate::times::{mebibytes, rfc3339};
use cowblk::{Labels, Server, Snapshot, SnapshotDisk, SnapshotKind, SnapshotStatus};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The server that something belongs to.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Owner {
    #[schema(example = 12345)]
    pub(crate) id: u64,
    #[schema(example = "web-server-01")]
    pub(crate) name: String,
}

/// A snapshot.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SnapshotView {
    #[schema(example = 801)]
    pub(crate) id: u64,
    pub(crate) server: Owner,
    #[schema(example = "pre-migration-snapshot")]
    pub(crate) name: String,
    /// `in_progress` until its size is known, then `completed`. It can be restored at once.
    pub(crate) status: &'static str,
    /// Its distinct blocks in MiB, rounded up; null while it is in progress.
    pub(crate) size_mb: Option<u64>,
    #[schema(example = "2025-01-15T18:30:00Z")]
    pub(crate) created_at: String,
    pub(crate) description: String,
    /// What deleting it would free, in MiB, rounded up; null while that is being counted.
    pub(crate) exclusive_mb: Option<u64>,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) exclusive_bytes: Option<u64>,
    /// `crash`: what a power cut would have left. `filesystem`: the guest had written everything out.
    pub(crate) consistency: String,
    /// `user`, or `before_restore` for what the last restore replaced.
    pub(crate) kind: &'static str,
    /// The snapshot that it descends from.
    pub(crate) parent: Option<u64>,
    /// It cannot be deleted until this is taken back.
    pub(crate) protected: bool,
    pub(crate) expires_at: Option<String>,
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub(crate) labels: Labels,
    pub(crate) disks: Vec<SnapshotDiskView>,
}

/// A disk in a snapshot.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SnapshotDiskView {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    pub(crate) mapped_bytes: Option<u64>,
}

/// A snapshot that was just made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CreatedView {
    #[serde(flatten)]
    pub(crate) snapshot: SnapshotView,
    pub(crate) message: String,
}

/// What a new snapshot is asked to be.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct NewSnapshotView {
    #[schema(example = 12345)]
    pub(crate) server_id: u64,
    /// Letters, digits, hyphens, underscores; unique among the server's snapshots.
    #[schema(
        example = "before-update-snapshot",
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9_-]+$"
    )]
    pub(crate) name: String,
    /// At most 1024 bytes.
    #[serde(default)]
    pub(crate) description: Option<String>,
    /// It cannot be deleted until this is taken back.
    #[serde(default)]
    pub(crate) protected: bool,
    /// When it is deleted by itself, as in `2025-02-15T00:00:00Z`.
    #[serde(default)]
    pub(crate) expires_at: Option<String>,
    /// At most 16.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub(crate) labels: Labels,
}

/// What is to change about a snapshot; what is not named stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub(crate) struct SnapshotChangeView {
    #[serde(default)]
    pub(crate) protected: Option<bool>,
    /// An empty text: never.
    #[serde(default)]
    pub(crate) expires_at: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<std::collections::HashMap<String, String>>)]
    pub(crate) labels: Option<Labels>,
}

/// A snapshot, in brief.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Brief {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) created_at: String,
}

/// A server, in brief.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct OwnerStatus {
    pub(crate) id: u64,
    pub(crate) name: String,
    #[schema(example = "restoring")]
    pub(crate) status: &'static str,
}

/// What a restore answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RestoredView {
    #[schema(example = "success")]
    pub(crate) status: &'static str,
    pub(crate) message: String,
    pub(crate) snapshot: Brief,
    pub(crate) server: OwnerStatus,
}

/// What a retention policy makes of a snapshot.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Fate {
    pub(crate) server: Owner,
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) created_at: String,
    pub(crate) kept: bool,
    pub(crate) expired: bool,
    /// Why it stays.
    pub(crate) reasons: Vec<String>,
}

/// Whether a snapshot is for everybody to see.
pub(crate) fn is_shown(snapshot: &Snapshot) -> bool {
    !snapshot.marks().labels.contains_key(HIDDEN)
}

impl Owner {
    pub(crate) fn of(server: &Server) -> Self {
        Self { id: server.id().0, name: server.name() }
    }
}

impl SnapshotView {
    pub(crate) fn of(snapshot: &Snapshot, owner: &Owner) -> Self {
        let (size_bytes, exclusive_bytes) = (snapshot.size_bytes(), snapshot.exclusive_bytes());
        let marks = snapshot.marks();
        let is_automatic = snapshot.kind() == SnapshotKind::BeforeRestore;
        Self {
            id: snapshot.id().0,
            server: owner.clone(),
            name: if is_automatic { "before-restore".into() } else { snapshot.name() },
            status: match snapshot.status() {
                SnapshotStatus::InProgress => "in_progress",
                SnapshotStatus::Completed | SnapshotStatus::Deleted => "completed",
            },
            size_mb: size_bytes.map(mebibytes),
            created_at: rfc3339(snapshot.created_at()),
            description: snapshot.description(),
            exclusive_mb: exclusive_bytes.map(mebibytes),
            size_bytes,
            exclusive_bytes,
            consistency: marks.labels.get(CONSISTENCY).cloned().unwrap_or_else(|| "crash".into()),
            kind: if is_automatic { "before_restore" } else { "user" },
            parent: snapshot.parent().map(|id| id.0),
            protected: marks.protected,
            expires_at: marks.expires_at.map(rfc3339),
            labels: own_labels_of(marks.labels),
            disks: snapshot.disks().iter().map(SnapshotDiskView::of).collect(),
        }
    }
}

impl SnapshotDiskView {
    fn of(disk: &SnapshotDisk) -> Self {
        let (id, name) = (disk.id().0, disk.name());
        Self { id, name, size_bytes: disk.size_bytes(), mapped_bytes: disk.mapped_bytes() }
    }
}

impl CreatedView {
    /// A snapshot at the moment of its creation: nobody has counted it yet.
    pub(crate) fn of(snapshot: &Snapshot, owner: &Owner, message: &str) -> Self {
        let mut view = SnapshotView::of(snapshot, owner);
        view.status = "in_progress";
        (view.size_mb, view.size_bytes) = (None, None);
        (view.exclusive_mb, view.exclusive_bytes) = (None, None);
        Self { snapshot: view, message: message.into() }
    }
}

impl RestoredView {
    pub(crate) fn of(snapshot: (u64, String, u64), owner: &Owner, message: String) -> Self {
        let (id, name, created_at) = snapshot;
        Self {
            status: "success",
            message,
            snapshot: Brief { id, name, created_at: rfc3339(created_at) },
            server: OwnerStatus { id: owner.id, name: owner.name.clone(), status: "restoring" },
        }
    }
}
