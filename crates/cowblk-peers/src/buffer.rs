//! Buffers: aligned as `O_DIRECT` wants them, full of bytes that no peer can compress or share.

use std::ops::{Deref, DerefMut};

const ALIGNMENT: usize = 4096;

/// Bytes that begin at a multiple of 4096 in memory.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// A buffer of noise.
    pub(crate) fn noise(len: usize) -> Self {
        let mut bytes = vec![0; len + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        let mut seed: u64 = 0x5EED;
        for chunk in bytes.chunks_mut(8) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            chunk.copy_from_slice(&seed.to_le_bytes()[..chunk.len()]);
        }
        Self { bytes, start, len }
    }

    /// Makes each block of the buffer one that was never written before.
    pub(crate) fn stamp(&mut self, number: u64) {
        for block in self.chunks_mut(4096) {
            block[..8].copy_from_slice(&number.to_le_bytes());
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}
