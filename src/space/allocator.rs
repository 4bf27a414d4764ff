//! Allocator: hands out runs of free blocks, and keeps word of them until a checkpoint has counted them.
//!
//! Floor 2. It reads the refcount pages of a zone when it first allocates from it, and never again.

use super::free_map::FreeMap;
use super::parked::Parked;
use super::run_set::RunSet;
use super::tables::{CountPages, Group, read_counts};
use super::thin::ThinZones;
use crate::defect::Defect;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{Geometry, Place};
use crate::units::{BlockNo, BlockRun, index, narrow};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Which end of a zone to allocate from: data from below and nodes from above, so that both stay in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Low,
    High,
}

/// A first pass over the zones leaves those alone in which less than one block in this many is free.
const SPARSE_FRACTION: u32 = 16;

/// Knows the free blocks.
pub(crate) struct Allocator {
    geometry: Geometry,
    device: Arc<dyn Device>,
    zones: u64,
    groups: Vec<Group>,
    maps: HashMap<u64, FreeMap>,
    /// The zone that runs are being taken from.
    current: u64,
    /// Blocks that could be taken now.
    free: u64,
    /// Free blocks of thin zones.
    thin_free: u64,
    thin: ThinZones,
    /// Blocks of thin zones that became free since the space of their zones was given back.
    fresh: HashMap<u64, u64>,
    /// Taken, but maybe never used: nothing refers to them.
    reserved: RunSet,
    /// Referenced since the checkpoint under way was frozen, or since the last one.
    taken: RunSet,
    /// Referenced in the checkpoint under way.
    frozen: RunSet,
    /// Dropped, but the gate still holds them.
    parked: Parked,
    /// References that blocks got beyond those they had, since the checkpoint under way was frozen, or the last one.
    shared: BTreeMap<BlockNo, u16>,
    /// Those that the checkpoint under way counts.
    frozen_shared: BTreeMap<BlockNo, u16>,
}

impl Allocator {
    pub(crate) fn new(geometry: Geometry, device: Arc<dyn Device>, zones: u64, groups: Vec<Group>) -> Self {
        let used: u64 = groups.iter().map(|group| u64::from(group.entry.used)).sum();
        let free = (zones * u64::from(geometry.data_blocks_per_zone())).saturating_sub(used);
        Self {
            geometry,
            device,
            zones,
            groups,
            maps: HashMap::new(),
            current: 0,
            free,
            thin_free: 0,
            thin: ThinZones::default(),
            fresh: HashMap::new(),
            reserved: RunSet::default(),
            taken: RunSet::default(),
            frozen: RunSet::default(),
            parked: Parked::default(),
            shared: BTreeMap::new(),
            frozen_shared: BTreeMap::new(),
        }
    }

    /// Blocks that could be taken now.
    pub(crate) fn free(&self) -> u64 {
        self.free
    }

    /// Free blocks that nobody gets until their zone is backed.
    pub(crate) fn thin_free(&self) -> u64 {
        self.thin_free
    }

    /// The medium may have holes anywhere: all zones are thin.
    pub(crate) fn doubt_all(&mut self) {
        self.thin = ThinZones::doubt(self.zones);
        self.thin_free = std::mem::take(&mut self.free);
    }

    /// How many zones there are.
    pub(crate) fn zones(&self) -> u64 {
        self.zones
    }

    /// Adds zones, up to `zones`.
    pub(crate) fn grow(&mut self, zones: u64) {
        assert!(zones >= self.zones, "a store never shrinks");
        self.free += (zones - self.zones) * u64::from(self.geometry.data_blocks_per_zone());
        self.groups.resize_with(index(self.geometry.groups_for(zones)), Group::default);
        self.current = self.zones.min(zones - 1);
        self.zones = zones;
    }

    /// Takes a run of up to `most` free blocks, which the caller then owns; `None` when nothing is free.
    pub(crate) fn take(&mut self, most: u64, direction: Direction) -> Result<Option<BlockRun>> {
        let most = narrow(index(most.min(u64::from(u32::MAX))));
        self.take_with(|map| match direction {
            Direction::Low => map.take_low(most),
            Direction::High => map.take_high(most),
        })
    }

    /// Takes exactly `count` blocks in a row; `None` when no zone has them.
    pub(crate) fn take_exactly(&mut self, count: u64) -> Result<Option<BlockRun>> {
        let count = narrow(index(count));
        self.take_with(|map| map.take_exactly(count).map(|first| (first, count)))
    }

