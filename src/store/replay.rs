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
        for accepted in &recovered.batches {
            for record in &accepted.records {
                self.replay_record(&accepted.batch, record)?;
            }
        }
        Ok(())
    }

    fn replay_record(&self, batch: &Batch, record: &Record) -> Result<()> {
        match record {
            Record::Map(map) => self.replay_map(map),
            Record::Clear { disk, first, count } => self.replay_clear(*disk, *first, *count),
            Record::Event(event) => self.apply(&mut self.state.write(), event, Logging::Replay),
            Record::Inline { run, at } => {
                check_run(&self.geometry, self.allocator.lock().zones(), *run)?;
                let bytes = batch.inline(*at, run.count).ok_or_else(|| impossible("inline blocks"))?;
                self.runs.insert(Arc::new(Run::recovered(*run, self.block_size(), bytes.to_vec())));
                Ok(())
            }
        }
    }

    fn head(&self, disk: DiskId) -> Result<Arc<Head>> {
        let state = self.state.read();
        state.heads.get(&disk).cloned().ok_or_else(|| impossible(format!("a record of unknown disk {disk}")))
    }

    fn replay_map(&self, map: &MapRecord) -> Result<()> {
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
            allocator.recovered(run)
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
