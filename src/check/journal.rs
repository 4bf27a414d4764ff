//! Journal: follows the batches behind the checkpoint, and looks for what proves one missing.
//!
//! Floor 5. The batches end at the first one that is not sealed: a crash may leave any end. It is damage
//! only where something sealed says that the missing batch was durable: the superblock, by `recovered`, or
//! a later batch, by `durable`.

use super::report::CheckReport;
use crate::defect::Defect;
use crate::device::Device;
use crate::format::{
    Batch, BatchHeader, Event, Geometry, HEADER_BYTES, JOURNAL_UNIT, MapRecord, Record, Superblock,
};
use crate::limits::DISK_BYTES_MAX;
use crate::units::{BlockNo, BlockRun, index, wide};

/// Checks the journal of a store with so many zones; `None` where that is not known. Returns the blocks that it shares.
pub(super) fn check(
    device: &dyn Device,
    (geometry, zones): (&Geometry, Option<u64>),
    superblock: &Superblock,
    report: &mut CheckReport,
) -> Vec<BlockRun> {
    let mut shares = Vec::new();
    if superblock.clean.get() == 1 {
        return shares; // closed with a checkpoint: whatever the journal holds is older
    }
    let reader = Reader { device, geometry, superblock };
    let mut end = End { at: superblock.journal_offset.get(), sequence: superblock.journal_sequence.get() };
    let mut zones = zones;
    let (mut grown, mut durable) = (Vec::new(), superblock.recovered.get());
    let mut left = geometry.journal_bytes();
    while let Some((batch, behind)) = reader.next(&end, left) {
        report.journal_batches += 1;
        left = left
            .saturating_sub(behind.checked_sub(end.at).unwrap_or(geometry.journal_bytes() - end.at + behind));
        if batch.header.durable.get() >= end.sequence {
            report.find(
                Defect::JournalRecord,
                format!("batch {} says that it was durable itself", end.sequence),
            );
        }
        durable = durable.max(batch.header.durable.get());
        match batch.records() {
            None => report.find(Defect::JournalRecord, format!("batch {} does not decode", end.sequence)),
            Some(records) => {
                verify(&records, geometry, (&mut zones, end.sequence), report);
                shares.extend(records.iter().filter_map(shared_run));
                grown.extend(zones.map(|zones| (end.sequence, zones)));
            }
        }
        end = End { at: behind, sequence: end.sequence.saturating_add(1) };
    }
    if let Some(proof) = reader.proof(&end, left) {
        report.find(Defect::Journal, format!("batch {} at byte {}: {proof}", end.sequence, end.at));
    }
    grown.retain(|(sequence, _)| *sequence <= durable);
    if let Some((sequence, zones)) = grown.last() {
        verify_length(device, geometry, (*sequence, *zones), report);
    }
    shares
}

fn shared_run(record: &Record) -> Option<BlockRun> {
    match record {
        Record::Share(map) => Some(BlockRun { first: map.physical, count: wide(map.crcs.len()) }),
        _ => None,
    }
}

/// A store was grown before the batch that says so was durable.
fn verify_length(
    device: &dyn Device,
    geometry: &Geometry,
    (sequence, zones): (u64, u64),
    report: &mut CheckReport,
) {
    let has = device.len_bytes().unwrap_or(0);
    if zones > geometry.zones_in(has)
        && !report.findings.iter().any(|found| found.defect == Defect::Truncated)
    {
        report.find(
            Defect::Truncated,
            format!("{has} bytes; batch {sequence} was durable, and by then there were {zones} zones"),
        );
    }
}

/// Where the next batch is expected.
struct End {
    at: u64,
    sequence: u64,
}

struct Reader<'a> {
    device: &'a dyn Device,
    geometry: &'a Geometry,
    superblock: &'a Superblock,
}

