//! Reference: 16 bytes that say which block of the store holds something, since when, and its seal.
//!
//! Floor 1. The same 16 bytes point from a leaf to a data block and from a node to the node below.

use crate::limits;
use crate::units::{BlockNo, Epoch};
use std::sync::Arc;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a reference.
pub(crate) const REFERENCE_BYTES: usize = size_of::<Reference>();

/// A block reference; all zero is a hole.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub(crate) struct Reference {
    /// The store block, 48 bits. Zero (where the superblock lives) says hole.
    pub(crate) block: [u8; 6],
    /// The epoch in which the reference was made, 40 bits: who may drop it follows from this.
    pub(crate) birth: [u8; 5],
    /// Reserved for compression and the like; a reader refuses what it does not know.
    pub(crate) flags: u8,
    /// Seal of the whole block: notices flipped, torn, stale and misplaced blocks.
    pub(crate) crc: U32,
}

const _: () = assert!(REFERENCE_BYTES == 16);

impl Reference {
    /// No block: reads as zeros.
    pub(crate) const HOLE: Self = Self { block: [0; 6], birth: [0; 5], flags: 0, crc: U32::ZERO };

    /// Never on the medium: in memory, says that nothing was set here.
    pub(crate) const UNSET: Self = Self { block: [0; 6], birth: [0; 5], flags: 0xff, crc: U32::ZERO };

    /// A reference to `block`.
    ///
    /// # Panics
    /// Where a number does not fit: block numbers and epochs are bounded where they are made.
    pub(crate) fn new(block: BlockNo, birth: Epoch, crc: u32) -> Self {
        assert!(block.0 != 0 && block.0 <= limits::BLOCK_NO_MAX, "block {block} fits 48 bits and is not 0");
        assert!(birth.0 <= limits::EPOCH_MAX, "birth {birth} fits 40 bits");
        let [b0, b1, b2, b3, b4, b5, ..] = block.0.to_le_bytes();
        let [e0, e1, e2, e3, e4, ..] = birth.0.to_le_bytes();
        Self { block: [b0, b1, b2, b3, b4, b5], birth: [e0, e1, e2, e3, e4], flags: 0, crc: U32::new(crc) }
    }

    /// The block referred to; meaningless for a hole.
    pub(crate) fn block(&self) -> BlockNo {
        let [b0, b1, b2, b3, b4, b5] = self.block;
        BlockNo(u64::from_le_bytes([b0, b1, b2, b3, b4, b5, 0, 0]))
    }

    /// The epoch in which the reference was made.
    pub(crate) fn birth(&self) -> Epoch {
        let [e0, e1, e2, e3, e4] = self.birth;
        Epoch(u64::from_le_bytes([e0, e1, e2, e3, e4, 0, 0, 0]))
    }

    /// The seal of the block.
    pub(crate) fn crc(&self) -> u32 {
        self.crc.get()
    }

    /// Whether nothing is referred to.
    pub(crate) fn is_hole(&self) -> bool {
        self.block == [0; 6]
    }

    /// Whether the bytes mean something to this version: no unknown flag, and a hole is all zero.
    pub(crate) fn is_valid(&self) -> bool {
        self.flags == 0 && (!self.is_hole() || *self == Self::HOLE)
    }
}

/// The references of a node, or of a run of them.
pub(crate) fn node_from_bytes(bytes: &[u8]) -> Arc<[Reference]> {
    match <[Reference]>::ref_from_bytes(bytes) {
        Ok(references) => Arc::from(references),
        Err(_) => Arc::from([]), // a length that is no multiple of 16: no caller has one
    }
}

/// The bytes of a node.
pub(crate) fn node_to_bytes(references: &[Reference]) -> &[u8] {
    references.as_bytes()
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_reference_keeps_its_parts() {
        let reference = Reference::new(BlockNo(limits::BLOCK_NO_MAX), Epoch(limits::EPOCH_MAX), 0xdead_beef);
        assert_eq!(reference.block(), BlockNo(limits::BLOCK_NO_MAX));
        assert_eq!(reference.birth(), Epoch(limits::EPOCH_MAX));
        assert_eq!(reference.crc(), 0xdead_beef);
        assert!(reference.is_valid() && !reference.is_hole());
    }

    #[test]
    fn a_hole_with_a_birth_is_not_valid() {
        let mut bytes = [0; 16];
        assert!(node_from_bytes(&bytes).iter().all(|r| r.is_valid() && r.is_hole()));
        bytes[7] = 1;
        assert!(!node_from_bytes(&bytes)[0].is_valid());
    }
}
