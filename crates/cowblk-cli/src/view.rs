//! What listings say about servers, disks and snapshots: the JSON objects, whose keys are a promise.

use cowblk::{Disk, Labels, Server, Snapshot, SnapshotDisk, SnapshotKind, SnapshotStatus, Store};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

use crate::failure::Failure;
use crate::session::all_snapshots;
use crate::{sizes, times};

/// The server that a disk or a snapshot belongs to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) id: u64,
    pub(crate) name: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServerView {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) created_at: String,
    /// The snapshot that it was cloned from, if that still exists.
    pub(crate) origin: Option<u64>,
    #[serde(alias = "snapshot_limit")]
    pub(crate) max_snapshots: Option<u32>,
    pub(crate) max_disk_bytes: Option<u64>,
    pub(crate) labels: Labels,
    /// The sums over its disks, of what each refers to…
    pub(crate) mapped_bytes: Option<u64>,
    /// …together with others…
    pub(crate) shared_bytes: Option<u64>,
    /// …and alone.
    pub(crate) exclusive_bytes: Option<u64>,
    pub(crate) disks: Vec<DiskView>,
    #[serde(default)]
    pub(crate) snapshots: Vec<SnapshotView>,
    /// What its daemon says that it does; nobody else knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskView {
    pub(crate) id: u64,
    #[serde(default)]
    pub(crate) server: Owner,
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    /// What it refers to, as of the last checkpoint.
    pub(crate) mapped_bytes: Option<u64>,
    /// Of that, what a snapshot or another disk refers to, too.
    pub(crate) shared_bytes: Option<u64>,
    /// Of that, what goes with the disk.
    pub(crate) exclusive_bytes: Option<u64>,
    pub(crate) created_at: String,
    /// The snapshot that the content descends from.
    pub(crate) parent: Option<u64>,
    /// How long writes wait for space when the store is full.
    pub(crate) when_full_wait_seconds: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotView {
    pub(crate) id: u64,
    pub(crate) server: Owner,
    pub(crate) name: String,
    pub(crate) kind: Cow<'static, str>,
    pub(crate) status: Cow<'static, str>,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) size_mb: Option<u64>,
    pub(crate) exclusive_bytes: Option<u64>,
    pub(crate) exclusive_mb: Option<u64>,
    pub(crate) created_at: String,
    pub(crate) description: String,
    pub(crate) protected: bool,
    pub(crate) expires_at: Option<String>,
    pub(crate) labels: Labels,
    pub(crate) parent: Option<u64>,
    pub(crate) disks: Vec<SnapshotDiskView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotDiskView {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) size_bytes: u64,
    pub(crate) mapped_bytes: Option<u64>,
}

impl Owner {
    pub(crate) fn of(server: &Server) -> Owner {
        Owner { id: server.id().0, name: server.name() }
    }
}

impl ServerView {
    pub(crate) fn of(server: &Server) -> ServerView {
        let owner = Owner::of(server);
        let marks = server.marks();
        let disks = server.disks().iter().map(|disk| DiskView::of(disk, &owner)).collect();
        let space = server.space(); // its disks were counted just now
        ServerView {
            id: owner.id,
            name: owner.name.clone(),
            created_at: times::rfc3339(server.created_at()),
            origin: server.origin().map(|id| id.0),
            max_snapshots: marks.max_snapshots,
            max_disk_bytes: marks.max_disk_bytes,
            labels: marks.labels,
            mapped_bytes: Some(space.referenced_bytes),
            shared_bytes: space.shared_bytes(),
            exclusive_bytes: space.exclusive_bytes,
            disks,
            snapshots: all_snapshots(server)
                .iter()
                .map(|snapshot| SnapshotView::of(snapshot, &owner))
                .collect(),
            status: None,
        }
    }
}

impl DiskView {
    pub(crate) fn of(disk: &Disk, owner: &Owner) -> DiskView {
        drop(disk.count_space()); // what cannot be counted is not shown
        let space = disk.space();
        DiskView {
            id: disk.id().0,
            server: owner.clone(),
            name: disk.name(),
            size_bytes: disk.size_bytes(),
            mapped_bytes: space.map(|space| space.referenced_bytes),
            shared_bytes: space.and_then(|space| space.shared_bytes()),
            exclusive_bytes: space.and_then(|space| space.exclusive_bytes),
            created_at: times::rfc3339(disk.created_at()),
            parent: disk.parent().map(|id| id.0),
            when_full_wait_seconds: disk.when_full().patience().as_secs(),
        }
    }
}

impl SnapshotView {
    pub(crate) fn of(snapshot: &Snapshot, owner: &Owner) -> SnapshotView {
        drop(snapshot.count_sizes()); // what cannot be counted is not shown
        let size_bytes = snapshot.size_bytes();
        let marks = snapshot.marks();
        SnapshotView {
            id: snapshot.id().0,
            server: owner.clone(),
            name: snapshot.name(),
            kind: match snapshot.kind() {
                SnapshotKind::User => "user".into(),
                SnapshotKind::BeforeRestore => "before_restore".into(),
            },
            status: match snapshot.status() {
                SnapshotStatus::InProgress => "in_progress".into(),
                SnapshotStatus::Completed => "completed".into(),
                SnapshotStatus::Deleted => "deleted".into(),
            },
            size_bytes,
            size_mb: size_bytes.map(sizes::mebibytes),
            exclusive_bytes: snapshot.exclusive_bytes(),
            exclusive_mb: snapshot.exclusive_bytes().map(sizes::mebibytes),
            created_at: times::rfc3339(snapshot.created_at()),
            description: snapshot.description(),
            protected: marks.protected,
            expires_at: marks.expires_at.map(times::rfc3339),
            labels: marks.labels,
            parent: snapshot.parent().map(|id| id.0),
            disks: snapshot.disks().iter().map(SnapshotDiskView::of).collect(),
        }
    }

    /// The name, or for the automatic snapshot, which has no name of the user's, what it is.
    pub(crate) fn title(&self) -> &str {
        if self.kind == "before_restore" { "(before restore)" } else { &self.name }
    }
}

impl SnapshotDiskView {
    fn of(disk: &SnapshotDisk) -> SnapshotDiskView {
        SnapshotDiskView {
            id: disk.id().0,
            name: disk.name(),
            size_bytes: disk.size_bytes(),
            mapped_bytes: disk.mapped_bytes(),
        }
    }
}

/// All servers of the store, or the one that was asked for.
pub(crate) fn servers(store: &Store, only: Option<&str>) -> Result<Vec<ServerView>, Failure> {
    let servers = match only {
        Some(name) => vec![crate::session::server(store, name)?],
        None => store.servers(),
    };
    Ok(servers.iter().map(ServerView::of).collect())
}
