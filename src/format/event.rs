//! Events: changes of the catalog, as the journal carries them.
//!
//! Floor 1. An event says everything that applying it needs (ids, epochs, times), so that replaying it
//! after a crash gives what applying it gave the first time.

use super::codec;
use super::marks::{ServerKind, ServerMarks, SnapshotMarks, WhenFull};
use crate::units::{DiskId, Epoch, ServerId, SnapshotId, VersionId};
use serde::{Deserialize, Serialize};

/// A version that an event freezes a disk's content into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewVersion {
    pub(crate) disk: DiskId,
    pub(crate) version: VersionId,
}

/// A disk that an event makes from a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewDisk {
    pub(crate) version: VersionId,
    pub(crate) disk: DiskId,
}

/// A disk of a staging server that becomes a version of a snapshot of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AdoptedDisk {
    pub(crate) disk: DiskId,
    pub(crate) version: VersionId,
    /// Whose version it is from now on.
    pub(crate) as_disk: DiskId,
}

/// A change of the catalog. `epoch` is that of the versions it freezes; heads go on with `epoch + 1` as birth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The store has this many zones from now on.
    Grow {
        zones: u64,
    },
    CreateServer {
        id: ServerId,
        name: String,
        created_at: u64,
        kind: ServerKind,
    },
    /// The server, its disks and all its snapshots go.
    DeleteServer {
        id: ServerId,
        epoch: Epoch,
        versions: Vec<NewVersion>,
    },
    CreateDisk {
        id: DiskId,
        server: ServerId,
        name: String,
        size_bytes: u64,
        created_at: u64,
        birth: Epoch,
    },
    DeleteDisk {
        id: DiskId,
        epoch: Epoch,
        version: VersionId,
    },
    ResizeDisk {
        id: DiskId,
        size_bytes: u64,
    },
    /// Freezes every disk of a server at this place of the journal.
    Snapshot {
        id: SnapshotId,
        server: ServerId,
        name: String,
        description: String,
        created_at: u64,
        identity: [u8; 16],
        marks: SnapshotMarks,
        epoch: Epoch,
        versions: Vec<NewVersion>,
    },
    DeleteSnapshot {
        id: SnapshotId,
    },
    /// The server's disks go back to a snapshot. What they held becomes the snapshot `replaced`.
    Restore {
        snapshot: SnapshotId,
        replaced: SnapshotId,
        created_at: u64,
        identity: [u8; 16],
        /// When `replaced` is deleted by itself.
        expires_at: Option<u64>,
        epoch: Epoch,
        versions: Vec<NewVersion>,
    },
    /// A new server with the disks of a snapshot. Its heads have `birth`.
    CloneServer {
        snapshot: SnapshotId,
        id: ServerId,
        name: String,
        kind: ServerKind,
        created_at: u64,
        birth: Epoch,
        disks: Vec<NewDisk>,
    },
    /// A new disk with the content of a version.
    CloneDisk {
        new: NewDisk,
        server: ServerId,
        name: String,
        created_at: u64,
        birth: Epoch,
    },
    /// The disks of a clone go back to what they were cloned from. What they held is not kept.
    Reset {
        epoch: Epoch,
        versions: Vec<NewVersion>,
    },
    /// The disks of a staging server become a snapshot of another one; the staging server goes.
    Adopt {
        staging: ServerId,
        server: ServerId,
        id: SnapshotId,
        name: String,
        description: String,
        created_at: u64,
        identity: [u8; 16],
        origin: Option<[u8; 16]>,
        epoch: Epoch,
        disks: Vec<AdoptedDisk>,
    },
    MarkServer {
        id: ServerId,
        marks: ServerMarks,
    },
    MarkSnapshot {
        id: SnapshotId,
        marks: SnapshotMarks,
    },
    MarkDisk {
        id: DiskId,
        when_full: WhenFull,
    },
}

impl Event {
    /// The event's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The event in `bytes`; `None` where they are something else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        codec::decode(bytes)
    }
}
