//! Replay: applies what recovery accepted to the state that the checkpoint left.
//!
//! Floor 5. The same functions that served the first time; no I/O, but for reading the journal.

use super::engine::Engine;
use super::head::Head;
use super::verbs::Logging;
use crate::commit::{Accepted, Recovered, Run};
use crate::defect::Defect;
use crate::error::{Error, Result};
use crate::extent::Footprint;
use crate::format::{Batch, Event, Geometry, MapRecord, Record, Reference};
use crate::space::Allocator;
use crate::units::{BlockRun, DiskBlock, DiskId, wide};
use std::sync::Arc;

/// How many zones the store has after the batches, which had `zones` at the checkpoint. A store grows by one
/// zone at a time, so a journal cannot ask for more than it has events.
pub(super) fn zones_after(batches: &[Accepted], zones: u64) -> Result<u64> {
    batches.iter().flat_map(|accepted| &accepted.records).try_fold(zones, |zones, record| match record {
        Record::Event(Event::Grow { zones: grown }) if *grown > zones + 1 => {
            Err(impossible(format!("the store grows from {zones} to {grown} zones at once")))
        }
        Record::Event(Event::Grow { zones: grown }) => Ok(zones.max(*grown)),
        _ => Ok(zones),
    })
}

fn impossible(what: impl std::fmt::Display) -> Error {
    Error::corrupt(Defect::JournalRecord, what)
}

/// Refuses blocks outside the store's zones.
fn check_run(geometry: &Geometry, zones: u64, run: BlockRun) -> Result<()> {
    let fits = geometry.place_of(run.first).is_some_and(|place| {
        place.zone < zones && run.count <= u64::from(geometry.data_blocks_per_zone() - place.index)
    });
    if fits {
        Ok(())
    } else {
        Err(impossible(format!("blocks {}+{} are no data blocks", run.first, run.count)))
    }
}

impl Engine {
    /// Applies all accepted batches.
    pub(super) fn replay(&self, recovered: &Recovered) -> Result<()> {
        recovered.batches.iter().try_for_each(|accepted| self.replay_batch(accepted))
    }

    /// Applies one batch.
    pub(super) fn replay_batch(&self, accepted: &Accepted) -> Result<()> {
        accepted.records.iter().try_for_each(|record| self.replay_record(&accepted.batch, record))
    }

    fn replay_record(&self, batch: &Batch, record: &Record) -> Result<()> {
        match record {
            Record::Map(map) => self.replay_map(map, Allocator::recovered),
            Record::Share(map) => self.replay_map(map, Allocator::recovered_share),
            Record::Clear { disk, first, count } => self.replay_clear(*disk, *first, *count),
            Record::Event(event) => self.apply(&mut self.state.write(), event, Logging::Replay),
            Record::Inline { run, at } => {
                check_run(&self.geometry, self.allocator.lock().zones(), *run)?;
                let bytes = batch.inline(*at, run.count).ok_or_else(|| impossible("inline blocks"))?;
                let mut buffer = self.runs.buffer(bytes.len());
                buffer.extend_from_slice(bytes);
                self.runs.insert(Arc::new(Run::recovered(*run, self.block_size(), buffer)));
                Ok(())
            }
        }
    }

    fn head(&self, disk: DiskId) -> Result<Arc<Head>> {
        let state = self.state.read();
        state.heads.get(&disk).cloned().ok_or_else(|| impossible(format!("a record of unknown disk {disk}")))
    }

    fn replay_map(
        &self,
        map: &MapRecord,
        hold: impl FnOnce(&mut Allocator, BlockRun) -> Result<()>,
    ) -> Result<()> {
        let head = self.head(map.disk)?;
        let mut guard = head.state.write();
        let own = &mut *guard;
        let run = BlockRun { first: map.physical, count: wide(map.crcs.len()) };
        let blocks = own.size_bytes.div_ceil(u64::from(self.block_size()));
        if map.birth != own.birth || map.first.0 + run.count > blocks {
            return Err(impossible(format!("a record of disk {} at block {}", map.disk, map.first)));
        }
        self.with_allocator(|allocator| {
            check_run(&self.geometry, allocator.zones(), run)?;
            hold(allocator, run)
        })?;
        let references: Vec<Reference> = map
            .crcs
            .iter()
            .enumerate()
            .map(|(at, crc)| Reference::new(run.first.plus(wide(at)), map.birth, *crc))
            .collect();
        let (mut footprint, mut dropped) = (Footprint::default(), Vec::new());
        own.set(map.first, &references, &mut footprint, &mut dropped);
        self.touch(&head, &mut own.is_touched);
        self.account(footprint, dropped);
        Ok(())
    }

