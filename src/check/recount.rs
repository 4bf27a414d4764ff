//! Recount: how many references to each block were found.
//!
//! Floor 5. A data block counts once for each holder: a place in a lineage, and the epoch in which the
//! reference was made. A version, the head that goes on from it, and the copies of a leaf that both have
//! hold the same reference at the same place: one holder. Only deduplication makes a second one.
//!
//! Nearly every block has one holder, so that one word a block is enough:
//!
//! ```text
//! 0            nobody
//! u64::MAX     metadata: a node, a catalog page, a block of the checkpoint record
//! otherwise    age (26 bits) | disk block (38 bits)      age: number of the pair (lineage, birth)
//! ```
//!
//! A block's other holders stand in a map beside.

use super::walk::Ledger;
use crate::format::{Geometry, Place, Reference};
use crate::limits::{BLOCK_SIZE_MIN, DISK_BYTES_MAX};
use crate::units::{BlockNo, Epoch, index, wide};
use std::collections::{HashMap, HashSet};

/// Disk blocks are below this.
pub(crate) const DISK_BLOCKS_MAX: u64 = DISK_BYTES_MAX / BLOCK_SIZE_MIN as u64;
const PLACE_BITS: u32 = DISK_BLOCKS_MAX.trailing_zeros();
const _: () = assert!(DISK_BLOCKS_MAX.is_power_of_two() && PLACE_BITS == 38);

/// The holder of a block that is metadata.
const METADATA: u64 = u64::MAX;
/// Ages below this fit into a word, and the word is neither 0 nor [`METADATA`].
const AGES_MAX: u64 = (1 << (64 - PLACE_BITS)) - 2;

/// Who holds a data block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Holder {
    /// The lineage that the map belongs to.
    pub(crate) lineage: u64,
    pub(crate) birth: Epoch,
    /// A disk block below [`DISK_BLOCKS_MAX`].
    pub(crate) at: u64,
}

/// The counts of one refcount page, as they were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PageKey {
    pub(crate) zone: u64,
    pub(crate) page: u32,
}

impl Ledger for Recount {
    fn data(&mut self, place: Place, reference: Reference, holder: Holder) {
        self.hold(place, reference.block(), holder);
    }

    fn metadata(&mut self, place: Place, block: BlockNo) {
        self.hold_metadata(place, block);
    }
}

/// All counts.
pub(crate) struct Recount {
    counts_per_page: u32,
    /// In a zone.
    data_blocks: u32,
    pages: HashMap<PageKey, Box<[u64]>>,
    ages: HashMap<(u64, Epoch), u64>,
    last_age: Option<((u64, Epoch), u64)>,
    /// Holders that did not fit into the block's word.
    others: HashMap<BlockNo, HashSet<(u64, u64)>>,
    /// Blocks with a holder.
    pub(crate) blocks: u64,
    /// Holders of data blocks.
    pub(crate) data_references: u64,
    /// Blocks that are metadata.
    pub(crate) metadata: u64,
}

