//! Zone tables: the refcounts as checkpoints leave them on the medium.
//!
//! Floor 2. A checkpoint hands over what was referenced and what was dropped since the one before;
//! the pages concerned are written to their other slots, so that a crash leaves the old ones whole.

use crate::defect::Defect;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{
    Geometry, GroupEntry, ZoneEntry, decode_counts, decode_summary, encode_counts, encode_summary, seal,
};
use crate::units::{BlockNo, BlockRun, index, narrow, wide};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What happened to references since the last checkpoint.
#[derive(Default)]
pub(crate) struct SpaceChanges {
    /// Blocks that got their first reference, in any order.
    pub(crate) taken: Vec<BlockRun>,
    /// A block for each reference that was dropped.
    pub(crate) dropped: Vec<BlockNo>,
}

/// A group of zones.
#[derive(Clone, Default)]
pub(crate) struct Group {
    pub(crate) entry: GroupEntry,
    /// The summary page, once read.
    summary: Option<Arc<Vec<ZoneEntry>>>,
}

impl Group {
    pub(crate) fn new(entry: GroupEntry) -> Self {
        Self { entry, summary: None }
    }

    /// The summary page, read and verified once.
    pub(crate) fn summary(
        &mut self,
        number: u64,
        geometry: &Geometry,
        device: &dyn Device,
    ) -> Result<Arc<Vec<ZoneEntry>>> {
        if let Some(summary) = &self.summary {
            return Ok(summary.clone());
        }
        let zones = geometry.zones_per_group();
        let pages = geometry.pages_per_zone();
        let summary = match self.entry.slot {
            None => vec![ZoneEntry::fresh(pages); index(zones)],
            Some(slot) => {
                let bytes = read_sealed(
                    device,
                    geometry,
                    geometry.summary_block(number, slot),
                    (self.entry.crc, Defect::ZoneSummary),
                )?;
                decode_summary(&bytes, pages, zones)
                    .ok_or_else(|| Error::corrupt(Defect::ZoneSummary, format!("group {number} of zones")))?
            }
        };
        Ok(self.summary.insert(Arc::new(summary)).clone())
    }
}

/// Reads a block and checks it against the seal that its parent holds.
fn read_sealed(
    device: &dyn Device,
    geometry: &Geometry,
    block: BlockNo,
    (crc, defect): (u32, Defect),
) -> Result<Vec<u8>> {
    let mut bytes = vec![0; geometry.block_bytes()];
    device
        .read_at(&mut bytes, geometry.offset_bytes(block))
        .map_err(|cause| Error::io(format!("read block {block}"), cause))?;
    if seal(&bytes) == crc { Ok(bytes) } else { Err(Error::corrupt(defect, format!("block {block}"))) }
}

/// The counts of one refcount page.
pub(crate) fn read_counts(
    device: &dyn Device,
    geometry: &Geometry,
    entry: &ZoneEntry,
    (zone, page): (u64, u32),
) -> Result<Vec<u16>> {
    let Some(slot) = entry.slot(page) else {
        return Ok(vec![0; index(u64::from(geometry.counts_per_page()))]);
    };
    let crc = entry.crcs.get(index(u64::from(page))).copied().unwrap_or_default();
    let block = geometry.refcount_block(zone, page, slot);
    read_sealed(device, geometry, block, (crc, Defect::RefcountPage)).map(|bytes| decode_counts(&bytes))
}

/// The refcount table of the next checkpoint.
pub(crate) struct ZoneTables {
    geometry: Geometry,
    device: Arc<dyn Device>,
    groups: Vec<Group>,
    used: u64,
    /// Groups whose summaries have to be written.
    changed: BTreeSet<u64>,
}

/// A stretch of one refcount page whose counts go up or down by one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    zone: u64,
    page: u32,
    first: u32,
    count: u32,
    up: bool,
}

impl ZoneTables {
    pub(crate) fn new(geometry: Geometry, device: Arc<dyn Device>, groups: &[GroupEntry], used: u64) -> Self {
        let groups = groups.iter().copied().map(Group::new).collect();
        Self { geometry, device, groups, used, changed: BTreeSet::new() }
    }

    /// Blocks whose refcount is not zero.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// The groups, as the checkpoint record lists them.
    pub(crate) fn entries(&self) -> Vec<GroupEntry> {
        self.groups.iter().map(|group| group.entry).collect()
    }

