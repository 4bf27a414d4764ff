//! Sparsify: turns blocks of zeros that a disk holds into holes.
//!
//! Floor 5. Writes here never store a block of zeros; another writer of the format may have. Writers go on meanwhile: a
//! block is cleared only if it is still the one that was read.

use super::blocks::Purpose;
use super::disk::Disk;
use super::engine::Engine;
use super::head::{Head, HeadState};
use super::read::{Source, gone};
use super::write::is_zero;
use crate::commit::Waiting;
use crate::error::Result;
use crate::extent::{Footprint, Foundation, Scan, scan};
use crate::format::Reference;
use crate::limits::RUN_BLOCKS_MAX;
use crate::units::{DiskBlock, index, wide};
use std::ops::ControlFlow;
use std::sync::Arc;

/// What sparsifying a disk did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sparsified {
    /// Bytes of data that were read.
    pub read_bytes: u64,
    /// Bytes that are holes now. Their blocks are free after the next checkpoint, but for those that snapshots hold, too.
    pub cleared_bytes: u64,
}

/// A few consecutive blocks, as they were when they were read.
struct Seen {
    first: DiskBlock,
    foundation: Arc<Foundation>,
    /// What the delta said of each.
    deltas: Vec<Reference>,
    /// Which of them hold data, and only zeros.
    zeros: Vec<bool>,
    data_blocks: u64,
}