impl Recount {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        Self {
            counts_per_page: geometry.counts_per_page(),
            data_blocks: geometry.data_blocks_per_zone(),
            pages: HashMap::new(),
            ages: HashMap::new(),
            last_age: None,
            others: HashMap::new(),
            blocks: 0,
            data_references: 0,
            metadata: 0,
        }
    }

    /// `holder` refers to `block`, which lies at `place`. Finding the same holder again changes nothing.
    pub(crate) fn hold(&mut self, place: Place, block: BlockNo, holder: Holder) {
        let age = self.age(holder.lineage, holder.birth);
        if self.enter(place, block, (age, holder.at)) {
            self.data_references += 1;
        }
    }

    /// `block` is metadata. The caller says so once for each block.
    pub(crate) fn hold_metadata(&mut self, place: Place, block: BlockNo) {
        self.enter(place, block, (METADATA, 0));
        self.metadata += 1;
    }

    /// The number of a pair of lineage and birth.
    fn age(&mut self, lineage: u64, birth: Epoch) -> u64 {
        match self.last_age {
            Some((pair, age)) if pair == (lineage, birth) => age,
            _ => {
                let next = wide(self.ages.len());
                let age = *self.ages.entry((lineage, birth)).or_insert(next);
                self.last_age = Some(((lineage, birth), age));
                age
            }
        }
    }

    /// Whether the holder is new.
    fn enter(&mut self, place: Place, block: BlockNo, (age, at): (u64, u64)) -> bool {
        let wanted = match age {
            METADATA => Some(METADATA),
            age if age < AGES_MAX => Some((age + 1) << PLACE_BITS | at),
            _ => None,
        };
        let per_page = self.counts_per_page;
        let key = PageKey { zone: place.zone, page: place.index / per_page };
        let page =
            self.pages.entry(key).or_insert_with(|| vec![0; index(u64::from(per_page))].into_boxed_slice());
        let Some(word) = page.get_mut(index(u64::from(place.index % per_page))) else { return false };
        self.blocks += u64::from(*word == 0 && !self.others.contains_key(&block));
        match wanted {
            Some(wanted) if *word == 0 => {
                *word = wanted;
                true
            }
            Some(wanted) if *word == wanted => false,
            _ => self.others.entry(block).or_default().insert((age, at)),
        }
    }

    /// The counts found in a page, which are taken out; `None` where there are none.
    pub(crate) fn take_page(&mut self, key: PageKey, block_at: impl Fn(u32) -> BlockNo) -> Option<Vec<u64>> {
        let words = self.pages.remove(&key)?;
        let first = key.page * self.counts_per_page;
        let counts = (first..).zip(words.iter()).map(|(at, &word)| {
            // Behind the data blocks of a small zone the page goes on, and `block_at` would lead into the next zone.
            let has_others = at < self.data_blocks && !self.others.is_empty();
            let others = if has_others { self.others.get(&block_at(at)) } else { None };
            u64::from(word != 0) + others.map_or(0, |others| wide(others.len()))
        });
        Some(counts.collect())
    }

    /// The pages that were not taken out, in order.
    pub(crate) fn rest(&self) -> Vec<PageKey> {
        let mut rest: Vec<_> = self.pages.keys().copied().collect();
        rest.sort_unstable();
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(holders: &[(u64, u64, u64)]) -> u64 {
        let geometry = Geometry::new(4096, 32, 16).unwrap();
        let mut recount = Recount::new(&geometry);
        let place = Place { zone: 3, index: 7 };
        let block = geometry.block_at(place);
        for &(lineage, birth, at) in holders {
            recount.hold(place, block, Holder { lineage, birth: Epoch(birth), at });
        }
        assert_eq!(recount.blocks, u64::from(!holders.is_empty()));
        let key = PageKey { zone: 3, page: 0 };
        let counts = recount.take_page(key, |index| geometry.block_at(Place { zone: 3, index }));
        counts.map_or(0, |counts| counts[7])
    }

    #[test]
    fn a_reference_that_two_copies_of_a_leaf_hold_counts_once() {
        assert_eq!(counted(&[(1, 5, 0), (1, 5, 0)]), 1);
    }

    #[test]
    fn other_places_lineages_and_births_count_separately_and_once() {
        assert_eq!(counted(&[(1, 5, 0), (1, 5, 1), (2, 5, 0), (1, 6, 0), (1, 5, 1), (2, 5, 0)]), 4);
    }

    #[test]
    fn the_last_place_of_the_largest_disk_is_not_taken_for_metadata() {
        let word = AGES_MAX << PLACE_BITS | (DISK_BLOCKS_MAX - 1);
        assert_ne!(word, METADATA);
        assert_eq!(counted(&[(1, 5, DISK_BLOCKS_MAX - 1), (1, 5, DISK_BLOCKS_MAX - 1)]), 1);
    }

    #[test]
    fn a_block_that_counts_twice_counts_in_its_own_zone_only() {
        let geometry = Geometry::new(4096, 64, 16).unwrap();
        let mut recount = Recount::new(&geometry);
        for zone in [1, 2] {
            let place = Place { zone, index: 38 };
            let block = geometry.block_at(place);
            recount.hold_metadata(place, block);
            recount.hold(place, block, Holder { lineage: 0, birth: Epoch(1), at: 0 });
        }
        let counts = recount
            .take_page(PageKey { zone: 1, page: 0 }, |index| geometry.block_at(Place { zone: 1, index }));
        let counts = counts.unwrap();
        assert_eq!((counts[38], counts.iter().sum::<u64>()), (2, 2));
    }

    #[test]
    fn a_block_that_is_metadata_and_data_counts_twice() {
        let geometry = Geometry::new(4096, 32, 16).unwrap();
        let mut recount = Recount::new(&geometry);
        let place = Place { zone: 0, index: 0 };
        let block = geometry.block_at(place);
        recount.hold_metadata(place, block);
        recount.hold(place, block, Holder { lineage: 0, birth: Epoch(1), at: 0 });
        let counts = recount
            .take_page(PageKey { zone: 0, page: 0 }, |index| geometry.block_at(Place { zone: 0, index }));
        assert_eq!(counts.unwrap()[0], 2);
        assert!(recount.rest().is_empty());
    }
}
