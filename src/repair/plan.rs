//! Plan: everything that a repair writes but the superblock and the journal.
//!
//! Floor 6.

use super::beginning::{self, Beginning};
use super::overlay::{Overlay, Writes};
use super::report::{LostRange, RepairReport};
use super::space::Space;
use super::trees::{Loss, Owner, Saver, Tree, trees};
use super::{hopeless, records, tables};
use crate::check::catalog::{self, Records};
use crate::check::medium::Medium;
use crate::check::recount::Recount;
use crate::check::walk::{Forest, Walk};
use crate::check::{CheckReport, Finding};
use crate::defect::Defect;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{
    BatchHeader, CheckpointRecord, Geometry, HEADER_BYTES, JOURNAL_UNIT, Reference, Superblock, encode_page,
    encoded_record, node_to_bytes, page_room, seal,
};
use crate::units::{BlockNo, BlockRun, Epoch, Generation, index, narrow, wide};
use std::sync::Arc;
use zerocopy::little_endian::{U32, U64};

/// Births of catalog nodes and pages, as checkpoints stamp them.
const CATALOG_BIRTH: Epoch = Epoch(1);

/// What a repair writes.
pub(super) struct Plan {
    pub(super) geometry: Geometry,
    /// The new superblock, with the journal as it was.
    pub(super) superblock: Superblock,
    pub(super) writes: Arc<Writes>,
    /// How long the store has to be.
    pub(super) len_bytes: u64,
    pub(super) is_journal_damaged: bool,
    pub(super) journal_batches: u64,
}

impl Plan {
    /// Makes the plan. Writes nothing.
    pub(super) fn make(
        device: &Arc<dyn Device>,
        check: &CheckReport,
        zero_lost: bool,
        report: &mut RepairReport,
    ) -> Result<Self> {
        let start = beginning::find(&**device, &mut report.actions).ok_or_else(hopeless)?;
        let has = device.len_bytes().map_err(|cause| Error::io("read the store's length", cause))?;
        let len_bytes = has.max(start.geometry.length_bytes(start.record.zones));
        if len_bytes > has {
            report
                .actions
                .push(format!("lengthen the store from {has} to {len_bytes} bytes; what was there is lost"));
        }
        let over = |layers| Overlay { device: device.clone(), layers, len_bytes };
        let damaged = over(Vec::new());
        let medium = Medium::new(&damaged, start.geometry, start.record.zones);
        let (mut space, mut found) = survey(&medium, &start, &damaged);
        let (record, records) = save(&medium, &start, &mut found, &mut space, (zero_lost, report))?;
        let run_blocks = CheckpointRecord::bytes_for(wide(record.groups.len()))
            .div_ceil(u64::from(start.geometry.block_size()));
        let run = BlockRun { first: space.take(narrow(index(run_blocks)))?, count: run_blocks };
        let mut writes = std::mem::take(&mut space.writes);
        let blocks = Arc::new(writes.clone());
        let repaired = over(vec![blocks]);
        let medium = Medium::new(&repaired, start.geometry, record.zones);
        let recount = recount(&medium, &record, run, &records);
        let (groups, totals) = tables::rebuild(&medium, &start.record.groups, recount, &mut writes)?;
        let record = CheckpointRecord {
            used: totals.used,
            shared: totals.shared,
            extra: totals.extra,
            groups,
            ..record
        };
        let bytes = record.encode();
        let superblock = Superblock {
            writes: U64::new(start.superblock.writes.get() + 1),
            checkpoint_block: U64::new(run.first.0),
            checkpoint_bytes: U32::new(narrow(bytes.len())),
            checkpoint_crc: U32::new(seal(&bytes)),
            reserved: [0; 3960],
            ..start.superblock
        };
        writes.insert(start.geometry.offset_bytes(run.first), bytes);
        report
            .actions
            .push("write refcounts, summaries and a checkpoint record from what the maps hold".into());
        let is_journals =
            |finding: &Finding| matches!(finding.defect, Defect::Journal | Defect::JournalRecord);
        Ok(Self {
            geometry: start.geometry,
            superblock,
            writes: Arc::new(writes),
            len_bytes,
            is_journal_damaged: check.findings.iter().any(is_journals),
            journal_batches: check.journal_batches,
        })
    }

