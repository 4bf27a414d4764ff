//! Superblock: the one place that says where the newest checkpoint is.
//!
//! Floor 1. Two slots hold the same superblock. Slot A is written and synced first, slot B afterwards:
//! a torn write leaves the other slot, and a slot that rots costs nothing, because the other one is
//! as new (see docs/durability.md, "Why both superblock slots hold the same thing").

use super::geometry::Geometry;
use super::seal;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a superblock.
pub(crate) const SUPERBLOCK_BYTES: usize = 4096;
/// Where the two slots are, in bytes: apart, so that one bad stretch of a medium spares the other.
pub(crate) const SLOT_OFFSETS: [u64; 2] = [0, 64 << 10];
/// The version of the format that this library writes.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// First bytes of every store. The control characters notice text-mode transfers.
pub(crate) const SUPERBLOCK_MAGIC: [u8; 8] = *b"cowblk\x1a\n";

/// The sealed superblock.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Superblock {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U32,
    /// Seal of the 4096 bytes, with this field as zero.
    pub(crate) crc: U32,
    /// Features that an older reader and writer may ignore.
    pub(crate) compatible: U64,
    /// Features that an older reader may ignore, but not a writer.
    pub(crate) read_only_compatible: U64,
    /// Features that an older version must not touch at all.
    pub(crate) incompatible: U64,
    /// Tells a store's blocks from another's.
    pub(crate) uuid: [u8; 16],
    pub(crate) block_size: U32,
    pub(crate) zone_blocks: U32,
    pub(crate) journal_blocks: U64,
    /// Grows with every write of a superblock: the larger sealed slot is the newer.
    pub(crate) writes: U64,
    /// Grows with every opening for writing: journal batches of an earlier opening are told apart.
    pub(crate) term: U64,
    /// Batches up to this one may be of an earlier term: the opening accepted them.
    pub(crate) recovered: U64,
    /// The first block of the checkpoint record.
    pub(crate) checkpoint_block: U64,
    pub(crate) checkpoint_bytes: U32,
    /// Seal of the checkpoint record.
    pub(crate) checkpoint_crc: U32,
    /// Where in the journal the first batch behind the checkpoint is, in bytes from its start.
    pub(crate) journal_offset: U64,
    /// The number of that batch.
    pub(crate) journal_sequence: U64,
    /// 1 if the store was closed behind this checkpoint: the journal is empty, and nothing to look for.
    pub(crate) clean: U64,
    pub(crate) reserved: [u8; 3960],
}

const _: () = assert!(size_of::<Superblock>() == SUPERBLOCK_BYTES);

/// What a slot holds.
#[derive(Debug)]
pub(crate) enum Slot {
    /// A superblock whose seal matches.
    Sealed(Box<Superblock>),
    /// The magic matches, but not the seal: torn or rotten.
    Torn,
    /// Something else altogether.
    Foreign,
}

impl Superblock {
    /// The slot's bytes, sealed.
    pub(crate) fn seal(mut self) -> Vec<u8> {
        self.crc = U32::ZERO;
        self.crc = U32::new(seal(self.as_bytes()));
        self.as_bytes().to_vec()
    }

    /// What the bytes of a slot are.
    pub(crate) fn open(bytes: &[u8]) -> Slot {
        let Ok(mut superblock) = Self::read_from_bytes(bytes) else { return Slot::Foreign };
        if superblock.magic != SUPERBLOCK_MAGIC {
            return Slot::Foreign;
        }
        let claimed = superblock.crc;
        superblock.crc = U32::ZERO;
        if seal(superblock.as_bytes()) != claimed.get() {
            return Slot::Torn;
        }
        superblock.crc = claimed;
        Slot::Sealed(Box::new(superblock))
    }

    /// The first superblock of a store with this geometry, not yet pointing at a checkpoint.
    pub(crate) fn first(geometry: &Geometry, uuid: [u8; 16]) -> Self {
        Self {
            magic: SUPERBLOCK_MAGIC,
            version: U32::new(FORMAT_VERSION),
            crc: U32::ZERO,
            compatible: U64::ZERO,
            read_only_compatible: U64::ZERO,
            incompatible: U64::ZERO,
            uuid,
            block_size: U32::new(geometry.block_size()),
            zone_blocks: U32::new(geometry.zone_blocks()),
            journal_blocks: U64::new(geometry.journal_blocks()),
            writes: U64::ZERO,
            term: U64::ZERO,
            recovered: U64::ZERO,
            checkpoint_block: U64::ZERO,
            checkpoint_bytes: U32::ZERO,
            checkpoint_crc: U32::ZERO,
            journal_offset: U64::ZERO,
            journal_sequence: U64::new(1),
            clean: U64::ZERO,
            reserved: [0; 3960],
        }
    }

    /// The geometry, or what is wrong with it.
    pub(crate) fn geometry(&self) -> Result<Geometry, String> {
        Geometry::new(self.block_size.get(), self.zone_blocks.get(), self.journal_blocks.get())
    }

    /// Whether every reserved byte is zero.
    pub(crate) fn reserved_is_zero(&self) -> bool {
        self.reserved.iter().all(|&byte| byte == 0)
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_unseals_a_superblock() {
        let geometry = Geometry::new(4096, 16400, 16384).unwrap();
        let bytes = Superblock::first(&geometry, [7; 16]).seal();
        assert!(matches!(Superblock::open(&bytes), Slot::Sealed(_)));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(Superblock::open(&flipped), Slot::Sealed(_)), "bit {bit}");
        }
    }
}
