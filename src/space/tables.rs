//! Zone tables: the refcounts as checkpoints leave them on the medium.
//!
//! Floor 2. A checkpoint hands over what was referenced and what was dropped since the one before;
//! the pages concerned are written to their other slots, so that a crash leaves the old ones whole.

use super::shared::SharedBlocks;
use crate::defect::Defect;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{
    Geometry, GroupEntry, Place, ZoneEntry, decode_counts, decode_summary, encode_counts, encode_summary,
    seal,
};
use crate::units::{BlockNo, BlockRun, index, narrow, wide};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What happened to references since the last checkpoint.
#[derive(Default)]
pub(crate) struct SpaceChanges {
    /// Blocks that got their first reference, in any order.
    pub(crate) taken: Vec<BlockRun>,
    /// Blocks that got more references, and how many.
    pub(crate) shared: Vec<(BlockNo, u16)>,
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

/// Refcount pages that were read: good until the next checkpoint.
#[derive(Default)]
pub(crate) struct CountPages(HashMap<(u64, u32), Vec<u16>>);

impl CountPages {
    /// The refcount of a block in this group of zones.
    pub(crate) fn count(
        &mut self,
        group: &mut Group,
        place: Place,
        geometry: &Geometry,
        device: &dyn Device,
    ) -> Result<u16> {
        let per_page = geometry.counts_per_page();
        let key = (place.zone, place.index / per_page);
        let counts = match self.0.entry(key) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => {
                let summary = group.summary(geometry.group_of(key.0), geometry, device)?;
                let entry = &summary[index(key.0 % geometry.zones_per_group())];
                place.insert(read_counts(device, geometry, entry, key)?)
            }
        };
        Ok(counts[index(u64::from(place.index % per_page))])
    }
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

/// What all refcounts say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Blocks whose refcount is not zero.
    pub(crate) used: u64,
    /// Blocks whose refcount is above one.
    pub(crate) shared: u64,
    /// References beyond the first of each block.
    pub(crate) extra: u64,
}

/// The refcount table of the next checkpoint.
pub(crate) struct ZoneTables {
    geometry: Geometry,
    device: Arc<dyn Device>,
    groups: Vec<Group>,
    totals: Totals,
    /// Groups whose summaries have to be written.
    changed: BTreeSet<u64>,
    /// The blocks with several references, since somebody asked, and until one of their counts changes.
    shared: Option<Arc<SharedBlocks>>,
    has_shared_changed: bool,
}

/// What happens to a count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The first reference.
    Take,
    /// So many more, of a block that has some.
    Share(u16),
    /// One less.
    Drop,
}

/// A stretch of one refcount page whose counts change in the same way.
#[derive(Clone, Copy)]
struct Change {
    zone: u64,
    page: u32,
    first: u32,
    count: u32,
    step: Step,
}

impl ZoneTables {
    pub(crate) fn new(
        geometry: Geometry,
        device: Arc<dyn Device>,
        groups: &[GroupEntry],
        totals: Totals,
    ) -> Self {
        let groups = groups.iter().copied().map(Group::new).collect();
        let changed = BTreeSet::new();
        Self { geometry, device, groups, totals, changed, shared: None, has_shared_changed: false }
    }

