//! Write runs: blocks that were written by callers and have a place, but are not there yet.
//!
//! Floor 4. A disk fills a run of consecutive blocks in memory; it goes to the medium in one write.
//! Until it is there, readers find the blocks here.

use super::buffers::{Buffer, Buffers};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::Geometry;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, RwLock};
use crate::units::{BlockNo, BlockRun, index, wide};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One run.
pub(crate) struct Run {
    first: BlockNo,
    capacity: u64,
    block_size: u32,
    /// As many whole blocks as were written.
    bytes: RwLock<Buffer>,
    /// How many that are.
    filled: AtomicU64,
    /// This many blocks are named by a record, which the batch being collected, or an earlier one, holds.
    recorded: AtomicU64,
    /// This many blocks were handed to the device at their places.
    homed: AtomicU64,
    /// This many blocks are at home, or durable inside the journal.
    journaled: AtomicU64,
    /// Nothing will be added.
    closed: AtomicBool,
    /// It is among those that the next batch looks at.
    fresh: AtomicBool,
    /// Held while blocks are handed to the device. A second writer that came late could otherwise put
    /// them there once more after they were freed and used again.
    homing: Mutex<()>,
}

impl Run {
    /// An empty run over reserved blocks.
    pub(crate) fn new(run: BlockRun, block_size: u32, buffer: Buffer) -> Self {
        Self {
            first: run.first,
            capacity: run.count,
            block_size,
            filled: AtomicU64::new(wide(buffer.len()) / u64::from(block_size)),
            bytes: RwLock::new(buffer),
            recorded: AtomicU64::new(0),
            homed: AtomicU64::new(0),
            journaled: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            fresh: AtomicBool::new(false),
            homing: Mutex::new(()),
        }
    }

    /// A run that recovery found inside the journal.
    pub(crate) fn recovered(run: BlockRun, block_size: u32, buffer: Buffer) -> Self {
        let run = Self::new(run, block_size, buffer);
        run.journaled.store(run.capacity, Ordering::Relaxed);
        run.closed.store(true, Ordering::Relaxed);
        run
    }

    /// The first block.
    pub(crate) fn first(&self) -> BlockNo {
        self.first
    }

    /// How many blocks were written to the run.
    pub(crate) fn filled(&self) -> u64 {
        self.filled.load(Ordering::Acquire)
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.read().capacity()
    }

    /// How many blocks it can take.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Adds whole blocks, as many as fit.
    pub(crate) fn append(&self, blocks: &[u8]) {
        let mut bytes = self.bytes.write();
        bytes.extend_from_slice(blocks);
        let filled = wide(bytes.len()) / u64::from(self.block_size);
        assert!(filled <= self.capacity, "a run is not overfilled");
        self.filled.store(filled, Ordering::Release);
    }

    /// Nothing will be added any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Copies from a block on into `target`, as far as both reach. How many bytes.
    pub(crate) fn read(&self, block: BlockNo, target: &mut [u8]) -> usize {
        let bytes = self.bytes.read();
        let from = index((block.0 - self.first.0) * u64::from(self.block_size));
        let source = bytes.get(from..).unwrap_or_default();
        let count = source.len().min(target.len());
        target[..count].copy_from_slice(&source[..count]);
        count
    }

    /// Hands what is new to the device. Whoever fills the run meanwhile does not wait for that.
    fn write_home(&self, device: &dyn Device, geometry: &Geometry) -> Result<()> {
        let _alone = self.homing.lock();
        let from = self.homed.load(Ordering::Acquire);
        let skip = index(from * u64::from(self.block_size));
        let at = self.first.plus(from);
        let write = |fresh: &[u8]| {
            device.write_at(fresh, geometry.offset_bytes(at)).map_err(|cause| {
                Error::io(format!("write {} bytes of data at block {at}", fresh.len()), cause)
            })
        };
        let bytes = self.bytes.read();
        let end = bytes.len();
        if end <= skip {
            return Ok(());
        }
        if self.closed.load(Ordering::Acquire) {
            write(&bytes[skip..])?;
        } else {
            let fresh = bytes.copy_from(skip);
            drop(bytes);
            write(&fresh)?;
        }
        let filled = wide(end) / u64::from(self.block_size);
        self.homed.fetch_max(filled, Ordering::AcqRel);
        self.journaled.fetch_max(filled, Ordering::AcqRel);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.closed.load(Ordering::Acquire) && self.homed.load(Ordering::Acquire) == self.filled()
    }

    /// Its blocks below `end` are in the journal now.
    pub(crate) fn journaled_below(&self, end: BlockNo) {
        self.journaled.fetch_max(end.0 - self.first.0, Ordering::AcqRel);
    }

