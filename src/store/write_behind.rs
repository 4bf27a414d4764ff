//! Write-behind: full runs and long batches go to the medium beside the writers, not inside their calls.
//!
//! Floor 5. Nothing waits for it that a flush promises: whoever flushes hands over what is not there yet by itself. A
//! queue that is full sends its writers to do the work themselves, so the memory is bounded, and a medium that is
//! slow slows them down.

use super::engine::Engine;
use crate::commit::{Flushed, Pressure, Run, Waiting};
use crate::error::Result;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of memory of the runs that wait at most.
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// How often the thread looks whether the store is still there.
const TICK: Duration = Duration::from_millis(500);

/// What waits for the thread.
#[derive(Default)]
pub(super) struct WriteBehind {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    runs: VecDeque<Arc<Run>>,
    bytes: usize,
    wants_spill: bool,
    /// The thread runs, and takes what is put here.
    is_open: bool,
}

/// What the thread does next.
enum Work {
    Home(Arc<Run>),
    Spill,
    Nothing,
    Stop,
}

impl WriteBehind {
    /// Takes a run that nothing will be added to. Gives it back where the writer has to take it home.
    pub(super) fn offer(&self, run: Arc<Run>) -> Option<Arc<Run>> {
        let bytes = run.memory_bytes();
        let mut queue = self.queue.lock();
        if !queue.is_open || queue.bytes + bytes > QUEUE_BYTES_MAX {
            return Some(run);
        }
        queue.bytes += bytes;
        queue.runs.push_back(run);
        drop(queue);
        self.changed.notify_one();
        None
    }

    /// Asks that the records that wait be written. Whether somebody will.
    pub(super) fn ask_to_spill(&self) -> bool {
        let mut queue = self.queue.lock();
        let is_asked = queue.is_open;
        if is_asked && !std::mem::replace(&mut queue.wants_spill, true) {
            self.changed.notify_one();
        }
        is_asked
    }

    fn next(&self) -> Work {
        let mut queue = self.queue.lock();
        if queue.is_open && queue.runs.is_empty() && !queue.wants_spill {
            self.changed.wait_for(&mut queue, TICK);
        }
        if !queue.is_open {
            return Work::Stop;
        }
        // Records go first: with them go the blocks that they name, and what a killed process loses is less.
        if std::mem::take(&mut queue.wants_spill) {
            return Work::Spill;
        }
        let Some(run) = queue.runs.pop_front() else { return Work::Nothing };
        queue.bytes -= run.memory_bytes();
        Work::Home(run)
    }

    fn open(&self) {
        self.queue.lock().is_open = true;
    }

    /// Takes nothing more. What waits stays in the table of runs, where a flush or checkpoint finds it.
    fn close(&self) {
        *self.queue.lock() = Queue::default();
        self.changed.notify_all();
    }
}

impl Engine {
    /// Sees that a full run gets to the medium.
    pub(super) fn send_home(&self, run: Arc<Run>) -> Result<()> {
        self.write_behind
            .offer(run)
            .map_or(Ok(()), |run| self.times.for_write_behind.time(|| self.take_home(&run)))
    }

    fn take_home(&self, run: &Arc<Run>) -> Result<()> {
        self.runs.home(run, &*self.device, &self.geometry).map_err(|error| self.halt(error))
    }

    /// Sees that records get to the medium if many wait: beside the writers, or by this one where that comes too late.
    pub(super) fn spill_if_many(&self, waiting: Waiting) -> Result<()> {
        let soft = self.journal.soft_batch_bytes();
        match waiting.pressure {
            Pressure::Hard => return self.times.for_write_behind.time(|| self.spill_all()),
            Pressure::Low if waiting.bytes < soft => return Ok(()),
            Pressure::Low | Pressure::Soft => {}
        }
        if waiting.bytes < 2 * soft && self.write_behind.ask_to_spill() {
            return Ok(());
        }
        self.times.for_write_behind.time(|| self.spill())
    }