    fn take_with(&mut self, pick: impl Fn(&mut FreeMap) -> Option<(u32, u32)>) -> Result<Option<BlockRun>> {
        if self.free == 0 || self.zones == 0 {
            return Ok(None);
        }
        if !self.thin.contains(self.current)
            && let Some(run) = self.take_from(self.current, &pick)?
        {
            return Ok(Some(run));
        }
        let enough = (self.geometry.data_blocks_per_zone() / SPARSE_FRACTION).max(1);
        for wanted in [enough, 1] {
            for step in 0..self.zones {
                let zone = (self.current + step) % self.zones;
                if !self.thin.contains(zone)
                    && self.free_in(zone)? >= wanted
                    && let Some(run) = self.take_from(zone, &pick)?
                {
                    self.current = zone;
                    return Ok(Some(run));
                }
            }
        }
        Ok(None)
    }

    fn take_from(
        &mut self,
        zone: u64,
        pick: &impl Fn(&mut FreeMap) -> Option<(u32, u32)>,
    ) -> Result<Option<BlockRun>> {
        let Some((first, count)) = pick(self.map(zone)?) else { return Ok(None) };
        let run =
            BlockRun { first: self.geometry.block_at(Place { zone, index: first }), count: u64::from(count) };
        // Free blocks are those that the groups leave, until a zone shows that it has more of them.
        self.free = self
            .free
            .checked_sub(run.count)
            .ok_or_else(|| Error::corrupt(Defect::FreeCount, format!("zone {zone}")))?;
        self.reserved.insert(run);
        Ok(Some(run))
    }

    /// Free blocks of a zone: exactly where its map is loaded, else at most.
    fn free_in(&mut self, zone: u64) -> Result<u32> {
        if let Some(map) = self.maps.get(&zone) {
            return Ok(map.free());
        }
        let number = self.geometry.group_of(zone);
        let summary = self.groups[index(number)].summary(number, &self.geometry, &*self.device)?;
        let used = summary[index(zone % self.geometry.zones_per_group())].used;
        Ok(self.geometry.data_blocks_per_zone().saturating_sub(used))
    }

    /// The free map of a zone: what nothing refers to, but for what was taken, reserved or parked since.
    fn map(&mut self, zone: u64) -> Result<&mut FreeMap> {
        if !self.maps.contains_key(&zone) {
            let map = self.load(zone)?;
            self.maps.insert(zone, map);
        }
        Ok(self.maps.get_mut(&zone).expect("inserted above"))
    }

    fn load(&mut self, zone: u64) -> Result<FreeMap> {
        let geometry = self.geometry;
        let number = geometry.group_of(zone);
        let summary = self.groups[index(number)].summary(number, &geometry, &*self.device)?;
        let entry = &summary[index(zone % geometry.zones_per_group())];
        let blocks = geometry.data_blocks_per_zone();
        let mut map = FreeMap::full(blocks);
        for page in 0..geometry.pages_per_zone() {
            let counts = read_counts(&*self.device, &geometry, entry, (zone, page))?;
            let base = page * geometry.counts_per_page();
            for (at, _) in counts.iter().enumerate().filter(|(_, count)| **count == 0) {
                let block = base + narrow(at);
                if block < blocks {
                    map.release(block, 1);
                }
            }
        }
        let window =
            BlockRun { first: geometry.block_at(Place { zone, index: 0 }), count: u64::from(blocks) };
        for set in [&self.reserved, &self.taken, &self.frozen] {
            for run in set.within(window) {
                map.take_where_free(narrow(index(run.first.0 - window.first.0)), narrow(index(run.count)));
            }
        }
        for run in self.parked.of_zone(zone) {
            map.take_where_free(narrow(index(run.first.0 - window.first.0)), narrow(index(run.count)));
        }
        Ok(map)
    }

    fn zone_of(&self, run: BlockRun) -> u64 {
        self.geometry.place_of(run.first).expect("only data blocks are taken").zone
    }

    /// Blocks of a reserved run are now referenced.
    pub(crate) fn used(&mut self, run: BlockRun) {
        self.reserved.remove(run);
        self.taken.insert(run);
    }

    /// Blocks of a reserved run are not needed after all.
    pub(crate) fn give_back(&mut self, run: BlockRun) {
        self.reserved.remove(run);
        self.set_free(run);
    }