    /// The blocks that are neither at home nor in the journal, though a record names them.
    fn exposed(&self) -> BlockRun {
        let journaled = self.journaled.load(Ordering::Acquire);
        let recorded = self.recorded.load(Ordering::Acquire);
        BlockRun { first: self.first.plus(journaled), count: recorded.saturating_sub(journaled) }
    }
}

/// All runs that are not at home, by their first block.
#[derive(Default)]
pub(crate) struct RunTable {
    runs: RwLock<BTreeMap<u64, Arc<Run>>>,
    /// Those that records name blocks of, that no batch has looked at since, and that are not let go of, by their first block: a flush need
    /// not look at all disks that ever wrote.
    fresh: Mutex<BTreeMap<u64, Arc<Run>>>,
    buffers: Arc<Buffers>,
}

impl RunTable {
    /// Takes a run in.
    pub(crate) fn insert(&self, run: Arc<Run>) {
        self.runs.write().insert(run.first.0, run);
    }

    /// An empty buffer for a run of so many bytes.
    pub(crate) fn buffer(&self, bytes: usize) -> Buffer {
        self.buffers.take(bytes)
    }

    /// The run that holds `block`, if any does.
    pub(crate) fn find(&self, block: BlockNo) -> Option<Arc<Run>> {
        let runs = self.runs.read();
        let (_, run) = runs.range(..=block.0).next_back()?;
        (block.0 < run.first.0 + run.capacity && block.0 < run.first.0 + run.filled()).then(|| run.clone())
    }

    /// Where the next run behind `block` starts.
    pub(crate) fn next_after(&self, block: BlockNo) -> Option<BlockNo> {
        self.runs.read().range(block.0 + 1..).next().map(|(&first, _)| BlockNo(first))
    }

    fn all(&self) -> Vec<Arc<Run>> {
        self.runs.read().values().cloned().collect()
    }

    /// Hands a run's blocks to the device, and lets go of it if it is closed.
    pub(crate) fn home(&self, run: &Arc<Run>, device: &dyn Device, geometry: &Geometry) -> Result<()> {
        run.write_home(device, geometry)?;
        if run.is_done() {
            self.take_out(run);
        }
        Ok(())
    }

    /// Takes out a run that is done: nobody records anything of it any more. Another one that has its place by now stays.
    fn take_out(&self, run: &Arc<Run>) {
        remove(&mut self.runs.write(), run);
        if run.fresh.load(Ordering::Acquire) {
            remove(&mut self.fresh.lock(), run);
        }
    }

    /// Hands the blocks of all runs to the device.
    pub(crate) fn home_all(&self, device: &dyn Device, geometry: &Geometry) -> Result<()> {
        self.all().iter().try_for_each(|run| self.home(run, device, geometry))
    }

    /// A record names the first `count` blocks of a run. To be called together with adding the record.
    pub(crate) fn recorded(&self, run: &Arc<Run>, count: u64) {
        run.recorded.fetch_max(count, Ordering::AcqRel);
        if !run.fresh.load(Ordering::Relaxed) && !run.fresh.swap(true, Ordering::AcqRel) {
            self.fresh.lock().insert(run.first.0, run.clone());
        }
    }

    /// The blocks that only memory holds, and that records name, with the runs that hold them, by their places. To be called together with
    /// taking the records.
    pub(crate) fn exposed(&self) -> Vec<(Arc<Run>, BlockRun)> {
        let mut exposed = Vec::new();
        self.fresh.lock().retain(|_, run| {
            let blocks = run.exposed();
            run.fresh.store(blocks.count > 0, Ordering::Release);
            if blocks.count > 0 {
                exposed.push((run.clone(), blocks));
            }
            blocks.count > 0
        });
        exposed
    }
}