    /// Writes out the records that wait, though others may be at it.
    fn spill_all(&self) -> Result<()> {
        if self.journal.spill_all(&self.runs).map_err(|error| self.halt(error))? == Flushed::NoRoom {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Whether so much waits that it should be written.
    fn wants_spill(&self) -> bool {
        let waiting = self.journal.waiting();
        waiting.bytes >= self.journal.soft_batch_bytes() || waiting.pressure > Pressure::Low
    }
}

/// The thread that writes behind the writers.
pub(super) struct Writer {
    engine: Weak<Engine>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(engine: &Arc<Engine>) -> std::io::Result<Self> {
        engine.write_behind.open();
        let weak = Arc::downgrade(engine);
        let thread = std::thread::Builder::new().name("cowblk-writer".into()).spawn(move || run(&weak))?;
        Ok(Self { engine: Arc::downgrade(engine), thread: Some(thread) })
    }

    /// Stops the thread, and waits for it.
    pub(super) fn stop(&mut self) {
        if let Some(engine) = self.engine.upgrade() {
            engine.write_behind.close();
        }
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            drop(thread.join()); // a panic there has been printed, and the store is as after a crash
        }
    }
}

fn run(weak: &Weak<Engine>) {
    while let Some(engine) = weak.upgrade() {
        let done = match engine.write_behind.next() {
            Work::Home(run) => engine.take_home(&run),
            Work::Spill if engine.wants_spill() => engine.spill(),
            Work::Spill | Work::Nothing => Ok(()),
            Work::Stop => return,
        };
        if done.is_err() {
            // The store has halted: whoever calls next is told.
            engine.write_behind.close();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::device::Device;
    use crate::device::sim::{Fault, Faults, Random, SimDevice, When};
    use crate::{Disk, ErrorKind, Options, Store};
    use std::sync::Arc;

    const RUN_BYTES: usize = 1 << 20;

    fn store_on(device: &SimDevice) -> (Store, Disk) {
        let options = Options::default().journal_bytes(1 << 20).dirty_bytes(1 << 30);
        let store = Store::create_on(Arc::new(device.clone()), options).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", 64 << 20).unwrap();
        (store, disk)
    }

    fn noise(seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; RUN_BYTES];
        Random::new(seed.into()).fill(&mut bytes);
        bytes
    }

    fn holds(device: &SimDevice, bytes: &[u8]) -> bool {
        let mut medium = vec![0; usize::try_from(device.len_bytes().unwrap()).unwrap()];
        device.read_at(&mut medium, 0).unwrap();
        medium.chunks(4096).any(|block| block == &bytes[..4096])
            && medium.chunks(4096).any(|block| block == &bytes[RUN_BYTES - 4096..])
    }

    #[test]
    fn a_full_run_gets_to_the_medium_though_nobody_flushes() {
        let device = SimDevice::new(0, 1);
        let (store, disk) = store_on(&device);
        let bytes = noise(1);
        // The rest of the run that is open comes before the one that this fills.
        disk.write_at(&bytes, 0).unwrap();
        disk.write_at(&bytes, 1 << 20).unwrap();
        while !holds(&device, &bytes) {
            std::thread::yield_now();
        }
        drop(store);
    }

    #[test]
    fn a_failure_behind_a_writer_halts_the_store_and_a_flush_tells() {
        let device = SimDevice::new(0, 1);
        let (store, disk) = store_on(&device);
        device.set_faults(Faults::none().with(Fault::WriteError, When::Nth(1)));
        let failed = (0..).find_map(|at| disk.write_at(&noise(at), 0).err()).unwrap();
        assert!(matches!(failed.kind(), ErrorKind::Halted | ErrorKind::Io), "{failed}");
        let flushed = store.flush().unwrap_err();
        assert_eq!(flushed.kind(), ErrorKind::Halted, "{flushed}");
        assert_eq!(disk.write_at(&[1; 4096], 0).unwrap_err().kind(), ErrorKind::Halted);
    }

    /// The thread is slower than the writers, and reads come before it.
    #[test]
    fn what_waits_is_read_and_flushed_like_everything_else() {
        let device = SimDevice::new(0, 1);
        let (store, disk) = store_on(&device);
        for round in 0..40 {
            let place = (u64::from(round) % 60) << 20;
            disk.write_at(&noise(round), place).unwrap();
            let mut found = vec![0; RUN_BYTES];
            disk.read_at(&mut found, place).unwrap();
            assert!(found == noise(round), "round {round}");
            if round % 9 == 0 {
                store.flush().unwrap();
                assert!(holds(&device, &noise(round)));
            }
        }
        drop((disk, store));
        let store = Store::open_on(Arc::new(device), Options::default()).unwrap();
        assert!(store.check().unwrap().is_clean());
    }
}
