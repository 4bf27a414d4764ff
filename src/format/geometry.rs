//! Geometry: where everything lies, computed from three numbers of the superblock.
//!
//! Floor 1. Block size, zone size and journal size are fixed when a store is made; all places follow.

use super::reference::REFERENCE_BYTES;
use super::zone::zone_entry_bytes;
use crate::limits;
use crate::units::{BlockNo, BlockRun, index, narrow};

/// Bytes before the journal: two superblock slots, each with room for the largest block.
pub(crate) const HEADER_BYTES: u64 = 128 << 10;

/// The three numbers, checked by [`Geometry::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    block_size: u32,
    zone_blocks: u32,
    journal_blocks: u64,
}

/// A data block's place: its zone, and its index among the zone's data blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) zone: u64,
    pub(crate) index: u32,
}

impl Geometry {
    /// The geometry with these numbers, or what is wrong with them.
    pub(crate) fn new(block_size: u32, zone_blocks: u32, journal_blocks: u64) -> Result<Self, String> {
        if !block_size.is_power_of_two()
            || !(limits::BLOCK_SIZE_MIN..=limits::BLOCK_SIZE_MAX).contains(&block_size)
        {
            return Err(format!(
                "a block size of {block_size} bytes is not a power of two from 4096 to 65536"
            ));
        }
        let page_span = block_size / 2 + 2;
        let zone_blocks_max = limits::ZONE_PAGES_MAX * page_span;
        if !(limits::ZONE_BLOCKS_MIN..=zone_blocks_max).contains(&zone_blocks) {
            return Err(format!(
                "a zone of {zone_blocks} blocks is outside {} to {zone_blocks_max}",
                limits::ZONE_BLOCKS_MIN
            ));
        }
        let journal_bytes = journal_blocks.checked_mul(u64::from(block_size));
        if journal_bytes
            .is_none_or(|bytes| !(limits::JOURNAL_BYTES_MIN..=limits::JOURNAL_BYTES_MAX).contains(&bytes))
        {
            return Err(format!(
                "a journal of {journal_blocks} blocks is outside {} bytes to {} GiB",
                limits::JOURNAL_BYTES_MIN,
                limits::JOURNAL_BYTES_MAX >> 30
            ));
        }
        Ok(Self { block_size, zone_blocks, journal_blocks })
    }

    /// Bytes in a block.
    pub(crate) fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Bytes in a block, as an index.
    pub(crate) fn block_bytes(&self) -> usize {
        index(u64::from(self.block_size))
    }

    /// Blocks in a zone, its refcount table included.
    pub(crate) fn zone_blocks(&self) -> u32 {
        self.zone_blocks
    }

    /// Blocks in the journal.
    pub(crate) fn journal_blocks(&self) -> u64 {
        self.journal_blocks
    }

