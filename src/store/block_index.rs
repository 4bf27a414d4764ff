//! Block index: where a block with some content stands, in a fixed amount of memory.
//!
//! Floor 5. It only ever proposes: whoever asks compares the bytes, and looks whether the block still stands there. So it may
//! forget and may be stale; both cost space, and nothing else.

use crate::catalog::Child;
use crate::units::{BlockNo, DiskBlock, DiskId, VersionId, index};

/// The first 16 bytes of a block's BLAKE3.
pub(super) type Key = [u8; 16];

/// The key of a block.
pub(super) fn key_of(block: &[u8]) -> Key {
    let hash = blake3::hash(block);
    let mut key = Key::default();
    key.copy_from_slice(hash.as_bytes().get(..16).unwrap_or(&[0; 16]));
    key
}

/// Where a block stands: in the settled tree of a head or version, at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) point: Child,
    pub(super) at: DiskBlock,
    pub(super) block: BlockNo,
}

/// One entry. Block 0, where a superblock lies, says that it is empty.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Entry {
    key: Key,
    block: u64,
    at: u64,
    /// The id, and in the lowest bit whether it is a head's.
    point: u64,
}

/// Bytes that a block takes in the index.
pub(super) const ENTRY_BYTES: u64 = size_of::<Entry>() as u64;
const _: () = assert!(ENTRY_BYTES == 40);

/// A key has this many places.
const WAYS: usize = 8;

impl Entry {
    fn new(key: Key, standing: Standing) -> Self {
        let point = match standing.point {
            Child::Head(id) => id.0 << 1 | 1,
            Child::Version(id) => id.0 << 1,
        };
        Self { key, block: standing.block.0, at: standing.at.0, point }
    }

    fn standing(&self) -> Standing {
        let id = self.point >> 1;
        let point = if self.point & 1 == 1 { Child::Head(DiskId(id)) } else { Child::Version(VersionId(id)) };
        Standing { point, at: DiskBlock(self.at), block: BlockNo(self.block) }
    }
}

/// The index.
pub(super) struct BlockIndex {
    entries: Vec<Entry>,
    /// Blocks that found no place.
    pub(super) left_out: u64,
}

impl BlockIndex {
    /// An index that takes at most this many bytes, and at least those of a few entries.
    pub(super) fn new(bytes: u64) -> Self {
        let fits = index(bytes / ENTRY_BYTES) / WAYS * WAYS;
        Self { entries: vec![Entry::default(); fits.max(WAYS)], left_out: 0 }
    }

    fn group(&mut self, key: &Key) -> &mut [Entry] {
        let number = key.first_chunk().copied().map_or(0, u64::from_le_bytes);
        let groups = self.entries.len() / WAYS;
        let nth = number % crate::units::wide(groups);
        let first = index(nth) * WAYS;
        &mut self.entries[first..first + WAYS]
    }

    /// Where a block with this key stands, as far as is known.
    pub(super) fn find(&mut self, key: &Key) -> Option<Standing> {
        self.group(key).iter().find(|entry| entry.block != 0 && entry.key == *key).map(Entry::standing)
    }

    /// Notes where a block with this key stands, in the place of what was known of the key, or where there is room.
    pub(super) fn put(&mut self, key: Key, standing: Standing) {
        let group = self.group(&key);
        let place = group.iter().position(|entry| entry.block != 0 && entry.key == key);
        match place.or_else(|| group.iter().position(|entry| entry.block == 0)) {
            Some(place) => group[place] = Entry::new(key, standing),
            None => self.left_out += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(n: u64) -> Standing {
        Standing { point: Child::Head(DiskId(n)), at: DiskBlock(n * 2), block: BlockNo(n + 100) }
    }

    #[test]
    fn what_is_put_is_found_and_the_last_word_counts() {
        let mut index = BlockIndex::new(40 * 1000);
        for n in 0..200u64 {
            index.put(key_of(&n.to_le_bytes()), standing(n));
        }
        assert_eq!(index.left_out, 0);
        let version = Standing { point: Child::Version(VersionId(7)), ..standing(3) };
        index.put(key_of(&3u64.to_le_bytes()), version);
        assert_eq!(index.find(&key_of(&3u64.to_le_bytes())), Some(version));
        assert_eq!(index.find(&key_of(&4u64.to_le_bytes())), Some(standing(4)));
        assert_eq!(index.find(&key_of(&777u64.to_le_bytes())), None);
    }

    #[test]
    fn it_never_grows_and_says_what_it_left_out() {
        for bytes in [0, 39, 400, 4096] {
            let mut index = BlockIndex::new(bytes);
            let entries = index.entries.len();
            assert!(entries == WAYS || crate::units::wide(entries) * ENTRY_BYTES <= bytes);
            for n in 0..5000u64 {
                index.put(key_of(&n.to_le_bytes()), standing(n));
            }
            let held = (0..5000u64).filter(|n| index.find(&key_of(&n.to_le_bytes())).is_some()).count();
            assert_eq!((index.entries.len(), held), (entries, entries), "{bytes} bytes");
            assert_eq!(index.left_out, 5000 - crate::units::wide(entries));
        }
    }
}
