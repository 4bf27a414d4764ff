//! Engine: what an open store consists of.
//!
//! Floor 5. Everything is `&self`; mod.rs tells the order of locks.

use super::full::Room;
use super::head::Head;
use super::holes::Refusals;
use super::latencies::Times;
use super::maintenance::{Last, Signal};
use super::notices::NoticeBoard;
use super::options::Options;
use super::state::State;
use super::statistics::Counters;
use super::templates::Templates;
use super::watermarks::Watermarks;
use super::write_behind::WriteBehind;
use crate::catalog::SizeOf;
use crate::commit::{Checkpointer, Flushed, Journal, RunTable, halted};
use crate::device::{Device, Meter};
use crate::error::{Error, ErrorKind, Result};
use crate::extent::{Footprint, NodeSource};
use crate::format::Geometry;
use crate::space::{Allocator, Gate};
use crate::units::{BlockNo, DiskId};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An open store.
pub(crate) struct Engine {
    pub(super) device: Arc<dyn Device>,
    pub(super) meter: Arc<Meter>,
    pub(super) geometry: Geometry,
    pub(super) options: Options,
    pub(super) uuid: [u8; 16],
    pub(super) is_read_only: bool,
    pub(super) barrier: RwLock<()>,
    pub(super) state: RwLock<State>,
    pub(super) allocator: Mutex<Allocator>,
    /// Blocks that could be taken now, as of the last change.
    pub(super) free_hint: AtomicU64,
    /// How many wait for blocks that are parked.
    pub(super) waiting_for_space: AtomicU64,
    pub(super) nodes: NodeSource,
    pub(super) journal: Journal,
    pub(super) runs: RunTable,
    pub(super) gate: Gate,
    /// Snapshots that new writes share with; `None` if the options give them no memory.
    pub(super) templates: Option<Templates>,
    /// References dropped since the last freeze.
    pub(super) dropped: Mutex<Vec<BlockNo>>,
    /// Heads that the next checkpoint settles.
    pub(super) touched: Mutex<Vec<Arc<Head>>>,
    /// Delta nodes and bytes that no checkpoint has settled yet.
    pub(super) dirty_nodes: AtomicU64,
    pub(super) dirty_bytes: AtomicU64,
    /// Catalog records that no checkpoint has written yet.
    pub(super) dirty_records: AtomicU64,
    /// Those that the checkpoint under way is writing.
    pub(super) frozen_records: AtomicU64,
    /// A disk or version let go of something that it had inherited, since the collector looked for that.
    pub(super) has_let_go: AtomicBool,
    pub(super) maintenance: Mutex<Checkpointer>,
    pub(super) last_checkpoint: Mutex<Last>,
    /// Held by whoever counts sizes.
    pub(super) census: Mutex<()>,
    pub(super) growth: Mutex<Refusals>,
    /// Blocks with several references, as of the last checkpoint.
    pub(super) shared_blocks: AtomicU64,
    /// References beyond the first of each block, as of the last checkpoint.
    pub(super) saved_blocks: AtomicU64,
    /// Sizes that somebody asked for and that are not known.
    pub(super) wanted_sizes: Mutex<BTreeSet<SizeOf>>,
    /// Disks whose references somebody wants counted that are counted on demand only.
    pub(super) asked_disks: Mutex<BTreeSet<DiskId>>,
    pub(super) halted: Mutex<Option<Error>>,
    pub(super) is_halted: AtomicBool,
    pub(super) is_closed: AtomicBool,
    pub(super) signal: Signal,
    pub(super) write_behind: WriteBehind,
    pub(super) room: Room,
    pub(super) watermarks: Watermarks,
    pub(super) notices: NoticeBoard,
    pub(super) counters: Counters,
    pub(super) times: Times,
}

impl Engine {
    /// Bytes in a block.
    pub(crate) fn block_size(&self) -> u32 {
        self.geometry.block_size()
    }

    /// The catalog and the live disks, for reading.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    /// Refuses a change where none is possible.
    pub(super) fn check_writable(&self) -> Result<()> {
        if self.is_read_only {
            return Err(Error::new(ErrorKind::ReadOnly, "the store is open read-only; open it for writing"));
        }
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Halted, "the store was closed; open it again"));
        }
        if self.is_halted.load(Ordering::Acquire) {
            let cause = self.halted.lock().clone();
            return Err(
                cause.map_or_else(|| Error::new(ErrorKind::Halted, "the store has halted"), |e| halted(&e))
            );
        }
        Ok(())
    }

    /// Begins a change of memory that a checkpoint must see whole, or not at all. Refused once the store
    /// is being closed: the last checkpoint says that nothing comes after it.
    pub(super) fn begin_change(&self) -> Result<RwLockReadGuard<'_, ()>> {
        let open = self.enter_barrier();
        self.check_writable().map(|()| open)
    }

    /// After a failed write or sync nothing that follows can be promised: refuses all changes from now on.
    pub(super) fn halt(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Halted {
            self.halted.lock().get_or_insert_with(|| error.clone());
            self.is_halted.store(true, Ordering::Release);
            self.journal.fail(&error);
            self.room.announce();
        }
        error
    }

    /// Makes everything that returned before this call durable.
    pub(crate) fn flush(&self) -> Result<()> {
        self.check_writable()?;
        Counters::add(&self.counters.flushes, 1);
        let _timed = self.times.flush.start();
        loop {
            match self.journal.flush(&self.runs).map_err(|error| self.halt(error))? {
                Flushed::Done => return Ok(()),
                Flushed::NoRoom => self.times.for_journal.time(|| self.checkpoint())?,
            }
        }
    }

    /// Writes out the records that wait, without making them durable.
    pub(super) fn spill(&self) -> Result<()> {
        if self.journal.spill(&self.runs).map_err(|error| self.halt(error))? == Flushed::NoRoom {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Puts a head on the list of those that the next checkpoint settles.
    pub(super) fn touch(&self, head: &Arc<Head>, is_touched: &mut bool) {
        if !std::mem::replace(is_touched, true) {
            self.touched.lock().push(head.clone());
        }
    }

    /// Takes note of memory that changes took, and of references that they dropped. What a change replaced in a tree is free
    /// with the next checkpoint: who waits for space is told.
    pub(super) fn account(&self, footprint: Footprint, dropped: Vec<BlockNo>) {
        if footprint != Footprint::default() {
            self.dirty_nodes.fetch_add(footprint.nodes, Ordering::Relaxed);
            self.dirty_bytes.fetch_add(footprint.bytes, Ordering::Relaxed);
        }
        if !dropped.is_empty() {
            self.dropped.lock().extend(dropped);
        }
        self.room.announce();
    }

    /// Calls `change` on the allocator, and notes what is free afterwards.
    pub(super) fn with_allocator<T>(&self, change: impl FnOnce(&mut Allocator) -> T) -> T {
        let mut allocator = self.allocator.lock();
        let result = change(&mut allocator);
        self.free_hint.store(allocator.free(), Ordering::Relaxed);
        self.watch(&allocator);
        result
    }
}
