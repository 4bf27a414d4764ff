//! Latencies: how long calls took, and what callers waited for.
//!
//! Floor 5. Counted all the time. Reads and writes from memory take about a microsecond, and looking at the clock twice would be a
//! good part of that: one in 16 of them is timed, and so is one in 16 reads of the device. All else is.

use super::engine::Engine;
use super::open::Store;
use crate::latency::{Histogram, LatencyHistogram, Spent, Stopwatch};
use parking_lot::RwLockReadGuard;
use serde::Serialize;

/// How long calls took since the store was opened, those that failed included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latencies {
    /// Reads of disks and snapshots by callers, whatever their length; one in 16 of them.
    pub read: LatencyHistogram,
    /// Writes of disks by callers, whatever their length; one in 16 of them.
    pub write: LatencyHistogram,
    /// Flushes, and the flush behind each verb that is durable when it returns.
    pub flush: LatencyHistogram,
    /// Checkpoints, from the first block to the last. Nobody waits for all of that but who calls
    /// [`Store::checkpoint`] or finds no room.
    pub checkpoint: LatencyHistogram,
    /// How long each checkpoint kept all changes out.
    pub freeze: LatencyHistogram,
    /// Reads of the medium; one in 16 of them.
    pub device_read: LatencyHistogram,
    /// Writes of the medium.
    pub device_write: LatencyHistogram,
    /// Syncs of the medium. One that waits for another one to end counts that, too.
    pub device_sync: LatencyHistogram,
}

/// What callers waited for, in addition to the work that their calls do themselves. A call that waits takes longer by as much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Waits {
    /// Writes for room in the journal, of which a checkpoint makes some. So do flushes that find none; what they wait for it is here, too.
    pub journal: Spent,
    /// Writes for memory: changes took twice [`Options::dirty_bytes`](crate::Options::dirty_bytes), until a checkpoint settled them.
    pub memory: Spent,
    /// Writes that handed runs or records to the medium themselves, since the thread that does so behind the writers was not done
    /// with others; if there is no room in the journal for them, the checkpoint that makes some is here, too. Without [`Options::background`](crate::Options::background) nobody else does.
    pub write_behind: Spent,
    /// Flushes for the write and sync of others. One of two flushes at a time waits.
    pub flush: Spent,
    /// Changes that a checkpoint kept out while it froze.
    pub freeze: Spent,
    /// Changes for free blocks: for the file to grow, for checkpoints and the collector to free some, or, on disks that are set to wait
    /// in a full store, for anybody to delete something.
    pub space: Spent,
}

/// Where all that is counted, but for what the device and the journal count themselves.
#[derive(Default)]
pub(super) struct Times {
    pub(super) read: Histogram,
    pub(super) write: Histogram,
    pub(super) flush: Histogram,
    pub(super) checkpoint: Histogram,
    pub(super) freeze: Histogram,
    pub(super) collector: Stopwatch,
    pub(super) for_journal: Stopwatch,
    pub(super) for_memory: Stopwatch,
    pub(super) for_write_behind: Stopwatch,
    pub(super) for_freeze: Stopwatch,
    pub(super) for_space: Stopwatch,
}

impl Engine {
    /// Waits until no checkpoint keeps changes out, which it seldom does.
    pub(super) fn enter_barrier(&self) -> RwLockReadGuard<'_, ()> {
        self.barrier.try_read().unwrap_or_else(|| self.times.for_freeze.time(|| self.barrier.read()))
    }

    /// What callers waited for.
    pub(super) fn waits(&self) -> Waits {
        let times = &self.times;
        Waits {
            journal: times.for_journal.spent(),
            memory: times.for_memory.spent(),
            write_behind: times.for_write_behind.spent(),
            flush: self.journal.waits_for_leaders(),
            freeze: times.for_freeze.spent(),
            space: times.for_space.spent(),
        }
    }
}

impl Store {
    /// How long calls took since the store was opened. What is under way is not in it.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use cowblk::device::MemoryDevice;
    /// # use cowblk::{Options, Store};
    /// # let options = Options::default().journal_bytes(1 << 20);
    /// # let store = Store::create_on(Arc::new(MemoryDevice::default()), options)?;
    /// let before = store.latencies();
    /// store.flush()?;
    /// let flushes = store.latencies().flush.since(&before.flush);
    /// println!("{} flushes, half of them within {} ns", flushes.count(), flushes.quantile_ns(0.5));
    /// # assert_eq!(flushes.count(), 1);
    /// # Ok::<(), cowblk::Error>(())
    /// ```
    pub fn latencies(&self) -> Latencies {
        let (times, meter) = (&self.shared.times, &self.shared.meter);
        Latencies {
            read: times.read.snapshot(),
            write: times.write.snapshot(),
            flush: times.flush.snapshot(),
            checkpoint: times.checkpoint.snapshot(),
            freeze: times.freeze.snapshot(),
            device_read: meter.read_times.snapshot(),
            device_write: meter.write_times.snapshot(),
            device_sync: meter.sync_times.snapshot(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::device::MemoryDevice;
    use crate::{Options, Store};
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    /// The writer may come late to what it is to wait for: then once more.
    #[test]
    fn a_change_that_a_checkpoint_keeps_out_has_waited() {
        let options = Options::default().journal_bytes(1 << 20).background(false);
        let store = Store::create_on(Arc::new(MemoryDevice::default()), options).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", 1 << 20).unwrap();
        let waited = || store.stats().waits.freeze;
        disk.write_at(&[1; 4096], 0).unwrap();
        assert_eq!(waited().count, 0, "nobody kept it out");
        let comes_to_wait = |_| {
            let closed = store.shared.barrier.write();
            thread::scope(|scope| {
                scope.spawn(|| disk.write_at(&[2; 4096], 0).unwrap());
                thread::sleep(Duration::from_millis(10));
                drop(closed);
            });
            waited().count > 0
        };
        assert!((0..500).any(comes_to_wait), "nobody waited");
        assert!(waited().count == 1 && waited().total_ns > 0);
    }
}