impl Engine {
    /// Clears the blocks of zeros of a disk. `progress` hears how far it is and how far it goes, in bytes of the disk,
    /// and can stop it.
    fn sparsify(
        &self,
        head: &Arc<Head>,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Sparsified> {
        self.check_writable()?;
        let source = Source::Head(head.clone());
        let block_size = u64::from(self.block_size());
        let (mut done, mut at) = (Sparsified::default(), DiskBlock(0));
        loop {
            let size_bytes = self.size_of(&source)?;
            let end = size_bytes.div_ceil(block_size);
            if progress((at.0 * block_size).min(size_bytes), size_bytes).is_break() || at.0 >= end {
                return Ok(done);
            }
            at = match self.leaf_or_hole(head, at)? {
                Scan::Hole { until } => DiskBlock(until.0.min(end)),
                Scan::Leaf { first, references } => {
                    let leaf_end = first.0 + wide(references.len());
                    let part_end = leaf_end.min(at.0 + RUN_BLOCKS_MAX).min(end);
                    let (read, cleared) = self.sparsify_part(head, at, part_end - at.0)?;
                    done.read_bytes += read * block_size;
                    done.cleared_bytes += cleared * block_size;
                    DiskBlock(part_end)
                }
            };
        }
    }

    fn leaf_or_hole(&self, head: &Arc<Head>, at: DiskBlock) -> Result<Scan> {
        let _reading = self.gate.enter();
        let view = head.state.read().view.clone();
        scan(&view, &self.nodes, at)
    }

    /// How many of these blocks hold data, and how many of them were cleared.
    fn sparsify_part(&self, head: &Arc<Head>, first: DiskBlock, count: u64) -> Result<(u64, u64)> {
        loop {
            self.keep_up()?;
            self.ensure_space(0, Purpose::Relief)?;
            // Inside the gate until all is done: no block that was read is freed and written anew meanwhile, so
            // a reference that is the same means a content that is the same.
            let reading = self.gate.enter();
            let seen = self.see(head, first, count)?;
            if !seen.zeros.contains(&true) {
                return Ok((seen.data_blocks, 0));
            }
            let (cleared, waiting) = {
                let _open = self.begin_change()?;
                let mut guard = head.state.write();
                if guard.is_gone {
                    return Err(gone(&Source::Head(head.clone())));
                }
                if !Arc::ptr_eq(&guard.view.foundation, &seen.foundation) {
                    continue; // a checkpoint or a restore came between: look again
                }
                self.clear_unchanged(head, &mut guard, &seen)
            };
            drop(reading);
            self.spill_if_many(waiting)?;
            return Ok((seen.data_blocks, cleared));
        }
    }

    /// Reads blocks. The caller is inside the gate.
    fn see(&self, head: &Arc<Head>, first: DiskBlock, count: u64) -> Result<Seen> {
        let mut deltas = vec![Reference::UNSET; index(count)];
        let foundation = {
            let state = head.state.read();
            state.view.delta_references(first, &mut deltas);
            state.view.foundation.clone()
        };
        let mut references = deltas.clone();
        foundation.fill(&self.nodes, first, &mut references)?;
        let block_bytes = self.geometry.block_bytes();
        let mut bytes = vec![0; references.len() * block_bytes];
        self.fetch(&Source::Head(head.clone()), first, &references, &mut bytes, 0)?;
        let blocks = references.iter().zip(bytes.chunks_exact(block_bytes));
        let zeros = blocks.map(|(reference, block)| !reference.is_hole() && is_zero(block)).collect();
        let data_blocks = wide(references.iter().filter(|reference| !reference.is_hole()).count());
        Ok(Seen { first, foundation, deltas, zeros, data_blocks })
    }

    /// Clears those blocks of zeros that are still what was seen. How many, and how much waits to be written.
    fn clear_unchanged(&self, head: &Arc<Head>, state: &mut HeadState, seen: &Seen) -> (u64, Waiting) {
        let (mut footprint, mut dropped) = (Footprint::default(), Vec::new());
        let (mut cleared, mut waiting) = (0, Waiting::default());
        let is_to_clear = |state: &HeadState, at: usize| {
            seen.zeros[at] && state.view.delta.get(seen.first.plus(wide(at))) == seen.deltas[at]
        };
        let mut at = 0;
        while at < seen.zeros.len() {
            let run = (at..seen.zeros.len()).take_while(|at| is_to_clear(state, *at)).count();
            if run > 0 {
                let (first, count) = (seen.first.plus(wide(at)), wide(run));
                state.clear(first, count, &mut footprint, &mut dropped);
                waiting = self.journal.append(|builder| builder.clear(head.id, first, count));
                cleared += count;
            }
            at += run.max(1);
        }
        if cleared > 0 {
            self.touch(head, &mut state.is_touched);
            self.account(footprint, dropped);
        }
        (cleared, waiting)
    }
}

impl Disk {
    /// Turns blocks that hold only zeros into holes. Writes here never store such a block; this is for disks of stores that
    /// something else wrote. Snapshots keep what they hold. Others can write to the disk meanwhile: a block that changes is left to them.
    ///
    /// `progress` hears how far it is and how far it goes, in bytes of the disk; on `Break` it stops there.
    ///
    /// # Errors
    /// Those of [`read_at`](Disk::read_at) and [`discard`](Disk::discard).
    pub fn sparsify(&self, mut progress: impl FnMut(u64, u64) -> ControlFlow<()>) -> Result<Sparsified> {
        self.shared.sparsify(&self.head, &mut progress).map_err(|error| self.said("sparsify", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MemoryDevice;
    use crate::store::{Options, Store};
    use std::sync::atomic::{AtomicBool, Ordering};

    const BLOCK: u64 = 4096;

    fn store() -> (Store, Disk) {
        let options = Options::default().journal_bytes(1 << 20).zone_blocks(512).background(false);
        let store = Store::create_on(Arc::new(MemoryDevice::new(0)), options).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", 2000 * BLOCK).unwrap();
        (store, disk)
    }

    fn zeros(disk: &Disk, blocks: std::ops::Range<u64>) {
        for block in blocks {
            disk.shared.write_zeros_as_data(&disk.head, DiskBlock(block)).unwrap();
        }
    }

    fn data_bytes(disk: &Disk) -> u64 {
        let extents = disk.extents(0..disk.size_bytes()).map(|extent| extent.unwrap());
        extents.filter(crate::store::Extent::is_data).map(|extent| extent.len).sum()
    }

    fn go_on(_: u64, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn zeros_become_holes_and_data_stays() {
        let (store, disk) = store();
        store.collect().unwrap();
        let empty = store.status().used_blocks;
        zeros(&disk, 0..700);
        disk.write_at(&[7; 3 * 4096], 300 * BLOCK).unwrap();
        store.checkpoint().unwrap();
        zeros(&disk, 1990..2000);
        disk.write_at(&[8; 512], 1995 * BLOCK).unwrap();
        assert_eq!(data_bytes(&disk), 710 * BLOCK);
        let mut told = Vec::new();
        let done = disk.sparsify(|at, end| {
            told.push(at);
            assert_eq!(end, 2000 * BLOCK);
            ControlFlow::Continue(())
        });
        let expected = Sparsified { read_bytes: 710 * BLOCK, cleared_bytes: 706 * BLOCK };
        assert_eq!(done.unwrap(), expected);
        assert!(told.is_sorted() && told.last() == Some(&(2000 * BLOCK)), "{told:?}");
        assert_eq!(data_bytes(&disk), 4 * BLOCK);
        let mut block = [0; 4096];
        disk.read_at(&mut block, 301 * BLOCK).unwrap();
        assert_eq!(block, [7; 4096]);
        disk.read_at(&mut block, 1995 * BLOCK).unwrap();
        assert_eq!((block[511], block[512]), (8, 0));
        assert_eq!(disk.sparsify(go_on).unwrap().cleared_bytes, 0, "once is enough");
        disk.discard(0, disk.size_bytes()).unwrap();
        store.collect().unwrap();
        assert_eq!(store.status().used_blocks, empty, "all blocks came back");
    }

    #[test]
    fn snapshots_keep_what_they_hold() {
        let (store, disk) = store();
        zeros(&disk, 10..20);
        let server = store.server("web").unwrap();
        let snapshot = server.snapshot("before", "").unwrap();
        assert_eq!(disk.sparsify(go_on).unwrap().cleared_bytes, 10 * BLOCK);
        assert_eq!(data_bytes(&disk), 0);
        store.checkpoint().unwrap();
        assert_eq!(store.snapshot(snapshot.id()).unwrap().size_bytes(), Some(10 * BLOCK));
        server.restore(snapshot.id()).unwrap();
        assert_eq!(data_bytes(&disk), 10 * BLOCK);
    }

    #[test]
    fn it_can_be_stopped_and_survives_reopening() {
        let device = Arc::new(MemoryDevice::new(0));
        let options = Options::default().journal_bytes(1 << 20).zone_blocks(512).background(false);
        let store = Store::create_on(device.clone(), options.clone()).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", 2000 * BLOCK).unwrap();
        zeros(&disk, 0..600);
        let mut calls = 0;
        let stopped = disk.sparsify(|_, _| {
            calls += 1;
            if calls > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(stopped.unwrap().cleared_bytes, 256 * BLOCK);
        disk.flush().unwrap();
        let crashed = MemoryDevice::from_bytes(device.to_bytes());
        let store = Store::open_on(Arc::new(crashed), options).unwrap();
        let disk = store.server("web").unwrap().disk("vda").unwrap();
        assert_eq!(data_bytes(&disk), 344 * BLOCK, "the journal tells it");
    }

    #[test]
    fn what_came_between_reading_and_clearing_wins() {
        let (_store, disk) = store();
        zeros(&disk, 0..64);
        let engine = &disk.shared.engine;
        let seen = engine.see(&disk.head, DiskBlock(0), 64).unwrap();
        disk.write_at(&[5; 4096], 3 * BLOCK).unwrap();
        zeros(&disk, 4..5);
        disk.discard(5 * BLOCK, BLOCK).unwrap();
        let (cleared, _) = engine.clear_unchanged(&disk.head, &mut disk.head.state.write(), &seen);
        assert_eq!(cleared, 61, "all but the one written, the one written with zeros, and the hole");
        let mut block = [0; 4096];
        disk.read_at(&mut block, 3 * BLOCK).unwrap();
        assert_eq!(block, [5; 4096]);
        assert_eq!(data_bytes(&disk), 2 * BLOCK);
    }

    /// A writer writes a stamp over each block again and again, with zeros in between; whatever returned last must be there.
    #[test]
    fn a_block_that_changes_meanwhile_is_left_alone() {
        let (store, disk) = store();
        let is_over = AtomicBool::new(false);
        let rounds = 40;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    disk.sparsify(go_on).unwrap();
                    store.checkpoint().unwrap();
                }
            });
            for round in 1..=rounds {
                for block in 0..64 {
                    zeros(&disk, block..block + 1);
                    let stamp = vec![round; 4096];
                    disk.write_at(&stamp, block * BLOCK).unwrap();
                    let mut found = vec![0; 4096];
                    disk.read_at(&mut found, block * BLOCK).unwrap();
                    assert!(found == stamp, "round {round}: block {block} was cleared after it was written");
                }
            }
            is_over.store(true, Ordering::Release);
        });
        for block in 0..64 {
            let mut found = vec![0; 4096];
            disk.read_at(&mut found, block * BLOCK).unwrap();
            assert!(found == vec![rounds; 4096], "block {block}");
        }
    }
}