    /// Bytes in the journal.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.journal_blocks * u64::from(self.block_size)
    }

    /// References in a node, as a power of two.
    pub(crate) fn fanout_bits(&self) -> u32 {
        (self.block_size / narrow(REFERENCE_BYTES)).trailing_zeros()
    }

    /// The most levels that a map can have: those of the largest disk.
    pub(crate) fn map_height_max(&self) -> u32 {
        let blocks = limits::DISK_BYTES_MAX / u64::from(self.block_size);
        blocks.ilog2().div_ceil(self.fanout_bits())
    }

    /// Whether a map can have so many levels.
    pub(crate) fn is_map_height(&self, height: u32) -> bool {
        height <= self.map_height_max()
    }

    /// The first byte of a block.
    pub(crate) fn offset_bytes(&self, block: BlockNo) -> u64 {
        block.0 * u64::from(self.block_size)
    }

    /// Refcounts in one page.
    pub(crate) fn counts_per_page(&self) -> u32 {
        self.block_size / 2
    }

    /// Refcount pages of one zone (each has two slots).
    pub(crate) fn pages_per_zone(&self) -> u32 {
        self.zone_blocks.div_ceil(self.counts_per_page() + 2)
    }

    /// Data blocks of one zone.
    pub(crate) fn data_blocks_per_zone(&self) -> u32 {
        self.zone_blocks - 2 * self.pages_per_zone()
    }

    /// Zones whose summaries share one page.
    pub(crate) fn zones_per_group(&self) -> u64 {
        u64::from(self.block_size) / zone_entry_bytes(self.pages_per_zone())
    }

    /// The group that a zone belongs to.
    pub(crate) fn group_of(&self, zone: u64) -> u64 {
        zone / self.zones_per_group()
    }

    /// Groups that hold `zones` zones.
    pub(crate) fn groups_for(&self, zones: u64) -> u64 {
        zones.div_ceil(self.zones_per_group())
    }

    fn groups_start(&self) -> u64 {
        HEADER_BYTES / u64::from(self.block_size) + self.journal_blocks
    }

    fn group_blocks(&self) -> u64 {
        2 + self.zones_per_group() * u64::from(self.zone_blocks)
    }

    /// The block of a group's summary page, in slot 0 or 1.
    pub(crate) fn summary_block(&self, group: u64, slot: u64) -> BlockNo {
        BlockNo(self.groups_start() + group * self.group_blocks() + slot)
    }

    fn zone_start(&self, zone: u64) -> u64 {
        let within = zone % self.zones_per_group();
        self.summary_block(self.group_of(zone), 2).0 + within * u64::from(self.zone_blocks)
    }

    /// The block of one refcount page of a zone, in slot 0 or 1.
    pub(crate) fn refcount_block(&self, zone: u64, page: u32, slot: u64) -> BlockNo {
        BlockNo(self.zone_start(zone) + u64::from(page) * 2 + slot)
    }

    /// All blocks of a zone, its refcount table included.
    pub(crate) fn zone_run(&self, zone: u64) -> BlockRun {
        BlockRun { first: BlockNo(self.zone_start(zone)), count: u64::from(self.zone_blocks) }
    }

    /// The block at a place.
    pub(crate) fn block_at(&self, place: Place) -> BlockNo {
        let table = u64::from(2 * self.pages_per_zone());
        BlockNo(self.zone_start(place.zone) + table + u64::from(place.index))
    }

    /// The place of a data block; `None` for blocks of superblocks, journal and tables.
    pub(crate) fn place_of(&self, block: BlockNo) -> Option<Place> {
        let beyond = block.0.checked_sub(self.groups_start())?;
        let (group, within) = (beyond / self.group_blocks(), beyond % self.group_blocks());
        let within = within.checked_sub(2)?;
        let zone_blocks = u64::from(self.zone_blocks);
        let in_zone = u32::try_from(within % zone_blocks).ok()?;
        let index = in_zone.checked_sub(2 * self.pages_per_zone())?;
        Some(Place { zone: group * self.zones_per_group() + within / zone_blocks, index })
    }

    /// Blocks of a device that holds exactly `zones` zones.
    pub(crate) fn length_blocks(&self, zones: u64) -> u64 {
        match zones.checked_sub(1) {
            None => self.groups_start(),
            Some(last) => self.zone_start(last) + u64::from(self.zone_blocks),
        }
    }

    /// Bytes of a device that holds exactly `zones` zones.
    pub(crate) fn length_bytes(&self, zones: u64) -> u64 {
        self.length_blocks(zones) * u64::from(self.block_size)
    }

    /// How many zones fit into a device of `bytes`.
    pub(crate) fn zones_in(&self, bytes: u64) -> u64 {
        let blocks = bytes / u64::from(self.block_size);
        let beyond = blocks.saturating_sub(self.groups_start());
        let (groups, rest) = (beyond / self.group_blocks(), beyond % self.group_blocks());
        groups * self.zones_per_group() + rest.saturating_sub(2) / u64::from(self.zone_blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> Vec<Geometry> {
        vec![
            Geometry::new(4096, 16400, 16384).unwrap(),
            Geometry::new(4096, 32, 16).unwrap(),
            Geometry::new(65536, 40000, 1).unwrap(),
        ]
    }

    #[test]
    fn every_data_block_has_one_place_and_back() {
        for geometry in shapes() {
            for zone in [0, 1, 71, 72, 73, 74, 500] {
                for index in [0, 1, geometry.data_blocks_per_zone() - 1] {
                    let place = Place { zone, index };
                    assert_eq!(geometry.place_of(geometry.block_at(place)), Some(place));
                }
                assert_eq!(geometry.place_of(geometry.refcount_block(zone, 0, 1)), None);
            }
            assert_eq!(geometry.place_of(geometry.summary_block(3, 1)), None);
            assert_eq!(geometry.place_of(BlockNo(0)), None);
        }
    }

    #[test]
    fn a_device_of_the_computed_length_holds_exactly_its_zones() {
        for geometry in shapes() {
            for zones in [0, 1, 2, 72, 73, 74, 300] {
                let bytes = geometry.length_bytes(zones);
                assert_eq!(geometry.zones_in(bytes), zones);
                assert_eq!(geometry.zones_in(bytes.saturating_sub(1)), zones.saturating_sub(1));
            }
        }
    }

    #[test]
    fn a_page_counts_every_data_block_of_its_zone() {
        for geometry in shapes() {
            assert!(
                geometry.pages_per_zone() * geometry.counts_per_page() >= geometry.data_blocks_per_zone()
            );
        }
    }

    #[test]
    fn impossible_numbers_are_refused() {
        assert!(Geometry::new(5000, 16400, 16384).is_err());
        assert!(Geometry::new(4096, 1, 16384).is_err());
        assert!(Geometry::new(4096, 16400, 1).is_err());
        assert!(Geometry::new(4096, 16400, u64::MAX).is_err());
    }
}
