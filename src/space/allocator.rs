//! Allocator: hands out runs of free blocks, and keeps word of them until a checkpoint has counted them.
//!
//! Floor 2. It reads the refcount pages of a zone when it first allocates from it, and never again.

use super::free_map::FreeMap;
use super::run_set::RunSet;
use super::tables::{Group, read_counts};
use crate::defect::Defect;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{Geometry, Place};
use crate::units::{BlockRun, index, narrow};
use std::collections::HashMap;
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
    /// Taken, but maybe never used: nothing refers to them.
    reserved: RunSet,
    /// Referenced since the checkpoint under way was frozen, or since the last one.
    taken: RunSet,
    /// Referenced in the checkpoint under way.
    frozen: RunSet,
    /// Dropped, but the gate still holds them.
    parked: RunSet,
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
            reserved: RunSet::default(),
            taken: RunSet::default(),
            frozen: RunSet::default(),
            parked: RunSet::default(),
        }
    }

    /// Blocks that could be taken now.
    pub(crate) fn free(&self) -> u64 {
        self.free
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
        if let Some(run) = self.take_from(self.current, &pick)? {
            return Ok(Some(run));
        }
        let enough = (self.geometry.data_blocks_per_zone() / SPARSE_FRACTION).max(1);
        for wanted in [enough, 1] {
            for step in 0..self.zones {
                let zone = (self.current + step) % self.zones;
                if self.free_in(zone)? >= wanted
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
        self.free -= run.count;
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
        for set in [&self.reserved, &self.taken, &self.frozen, &self.parked] {
            for run in set.within(window) {
                map.take_where_free(narrow(index(run.first.0 - window.first.0)), narrow(index(run.count)));
            }
        }
        Ok(map)
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
        if self.taken.within(run).next().is_some() {
            let place = format!("blocks {}+{} are referenced twice", run.first, run.count);
            return Err(Error::corrupt(Defect::JournalRecord, place));
        }
        self.taken.insert(run);
        self.free = self.free.saturating_sub(run.count);
        Ok(())
    }

    /// A checkpoint begins: what was referenced until now is its to count.
    pub(crate) fn freeze(&mut self) {
        assert!(self.frozen.block_count() == 0, "one checkpoint at a time");
        self.frozen = std::mem::take(&mut self.taken);
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

    /// The checkpoint under way is durable. `parked` are the blocks that it dropped.
    pub(crate) fn publish(&mut self, groups: Vec<(u64, Group)>, parked: &[BlockRun]) {
        self.frozen = RunSet::default();
        for (number, group) in groups {
            self.groups[index(number)] = group;
        }
        for &run in parked {
            self.parked.insert(run);
        }
    }

    /// The gate has let these blocks go.
    pub(crate) fn unpark(&mut self, runs: Vec<BlockRun>) {
        for run in runs {
            self.parked.remove(run);
            self.set_free(run);
        }
    }

    fn set_free(&mut self, run: BlockRun) {
        if run.count == 0 {
            return;
        }
        self.free += run.count;
        let place = self.geometry.place_of(run.first).expect("only data blocks are taken");
        if let Some(map) = self.maps.get_mut(&place.zone) {
            map.release(place.index, narrow(index(run.count)));
        }
    }

    /// Blocks that are reserved.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserved.block_count()
    }
}
