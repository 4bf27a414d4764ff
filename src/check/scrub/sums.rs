//! Sums: the seal of each data block, in the order in which they lie.
//!
//! Floor 5. Pages of 2,048 blocks each: a bit for each block that is data, and its seal.

use crate::check::recount::Holder;
use crate::check::walk::Ledger;
use crate::format::{Geometry, Place, Reference};
use crate::units::{BlockNo, index, wide};
use std::collections::{BTreeMap, HashMap};

const PAGE_BLOCKS: u32 = 2048;

#[derive(Clone)]
struct Page {
    is_data: [u64; PAGE_BLOCKS as usize / 64],
    crcs: Box<[u32]>,
}

/// The seals of all data blocks.
pub(crate) struct Sums {
    pub(super) geometry: Geometry,
    pages: BTreeMap<(u64, u32), Page>,
    /// Other seals that somebody expects of the same block.
    others: HashMap<BlockNo, Vec<u32>>,
    blocks: u64,
}

impl Sums {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self { geometry, pages: BTreeMap::new(), others: HashMap::new(), blocks: 0 }
    }

    /// Bytes of all data blocks.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.geometry.block_size())
    }

    /// All data blocks and their seals, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (BlockNo, u32)> + '_ {
        self.pages.iter().flat_map(move |(&(zone, number), page)| {
            (0..PAGE_BLOCKS).zip(page.crcs.iter()).filter_map(move |(at, &crc)| {
                let word = page.is_data.get(index(u64::from(at / 64))).copied().unwrap_or(0);
                let place = Place { zone, index: number * PAGE_BLOCKS + at };
                (word >> (at % 64) & 1 == 1).then(|| (self.geometry.block_at(place), crc))
            })
        })
    }

    /// Other seals that somebody expects of a block.
    pub(super) fn others(&self, block: BlockNo) -> &[u32] {
        self.others.get(&block).map_or(&[], Vec::as_slice)
    }
}

impl Ledger for Sums {
    fn data(&mut self, place: Place, reference: Reference, _holder: Holder) {
        let key = (place.zone, place.index / PAGE_BLOCKS);
        let fresh = || Page {
            is_data: [0; PAGE_BLOCKS as usize / 64],
            crcs: vec![0; index(u64::from(PAGE_BLOCKS))].into_boxed_slice(),
        };
        let page = self.pages.entry(key).or_insert_with(fresh);
        let at = index(u64::from(place.index % PAGE_BLOCKS));
        let (Some(word), Some(crc)) = (page.is_data.get_mut(at / 64), page.crcs.get_mut(at)) else { return };
        if *word >> (wide(at) % 64) & 1 == 0 {
            *word |= 1 << (wide(at) % 64);
            *crc = reference.crc();
            self.blocks += 1;
        } else if *crc != reference.crc() {
            let others = self.others.entry(reference.block()).or_default();
            if !others.contains(&reference.crc()) {
                others.push(reference.crc());
            }
        }
    }

    fn metadata(&mut self, _place: Place, _block: BlockNo) {}
}
