//! Handles: a snapshot, and one disk in it.
//!
//! Floor 6.

use crate::catalog::SizeOf;
use crate::catalog::check_labels;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Event, SnapshotKind, SnapshotMarks, SnapshotRecord, VersionRecord};
use crate::store::{Extents, Purpose, Shared, Source, State};
use crate::units::{DiskId, ServerId, SnapshotId, VersionId};
use serde::Serialize;
use std::ops::Range;
use std::sync::Arc;

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotStatus {
    /// It is durable and can be used; its size is not counted yet.
    InProgress,
    /// Its size is known.
    Completed,
    /// It was deleted.
    Deleted,
}

/// A snapshot of a server. Clones are handles of the same snapshot.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) shared: Arc<Shared>,
    pub(super) id: SnapshotId,
}

/// One disk, as a snapshot holds it. Reads on after the disk was deleted, but not after the snapshot was.
#[derive(Clone)]
pub struct SnapshotDisk {
    pub(super) shared: Arc<Shared>,
    pub(super) id: VersionId,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("id", &self.id).field("name", &self.name()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SnapshotDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotDisk")
            .field("disk", &self.id())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(super) fn new(shared: &Arc<Shared>, id: SnapshotId) -> Self {
        Self { shared: shared.clone(), id }
    }

    fn record<T>(&self, get: impl FnOnce(&State, &SnapshotRecord) -> T) -> Result<T> {
        let state = self.shared.state();
        state.snapshot(self.id).map(|record| get(&state, record))
    }

    /// Its id, never reused.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// Its name; empty once it was deleted.
    pub fn name(&self) -> String {
        self.record(|_, record| record.name.clone()).unwrap_or_default()
    }

    /// What it was made for.
    pub fn description(&self) -> String {
        self.record(|_, record| record.description.clone()).unwrap_or_default()
    }

    /// When it was made, in UTC seconds since 1970.
    pub fn created_at(&self) -> u64 {
        self.record(|_, record| record.created_at).unwrap_or_default()
    }

    /// The server that it is of; 0 once it was deleted.
    pub fn server(&self) -> ServerId {
        self.record(|_, record| record.server).unwrap_or_default()
    }

    /// Whether a user or a restore made it.
    pub fn kind(&self) -> SnapshotKind {
        self.record(|_, record| record.kind).unwrap_or(SnapshotKind::User)
    }

    /// Sixteen random bytes that it is known by in every store that it was sent to; zeros once it was deleted.
    pub fn identity(&self) -> [u8; 16] {
        self.record(|_, record| record.identity).unwrap_or_default()
    }

    /// The uuid of the store that it was made in, where it was received from another one.
    pub fn origin(&self) -> Option<[u8; 16]> {
        self.record(|_, record| record.origin).ok()?
    }

    /// What keeps it, and its labels.
    pub fn marks(&self) -> SnapshotMarks {
        self.record(|_, record| record.marks.clone()).unwrap_or_default()
    }

    /// Sets what keeps it, and its labels. Durable when this returns.
    ///
    /// # Errors
    /// `Invalid` for too many or too long labels, `NotFound`.
    pub fn set_marks(&self, marks: SnapshotMarks) -> Result<()> {
        check_labels(&marks.labels)?;
        self.shared.execute((Purpose::Relief, 1), |state| {
            state.snapshot(self.id)?;
            Ok(Event::MarkSnapshot { id: self.id, marks })
        })?;
        Ok(())
    }

    /// How far it is.
    pub fn status(&self) -> SnapshotStatus {
        let settled =
            self.record(|state, record| !record.versions.iter().any(|id| state.unsettled.contains_key(id)));
        match settled {
            Ok(true) => SnapshotStatus::Completed,
            Ok(false) => SnapshotStatus::InProgress,
            Err(_) => SnapshotStatus::Deleted,
        }
    }

    /// The snapshot that its disks descend from: the nearest one that was not deleted.
    pub fn parent(&self) -> Option<SnapshotId> {
        self.record(|state, record| {
            let first = record.versions.iter().find_map(|id| state.catalog.versions.get(id))?;
            parent_of(state, first)
        })
        .ok()?
    }

    /// Bytes of the blocks that it refers to, each counted once; `None` while it is in progress, or, in a store with blocks
    /// that [`dedup`](crate::Store::dedup) shared, while that is being counted.
    pub fn size_bytes(&self) -> Option<u64> {
        let block_size = u64::from(self.shared.block_size());
        let mapped = self.record(|state, record| {
            let settled = |id: &VersionId| {
                (!state.unsettled.contains_key(id)).then(|| state.catalog.versions.get(id)).flatten()
            };
            let mapped = record.versions.iter().map(|id| settled(id).map(|version| version.root.mapped));
            let mapped = mapped.sum::<Option<u64>>()?;
            self.shared.engine.distinct_blocks(state, record.id, mapped)
        });
        mapped.ok()?.map(|blocks| blocks * block_size)
    }

    /// Bytes of the blocks that it alone refers to: what deleting it would free. `None` while that is being counted.
    pub fn exclusive_bytes(&self) -> Option<u64> {
        let block_size = u64::from(self.shared.block_size());
        let alone = self.record(|state, record| {
            let count = |id: &VersionId| state.catalog.versions.get(id)?.exclusive;
            let alone = record.versions.iter().map(count).sum::<Option<u64>>()?;
            self.shared.engine.blocks_alone(state, SizeOf::Snapshot(record.id), alone)
        });
        alone.ok()?.map(|blocks| blocks * block_size)
    }

    /// Counts [`size_bytes`](Self::size_bytes) and [`exclusive_bytes`](Self::exclusive_bytes) now if nobody has counted them yet,
    /// instead of in the background: for a store without a background thread, as one that was opened read-only. It walks what differs between the
    /// snapshot and those around it; where blocks are shared, its map.
    ///
    /// # Errors
    /// `Io` if the medium fails.
    pub fn count_sizes(&self) -> Result<()> {
        // Both are asked for: asking is what has them counted.
        let is_known = || self.size_bytes().is_some() & self.exclusive_bytes().is_some();
        self.shared.engine.count_now(is_known)
    }

    /// The disks that it holds, by id.
    pub fn disks(&self) -> Vec<SnapshotDisk> {
        let versions = self.record(|_, record| record.versions.clone()).unwrap_or_default();
        versions.into_iter().map(|id| SnapshotDisk { shared: self.shared.clone(), id }).collect()
    }

    /// The disk that had this name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn disk(&self, name: &str) -> Result<SnapshotDisk> {
        let found = self.record(|state, record| {
            let named = |id: &&VersionId| {
                state.catalog.versions.get(id).is_some_and(|version| version.disk_name == name)
            };
            record.versions.iter().find(named).copied()
        })?;
        let missing =
            || Error::new(ErrorKind::NotFound, format!("snapshot {:?} holds no disk {name:?}", self.name()));
        found.map(|id| SnapshotDisk { shared: self.shared.clone(), id }).ok_or_else(missing)
    }
}

