//! Blocks: where free blocks come from, growing the store where it may, and keeping a reserve.
//!
//! Floor 5. Writers stop early enough that a checkpoint always finds blocks for its nodes: each dirty
//! delta node is one node to be written, and a fixed reserve covers the catalog and the collector.

use super::engine::Engine;
use crate::commit::{CheckpointSpace, TakeBlocks};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Event;
use crate::space::Direction;
use crate::units::{BlockNo, BlockRun};
use std::sync::atomic::Ordering;

/// Runs of freed blocks that the allocator hears of at a time: writers wait for its lock.
pub(super) const RUNS_PER_LOCK: usize = 1024;

/// What blocks are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Data of a guest.
    Data,
    /// New records of the catalog: servers, disks, snapshots, restores.
    Catalog,
    /// What makes space: deletes, discards, resizes.
    Relief,
}

impl Purpose {
    /// Blocks that stay free: who makes space may go furthest, and a checkpoint still finds its own.
    pub(super) fn reserve(self) -> u64 {
        match self {
            Self::Data => 96,
            Self::Catalog => 64,
            Self::Relief => 24,
        }
    }
}

impl Engine {
    /// Sees that `blocks` blocks are free, besides what the next checkpoint needs. May grow the store,
    /// or do what full.rs says to free some.
    ///
    /// # Errors
    /// `Full` where neither helps.
    pub(super) fn ensure_space(&self, blocks: u64, purpose: Purpose) -> Result<()> {
        let is_enough = || self.free_hint.load(Ordering::Relaxed) >= blocks + self.floor(purpose);
        if is_enough() { Ok(()) } else { self.times.for_space.time(|| self.find_space(purpose, &is_enough)) }
    }

    fn find_space(&self, purpose: Purpose, is_enough: &impl Fn() -> bool) -> Result<()> {
        loop {
            self.release_parked();
            if !is_enough() && !self.grow()? {
                return self.make_space(purpose, is_enough);
            }
            if is_enough() {
                return Ok(());
            }
        }
    }

    /// Blocks that stay free whatever is wanted for this purpose.
    pub(super) fn floor(&self, purpose: Purpose) -> u64 {
        self.metadata_debt() + purpose.reserve()
    }

    /// Blocks that the next checkpoint writes at most, besides a few.
    pub(super) fn metadata_debt(&self) -> u64 {
        let records = &[&self.dirty_records, &self.frozen_records];
        records.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>()
            + self.dirty_nodes.load(Ordering::Relaxed)
    }

    pub(super) fn full(&self) -> Error {
        let advice = if self.state.read().catalog.lineage.queue.is_empty() {
            "delete snapshots, discard, or raise the limit"
        } else {
            "the collector is still freeing deleted snapshots: try again, or raise the limit"
        };
        Error::new(ErrorKind::Full, format!("the store is full: {advice}"))
    }

    /// Adds a zone, if the device can grow and the limit allows it; or makes one usable whose space was given back.
    pub(super) fn grow(&self) -> Result<bool> {
        let mut one_at_a_time = self.growth.lock();
        if self.back_a_zone(&mut one_at_a_time)? {
            return Ok(true);
        }
        let Some(zones) = self.grow_device()? else { return Ok(false) };
        let _open = self.begin_change()?;
        self.journal.append(|builder| builder.event(&Event::Grow { zones }));
        self.with_allocator(|allocator| allocator.grow(zones));
        Ok(true)
    }

    /// Makes the device a zone longer. The number of zones then, or `None` if it cannot be.
    fn grow_device(&self) -> Result<Option<u64>> {
        let zones = self.allocator.lock().zones() + 1;
        let length = self.geometry.length_bytes(zones);
        let now = self.device.len_bytes().map_err(|cause| Error::io("read the store's length", cause))?;
        if length > self.options.max_bytes || (length > now && !self.device.can_grow()) {
            return Ok(None);
        }
        match self.device.grow(length) {
            Ok(()) => {
                self.watermarks.grew(true);
                Ok(Some(zones))
            }
            Err(cause) if is_no_space(&cause) => {
                self.watermarks.grew(false);
                self.with_allocator(|_| ());
                Ok(None)
            }
            Err(cause) => Err(self.halt(Error::io(format!("grow the store to {length} bytes"), cause))),
        }
    }

