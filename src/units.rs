//! Units: a block number, a byte offset and a count are different types.
//!
//! Floor 0. A raw `u64` never crosses a room's front door when it means one of these. Conversions
//! between integer widths live here and nowhere else.

use serde::{Deserialize, Serialize};
use std::fmt;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("cowblk maps terabytes: it needs a 64-bit target");

/// Declares a `u64` newtype with the traits that every unit has.
macro_rules! unit {
    ($(#[$doc:meta])* $visibility:vis $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        $visibility struct $name(
            /// The bare number.
            $visibility u64,
        );

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

unit! {
    /// Number of a block of the store, counted from the start of the file or device.
    pub(crate) BlockNo
}
unit! {
    /// Number of a block of a disk, counted from the disk's start.
    pub(crate) DiskBlock
}
unit! {
    /// How many blocks.
    pub BlockCount
}
unit! {
    /// The store-wide counter that orders snapshots, restores and births (40 bits on disk).
    pub(crate) Epoch
}
unit! {
    /// Number of a journal batch; grows by one with every batch, for ever.
    pub(crate) Sequence
}
unit! {
    /// Number of a checkpoint; grows by one with every checkpoint.
    pub(crate) Generation
}
unit! {
    /// Identifies a server; never reused within a store.
    pub ServerId
}
unit! {
    /// Identifies a disk; never reused within a store.
    pub DiskId
}
unit! {
    /// Identifies a snapshot; never reused within a store.
    pub SnapshotId
}
unit! {
    /// Identifies one frozen content of one disk: a node of the lineage. Never reused.
    pub(crate) VersionId
}

impl BlockNo {
    /// The block `count` blocks further on.
    #[must_use]
    pub(crate) const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl DiskBlock {
    /// The block `count` blocks further on.
    #[must_use]
    pub(crate) const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl BlockCount {
    /// The size in bytes of this many blocks.
    pub const fn size_bytes(self, block_size: u32) -> u64 {
        self.0 * block_size as u64
    }

    /// Whole mebibytes, rounded up, so that a snapshot that holds anything never shows as 0.
    pub const fn size_mb(self, block_size: u32) -> u64 {
        self.size_bytes(block_size).div_ceil(1 << 20)
    }
}

/// A run of consecutive blocks of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockRun {
    /// The first block.
    pub(crate) first: BlockNo,
    /// How many blocks, at least one.
    pub(crate) count: u64,
}

impl BlockRun {
    /// The first block behind the run.
    pub(crate) const fn end(self) -> BlockNo {
        BlockNo(self.first.0 + self.count)
    }
}

/// A `u64` as an index. Lossless: the crate compiles for 64-bit targets only.
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, see the compile_error above")]
pub(crate) const fn index(n: u64) -> usize {
    n as usize
}

/// An index or length as a `u64`. Lossless on every target.
pub(crate) const fn wide(n: usize) -> u64 {
    n as u64
}

/// A length that the format bounds below 2^32.
///
/// # Panics
/// Where it does not fit: a broken promise of our own code.
pub(crate) fn narrow(n: usize) -> u32 {
    u32::try_from(n).expect("a length bounded by the format fits 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_mb_rounds_up_so_that_something_is_never_zero() {
        assert_eq!(BlockCount(0).size_mb(4096), 0);
        assert_eq!(BlockCount(1).size_mb(4096), 1);
        assert_eq!(BlockCount(256).size_mb(4096), 1);
        assert_eq!(BlockCount(257).size_mb(4096), 2);
    }
}