fn remove(runs: &mut BTreeMap<u64, Arc<Run>>, run: &Arc<Run>) {
    if runs.get(&run.first.0).is_some_and(|found| Arc::ptr_eq(found, run)) {
        runs.remove(&run.first.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MemoryDevice;
    use std::io;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    fn run(first: u64, capacity: u64) -> Arc<Run> {
        Arc::new(Run::new(
            BlockRun { first: BlockNo(first), count: capacity },
            4096,
            RunTable::default().buffer(1 << 20),
        ))
    }

    #[test]
    fn a_run_is_found_for_the_blocks_that_it_holds_and_for_no_others() {
        let table = RunTable::default();
        let run = run(10, 8);
        table.insert(run.clone());
        run.append(&[1; 3 * 4096]);
        assert!((10..13).all(|block| table.find(BlockNo(block)).is_some()));
        assert!([9, 13, 17, 18].iter().all(|block| table.find(BlockNo(*block)).is_none()));
    }

    #[test]
    fn a_block_travels_with_its_record_and_not_ahead_of_it() {
        let (table, run) = (RunTable::default(), run(10, 8));
        run.append(&[1; 3 * 4096]);
        assert!(table.exposed().is_empty(), "no record names it yet");
        table.recorded(&run, 2);
        let found = |table: &RunTable| table.exposed().iter().map(|(_, blocks)| *blocks).collect::<Vec<_>>();
        for _ in 0..2 {
            assert_eq!(found(&table), [BlockRun { first: BlockNo(10), count: 2 }], "until it is written");
        }
        run.journaled_below(BlockNo(12));
        assert!(table.exposed().is_empty());
        table.recorded(&run, 3);
        assert_eq!(found(&table), [BlockRun { first: BlockNo(12), count: 1 }], "again, with the next record");
    }

    /// A host has thousands of disks, and most of them wrote long ago.
    #[test]
    fn a_batch_looks_at_runs_that_were_written_to_since_the_last() {
        let (table, runs) = (RunTable::default(), (0..100).map(|n| run(10 * n, 8)).collect::<Vec<_>>());
        for run in &runs {
            table.insert(run.clone());
            run.append(&[1; 4096]);
            table.recorded(run, 1);
        }
        for (run, blocks) in table.exposed() {
            run.journaled_below(blocks.end());
        }
        table.exposed();
        assert!(table.fresh.lock().is_empty(), "nothing was recorded since");
        table.recorded(&runs[70], 1);
        assert_eq!(table.fresh.lock().len(), 1);
        assert!(table.exposed().is_empty(), "what it names travelled before");
    }

    /// Its buffer is needed again. Nobody need flush, and a checkpoint takes the records without looking at runs.
    #[test]
    fn a_run_that_is_at_home_keeps_no_memory_until_the_next_flush() {
        let geometry = Geometry::new(4096, 64, 16).unwrap();
        let device = MemoryDevice::new(index(geometry.length_bytes(1)));
        let table = RunTable::default();
        for is_closed_first in [true, false] {
            let run = run(60, 4);
            table.insert(run.clone());
            run.append(&[7; 2 * 4096]);
            table.recorded(&run, 2);
            if is_closed_first {
                run.close();
            }
            table.home(&run, &device, &geometry).unwrap();
            run.close();
            table.home_all(&device, &geometry).unwrap();
            assert_eq!(Arc::strong_count(&run), 1, "nobody else holds it");
        }
        assert!(table.exposed().is_empty());
    }

    /// The blocks of a run that is at home may be freed and used again: a run of the next owner may have its place.
    #[test]
    fn a_run_that_leaves_late_does_not_take_the_next_one_along() {
        let table = RunTable::default();
        let (older, newer) = (run(10, 8), run(10, 8));
        table.insert(older.clone());
        newer.append(&[2; 4096]);
        table.insert(newer.clone());
        table.take_out(&older);
        assert!(Arc::ptr_eq(&table.find(BlockNo(10)).unwrap(), &newer));
    }

    /// A device whose writes take their time.
    struct Slow {
        memory: MemoryDevice,
        writes: AtomicUsize,
    }

    impl Device for Slow {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            self.memory.read_at(buf, offset)
        }
        fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
            self.writes.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(50));
            self.memory.write_at(buf, offset)
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
        fn len_bytes(&self) -> io::Result<u64> {
            self.memory.len_bytes()
        }
        fn grow(&self, len_bytes: u64) -> io::Result<()> {
            self.memory.grow(len_bytes)
        }
        fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
            self.memory.discard(offset, len_bytes)
        }
        fn can_grow(&self) -> bool {
            true
        }
        fn is_read_only(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_run_that_is_still_filled_goes_home_piece_by_piece() {
        let geometry = Geometry::new(4096, 64, 16).unwrap();
        let device = MemoryDevice::new(index(geometry.length_bytes(1)));
        let (table, run) = (RunTable::default(), run(60, 4));
        for block in 1..4 {
            run.append(&[block; 4096]);
            table.home(&run, &device, &geometry).unwrap();
        }
        let from = index(geometry.offset_bytes(BlockNo(60)));
        let firsts: Vec<u8> = device.to_bytes()[from..].iter().step_by(4096).copied().take(4).collect();
        assert_eq!(firsts, [1, 2, 3, 0]);
    }

    /// The second one would come after the blocks were freed and used again.
    #[test]
    fn two_who_bring_a_run_home_at_once_write_it_once() {
        let geometry = Geometry::new(4096, 64, 16).unwrap();
        let memory = MemoryDevice::new(index(geometry.length_bytes(1)));
        let device = Slow { memory, writes: AtomicUsize::new(0) };
        let (table, run) = (RunTable::default(), run(60, 4));
        table.insert(run.clone());
        run.append(&[7; 4 * 4096]);
        run.close();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| table.home(&run, &device, &geometry).unwrap());
            }
        });
        assert_eq!(device.writes.load(Ordering::SeqCst), 1);
        assert!(table.find(BlockNo(60)).is_none());
    }
}