    /// Bytes of all writes.
    pub(super) fn bytes(&self) -> u64 {
        wide(self.writes.values().map(Vec::len).sum())
    }
}

/// The records as they can be read, and the space that the damaged store does not use.
fn survey(medium: &Medium<'_>, start: &Beginning, device: &dyn Device) -> (Space, Records) {
    let mut space = Space::new(start.geometry, start.record.zones);
    space.mark_run(start.run);
    let mut ignored = CheckReport::default();
    let mut walk = Walk::new(medium, &mut space, &mut ignored);
    let records = catalog::read(&mut walk, &start.record);
    Forest::new(&records, start.geometry.block_size()).walk(&mut walk);
    walk.finish();
    mark_journal(device, &start.geometry, &start.superblock, &mut space);
    (space, records)
}

/// Blocks that any batch in the journal names are not free, whether it will be replayed or not.
fn mark_journal(device: &dyn Device, geometry: &Geometry, superblock: &Superblock, space: &mut Space) {
    use crate::format::{Batch, Record};
    let mut unit = vec![0; index(JOURNAL_UNIT)];
    for at in (0..geometry.journal_bytes()).step_by(index(JOURNAL_UNIT)) {
        if device.read_at(&mut unit, HEADER_BYTES + at).is_err() {
            continue;
        }
        let Some(header) = BatchHeader::read(&unit, superblock.uuid) else { continue };
        let Some(length) = header.batch_bytes(geometry.block_size()) else { continue };
        if header.sequence.get() < superblock.journal_sequence.get() || at + length > geometry.journal_bytes()
        {
            continue;
        }
        let mut bytes = vec![0; index(length)];
        if device.read_at(&mut bytes, HEADER_BYTES + at).is_err() {
            continue;
        }
        let records = Batch::open(bytes, header, geometry.block_size()).and_then(|batch| batch.records());
        for record in records.unwrap_or_default() {
            match record {
                Record::Map(map) | Record::Share(map) => {
                    space.mark_run(BlockRun { first: map.physical, count: wide(map.crcs.len()) });
                }
                Record::Inline { run, .. } => space.mark_run(run),
                Record::Clear { .. } | Record::Event(_) => {}
            }
        }
    }
}

/// Saves every map, and the catalog. Returns the record that leads to them; its groups are those of the old one.
fn save(
    medium: &Medium<'_>,
    start: &Beginning,
    found: &mut Records,
    space: &mut Space,
    (zero_lost, report): (bool, &mut RepairReport),
) -> Result<(CheckpointRecord, Records)> {
    let before = records::all(found);
    let was_complete = found.complete;
    if !was_complete {
        report
            .lost_records
            .push("records of damaged catalog pages: disks that are not listed any more".into());
    }
    let old = &start.record;
    let (epoch, next_id) = records::reconcile(found, (old.epoch.0, old.next_id), &mut report.lost_records);
    let trees = trees(found, start.geometry.block_size());
    let mut saver = Saver::new(medium, &trees, found, space, zero_lost);
    let roots = (0..trees.len()).map(|nth| saver.save(nth)).collect::<Result<Vec<_>>>()?;
    let losses = saver.take_losses();
    for (tree, root) in trees.iter().zip(roots) {
        records::set_root(found, tree.owner, root);
    }
    found.garbage.retain(|_, garbage| !garbage.reference.is_hole());
    report.lost = lost_ranges(found, &trees, losses, start.geometry.block_size());
    let mut all = records::all(found);
    if all != before || !was_complete {
        records::forget_sizes(found);
        all = records::all(found);
    }
    let mut record = CheckpointRecord {
        generation: Generation(old.generation.0 + 1),
        epoch: Epoch(epoch),
        next_id,
        ..old.clone()
    };
    if all != before || !was_complete || start.record.catalog_height == 0 {
        report.actions.push("write the catalog anew".into());
        let mut pages: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut room = 0;
        for encoded in all.iter().map(encoded_record) {
            let needed = page_room(&encoded);
            if needed > room {
                pages.push(Vec::new());
                room = start.geometry.block_bytes();
            }
            room -= needed;
            pages.last_mut().into_iter().for_each(|page| page.push(encoded.clone()));
        }
        write_catalog(&mut record, &pages, space)?;
    }
    Ok((record, std::mem::take(found)))
}