    /// Frees parked blocks whose readers have left.
    pub(super) fn release_parked(&self) {
        for runs in self.gate.release().chunks(RUNS_PER_LOCK) {
            self.with_allocator(|allocator| allocator.unpark(runs));
        }
    }

    /// Waits until the readers that hold up parked blocks have left. Each is at work on one part of one read,
    /// and none that comes later is waited for. A look at the whole store gives up. The caller holds no lock: a reader may
    /// be waiting for it, inside the gate.
    pub(super) fn wait_for_parked(&self) {
        self.waiting_for_space.fetch_add(1, Ordering::Relaxed);
        self.release_parked();
        while self.gate.holds_any() {
            std::thread::yield_now();
            self.release_parked();
        }
        self.waiting_for_space.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a run of up to `most` free blocks for data. `None` unless `needed` blocks are free above the floor of
    /// `purpose`: looked at under the allocator's lock, so that writers who come at once cannot go below it together.
    pub(super) fn take_data(&self, purpose: Purpose, needed: u64, most: u64) -> Result<Option<BlockRun>> {
        let floor = self.floor(purpose);
        self.with_allocator(|allocator| {
            let spare = allocator.free().saturating_sub(floor);
            if spare < needed { Ok(None) } else { allocator.take(most.min(spare), Direction::Low) }
        })
    }
}

pub(super) fn is_no_space(cause: &std::io::Error) -> bool {
    use std::io::ErrorKind as Io;
    matches!(cause.kind(), Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge | Io::Unsupported)
}

/// The space that a checkpoint draws on. It may grow the store: the new zones count from this
/// checkpoint on.
pub(super) struct MetadataSpace<'a>(pub(super) &'a Engine);

impl MetadataSpace<'_> {
    fn or_grow(&self, take: impl Fn() -> Result<Option<BlockRun>>) -> Result<Option<BlockRun>> {
        loop {
            if let Some(run) = take()? {
                return Ok(Some(run));
            }
            let mut one_at_a_time = self.0.growth.lock();
            if self.0.back_a_zone(&mut one_at_a_time)? {
                continue;
            }
            let Some(zones) = self.0.grow_device()? else { return Ok(None) };
            // The event lets a recovery that starts at the checkpoint before this one know the zones, too.
            self.0.journal.append(|builder| builder.event(&Event::Grow { zones }));
            self.0.with_allocator(|allocator| allocator.grow(zones));
        }
    }
}

impl TakeBlocks for MetadataSpace<'_> {
    fn take(&self, most: u64) -> Result<Option<BlockRun>> {
        self.or_grow(|| self.0.with_allocator(|allocator| allocator.take(most, Direction::High)))
    }

    fn take_exactly(&self, count: u64) -> Result<Option<BlockRun>> {
        self.or_grow(|| self.0.with_allocator(|allocator| allocator.take_exactly(count)))
    }

    fn used(&self, run: BlockRun) {
        self.0.with_allocator(|allocator| allocator.used_by_checkpoint(run));
    }

    fn give_back(&self, run: BlockRun) {
        self.0.with_allocator(|allocator| allocator.give_back(run));
    }
}

impl CheckpointSpace for MetadataSpace<'_> {
    fn zones(&self) -> u64 {
        self.0.allocator.lock().zones()
    }

    fn taken(&self) -> Vec<BlockRun> {
        self.0.allocator.lock().frozen()
    }

    fn shared(&self) -> Vec<(BlockNo, u16)> {
        self.0.allocator.lock().frozen_shares()
    }
}
