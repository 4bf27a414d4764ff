//! Maintenance: when checkpoints and collector steps run, and who waits for them.
//!
//! Floor 5. With a thread of its own, the store does both in the background; without one, checkpoints
//! run inside the calls that need them.

use super::engine::Engine;
use super::holes::Thinning;
use super::pace::Pace;
use crate::commit::Checkpointer;
use crate::error::Result;
use crate::latency::Stopwatch;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the background thread looks around unasked.
const TICK: Duration = Duration::from_millis(500);
/// Changes wait so long for a checkpoint, unless it would write much for little.
const CHECKPOINT_PERIOD: Duration = Duration::from_secs(5);
/// Changes wait so long for a checkpoint, at most.
const CHECKPOINT_PERIOD_MAX: Duration = Duration::from_secs(30);
/// Bytes written since the last checkpoint for which a byte of nodes is little.
const BYTES_PER_NODE_BYTE: u64 = 32;

/// The last checkpoint, to tell what one now would be for.
pub(super) struct Last {
    at: Instant,
    /// What had been written to disks then.
    bytes_written: u64,
}

impl Default for Last {
    fn default() -> Self {
        Self { at: Instant::now(), bytes_written: 0 }
    }
}

/// How the background thread is told, and how it tells others.
#[derive(Default)]
pub(super) struct Signal {
    state: Mutex<SignalState>,
    changed: Condvar,
}

#[derive(Default)]
struct SignalState {
    wants_checkpoint: bool,
    wants_collection: bool,
    must_stop: bool,
    /// Checkpoints that ended, well or not.
    rounds: u64,
}

/// What the background thread was asked for.
struct Wanted {
    checkpoint: bool,
    collection: bool,
}