    /// Recovery found these blocks referenced by the journal, which no checkpoint can have counted.
    pub(crate) fn recovered(&mut self, run: BlockRun) -> Result<()> {
        assert!(self.maps.is_empty(), "recovery comes before the first allocation");
        let is_shared = self.shared.range(run.first..run.end()).next().is_some();
        if is_shared || self.taken.within(run).next().is_some() {
            let place = format!("blocks {}+{} are referenced twice", run.first, run.count);
            return Err(Error::corrupt(Defect::JournalRecord, place));
        }
        self.taken.insert(run);
        let free = if self.thin.is_empty() { &mut self.free } else { &mut self.thin_free };
        *free = free.saturating_sub(run.count);
        Ok(())
    }

    /// Recovery found that these blocks, which the checkpoint counts, have one more reference each.
    pub(crate) fn recovered_share(&mut self, run: BlockRun) -> Result<()> {
        if self.taken.within(run).next().is_some() {
            let place = format!("blocks {}+{} are shared before any checkpoint", run.first, run.count);
            return Err(Error::corrupt(Defect::JournalRecord, place));
        }
        for block in (0..run.count).map(|at| run.first.plus(at)) {
            if self.shared_since(block) == u16::MAX {
                return Err(Error::corrupt(
                    Defect::JournalRecord,
                    format!("block {block} is shared too often"),
                ));
            }
            self.share(block);
        }
        Ok(())
    }

