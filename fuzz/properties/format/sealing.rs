//! Sealing: makes the seals of a changed image fit again, up to the superblock.

use super::parts::{BLOCK, Batch, Parts, superblock};

/// Where the superblocks are.
pub(crate) const SLOTS: [u64; 2] = [0, 64 << 10];

/// An image that can be changed, and where its parts were before.
pub(crate) trait Sealing {
    /// A copy of bytes; `None` if the end comes before.
    fn get(&self, at: usize, count: usize) -> Option<Vec<u8>>;
    /// Writes what fits.
    fn put(&mut self, at: usize, bytes: &[u8]);
    fn parts(&self) -> &Parts;

    /// Seals a block in all its parents, and those in theirs, up to the superblock.
    fn seal_block(&mut self, block: usize) {
        let Some(crc) = self.seal_of(block * BLOCK, BLOCK) else { return };
        for at in self.parts().seals(block).to_vec() {
            self.put(at, &crc);
            let record = self.parts().checkpoint..self.parts().checkpoint + self.parts().checkpoint_bytes;
            if record.contains(&at) {
                self.seal_checkpoint();
            } else {
                self.seal_block(at / BLOCK);
            }
        }
    }

    /// Seals the checkpoint record in the superblock.
    fn seal_checkpoint(&mut self) {
        let (at, length) = (self.parts().checkpoint, self.parts().checkpoint_bytes);
        let Some(crc) = self.seal_of(at, length) else { return };
        self.put(superblock::CHECKPOINT_CRC, &crc);
        self.seal_superblock();
    }

    /// Seals slot A, and makes slot B the same.
    fn seal_superblock(&mut self) {
        self.put(superblock::CRC, &[0; 4]);
        let Some(crc) = self.seal_of(0, BLOCK) else { return };
        self.put(superblock::CRC, &crc);
        let slot = self.get(0, BLOCK).unwrap_or_default();
        self.put(SLOTS[1] as usize, &slot);
    }

    /// Seals a batch as a whole.
    fn seal_batch(&mut self, batch: Batch) {
        self.put(batch.at + 8, &[0; 4]);
        let Some(crc) = self.seal_of(batch.at, batch.bytes) else { return };
        self.put(batch.at + 8, &crc);
    }

    fn seal_of(&self, at: usize, count: usize) -> Option<[u8; 4]> {
        self.get(at, count).map(|bytes| crc32fast::hash(&bytes).to_le_bytes())
    }
}