/// The snapshot that shows the nearest ancestor of a version.
fn parent_of(state: &State, version: &VersionRecord) -> Option<SnapshotId> {
    let shown = state.catalog.nearest_shown(version.parent)?;
    state.catalog.versions.get(&shown)?.snapshot
}

impl SnapshotDisk {
    fn record<T>(&self, get: impl FnOnce(&State, &VersionRecord) -> T) -> Result<T> {
        let state = self.shared.state();
        state.shown(self.id).map(|version| get(&state, version))
    }

    /// The id of the disk that was frozen.
    pub fn id(&self) -> DiskId {
        self.record(|_, version| version.disk).unwrap_or_default()
    }

    /// The name that the disk had.
    pub fn name(&self) -> String {
        self.record(|_, version| version.disk_name.clone()).unwrap_or_default()
    }

    /// The size that the disk had, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.record(|_, version| version.size_bytes).unwrap_or_default()
    }

    /// The snapshot that it descends from: the nearest one that was not deleted.
    pub fn parent(&self) -> Option<SnapshotId> {
        self.record(parent_of).ok()?
    }

    /// Fills `buf` from `offset` (bytes). Holes read as zeros; every block is verified.
    ///
    /// # Errors
    /// `OutOfRange` past the end, `Corrupt` for a block that fails its checksum, `NotFound` once the
    /// snapshot was deleted, `Io`.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.shared.read(&Source::Version(self.id), buf, offset).map_err(|error| {
            let state = self.shared.state();
            let Ok(version) = state.shown(self.id) else { return error };
            let shown = version.snapshot.and_then(|id| state.snapshot(id).ok());
            let snapshot = shown.map_or("", |snapshot| &snapshot.name);
            error.while_doing(format_args!("read disk {}@{snapshot}", version.disk_name))
        })
    }

    /// The extents of a range of bytes: where data is and where holes are.
    pub fn extents(&self, range: Range<u64>) -> Extents {
        Extents::new(self.shared.engine.clone(), Source::Version(self.id), range)
    }

    /// Bytes of the blocks that it refers to; `None` while the snapshot is in progress.
    pub fn mapped_bytes(&self) -> Option<u64> {
        let block_size = u64::from(self.shared.block_size());
        let mapped = self.record(|state, version| {
            (!state.unsettled.contains_key(&version.id)).then_some(version.root.mapped)
        });
        mapped.ok()?.map(|blocks| blocks * block_size)
    }
}