    /// Makes room for the groups of `zones` zones.
    pub(crate) fn grow(&mut self, zones: u64) {
        let groups = index(self.geometry.groups_for(zones));
        if self.groups.len() < groups {
            self.groups.resize_with(groups, Group::default);
        }
    }

    /// Applies the changes and writes the pages concerned. Returns the blocks whose last reference went.
    pub(crate) fn apply(&mut self, changes: &SpaceChanges) -> Result<Vec<BlockRun>> {
        let changes = self.by_page(changes)?;
        let mut freed = Vec::new();
        for page in changes.chunk_by(|a, b| (a.zone, a.page) == (b.zone, b.page)) {
            self.apply_page(page, &mut freed)?;
        }
        Ok(freed)
    }

    /// The changes cut at page boundaries and sorted, what was taken before what was dropped.
    fn by_page(&self, changes: &SpaceChanges) -> Result<Vec<Change>> {
        let mut cut = Vec::with_capacity(changes.taken.len() + changes.dropped.len());
        for run in &changes.taken {
            self.cut(*run, true, &mut cut)?;
        }
        let mut dropped = changes.dropped.clone();
        dropped.sort_unstable();
        for block in dropped {
            self.cut(BlockRun { first: block, count: 1 }, false, &mut cut)?;
        }
        // Two sorted rows by now, which this sort, unlike an unstable one, takes for what they are.
        cut.sort_by_key(|change| (change.zone, change.page, !change.up, change.first));
        Ok(cut)
    }

    fn cut(&self, run: BlockRun, up: bool, cut: &mut Vec<Change>) -> Result<()> {
        let place = self
            .geometry
            .place_of(run.first)
            .filter(|place| self.geometry.group_of(place.zone) < wide(self.groups.len()))
            .filter(|place| run.count <= u64::from(self.geometry.data_blocks_per_zone() - place.index))
            .ok_or_else(|| {
                Error::corrupt(Defect::Reference, format!("block {} is no data block", run.first))
            })?;
        let per_page = self.geometry.counts_per_page();
        let mut at = place.index;
        let end = at + narrow(index(run.count));
        while at < end {
            let page = at / per_page;
            let upto = end.min((page + 1) * per_page);
            cut.push(Change { zone: place.zone, page, first: at % per_page, count: upto - at, up });
            at = upto;
        }
        Ok(())
    }

    fn apply_page(&mut self, changes: &[Change], freed: &mut Vec<BlockRun>) -> Result<()> {
        let Some(&Change { zone, page, .. }) = changes.first() else { return Ok(()) };
        let number = self.geometry.group_of(zone);
        let group = &mut self.groups[index(number)];
        let mut summary = group.summary(number, &self.geometry, &*self.device)?;
        let entry = &mut Arc::make_mut(&mut summary)[index(zone % self.geometry.zones_per_group())];
        let mut counts = read_counts(&*self.device, &self.geometry, entry, (zone, page))?;
        let used_before = entry.used;
        for change in changes {
            let per_page = self.geometry.counts_per_page();
            for at in change.first..change.first + change.count {
                let count = &mut counts[index(u64::from(at))];
                let block =
                    self.geometry.block_at(crate::format::Place { zone, index: page * per_page + at });
                if change.up {
                    entry.used =
                        entry.used.checked_add(u32::from(*count == 0)).ok_or_else(|| miscounted(zone))?;
                    *count = count.checked_add(1).ok_or_else(|| {
                        Error::corrupt(Defect::Refcount, format!("block {block} overflows"))
                    })?;
                } else {
                    *count = count.checked_sub(1).ok_or_else(|| {
                        Error::corrupt(
                            Defect::Refcount,
                            format!("block {block} is dropped but not referenced"),
                        )
                    })?;
                    if *count == 0 {
                        entry.used = entry.used.checked_sub(1).ok_or_else(|| miscounted(zone))?;
                        push_run(freed, block);
                    }
                }
            }
        }
        let bytes = encode_counts(&counts);
        let block = self.geometry.refcount_block(zone, page, entry.other_slot(page));
        self.device
            .write_at(&bytes, self.geometry.offset_bytes(block))
            .map_err(|cause| Error::io(format!("write refcount page {page} of zone {zone}"), cause))?;
        entry.turn(page, seal(&bytes));
        let change = i64::from(entry.used) - i64::from(used_before);
        let group_used = u64::from(group.entry.used).checked_add_signed(change);
        group.entry.used =
            group_used.and_then(|used| u32::try_from(used).ok()).ok_or_else(|| miscounted(zone))?;
        self.used = self.used.checked_add_signed(change).ok_or_else(|| miscounted(zone))?;
        group.summary = Some(summary);
        self.changed.insert(number);
        Ok(())
    }