    fn replay_clear(&self, disk: DiskId, first: DiskBlock, count: u64) -> Result<()> {
        let head = self.head(disk)?;
        let mut guard = head.state.write();
        let own = &mut *guard;
        let blocks = own.size_bytes.div_ceil(u64::from(self.block_size()));
        if first.0.checked_add(count).is_none_or(|end| end > blocks) {
            return Err(impossible(format!("a discard of disk {disk} at block {first}")));
        }
        let (mut footprint, mut dropped) = (Footprint::default(), Vec::new());
        own.clear(first, count, &mut footprint, &mut dropped);
        self.touch(&head, &mut own.is_touched);
        self.account(footprint, dropped);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::commit::read_superblock;
    use crate::defect::Defect;
    use crate::device::{Device, MemoryDevice};
    use crate::format::{
        BatchBuilder, BatchIdentity, Event, Geometry, HEADER_BYTES, NewVersion, Place, Superblock, seal,
    };
    use crate::units::{BlockRun, DiskBlock, DiskId, Epoch, Sequence, ServerId, SnapshotId, VersionId};
    use crate::{Options, Store};
    use std::sync::Arc;

    fn options() -> Options {
        Options::default().zone_blocks(64).journal_bytes(64 << 10).background(false)
    }

    /// A store with server 1, disk 2 of 100 blocks and snapshot 3, as a crash leaves it behind a checkpoint.
    fn base() -> (Vec<u8>, Superblock, Geometry) {
        let device = Arc::new(MemoryDevice::new(0));
        let store = Store::create_on(device.clone(), options()).unwrap();
        let server = store.create_server("web").unwrap();
        server.create_disk("vda", 100 * 4096).unwrap();
        server.snapshot("s", "").unwrap();
        store.checkpoint().unwrap();
        let (superblock, geometry) = read_superblock(&*device).unwrap();
        (device.to_bytes(), superblock, geometry)
    }

    /// The birth of disk 2 then.
    const BIRTH: Epoch = Epoch(4);

    /// Opens the base with batches behind its checkpoint that are sealed as the store itself would have sealed them.
    fn open_with(batches: &mut [(&mut BatchBuilder, Vec<u8>)]) -> crate::Result<Store> {
        let (bytes, superblock, _) = base();
        let device = MemoryDevice::from_bytes(bytes);
        let mut at = HEADER_BYTES + superblock.journal_offset.get();
        for (nth, (builder, inline)) in batches.iter_mut().enumerate() {
            let sequence = Sequence(superblock.journal_sequence.get() + nth as u64);
            let identity = BatchIdentity {
                sequence,
                term: superblock.term.get(),
                durable: Sequence(sequence.0 - 1),
                uuid: superblock.uuid,
            };
            let sealed = builder.seal(&identity, inline, 4096);
            device.write_at(&sealed, at).unwrap();
            at += sealed.len() as u64;
        }
        Store::open_on(Arc::new(device), options())
    }

    fn forge(add: impl FnOnce(&mut BatchBuilder)) -> crate::Result<Store> {
        let mut builder = BatchBuilder::default();
        add(&mut builder);
        open_with(&mut [(&mut builder, Vec::new())])
    }

    /// Blocks of zeros, which every free block of a new store is.
    fn blocks(index: u32, count: u64) -> (BlockRun, Vec<u32>) {
        let (_, _, geometry) = base();
        let first = geometry.block_at(Place { zone: 0, index });
        (BlockRun { first, count }, vec![seal(&[0; 4096]); usize::try_from(count).unwrap()])
    }

    #[test]
    fn records_that_make_sense_are_replayed() {
        let (run, crcs) = blocks(10, 3);
        let store = forge(|b| {
            b.map(DiskId(2), DiskBlock(5), run.first, BIRTH, &crcs);
            b.clear(DiskId(2), DiskBlock(6), 94);
            b.event(&Event::Grow { zones: 2 });
            b.event(&Event::CreateServer {
                id: ServerId(40),
                name: "mail".into(),
                created_at: 1,
                kind: crate::format::ServerKind::User,
            });
        });
        let store = store.unwrap();
        assert_eq!((store.status().zones, store.servers().len()), (2, 2));
    }

    #[test]
    fn maps_that_no_store_writes_are_refused() {
        let (run, crcs) = blocks(10, 3);
        let (other, _) = blocks(12, 1);
        let (_, superblock, geometry) = base();
        let summary = geometry.summary_block(0, 0);
        let beyond = geometry.block_at(Place { zone: 7, index: 0 });
        let refused = |what: &str, add: &dyn Fn(&mut BatchBuilder)| {
            let refused = forge(add).map(drop).expect_err(what);
            assert_eq!(refused.defect(), Some(Defect::JournalRecord), "{what}: {refused}");
        };
        let map = |b: &mut BatchBuilder, disk, at, first, birth, crcs: &[u32]| {
            b.map(DiskId(disk), DiskBlock(at), first, birth, crcs);
        };
        assert_eq!(superblock.clean.get(), 0);
        refused("a birth before the snapshot", &|b| map(b, 2, 5, run.first, Epoch(2), &crcs));
        refused("a birth to come", &|b| map(b, 2, 5, run.first, Epoch(5), &crcs));
        refused("blocks behind the disk's end", &|b| map(b, 2, 98, run.first, BIRTH, &crcs));
        refused("a disk that is not there", &|b| map(b, 9, 5, run.first, BIRTH, &crcs));
        refused("a block twice", &|b| {
            map(b, 2, 5, run.first, BIRTH, &crcs);
            map(b, 2, 50, other.first, BIRTH, &crcs[..1]);
        });
        refused("a discard behind the disk's end", &|b| b.clear(DiskId(2), DiskBlock(50), 51));
        refused("a discard that never ends", &|b| b.clear(DiskId(2), DiskBlock(50), u64::MAX));
        refused("many zones at once", &|b| b.event(&Event::Grow { zones: 9 }));
        // These name blocks that are no data: they are looked at only where a later batch says that all is durable.
        for (what, first) in [("a block of a table", summary), ("a zone that is not there", beyond)] {
            let (mut one, mut two) = (BatchBuilder::default(), BatchBuilder::default());
            one.map(DiskId(2), DiskBlock(5), first, BIRTH, &crcs[..1]);
            two.clear(DiskId(2), DiskBlock(7), 1);
            let opened = open_with(&mut [(&mut one, Vec::new()), (&mut two, Vec::new())]);
            let refused = opened.map(drop).expect_err(what);
            assert_eq!(refused.defect(), Some(Defect::JournalRecord), "{what}: {refused}");
        }
    }

    /// A share names blocks that the checkpoint counts, and nothing else.
    #[test]
    fn shares_that_no_store_writes_are_refused() {
        let (run, crcs) = blocks(10, 2);
        let refused = |what: &str, add: &dyn Fn(&mut BatchBuilder)| {
            let refused = forge(add).map(drop).expect_err(what);
            assert_eq!(refused.defect(), Some(Defect::JournalRecord), "{what}: {refused}");
        };
        let share = |b: &mut BatchBuilder, first, at, crcs: &[u32]| {
            b.share(DiskId(2), DiskBlock(at), first, BIRTH, crcs);
        };
        refused("a free block", &|b| share(b, run.first, 5, &crcs));
        refused("a block of this journal", &|b| {
            b.map(DiskId(2), DiskBlock(5), run.first, BIRTH, &crcs);
            share(b, run.first, 50, &crcs);
        });
        refused("a block that is mapped as a free one then", &|b| {
            share(b, run.first, 50, &crcs);
            b.map(DiskId(2), DiskBlock(5), run.first, BIRTH, &crcs);
        });
        refused("blocks behind the disk's end", &|b| share(b, run.first, 99, &crcs));
    }

    #[test]
    fn a_block_that_two_batches_carry_is_refused() {
        let (run, _) = blocks(10, 2);
        let (mut one, mut two) = (BatchBuilder::default(), BatchBuilder::default());
        for builder in [&mut one, &mut two] {
            builder.clear(DiskId(2), DiskBlock(7), 1);
            builder.inline(run);
        }
        let inline = vec![7; 2 * 4096];
        let refused = open_with(&mut [(&mut one, inline.clone()), (&mut two, inline)]).map(drop).unwrap_err();
        assert_eq!(refused.defect(), Some(Defect::JournalRecord), "{refused}");
    }

    #[test]
    fn events_that_no_history_holds_are_refused() {
        let new = |disk, version| NewVersion { disk: DiskId(disk), version: VersionId(version) };
        let snapshot = |id, server, epoch, versions| Event::Snapshot {
            id: SnapshotId(id),
            server: ServerId(server),
            name: "late".into(),
            description: String::new(),
            identity: [0; 16],
            marks: crate::format::SnapshotMarks::default(),
            created_at: 1,
            epoch: Epoch(epoch),
            versions,
        };
        assert!(forge(|b| b.event(&snapshot(50, 1, 20, vec![new(2, 51)]))).is_ok());
        for event in [
            snapshot(1, 1, 20, vec![]),            // an id that is taken
            snapshot(50, 9, 20, vec![]),           // no such server
            snapshot(50, 1, 2, vec![]),            // an epoch of the past
            snapshot(50, 1, 20, vec![new(9, 51)]), // no such disk
            snapshot(50, 1, 20, vec![new(2, 2)]),  // a version's id that is taken
            snapshot(u64::MAX, 1, 20, vec![]),     // an id after which there is none
            Event::CreateServer {
                id: ServerId(1),
                name: "mail".into(),
                created_at: 1,
                kind: crate::format::ServerKind::User,
            },
            Event::DeleteSnapshot { id: SnapshotId(77) },
            Event::ResizeDisk { id: DiskId(77), size_bytes: 4096 },
            Event::ResizeDisk { id: DiskId(2), size_bytes: u64::MAX },
            Event::DeleteServer { id: ServerId(77), epoch: Epoch(20), versions: vec![] },
        ] {
            let refused = forge(|b| b.event(&event)).map(drop).expect_err("a forged event");
            assert_eq!(refused.defect(), Some(Defect::JournalRecord), "{event:?}: {refused}");
        }
    }
}
