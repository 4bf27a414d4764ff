//! Content: the blocks of a model disk, and how they are hashed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes in a block, of stores and models alike.
pub const BLOCK: u64 = 4096;
pub const BLOCK_BYTES: usize = 4096;

/// A bijection that spreads bits (the finish of splitmix64).
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// Hashes bytes in four lanes; what is missing from a multiple of 32 counts as zeros.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut lanes = [1u64, 2, 3, 4];
    for chunk in bytes.chunks(32) {
        let mut words = [0; 32];
        words[..chunk.len()].copy_from_slice(chunk);
        for (lane, word) in lanes.iter_mut().zip(words.chunks_exact(8)) {
            let word = u64::from_le_bytes(word.try_into().unwrap());
            *lane = (*lane ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31);
        }
    }
    lanes.iter().fold(0, |all, lane| mix(all ^ lane))
}

pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// The hash of a block of a disk that may end within it.
pub fn hash_block(bytes: &[u8]) -> u64 {
    if bytes.len() == BLOCK_BYTES {
        return hash(bytes);
    }
    let mut whole = [0; BLOCK_BYTES];
    whole[..bytes.len()].copy_from_slice(bytes);
    hash(&whole)
}

/// What one block adds to the sum of its disk.
pub fn block_print(block: u64, hash: u64) -> u64 {
    mix(hash ^ mix(block.wrapping_add(77)))
}

/// Bytes to write, which no other write has: made from a stamp when they are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    pub stamp: u64,
    /// Every so many blocks of the disk hold zeros; 0 for none, 1 for all. Or [`ALIKE`].
    pub zero_every: u64,
}

/// In the place of `zero_every`: the bytes are those of many other writes.
pub const ALIKE: u64 = u64::MAX;

impl Fill {
    /// The bytes of `range` of a disk.
    pub fn bytes(self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap());
        let mut at = range.start;
        while at < range.end {
            let block = at / BLOCK;
            let end = range.end.min((block + 1) * BLOCK);
            if self.zero_every > 0 && block.is_multiple_of(self.zero_every) {
                bytes.resize(bytes.len() + usize::try_from(end - at).unwrap(), 0);
            } else if self.zero_every == ALIKE {
                let base = (block % 3 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
                let word = |byte: u64| base.wrapping_mul(byte % BLOCK / 8 * 2 + 1) >> (byte % 8 * 8);
                bytes.extend((at..end).map(|byte| word(byte).to_le_bytes()[0]));
            } else {
                let base =
                    (self.stamp << 32).wrapping_add(block << 12).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
                bytes
                    .extend((at..end).map(|byte| {
                        (base.wrapping_mul(byte / 8 * 2 + 1) >> (byte % 8 * 8)).to_le_bytes()[0]
                    }));
            }
            at = end;
        }
        bytes
    }
}

#[derive(Clone, Debug)]
pub struct Block {
    pub hash: u64,
    bytes: Arc<[u8]>,
}

/// What a disk holds: blocks that are not all zeros.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub size: u64,
    pub blocks: BTreeMap<u64, Block>,
    pub sum: u64,
}

impl Content {
    pub fn new(size: u64) -> Self {
        Self { size, ..Self::default() }
    }

    /// Changes the part of one block that `bytes` covers.
    pub fn write_within(&mut self, offset: u64, bytes: &[u8]) {
        let block = offset / BLOCK;
        let from = usize::try_from(offset % BLOCK).unwrap();
        let mut whole = match self.blocks.get(&block) {
            Some(old) if bytes.len() < BLOCK_BYTES => old.bytes.to_vec(),
            _ => vec![0; BLOCK_BYTES],
        };
        whole[from..from + bytes.len()].copy_from_slice(bytes);
        self.set(block, &whole);
    }

    fn set(&mut self, block: u64, bytes: &[u8]) {
        if let Some(old) = self.blocks.remove(&block) {
            self.sum = self.sum.wrapping_sub(block_print(block, old.hash));
        }
        if !is_zero(bytes) {
            let hash = hash(bytes);
            self.sum = self.sum.wrapping_add(block_print(block, hash));
            self.blocks.insert(block, Block { hash, bytes: Arc::from(bytes) });
        }
    }

    /// Whether everything from `offset` on is zeros.
    pub fn is_zero_from(&self, offset: u64) -> bool {
        let block = offset / BLOCK;
        let from = usize::try_from(offset % BLOCK).unwrap();
        self.blocks.range(block..).all(|(at, held)| *at == block && is_zero(&held.bytes[from..]))
    }
}
