//! Changes: the ranges in which two contents differ, from their maps alone.
//!
//! Floor 5. Nothing of the data is read. The cost follows what differs: what both hold is stepped over.

use super::disk::Disk;
use super::engine::Engine;
use super::open::{Shared, Store};
use super::read::{Source, gone};
use super::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::extent::{Difference, Layers, differences};
use crate::units::{DiskBlock, DiskId, SnapshotId, VersionId};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Nodes that one step compares, at most: it holds up the reuse of freed blocks for as long as it takes.
const STEP_NODES: u32 = 256;

/// One content of one disk: as it is now (`Point::from(&disk)`), or as a snapshot holds it
/// (`Point::from(&snapshot_disk)`).
#[derive(Clone)]
pub struct Point {
    engine: Arc<Engine>,
    source: Source,
}

impl std::fmt::Debug for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Point({})", self.source)
    }
}

impl From<&Disk> for Point {
    fn from(disk: &Disk) -> Self {
        Self { engine: disk.shared.engine.clone(), source: Source::Head(disk.head.clone()) }
    }
}

impl Point {
    pub(crate) fn version(shared: &Shared, id: VersionId) -> Self {
        Self { engine: shared.engine.clone(), source: Source::Version(id) }
    }
}

/// A range of bytes in which two contents differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// What the newer content holds there.
    pub kind: ChangeKind,
}

/// What the newer content holds where it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// Data, in blocks that the older content does not hold there.
    Data,
    /// Nothing: it reads as zeros, and the older content holds data there.
    Hole,
}

impl Change {
    /// Whether the newer content holds data.
    pub fn is_data(&self) -> bool {
        self.kind == ChangeKind::Data
    }
}

/// Iterates over the ranges in which two contents differ: in order, neighbours of one kind joined, up to the end
/// of the newer one.
///
/// It is exact to the block: every byte that differs lies in a range, and a block lies in one only if it was
/// written or discarded in between. A block that was written anew with the bytes that it had is reported.
/// Of disks that are being written, each step sees what they hold then.
pub struct Changes {
    engine: Arc<Engine>,
    older: Option<Source>,
    newer: Source,
    sizes: (Option<u64>, u64),
    /// The next block to look at, and the first one that is not looked at any more.
    next: Option<DiskBlock>,
    end: DiskBlock,
    found: VecDeque<Change>,
    failed: bool,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let older = self.older.as_ref().map(ToString::to_string);
        let newer = self.newer.to_string();
        f.debug_struct("Changes").field("older", &older).field("newer", &newer).finish_non_exhaustive()
    }
}

fn strangers() -> Error {
    let message = "the two contents lie in different stores; send one of them to the other's";
    Error::new(ErrorKind::Invalid, message)
}

impl Changes {
    fn new(older: Option<&Point>, newer: &Point) -> Result<Self> {
        let engine = newer.engine.clone();
        if older.is_some_and(|older| !Arc::ptr_eq(&older.engine, &engine)) {
            return Err(strangers());
        }
        let older = older.map(|point| point.source.clone());
        let older_bytes = older.as_ref().map(|source| engine.size_of(source)).transpose()?;
        let sizes = (older_bytes, engine.size_of(&newer.source)?);
        let (newer, next) = (newer.source.clone(), Some(DiskBlock(0)));
        let end = DiskBlock(u64::MAX);
        Ok(Self { engine, older, newer, sizes, next, end, found: VecDeque::new(), failed: false })
    }

    /// The size of the older content, in bytes; `None` without one.
    pub fn older_size_bytes(&self) -> Option<u64> {
        self.sizes.0
    }

    /// The size of the newer content, in bytes. What the older one holds beyond is cut off, and no range tells of it.
    pub fn newer_size_bytes(&self) -> u64 {
        self.sizes.1
    }

    /// Goes on at `offset` (bytes), instead of at the start. The block that it lies in is looked at whole.
    #[must_use]
    pub fn starting_at(mut self, offset: u64) -> Self {
        self.next = Some(DiskBlock(offset / u64::from(self.engine.block_size())));
        self
    }

    /// Ends at `offset` (bytes), instead of at the end of the newer content. The block that it lies in is looked at whole.
    /// A range that goes on behind it is told of up to there.
    #[must_use]
    pub fn ending_at(mut self, offset: u64) -> Self {
        self.end = DiskBlock(offset.div_ceil(u64::from(self.engine.block_size())));
        self
    }

    /// Compares a few nodes from the current place on.
    fn step(&mut self, at: DiskBlock) -> Result<()> {
        let engine = self.engine.clone();
        let _reading = engine.gate.enter();
        let (older, newer, size_bytes) = {
            let state = engine.state.read();
            let (newer, size_bytes) = layers(&state, &self.newer)?;
            let older = self.older.as_ref().map(|source| layers(&state, source)).transpose()?;
            (older.map(|(layers, _)| layers), newer, size_bytes)
        };
        let block_size = u64::from(engine.block_size());
        let end = self.end.min(DiskBlock(size_bytes.div_ceil(block_size)));
        if at >= end {
            self.next = None;
            return Ok(());
        }
        let step = differences(&engine.nodes, (older.as_ref(), &newer), (at, end), STEP_NODES)?;
        for difference in step.found {
            self.push(difference, block_size, size_bytes);
        }
        self.next = step.next;
        Ok(())
    }

