//! Mix: a hash of numbers that nobody chooses to collide: which node lies where is the store's own doing.
//!
//! Floor 3. A forged store can at most make its own cache slow.

use std::hash::Hasher;

/// Multiplies and folds 64-bit numbers (the golden ratio's fraction as the factor).
#[derive(Clone, Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(number));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * 0x9E37_79B9_7F4A_7C15;
        #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
        let halves = (product as u64, (product >> 64) as u64);
        self.0 = halves.0 ^ halves.1.rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Neighbours, as blocks written in a row are, differ in the bits that choose a shard and in those that choose a place.
    #[test]
    fn neighbours_spread_over_all_bits() {
        let hash = |number: u64| {
            let mut mix = Mix::default();
            mix.write_u64(number << 16);
            mix.write_u64(7);
            mix.finish()
        };
        for shift in [0, 24, 52] {
            let found: HashSet<u64> = (0..4096).map(|number| hash(number) >> shift & 0xFFF).collect();
            assert!(found.len() > 2300, "{} of 4096 at bit {shift}", found.len()); // by chance: 2589
        }
    }
}
