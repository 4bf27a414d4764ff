//! Cut: takes a subtree off a map as a whole, and leaves what it holds to the collector.
//!
//! Floor 3. A checkpoint that dropped what a large discard covers would hold every block of it in memory, and all of it would
//! be free late. So it only counts what is cut off, so that the counts of maps stay exact (C4), and drops nothing: the collector
//! does, in small steps.

use super::settle::Settler;
use crate::error::Result;
use crate::format::Reference;
use crate::units::{DiskBlock, wide};

/// Levels that a subtree has to have to be cut off: a leaf is released where it is met.
const CUT_LEVEL_MIN: u32 = 2;

/// A subtree that was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) reference: Reference,
    /// Levels of nodes.
    pub(crate) height: u32,
    /// The disk block that it starts at.
    pub(crate) first: DiskBlock,
    /// How many blocks of data are given back with it, at most.
    pub(crate) blocks: u64,
}

/// What may be cut off.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CutRoom {
    /// How many subtrees: each takes a record.
    pub(crate) count: usize,
    /// How many blocks of data each gives back at least.
    pub(crate) blocks_min: u64,
}

impl Cut {
    pub(super) fn new(reference: Reference, height: u32, first: u64, blocks: u64) -> Self {
        Self { reference, height, first: DiskBlock(first), blocks }
    }
}

impl Settler<'_> {
    /// Lets go of a subtree of `level` levels at `first`: as a whole where it holds much, and where there is room for a record
    /// of it. One of which nothing is owned only leaves the map.
    pub(super) fn cut_off(&mut self, reference: Reference, level: u32, first: u64) -> Result<()> {
        let is_owned = reference.birth() > self.limit.below.min(self.limit.above);
        if reference.is_hole() || level < CUT_LEVEL_MIN || (is_owned && self.room.count == 0) {
            return self.release(reference, level, first);
        }
        let before = (self.mapped, self.lost);
        let blocks = self.count_off(reference, level, first)?;
        if is_owned && blocks < self.room.blocks_min {
            (self.mapped, self.lost) = before;
            return self.release(reference, level, first);
        }
        if is_owned {
            self.room.count -= 1;
            self.cuts.push(Cut::new(reference, level, first, blocks));
        }
        Ok(())
    }

    /// Counts what leaves the map with a subtree. How many of its blocks of data are owned.
    fn count_off(&mut self, reference: Reference, level: u32, first: u64) -> Result<u64> {
        if reference.is_hole() {
            return Ok(0);
        }
        if level == 0 {
            self.mapped -= 1;
            let is_owned = self.limit.owns(reference.birth(), first);
            if !is_owned {
                self.lose(reference);
            }
            return Ok(u64::from(is_owned));
        }
        let span = 1u64 << ((level - 1) * self.nodes.fanout_bits());
        let node = self.node(reference)?;
        let mut owned = 0;
        for (at, &child) in node.iter().enumerate() {
            owned += self.count_off(child, level - 1, first + wide(at) * span)?;
        }
        Ok(owned)
    }
}