/// Writes catalog pages and the nodes of their map.
fn write_catalog(record: &mut CheckpointRecord, pages: &[Vec<Vec<u8>>], space: &mut Space) -> Result<()> {
    let block_bytes = space.geometry.block_bytes();
    let fanout = 1usize << space.geometry.fanout_bits();
    let mut level = Vec::new();
    for page in pages {
        let bytes = encode_page(page.iter().map(Vec::as_slice), block_bytes);
        level.push(Reference::new(space.put(&bytes)?, CATALOG_BIRTH, seal(&bytes)));
    }
    record.catalog_pages = wide(level.len());
    record.catalog_height = 0;
    while record.catalog_height == 0 || level.len() > 1 {
        let mut above = Vec::new();
        for entries in level.chunks(fanout) {
            let mut node = entries.to_vec();
            node.resize(fanout, Reference::HOLE);
            let bytes = node_to_bytes(&node);
            above.push(Reference::new(space.put(bytes)?, CATALOG_BIRTH, seal(bytes)));
        }
        level = above;
        record.catalog_height += 1;
    }
    record.catalog_root = level.first().copied().unwrap_or(Reference::HOLE);
    Ok(())
}

/// Counts everything that the repaired store refers to.
fn recount(medium: &Medium<'_>, record: &CheckpointRecord, run: BlockRun, records: &Records) -> Recount {
    let mut recount = Recount::new(&medium.geometry);
    for nth in 0..run.count {
        let block = BlockNo(run.first.0 + nth);
        if let Some(place) = medium.place_of(block) {
            recount.hold_metadata(place, block);
        }
    }
    let mut ignored = CheckReport::default();
    let mut walk = Walk::new(medium, &mut recount, &mut ignored);
    catalog::read(&mut walk, record);
    Forest::new(records, medium.geometry.block_size()).walk(&mut walk);
    walk.finish();
    recount
}

/// Losses by the names that users know, joined where they follow one another.
fn lost_ranges(records: &Records, trees: &[Tree], mut losses: Vec<Loss>, block_size: u32) -> Vec<LostRange> {
    losses.sort_by_key(|loss| (loss.tree, loss.first));
    let mut ranges: Vec<LostRange> = Vec::new();
    for loss in losses {
        let Some(tree) = trees.get(loss.tree) else { continue };
        let Some((server, disk, snapshot)) = names(records, tree.owner) else { continue };
        let block = u64::from(block_size);
        let (offset, len) = (loss.first * block, (loss.end - loss.first) * block);
        match ranges.last_mut() {
            Some(last)
                if (&last.server, &last.disk, &last.snapshot) == (&server, &disk, &snapshot)
                    && last.offset + last.len >= offset =>
            {
                last.len = last.len.max(offset + len - last.offset);
            }
            _ => ranges.push(LostRange { server, disk, snapshot, offset, len }),
        }
    }
    ranges
}

fn names(records: &Records, owner: Owner) -> Option<(String, String, Option<String>)> {
    let server = |id| records.servers.get(&id).map(|server| server.name.clone());
    match owner {
        Owner::Disk(id) => {
            let disk = records.disks.get(&id)?;
            Some((server(disk.server)?, disk.name.clone(), None))
        }
        Owner::Version(id) => {
            let version = records.versions.get(&id)?;
            let snapshot = records.snapshots.get(&version.snapshot?)?;
            Some((server(snapshot.server)?, version.disk_name.clone(), Some(snapshot.name.clone())))
        }
        Owner::Garbage(_) => None,
    }
}