    /// Writes the summaries of the groups that changed. Returns those groups.
    pub(crate) fn write_summaries(&mut self) -> Result<Vec<(u64, Group)>> {
        let mut written = Vec::with_capacity(self.changed.len());
        for number in std::mem::take(&mut self.changed) {
            let group = &mut self.groups[index(number)];
            let summary = group.summary(number, &self.geometry, &*self.device)?;
            let bytes = encode_summary(&summary, self.geometry.block_bytes());
            let slot = group.entry.slot.map_or(0, |slot| 1 - slot);
            let block = self.geometry.summary_block(number, slot);
            self.device
                .write_at(&bytes, self.geometry.offset_bytes(block))
                .map_err(|cause| Error::io(format!("write summary of zone group {number}"), cause))?;
            group.entry.crc = seal(&bytes);
            group.entry.slot = Some(slot);
            written.push((number, group.clone()));
        }
        Ok(written)
    }
}

/// The counts of used blocks do not fit the refcounts.
fn miscounted(zone: u64) -> Error {
    Error::corrupt(Defect::FreeCount, format!("zone {zone}"))
}

/// Adds a block to a list of runs, joining it to the last one where it follows.
fn push_run(runs: &mut Vec<BlockRun>, block: BlockNo) {
    match runs.last_mut() {
        Some(last) if last.end() == block => last.count += 1,
        _ => runs.push(BlockRun { first: block, count: 1 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MemoryDevice;
    use crate::format::Place;

    fn tables(geometry: Geometry, zones: u64) -> ZoneTables {
        let device = Arc::new(MemoryDevice::new(index(geometry.length_bytes(zones))));
        let mut tables = ZoneTables::new(geometry, device, &[], 0);
        tables.grow(zones);
        tables
    }

    fn run(geometry: &Geometry, zone: u64, at: u32, count: u64) -> BlockRun {
        BlockRun { first: geometry.block_at(Place { zone, index: at }), count }
    }

    fn each(run: BlockRun) -> impl Iterator<Item = BlockNo> {
        (0..run.count).map(move |at| run.first.plus(at))
    }

    #[test]
    fn what_is_dropped_last_is_freed_in_every_page_of_a_zone() {
        let geometry = Geometry::new(4096, 16_400, 16).unwrap();
        let mut tables = tables(geometry, 1);
        let whole = run(&geometry, 0, 0, u64::from(geometry.data_blocks_per_zone()));
        assert_eq!(tables.apply(&SpaceChanges { taken: vec![whole], dropped: vec![] }).unwrap(), []);
        assert_eq!(tables.used(), whole.count);
        let across = run(&geometry, 0, geometry.counts_per_page() - 3, 10_000);
        let dropped = each(across).collect();
        assert_eq!(tables.apply(&SpaceChanges { taken: vec![], dropped }).unwrap(), [across]);
        assert_eq!(tables.used(), whole.count - across.count);
        assert_eq!(u64::from(tables.entries()[0].used), tables.used());
    }

    #[test]
    fn a_store_of_several_groups_counts_in_each() {
        let geometry = Geometry::new(4096, 64, 16).unwrap();
        let per_group = geometry.zones_per_group();
        let mut tables = tables(geometry, 2 * per_group + 1);
        let taken: Vec<_> = [0, per_group, 2 * per_group].map(|zone| run(&geometry, zone, 1, 3)).to_vec();
        tables.apply(&SpaceChanges { taken, dropped: vec![] }).unwrap();
        let written = tables.write_summaries().unwrap();
        assert_eq!(written.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(tables.entries().iter().map(|entry| entry.used).collect::<Vec<_>>(), [3, 3, 3]);
    }

    #[test]
    fn a_drop_of_what_nothing_refers_to_is_damage() {
        let geometry = Geometry::new(4096, 64, 16).unwrap();
        let mut tables = tables(geometry, 1);
        let block = run(&geometry, 0, 9, 1);
        let twice = SpaceChanges { taken: vec![block], dropped: vec![block.first, block.first] };
        assert_eq!(tables.apply(&twice).unwrap_err().defect(), Some(Defect::Refcount));
    }
}
