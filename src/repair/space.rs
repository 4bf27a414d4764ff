//! Space: free blocks for what a repair writes, and what it writes there.
//!
//! Floor 6. Free is what the damaged store does not lead to, and no batch of its journal names: a crash in the midst of
//! a repair leaves everything that the next one needs (R2).
//!
//! R2  Until the superblock changes, a repair writes only blocks that the old one does not lead to, and slots of tables
//!     that are not current or are damaged.

use super::overlay::Writes;
use crate::check::recount::Holder;
use crate::check::walk::Ledger;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Geometry, Place, Reference};
use crate::units::{BlockNo, BlockRun, index};
use std::collections::HashMap;

/// Free blocks, and bytes that wait to be written there.
pub(super) struct Space {
    pub(super) geometry: Geometry,
    pub(super) zones: u64,
    /// A bit for each block in use, by zone.
    used: HashMap<u64, Vec<u64>>,
    /// Where the search for a free block goes on.
    next: Place,
    pub(super) writes: Writes,
}

impl Space {
    pub(super) fn new(geometry: Geometry, zones: u64) -> Self {
        Self {
            geometry,
            zones,
            used: HashMap::new(),
            next: Place { zone: 0, index: 0 },
            writes: Writes::new(),
        }
    }

    fn mark(&mut self, place: Place) {
        let words = index(u64::from(self.geometry.data_blocks_per_zone())).div_ceil(64);
        let zone = self.used.entry(place.zone).or_insert_with(|| vec![0; words]);
        if let Some(word) = zone.get_mut(index(u64::from(place.index / 64))) {
            *word |= 1 << (place.index % 64);
        }
    }

    fn is_used(&self, place: Place) -> bool {
        let word = self.used.get(&place.zone).and_then(|zone| zone.get(index(u64::from(place.index / 64))));
        word.is_some_and(|word| word >> (place.index % 64) & 1 == 1)
    }

    /// The blocks of a run are in use.
    pub(super) fn mark_run(&mut self, run: BlockRun) {
        for nth in 0..run.count {
            if let Some(place) = self.geometry.place_of(run.first.plus(nth)) {
                self.mark(place);
            }
        }
    }

    /// Takes so many free blocks in a row, inside one zone.
    pub(super) fn take(&mut self, count: u32) -> Result<BlockNo> {
        let per_zone = self.geometry.data_blocks_per_zone();
        let (mut at, mut row) = (self.next, 0);
        while at.zone < self.zones {
            row = if self.is_used(at) { 0 } else { row + 1 };
            if row == count {
                let first = Place { index: at.index + 1 - count, ..at };
                for index in first.index..=at.index {
                    self.mark(Place { index, ..first });
                }
                if count == 1 {
                    self.next = at;
                }
                return Ok(self.geometry.block_at(first));
            }
            at.index += 1;
            if at.index == per_zone {
                (at, row) = (Place { zone: at.zone + 1, index: 0 }, 0);
            }
        }
        let message =
            "no free block is left for what the repair has to write; copy the store to a larger medium";
        Err(Error::new(ErrorKind::Full, message))
    }

    /// Takes a block for these bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<BlockNo> {
        let block = self.take(1)?;
        let mut padded = bytes.to_vec();
        padded.resize(self.geometry.block_bytes(), 0);
        self.writes.insert(self.geometry.offset_bytes(block), padded);
        Ok(block)
    }
}

/// A walk over the damaged store says what it leads to.
impl Ledger for Space {
    fn data(&mut self, place: Place, _reference: Reference, _holder: Holder) {
        self.mark(place);
    }

    fn metadata(&mut self, place: Place, _block: BlockNo) {
        self.mark(place);
    }
}