    fn push(&mut self, Difference { first, count, is_data }: Difference, block_size: u64, size_bytes: u64) {
        let offset = first.0 * block_size;
        let len = (count * block_size).min(size_bytes - offset);
        let kind = if is_data { ChangeKind::Data } else { ChangeKind::Hole };
        match self.found.back_mut() {
            Some(last) if last.kind == kind && last.offset + last.len == offset => last.len += len,
            _ => self.found.push_back(Change { offset, len, kind }),
        }
    }
}

impl Iterator for Changes {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        // The last range found may go on behind the current place.
        while self.found.len() < 2
            && !self.failed
            && let Some(at) = self.next
        {
            if let Err(error) = self.step(at) {
                self.failed = true;
                return Some(Err(error));
            }
        }
        if self.failed { None } else { self.found.pop_front().map(Ok) }
    }
}

/// What a content is made of, and its size in bytes.
fn layers(state: &State, source: &Source) -> Result<(Layers, u64)> {
    match source {
        Source::Head(head) => {
            let own = head.state.read();
            if own.is_gone { Err(gone(source)) } else { Ok((own.view.layers(), own.size_bytes)) }
        }
        Source::Version(id) => {
            let version = state.shown(*id)?;
            Ok((state.view_of(version).layers(), version.size_bytes))
        }
    }
}

impl Store {
    /// The ranges in which `newer` differs from `older`: any two contents of this store, a disk's or a snapshot's, whichever
    /// descends from which, and those of clones, too. Without `older`, the ranges that hold data. Contents that share
    /// nothing are compared as well, and differ wherever one holds data.
    ///
    /// # Errors
    /// `NotFound` if one was deleted, `Invalid` if they lie in different stores. The iterator's: `NotFound` once one
    /// is deleted, `Corrupt`, `Io`.
    pub fn changes(&self, older: Option<&Point>, newer: &Point) -> Result<Changes> {
        Changes::new(older, newer)
    }
}

impl Disk {
    /// What changed since a snapshot of this disk, or of one that it was cloned from; since `None`: all that it holds.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let options = cowblk::Options::default().journal_bytes(1 << 20);
    /// # let store = cowblk::Store::create(folder.path().join("pool.cow"), options)?;
    /// # let web = store.create_server("web-server-01")?;
    /// # let disk = web.create_disk("vda", 1 << 30)?;
    /// let snapshot = web.snapshot("monday", "")?;
    /// disk.write_at(&[1; 8192], 1 << 20)?;
    /// for change in disk.changes_since(snapshot.id())? {
    ///     let change = change?;
    ///     assert_eq!((change.offset, change.len, change.is_data()), (1 << 20, 8192, true));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` if there is no such snapshot, or it does not hold this disk; and those of [`Store::changes`].
    pub fn changes_since(&self, snapshot: impl Into<Option<SnapshotId>>) -> Result<Changes> {
        Point::from(self).changes_since(snapshot.into())
    }
}

impl Point {
    /// What changed since a snapshot of the same disk.
    pub(crate) fn changes_since(&self, snapshot: Option<SnapshotId>) -> Result<Changes> {
        let older = snapshot.map(|id| self.in_snapshot(id)).transpose()?;
        let older =
            older.map(|version| Self { engine: self.engine.clone(), source: Source::Version(version) });
        Changes::new(older.as_ref(), self)
    }

    /// The version by which a snapshot, which `shared` knows, holds this disk.
    pub(crate) fn in_snapshot_of(&self, shared: &Shared, id: SnapshotId) -> Result<VersionId> {
        if Arc::ptr_eq(&self.engine, &shared.engine) { self.in_snapshot(id) } else { Err(strangers()) }
    }

    /// The version by which a snapshot of the same store holds this disk.
    fn in_snapshot(&self, id: SnapshotId) -> Result<VersionId> {
        version_in(&self.engine.state.read(), id, &self.source)
    }
}

/// The version by which a snapshot holds a disk: that of the disk itself, or else of one that shares an ancestor with it.
fn version_in(state: &State, snapshot: SnapshotId, source: &Source) -> Result<VersionId> {
    let record = state.snapshot(snapshot)?;
    let shown: Vec<(VersionId, DiskId)> = record
        .versions
        .iter()
        .filter_map(|id| state.catalog.versions.get(id).map(|version| (version.id, version.disk)))
        .collect();
    let (own, parent) = match source {
        Source::Head(head) => (head.id, state.disk(head.id)?.parent),
        Source::Version(id) => (state.shown(*id)?.disk, Some(*id)),
    };
    if let Some((version, _)) = shown.iter().find(|(_, disk)| *disk == own) {
        return Ok(*version);
    }
    let ancestors = line(state, parent);
    let versions: HashSet<VersionId> = ancestors.iter().map(|(version, _)| *version).collect();
    let disks: HashSet<DiskId> = ancestors.iter().map(|(_, disk)| *disk).chain([own]).collect();
    let is_related = |version: VersionId| {
        line(state, Some(version)).iter().any(|(id, disk)| versions.contains(id) || disks.contains(disk))
    };
    let related = shown.iter().find(|(version, _)| is_related(*version));
    related.map(|(version, _)| *version).ok_or_else(|| {
        let message = format!("snapshot {:?} does not hold this disk", record.name);
        Error::new(ErrorKind::NotFound, message)
    })
}

/// A version and all that it descends from, with the disks that they are of.
fn line(state: &State, version: Option<VersionId>) -> Vec<(VersionId, DiskId)> {
    let record = |id: Option<VersionId>| id.and_then(|id| state.catalog.versions.get(&id));
    let line = std::iter::successors(record(version), |version| record(version.parent));
    line.map(|version| (version.id, version.disk)).collect()
}