impl Reader<'_> {
    /// The next batch, and where it ends. It stands at the end of the one before, or at the journal's
    /// beginning if it did not fit there; `left` bytes of the journal were not read yet.
    fn next(&self, end: &End, left: u64) -> Option<(Batch, u64)> {
        [end.at, 0].into_iter().find_map(|at| {
            let skipped = if at == end.at { 0 } else { self.geometry.journal_bytes() - end.at };
            let header = self.header(at).filter(|header| {
                let (sequence, term) = (header.sequence.get(), header.term.get());
                sequence == end.sequence && self.accepts(sequence, term)
            })?;
            self.batch(at, header, left.checked_sub(skipped)?)
        })
    }

    fn accepts(&self, sequence: u64, term: u64) -> bool {
        let current = self.superblock.term.get();
        term == current || term < current && sequence <= self.superblock.recovered.get()
    }

    fn header(&self, at: u64) -> Option<BatchHeader> {
        let mut bytes = vec![0; index(JOURNAL_UNIT)];
        let inside = at.checked_add(JOURNAL_UNIT)? <= self.geometry.journal_bytes();
        (inside && self.device.read_at(&mut bytes, HEADER_BYTES + at).is_ok()).then_some(())?;
        BatchHeader::read(&bytes, self.superblock.uuid)
    }

    /// The sealed batch with this header, and where it ends.
    fn batch(&self, at: u64, header: BatchHeader, left: u64) -> Option<(Batch, u64)> {
        let length = header.batch_bytes(self.geometry.block_size())?;
        let behind = at + length;
        if length > left || behind > self.geometry.journal_bytes() {
            return None;
        }
        let mut bytes = vec![0; index(length)];
        self.device.read_at(&mut bytes, HEADER_BYTES + at).ok()?;
        let batch = Batch::open(bytes, header, self.geometry.block_size())?;
        Some((batch, behind % self.geometry.journal_bytes()))
    }

    /// What says that the batch expected at `end` was durable once.
    fn proof(&self, end: &End, left: u64) -> Option<String> {
        let recovered = self.superblock.recovered.get();
        if recovered >= end.sequence {
            return Some(format!("missing, though the last opening accepted batches up to {recovered}"));
        }
        let size = self.geometry.journal_bytes();
        // Each byte is sealed over at most twice, whatever lengths the headers claim.
        let mut budget = size.saturating_mul(2);
        for nth in 0..left / JOURNAL_UNIT {
            let at = (end.at + nth * JOURNAL_UNIT) % size;
            let Some(header) = self.header(at) else { continue };
            let (sequence, durable) = (header.sequence.get(), header.durable.get());
            let later = sequence > end.sequence
                && durable >= end.sequence
                && durable < sequence
                && header.term.get() == self.superblock.term.get();
            if !later {
                continue;
            }
            let length = header.batch_bytes(self.geometry.block_size()).unwrap_or(0);
            budget = budget.checked_sub(length)?;
            if self.batch(at, header, size).is_some() {
                return Some(format!("missing, though batch {sequence} says that it was durable"));
            }
        }
        None
    }
}

/// Verifies what the records of a batch say, as far as it follows from the records alone.
fn verify(
    records: &[Record],
    geometry: &Geometry,
    (zones, sequence): (&mut Option<u64>, u64),
    report: &mut CheckReport,
) {
    let disk_blocks_max = DISK_BYTES_MAX / u64::from(geometry.block_size());
    let mut wrong = |what: String| report.find(Defect::JournalRecord, format!("batch {sequence}: {what}"));
    for record in records {
        match record {
            Record::Map(map) | Record::Share(map) => {
                if !is_data(map.physical, wide(map.crcs.len()), geometry, *zones) {
                    wrong(format!(
                        "{} blocks from block {} on are no data blocks",
                        map.crcs.len(),
                        map.physical
                    ));
                }
                if end_of(map) > disk_blocks_max {
                    wrong(format!("disk {} has no block {}", map.disk, end_of(map) - 1));
                }
            }
            Record::Clear { disk, first, count } => {
                if first.0.checked_add(*count).is_none_or(|end| end > disk_blocks_max) {
                    wrong(format!("disk {disk} has no {count} blocks from {first} on"));
                }
            }
            Record::Inline { run, .. } => {
                if !is_data(run.first, run.count, geometry, *zones) {
                    wrong(format!("{} blocks from block {} on are no data blocks", run.count, run.first));
                }
            }
            Record::Event(Event::Grow { zones: more }) => {
                // It may be fewer than the checkpoint counts, which took in zones that came while it was written.
                *zones = zones.map(|zones| zones.max(*more));
            }
            Record::Event(_) => {}
        }
    }
}

fn end_of(map: &MapRecord) -> u64 {
    map.first.0 + wide(map.crcs.len())
}

/// Whether a run lies among the data blocks of one zone.
fn is_data(first: BlockNo, count: u64, geometry: &Geometry, zones: Option<u64>) -> bool {
    geometry.place_of(first).is_some_and(|place| {
        zones.is_none_or(|zones| place.zone < zones)
            && count <= u64::from(geometry.data_blocks_per_zone() - place.index)
    })
}
