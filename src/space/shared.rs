//! Shared blocks: those with more than one reference, as the last checkpoint counts them.
//!
//! Floor 2. Made only for who asks what deleting something would free; eight bytes a block, and more only while it is made.

use crate::units::BlockNo;

/// The blocks, and how many references each has.
#[derive(Default)]
pub(crate) struct SharedBlocks {
    /// In order: the block, and above its 48 bits the count.
    packed: Vec<u64>,
}

impl SharedBlocks {
    /// Adds a block behind all others.
    pub(crate) fn push(&mut self, block: BlockNo, count: u16) {
        self.packed.push(block.0 | u64::from(count) << 48);
    }

    /// How many references a block has that has any.
    pub(crate) fn count(&self, block: BlockNo) -> u16 {
        let found = self.packed.binary_search_by_key(&block.0, |packed| packed & ((1 << 48) - 1));
        let packed = found.ok().and_then(|at| self.packed.get(at));
        packed.map_or(1, |packed| u16::try_from(packed >> 48).unwrap_or(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_not_listed_has_one_reference() {
        let mut shared = SharedBlocks::default();
        for (block, count) in [(3, 2), (70_000, u16::MAX), ((1 << 48) - 1, 9)] {
            shared.push(BlockNo(block), count);
        }
        let counts = [2, 3, 4, 70_000, (1 << 48) - 1].map(|block| shared.count(BlockNo(block)));
        assert_eq!(counts, [1, 2, 1, u16::MAX, 9]);
    }
}