    /// What all refcounts say together.
    pub(crate) fn totals(&self) -> Totals {
        self.totals
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

    /// The changes cut at page boundaries and sorted: what was taken first, and what was dropped last.
    fn by_page(&self, changes: &SpaceChanges) -> Result<Vec<Change>> {
        let mut cut = Vec::with_capacity(changes.taken.len() + changes.dropped.len());
        for run in &changes.taken {
            self.cut(*run, Step::Take, &mut cut)?;
        }
        for &(block, more) in &changes.shared {
            self.cut(BlockRun { first: block, count: 1 }, Step::Share(more), &mut cut)?;
        }
        let mut dropped = changes.dropped.clone();
        dropped.sort_unstable();
        for block in dropped {
            self.cut(BlockRun { first: block, count: 1 }, Step::Drop, &mut cut)?;
        }
        // Sorted rows by now, which this sort, unlike an unstable one, takes for what they are.
        cut.sort_by_key(|change| (change.zone, change.page, change.step, change.first));
        Ok(cut)
    }

    fn cut(&self, run: BlockRun, step: Step, cut: &mut Vec<Change>) -> Result<()> {
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
            cut.push(Change { zone: place.zone, page, first: at % per_page, count: upto - at, step });
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
        let before = Totals { used: entry.used.into(), shared: entry.shared.into(), extra: 0 };
        let mut extra = 0;
        for change in changes {
            let per_page = self.geometry.counts_per_page();
            for at in change.first..change.first + change.count {
                let count = &mut counts[index(u64::from(at))];
                let block = self.geometry.block_at(Place { zone, index: page * per_page + at });
                let old = *count;
                *count = changed(old, change.step, block)?;
                entry.used = moved(entry.used, (old > 0, *count > 0)).ok_or_else(|| miscounted(zone))?;
                entry.shared = moved(entry.shared, (old > 1, *count > 1)).ok_or_else(|| miscounted(zone))?;
                if old > 1 || *count > 1 {
                    self.has_shared_changed = true;
                    self.shared = None;
                }
                extra += i64::from(count.saturating_sub(1)) - i64::from(old.saturating_sub(1));
                if *count == 0 {
                    push_run(freed, block);
                }
            }
        }
        let bytes = encode_counts(&counts);
        let block = self.geometry.refcount_block(zone, page, entry.other_slot(page));
        self.device
            .write_at(&bytes, self.geometry.offset_bytes(block))
            .map_err(|cause| Error::io(format!("write refcount page {page} of zone {zone}"), cause))?;
        entry.turn(page, seal(&bytes));
        let used = i64::from(entry.used) - before.used.cast_signed();
        let shared = i64::from(entry.shared) - before.shared.cast_signed();
        let group_used = u64::from(group.entry.used).checked_add_signed(used);
        group.entry.used =
            group_used.and_then(|used| u32::try_from(used).ok()).ok_or_else(|| miscounted(zone))?;
        self.totals = (|| {
            Some(Totals {
                used: self.totals.used.checked_add_signed(used)?,
                shared: self.totals.shared.checked_add_signed(shared)?,
                extra: self.totals.extra.checked_add_signed(extra)?,
            })
        })()
        .ok_or_else(|| miscounted(zone))?;
        group.summary = Some(summary);
        self.changed.insert(number);
        Ok(())
    }

    /// The refcount of a block, as of the last checkpoint.
    pub(crate) fn count(&mut self, block: BlockNo, pages: &mut CountPages) -> Result<u16> {
        let outside = || Error::corrupt(Defect::Reference, format!("block {block} is no data block"));
        let place = self.geometry.place_of(block).ok_or_else(outside)?;
        let group = index(self.geometry.group_of(place.zone));
        let group = self.groups.get_mut(group).ok_or_else(outside)?;
        pages.count(group, place, &self.geometry, &*self.device)
    }

    /// Whether the counts of blocks with several references changed since this was asked last.
    pub(crate) fn take_shared_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_shared_changed)
    }

    /// The blocks with several references, as of the last checkpoint. Reads the refcount pages of the zones that have any.
    pub(crate) fn shared_blocks(&mut self) -> Result<Arc<SharedBlocks>> {
        if let Some(shared) = &self.shared {
            return Ok(shared.clone());
        }
        let mut shared = SharedBlocks::default();
        let (per_group, per_page) = (self.geometry.zones_per_group(), self.geometry.counts_per_page());
        let groups = if self.totals.shared == 0 { 0 } else { wide(self.groups.len()) };
        for number in 0..groups {
            let summary = self.groups[index(number)].summary(number, &self.geometry, &*self.device)?;
            let zones = (number * per_group..).zip(summary.iter()).filter(|(_, entry)| entry.shared > 0);
            for (zone, entry) in zones {
                for page in 0..self.geometry.pages_per_zone() {
                    let counts = read_counts(&*self.device, &self.geometry, entry, (zone, page))?;
                    for (at, count) in (page * per_page..).zip(counts).filter(|(_, count)| *count > 1) {
                        shared.push(self.geometry.block_at(Place { zone, index: at }), count);
                    }
                }
            }
        }
        Ok(self.shared.insert(Arc::new(shared)).clone())
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

/// A count after a step.
fn changed(count: u16, step: Step, block: BlockNo) -> Result<u16> {
    let damaged = |what| Error::corrupt(Defect::Refcount, format!("block {block} {what}"));
    match step {
        Step::Take => count.checked_add(1).ok_or_else(|| damaged("overflows")),
        Step::Share(_) if count == 0 => Err(damaged("is shared but not referenced")),
        Step::Share(more) => count.checked_add(more).ok_or_else(|| damaged("overflows")),
        Step::Drop => count.checked_sub(1).ok_or_else(|| damaged("is dropped but not referenced")),
    }
}

/// How many there are after one was, and is, among them.
fn moved(count: u32, (was, is): (bool, bool)) -> Option<u32> {
    match (was, is) {
        (false, true) => count.checked_add(1),
        (true, false) => count.checked_sub(1),
        _ => Some(count),
    }
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

    fn tables(geometry: Geometry, zones: u64) -> ZoneTables {
        let device = Arc::new(MemoryDevice::new(index(geometry.length_bytes(zones))));
        let mut tables = ZoneTables::new(geometry, device, &[], Totals::default());
        tables.grow(zones);
        tables
    }

    fn run(geometry: &Geometry, zone: u64, at: u32, count: u64) -> BlockRun {
        BlockRun { first: geometry.block_at(Place { zone, index: at }), count }
    }

    fn taking(run: BlockRun) -> SpaceChanges {
        SpaceChanges { taken: vec![run], ..SpaceChanges::default() }
    }

    fn sharing(block: BlockNo, more: u16) -> SpaceChanges {
        SpaceChanges { shared: vec![(block, more)], ..SpaceChanges::default() }
    }

    fn each(run: BlockRun) -> impl Iterator<Item = BlockNo> {
        (0..run.count).map(move |at| run.first.plus(at))
    }

    #[test]
    fn what_is_dropped_last_is_freed_in_every_page_of_a_zone() {
        let geometry = Geometry::new(4096, 16_400, 16).unwrap();
        let mut tables = tables(geometry, 1);
        let whole = run(&geometry, 0, 0, u64::from(geometry.data_blocks_per_zone()));
        assert_eq!(tables.apply(&taking(whole)).unwrap(), []);
        assert_eq!(tables.totals().used, whole.count);
        let across = run(&geometry, 0, geometry.counts_per_page() - 3, 10_000);
        let dropped = each(across).collect();
        assert_eq!(tables.apply(&SpaceChanges { dropped, ..SpaceChanges::default() }).unwrap(), [across]);
        assert_eq!(tables.totals().used, whole.count - across.count);
        assert_eq!(u64::from(tables.entries()[0].used), tables.totals().used);
    }

    #[test]
    fn a_store_of_several_groups_counts_in_each() {
        let geometry = Geometry::new(4096, 64, 16).unwrap();
        let per_group = geometry.zones_per_group();
        let mut tables = tables(geometry, 2 * per_group + 1);
        let taken: Vec<_> = [0, per_group, 2 * per_group].map(|zone| run(&geometry, zone, 1, 3)).to_vec();
        tables.apply(&SpaceChanges { taken, ..SpaceChanges::default() }).unwrap();
        let written = tables.write_summaries().unwrap();
        assert_eq!(written.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(tables.entries().iter().map(|entry| entry.used).collect::<Vec<_>>(), [3, 3, 3]);
    }

    #[test]
    fn a_drop_of_what_nothing_refers_to_is_damage() {
        let geometry = Geometry::new(4096, 64, 16).unwrap();
        let mut tables = tables(geometry, 1);
        let block = run(&geometry, 0, 9, 1);
        let twice = SpaceChanges { dropped: vec![block.first, block.first], ..taking(block) };
        assert_eq!(tables.apply(&twice).unwrap_err().defect(), Some(Defect::Refcount));
    }

    #[test]
    fn a_block_is_free_when_the_last_of_its_references_goes_and_the_totals_follow() {
        let geometry = Geometry::new(4096, 64, 16).unwrap();
        let mut tables = tables(geometry, 1);
        let pair = run(&geometry, 0, 9, 2);
        let (one, two) = (pair.first, pair.first.plus(1));
        tables.apply(&taking(pair)).unwrap();
        tables.apply(&SpaceChanges { shared: vec![(one, 3), (two, 1)], ..SpaceChanges::default() }).unwrap();
        assert_eq!(tables.totals(), Totals { used: 2, shared: 2, extra: 4 });
        let shared = tables.shared_blocks().unwrap();
        assert_eq!((shared.count(one), shared.count(two), tables.take_shared_changed()), (4, 2, true));
        // Shared and dropped by the same checkpoint: what one adds comes first.
        let changes = SpaceChanges { shared: vec![(two, 1)], dropped: vec![two, one, two], taken: vec![] };
        assert_eq!(tables.apply(&changes).unwrap(), []);
        assert_eq!(tables.totals(), Totals { used: 2, shared: 1, extra: 2 });
        assert_eq!(tables.count(one, &mut CountPages::default()).unwrap(), 3);
        let changes = SpaceChanges { dropped: vec![one, one, two, one], ..SpaceChanges::default() };
        assert_eq!(tables.apply(&changes).unwrap(), [pair]);
        assert_eq!(tables.totals(), Totals::default());
        assert_eq!(tables.shared_blocks().unwrap().count(one), 1);
        assert!(tables.take_shared_changed());
        tables.apply(&taking(pair)).unwrap();
        assert!(!tables.take_shared_changed(), "blocks with one reference do not matter");
    }

    #[test]
    fn a_count_never_goes_round_and_what_is_free_is_not_shared() {
        let geometry = Geometry::new(4096, 64, 16).unwrap();
        let mut tables = tables(geometry, 1);
        let block = run(&geometry, 0, 9, 1);
        let refused = tables.apply(&sharing(block.first, 1)).unwrap_err();
        assert_eq!(refused.defect(), Some(Defect::Refcount), "free");
        tables.apply(&taking(block)).unwrap();
        tables.apply(&sharing(block.first, u16::MAX - 1)).unwrap();
        assert_eq!(tables.count(block.first, &mut CountPages::default()).unwrap(), u16::MAX);
        let refused = tables.apply(&sharing(block.first, 1)).unwrap_err();
        assert_eq!(refused.defect(), Some(Defect::Refcount), "full");
    }
}