impl Signal {
    fn ask(&self, change: impl FnOnce(&mut SignalState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    /// A deleted version waits for the collector.
    pub(super) fn ask_for_collection(&self) {
        self.ask(|state| state.wants_collection = true);
    }

    /// A checkpoint ended.
    pub(super) fn announce(&self) {
        self.ask(|state| state.rounds += 1);
    }

    /// Waits until a checkpoint ended, or some time has passed.
    fn wait_for_round(&self) {
        let mut state = self.state.lock();
        let rounds = state.rounds;
        if state.rounds == rounds {
            self.changed.wait_for(&mut state, TICK);
        }
    }

    /// Does nothing for so long, or until a checkpoint is wanted.
    pub(super) fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !(state.wants_checkpoint || state.must_stop) {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }

    /// Waits to be asked for something, unless there is more to do anyway. `None` if the thread must stop.
    fn wait(&self, pace: Pace) -> Option<Wanted> {
        let mut state = self.state.lock();
        if pace == Pace::Done && !(state.wants_checkpoint || state.wants_collection || state.must_stop) {
            self.changed.wait_for(&mut state, TICK);
        }
        let wanted = Wanted {
            checkpoint: std::mem::take(&mut state.wants_checkpoint),
            collection: std::mem::take(&mut state.wants_collection),
        };
        (!state.must_stop).then_some(wanted)
    }

    fn must_stop(&self) -> bool {
        self.state.lock().must_stop
    }

    fn take_checkpoint(&self) {
        self.state.lock().wants_checkpoint = false;
    }

    pub(super) fn is_checkpoint_wanted(&self) -> bool {
        let state = self.state.lock();
        state.wants_checkpoint || state.must_stop
    }
}

impl Engine {
    /// Sees that the journal and the memory for changes do not fill up: asks for a checkpoint in time,
    /// and waits for it where it is late.
    pub(super) fn keep_up(&self) -> Result<()> {
        self.check_writable()?;
        let size = self.geometry.journal_bytes();
        while self.is_filling_up() {
            if !self.options.background {
                return self.late(self.journal.used_bytes() > size / 2).time(|| self.checkpoint());
            }
            self.signal.ask(|state| state.wants_checkpoint = true);
            let (used, dirty) = (self.journal.used_bytes(), self.dirty_bytes.load(Ordering::Relaxed));
            if used <= size / 8 * 7 && dirty <= self.options.dirty_bytes.saturating_mul(2) {
                return Ok(());
            }
            self.check_writable()?;
            self.late(used > size / 8 * 7).time(|| self.signal.wait_for_round());
        }
        Ok(())
    }

    /// Where the time counts that a write waits for a checkpoint: for room in the journal, or else for memory.
    fn late(&self, is_journal: bool) -> &Stopwatch {
        if is_journal { &self.times.for_journal } else { &self.times.for_memory }
    }

    /// Whether the journal is half full, or the memory for changes full.
    fn is_filling_up(&self) -> bool {
        self.journal.used_bytes() > self.geometry.journal_bytes() / 2
            || self.dirty_bytes.load(Ordering::Relaxed) > self.options.dirty_bytes
    }

    /// Whether anything happened that a checkpoint would take in.
    pub(super) fn has_changes(&self) -> bool {
        self.journal.used_bytes() > 0
            || self.journal.waiting().bytes > 0
            || !self.touched.lock().is_empty()
            || !self.dropped.lock().is_empty()
            || self.state.read().catalog.dirty_count() > 0
    }

    /// Takes note that a checkpoint begins.
    pub(super) fn note_checkpoint(&self) {
        let bytes_written = self.counters.bytes_written.load(Ordering::Relaxed);
        *self.last_checkpoint.lock() = Last { at: Instant::now(), bytes_written };
    }

    /// Whether the nodes that a checkpoint now would write are little beside the data. Writes that are scattered over a large
    /// disk touch a node each; the next ones will touch the same.
    fn is_worth_a_checkpoint(&self) -> bool {
        let last = self.last_checkpoint.lock();
        let written = self.counters.bytes_written.load(Ordering::Relaxed) - last.bytes_written;
        let nodes = self.dirty_nodes.load(Ordering::Relaxed) * u64::from(self.block_size());
        nodes.saturating_mul(BYTES_PER_NODE_BYTE) <= written || last.at.elapsed() >= CHECKPOINT_PERIOD_MAX
    }

    fn tick(&self, wanted: &Wanted, is_due: bool, before: Pace) -> Result<Pace> {
        self.check_writable()?;
        if is_due {
            self.expire_unasked()?;
        }
        self.release_parked();
        let has_work = || self.has_changes() && self.is_worth_a_checkpoint();
        // Writers ask for as long as one is under way, too: that one may have been enough.
        let is_filling_up = wanted.checkpoint && self.is_filling_up();
        let must_checkpoint = is_filling_up || wanted.collection || (is_due && has_work());
        if must_checkpoint {
            self.checkpoint_and_tell(&mut self.maintenance.lock())?;
        }
        if is_due {
            self.give_back_unasked(Thinning::Unasked)?;
        }
        let pace = self.collect_politely(TICK, before)?;
        if pace == Pace::Done {
            self.count_sizes(|| self.pause_to_checkpoint())?;
            self.count_blocks(|| self.pause_to_checkpoint())?;
        }
        Ok(pace)
    }

    /// Runs the checkpoint that somebody waits for, in the midst of a count. Whether the count must make way.
    fn pause_to_checkpoint(&self) -> Result<bool> {
        if self.signal.must_stop() {
            return Ok(true);
        }
        if !self.signal.is_checkpoint_wanted() {
            return Ok(false);
        }
        // Whoever has the lock may be waiting for the gate, which the count holds.
        let Some(mut checkpointer) = self.maintenance.try_lock() else { return Ok(true) };
        self.signal.take_checkpoint();
        self.checkpoint_and_tell(&mut checkpointer)?;
        Ok(false)
    }

    /// Runs a checkpoint, and tells writes that wait for space if it freed some.
    pub(super) fn checkpoint_and_tell(&self, checkpointer: &mut Checkpointer) -> Result<()> {
        let free = self.free_hint.load(Ordering::Relaxed);
        self.checkpoint_with(checkpointer, false)?;
        if self.free_hint.load(Ordering::Relaxed) > free {
            self.room.announce();
        }
        Ok(())
    }

    /// Deletes what has expired. If that fails for now, it is tried again; only a store that has halted is past that.
    fn expire_unasked(&self) -> Result<()> {
        match self.expire() {
            Err(error) if self.is_halted.load(Ordering::Acquire) => Err(error),
            _ => Ok(()),
        }
    }
}

/// The background thread of a store.
pub(super) struct Maintainer {
    signal: Weak<Engine>,
    thread: Option<JoinHandle<()>>,
}

impl Maintainer {
    /// Starts the thread.
    pub(super) fn start(engine: &Arc<Engine>) -> std::io::Result<Self> {
        let weak = Arc::downgrade(engine);
        let thread = std::thread::Builder::new().name("cowblk".into()).spawn(move || run(&weak))?;
        Ok(Self { signal: Arc::downgrade(engine), thread: Some(thread) })
    }

    /// Stops the thread, and waits for it.
    pub(super) fn stop(&mut self) {
        if let Some(engine) = self.signal.upgrade() {
            engine.signal.ask(|state| state.must_stop = true);
        }
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            drop(thread.join()); // a panic there has been printed, and the store is as after a crash
        }
    }
}

fn run(engine: &Weak<Engine>) {
    let mut last_due = Instant::now();
    let mut pace = Pace::Done;
    while let Some(engine) = engine.upgrade() {
        let Some(wanted) = engine.signal.wait(pace) else { return };
        let is_due = last_due.elapsed() >= CHECKPOINT_PERIOD;
        if is_due {
            last_due = Instant::now();
        }
        pace = match engine.tick(&wanted, is_due, pace) {
            Ok(pace) => pace,
            // A failure has halted the store: whoever calls next is told.
            Err(_) if engine.is_halted.load(Ordering::Acquire) => return,
            Err(_) => Pace::Done,
        };
    }
}