    /// Refuses what recovery found shared, and cannot be: what the checkpoint holds free would be given away. Where a table
    /// is damaged, nothing is given away, and the next checkpoint says so.
    pub(crate) fn verify_shares(&mut self) -> Result<()> {
        let mut counts = CheckpointCounts::of(&mut self.groups, &self.geometry, &*self.device);
        for (&block, &more) in &self.shared {
            match counts.count(block) {
                Some(Ok(count)) if count == 0 || count.checked_add(more).is_none() => {
                    let place = format!("block {block} has {count} references, and is shared {more} times");
                    return Err(Error::corrupt(Defect::JournalRecord, place));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses blocks that the checkpoint counts: they are not free, whoever says so.
    pub(crate) fn verify_free(&mut self, runs: impl Iterator<Item = BlockRun>) -> Result<()> {
        let mut counts = CheckpointCounts::of(&mut self.groups, &self.geometry, &*self.device);
        for block in runs.flat_map(|run| (0..run.count).map(move |at| run.first.plus(at))) {
            let count = counts.count(block).transpose()?;
            if let Some(count) = count.filter(|count| *count > 0) {
                let place = format!("block {block} is to be written, and has {count} references");
                return Err(Error::corrupt(Defect::JournalRecord, place));
            }
        }
        Ok(())
    }

    /// A block that is referenced has one more reference. The caller knows that its count allows it.
    pub(crate) fn share(&mut self, block: BlockNo) {
        let more = self.shared.entry(block).or_default();
        *more = more.checked_add(1).expect("whoever shares a block looks at its count");
    }

    /// References that a block got beyond those that the tables count.
    pub(crate) fn shared_since(&self, block: BlockNo) -> u16 {
        self.shared.get(&block).copied().unwrap_or(0)
    }

    /// A checkpoint begins: what was referenced until now is its to count.
    pub(crate) fn freeze(&mut self) {
        assert!(self.frozen.block_count() == 0, "one checkpoint at a time");
        self.frozen = std::mem::take(&mut self.taken);
        self.frozen_shared = std::mem::take(&mut self.shared);
    }

    /// The references beyond the first that the checkpoint under way has to count.
    pub(crate) fn frozen_shares(&self) -> Vec<(BlockNo, u16)> {
        self.frozen_shared.iter().map(|(&block, &more)| (block, more)).collect()
    }

    /// Blocks of a reserved run are referenced by the checkpoint under way itself.
    pub(crate) fn used_by_checkpoint(&mut self, run: BlockRun) {
        self.reserved.remove(run);
        self.frozen.insert(run);
    }

    /// What the checkpoint under way has to count.
    pub(crate) fn frozen(&self) -> Vec<BlockRun> {
        self.frozen.iter().collect()
    }

    /// The checkpoint under way, which is durable, dropped these blocks: nobody is to have them until they are unparked.
    pub(crate) fn park(&mut self, runs: &[BlockRun]) {
        for &run in runs {
            self.parked.insert(self.zone_of(run), run);
        }
    }

    /// The checkpoint under way is durable, and all that it dropped is parked.
    pub(crate) fn publish(&mut self, groups: Vec<(u64, Group)>) {
        self.frozen = RunSet::default();
        self.frozen_shared = BTreeMap::new();
        for (number, group) in groups {
            self.groups[index(number)] = group;
        }
    }

    /// The gate has let these blocks go.
    pub(crate) fn unpark(&mut self, runs: &[BlockRun]) {
        for &run in runs {
            self.parked.remove(self.zone_of(run), run);
            self.set_free(run);
        }
    }

    fn set_free(&mut self, run: BlockRun) {
        if run.count == 0 {
            return;
        }
        let place = self.geometry.place_of(run.first).expect("only data blocks are taken");
        if self.thin.contains(place.zone) {
            self.thin_free += run.count;
            *self.fresh.entry(place.zone).or_insert(0) += run.count;
        } else {
            self.free += run.count;
        }
        if let Some(map) = self.maps.get_mut(&place.zone) {
            map.release(place.index, narrow(index(run.count)));
        }
    }

    /// A thin zone with free blocks that is none of `but`.
    pub(crate) fn thin_zone(&mut self, but: &HashSet<u64>) -> Result<Option<u64>> {
        if self.thin_free == 0 {
            return Ok(None);
        }
        for zone in 0..self.zones {
            if self.thin.contains(zone) && !but.contains(&zone) && self.free_in(zone)? > 0 {
                return Ok(Some(zone));
            }
        }
        Ok(None)
    }

    /// A thin zone has space on the medium again: its free blocks can be taken.
    pub(crate) fn back(&mut self, zone: u64) -> Result<()> {
        let free = u64::from(self.map(zone)?.free());
        self.thin.remove(zone);
        self.fresh.remove(&zone);
        self.free += free;
        self.thin_free = self.thin_free.saturating_sub(free);
        Ok(())
    }

    /// Makes a zone thin, if at least `least` of its blocks are free and have space, and `keep` free blocks with space are left
    /// elsewhere. Returns its free runs, which nobody gets from now on. The zone that blocks are being taken from stays.
    pub(crate) fn withdraw(&mut self, zone: u64, least: u64, keep: u64) -> Result<Vec<BlockRun>> {
        let is_thin = self.thin.contains(zone);
        // What was thin when the store was opened may have been freed since its space was given back.
        let fresh = self.fresh.get(&zone).copied().unwrap_or(1);
        if zone == self.current || (is_thin && fresh < least) {
            return Ok(Vec::new());
        }
        let map = self.map(zone)?;
        let (free, runs) = (u64::from(map.free()), map.runs());
        if !is_thin {
            if free < least || self.free < free.saturating_add(keep) {
                return Ok(Vec::new());
            }
            self.thin.add(zone);
            self.free -= free;
            self.thin_free += free;
        }
        self.fresh.insert(zone, 0);
        let at = |(first, count)| BlockRun {
            first: self.geometry.block_at(Place { zone, index: first }),
            count: u64::from(count),
        };
        Ok(runs.into_iter().map(at).collect())
    }

    /// Blocks that are reserved.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserved.block_count()
    }
}

/// How many references the checkpoint counts to blocks.
struct CheckpointCounts<'a> {
    pages: CountPages,
    groups: &'a mut [Group],
    geometry: &'a Geometry,
    device: &'a dyn Device,
}

impl<'a> CheckpointCounts<'a> {
    fn of(groups: &'a mut [Group], geometry: &'a Geometry, device: &'a dyn Device) -> Self {
        Self { pages: CountPages::default(), groups, geometry, device }
    }

    /// `None` for a block outside of the zones that the checkpoint has.
    fn count(&mut self, block: BlockNo) -> Option<Result<u16>> {
        let place = self.geometry.place_of(block)?;
        let group = self.groups.get_mut(index(self.geometry.group_of(place.zone)))?;
        Some(self.pages.count(group, place, self.geometry, self.device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MemoryDevice;
    use crate::error::ErrorKind;
    use crate::format::{GroupEntry, encode_counts, encode_summary, seal};

    const ZONE_BLOCKS: u32 = 64;

    fn geometry() -> Geometry {
        Geometry::new(4096, ZONE_BLOCKS, 16).unwrap()
    }

    fn device(zones: u64) -> Arc<MemoryDevice> {
        Arc::new(MemoryDevice::new(index(geometry().length_bytes(zones))))
    }

    fn allocator(zones: u64) -> Allocator {
        Allocator::new(geometry(), device(zones), zones, vec![Group::default()])
    }

    fn run(zone: u64, at: u32, count: u64) -> BlockRun {
        BlockRun { first: geometry().block_at(Place { zone, index: at }), count }
    }

    /// Takes everything that is free: each block once, and as many as the allocator says.
    fn take_all(allocator: &mut Allocator) -> RunSet {
        let (mut all, free) = (RunSet::default(), allocator.free());
        while let Some(taken) = allocator.take(7, Direction::Low).unwrap() {
            all.insert(taken);
        }
        assert_eq!((all.block_count(), allocator.free()), (free, 0));
        all
    }

    /// The pages of a zone say nothing yet of blocks that were taken since the last checkpoint, and say that those that it
    /// dropped are free.
    #[test]
    fn a_zone_that_is_first_looked_at_late_gives_away_nothing_that_is_held() {
        let (taken, frozen, parked) = (run(1, 3, 4), run(1, 20, 5), run(1, 40, 6));
        let mut allocator = allocator(2);
        let per_zone = u64::from(geometry().data_blocks_per_zone());
        allocator.recovered(frozen).unwrap();
        allocator.freeze();
        allocator.recovered(taken).unwrap();
        assert_eq!(allocator.free(), 2 * per_zone - 9, "what recovery found is not free");
        allocator.free -= parked.count; // was referenced until the last checkpoint
        allocator.parked.insert(1, parked);
        let all = take_all(&mut allocator);
        for held in [taken, frozen, parked] {
            assert_eq!(all.within(held).count(), 0, "{held:?} was given away");
        }
        allocator.unpark(&[parked]);
        assert_eq!(take_all(&mut allocator).iter().collect::<Vec<_>>(), [parked]);
    }

    #[test]
    fn a_block_that_the_journal_names_twice_is_damage() {
        let mut allocator = allocator(1);
        allocator.recovered(run(0, 5, 3)).unwrap();
        let error = allocator.recovered(run(0, 7, 3)).unwrap_err();
        assert_eq!(error.defect(), Some(Defect::JournalRecord));
    }

    #[test]
    fn a_store_that_grows_counts_every_block_of_its_new_zones() {
        let zones = geometry().zones_per_group();
        let mut allocator = Allocator::new(geometry(), device(zones + 1), zones - 1, vec![Group::default()]);
        allocator.grow(zones + 1); // into a new group
        assert_eq!(allocator.free(), (zones + 1) * u64::from(geometry().data_blocks_per_zone()));
        take_all(&mut allocator);
    }

    /// A store with one zone in which the first half of the blocks is referenced. Returns its group, too.
    fn half_full() -> (Arc<MemoryDevice>, Group) {
        let (geometry, device) = (geometry(), device(1));
        let half = geometry.data_blocks_per_zone() / 2;
        let counts: Vec<u16> = (0..geometry.counts_per_page()).map(|at| u16::from(at < half)).collect();
        let page = encode_counts(&counts);
        device.write_at(&page, geometry.offset_bytes(geometry.refcount_block(0, 0, 0))).unwrap();
        let mut entries = vec![crate::format::ZoneEntry::fresh(1); index(geometry.zones_per_group())];
        entries[0].used = half;
        entries[0].turn(0, seal(&page));
        let summary = encode_summary(&entries, 4096);
        device.write_at(&summary, geometry.offset_bytes(geometry.summary_block(0, 0))).unwrap();
        let entry = GroupEntry { crc: seal(&summary), used: half, slot: Some(0) };
        (device, Group::new(entry))
    }

    /// Without the seals, a count that rotted to zero would let a block be written that something refers to.
    #[test]
    fn a_zone_whose_counts_are_damaged_is_not_allocated_from() {
        let (device, group) = half_full();
        let mut sound = Allocator::new(geometry(), device.clone(), 1, vec![group.clone()]);
        let half = geometry().data_blocks_per_zone() / 2;
        assert_eq!(take_all(&mut sound).within(run(0, 0, u64::from(half))).count(), 0);

        let page = geometry().refcount_block(0, 0, 0);
        let summary = geometry().summary_block(0, 0);
        for (block, defect) in [(page, Defect::RefcountPage), (summary, Defect::ZoneSummary)] {
            let mut byte = [0];
            let at = geometry().offset_bytes(block);
            device.read_at(&mut byte, at).unwrap();
            device.write_at(&[byte[0] ^ 1], at).unwrap();
            let mut damaged = Allocator::new(geometry(), device.clone(), 1, vec![group.clone()]);
            let error = damaged.take(1, Direction::Low).unwrap_err();
            assert_eq!((error.kind(), error.defect()), (ErrorKind::Corrupt, Some(defect)));
            device.write_at(&byte, at).unwrap();
        }
    }
}
