//! Input: reads choices out of a fuzzer's bytes. Where they end, every choice is zero.

/// What is left of the bytes.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// Up to `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A number of `count` bytes.
    pub(crate) fn word(&mut self, count: usize) -> u64 {
        let mut word = [0; 8];
        let bytes = self.bytes(count);
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        if end <= 1 { 0 } else { self.word(if end <= 256 { 1 } else { 3 }) as usize % end }
    }

    pub(crate) fn chance(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number as records hold them: mostly small, sometimes at an edge, sometimes anything.
    pub(crate) fn number(&mut self) -> u64 {
        const EDGES: [u64; 16] = [
            251,
            4096,
            65_535,
            65_536,
            1 << 24,
            u32::MAX as u64,
            1 << 32,
            (1 << 40) - 2,
            (1 << 40) - 1,
            1 << 40,
            (1 << 48) - 1,
            1 << 48,
            1 << 50,
            1 << 63,
            u64::MAX - 1,
            u64::MAX,
        ];
        match self.byte() {
            small @ 0..=219 => u64::from(small),
            edge @ 220..=235 => EDGES[usize::from(edge - 220)],
            236..=243 => self.word(2),
            244..=249 => self.word(4),
            _ => self.word(8),
        }
    }
}
