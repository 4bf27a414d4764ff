//! Free map: one zone's free blocks as a bitmap, searched a word at a time.
//!
//! Floor 2.

use crate::units::{index, narrow};

/// The free data blocks of a zone.
pub(crate) struct FreeMap {
    words: Vec<u64>,
    blocks: u32,
    free: u32,
    /// Below this index nothing is free.
    low: u32,
    /// From this index on nothing is free.
    high: u32,
}

impl FreeMap {
    /// A zone of `blocks` blocks of which none is free.
    pub(crate) fn full(blocks: u32) -> Self {
        let words = vec![0; index(u64::from(blocks.div_ceil(64)))];
        Self { words, blocks, free: 0, low: blocks, high: 0 }
    }

    /// How many blocks are free.
    pub(crate) fn free(&self) -> u32 {
        self.free
    }

    fn is_free(&self, at: u32) -> bool {
        self.words.get(index(u64::from(at / 64))).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn flip(&mut self, first: u32, count: u32, to_free: bool) {
        assert!(first + count <= self.blocks, "blocks {first}+{count} are in a zone of {}", self.blocks);
        for at in first..first + count {
            let word = &mut self.words[index(u64::from(at / 64))];
            let bit = 1 << (at % 64);
            assert!((*word & bit == 0) == to_free, "block {at} of a zone changes state");
            *word ^= bit;
        }
    }

    /// Makes blocks free that are not.
    pub(crate) fn release(&mut self, first: u32, count: u32) {
        self.flip(first, count, true);
        self.free += count;
        self.low = self.low.min(first);
        self.high = self.high.max(first + count);
    }

    /// Takes blocks that are free.
    pub(crate) fn take(&mut self, first: u32, count: u32) {
        self.flip(first, count, false);
        self.free -= count;
        if self.free == 0 {
            (self.low, self.high) = (self.blocks, 0);
        } else if first <= self.low {
            self.low = self.low.max(first + count);
        } else if first + count >= self.high {
            self.high = first;
        }
    }

    /// Takes those of the blocks that are free.
    pub(crate) fn take_where_free(&mut self, first: u32, count: u32) {
        for at in first..first + count {
            if self.is_free(at) {
                self.take(at, 1);
            }
        }
    }

    /// All free runs, in order.
    pub(crate) fn runs(&self) -> Vec<(u32, u32)> {
        let (mut runs, mut at) = (Vec::new(), self.low);
        while let Some(first) = self.next_free(at) {
            let count = (first..self.blocks).take_while(|&block| self.is_free(block)).count();
            runs.push((first, narrow(count)));
            at = first + narrow(count);
        }
        runs
    }

    /// Takes the lowest free run, at most `most` blocks of it.
    pub(crate) fn take_low(&mut self, most: u32) -> Option<(u32, u32)> {
        let first = self.next_free(self.low)?;
        let mut count = 1;
        while count < most && first + count < self.blocks && self.is_free(first + count) {
            count += 1;
        }
        self.take(first, count);
        Some((first, count))
    }

    /// Takes the upper end of the highest free run, at most `most` blocks of it.
    pub(crate) fn take_high(&mut self, most: u32) -> Option<(u32, u32)> {
        let last = self.previous_free(self.high)?;
        let mut first = last;
        while first > 0 && last - first + 1 < most && self.is_free(first - 1) {
            first -= 1;
        }
        let count = last - first + 1;
        self.take(first, count);
        Some((first, count))
    }

    /// Takes `count` free blocks in a row.
    pub(crate) fn take_exactly(&mut self, count: u32) -> Option<u32> {
        let mut at = self.next_free(self.low)?;
        loop {
            let length = (0..count).take_while(|&n| at + n < self.blocks && self.is_free(at + n)).count();
            if narrow(length) == count {
                self.take(at, count);
                return Some(at);
            }
            at = self.next_free(at + narrow(length))?;
        }
    }

    /// The first free block from `from` on.
    fn next_free(&self, from: u32) -> Option<u32> {
        let mut at = from;
        while at < self.blocks {
            let word = self.words[index(u64::from(at / 64))] >> (at % 64);
            if word != 0 {
                return Some(at + word.trailing_zeros());
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }

    /// The last free block below `below`.
    fn previous_free(&self, below: u32) -> Option<u32> {
        let mut end = below;
        while end > 0 {
            let at = end - 1;
            let word = self.words[index(u64::from(at / 64))] << (63 - at % 64);
            if word != 0 {
                return Some(at - word.leading_zeros());
            }
            end = at / 64 * 64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_comes_from_below_and_nodes_from_above() {
        let mut map = FreeMap::full(200);
        map.release(0, 200);
        assert_eq!(map.take_low(150), Some((0, 150)));
        assert_eq!(map.take_high(10), Some((190, 10)));
        map.release(3, 5);
        assert_eq!(map.runs(), [(3, 5), (150, 40)]);
        assert_eq!(map.take_exactly(6), Some(150));
        assert_eq!(map.take_low(100), Some((3, 5)));
        assert_eq!(map.take_high(100), Some((156, 34)));
        assert_eq!((map.take_low(1), map.take_high(1), map.free()), (None, None, 0));
    }

    #[test]
    fn any_order_of_taking_and_releasing_keeps_count() {
        let mut map = FreeMap::full(130);
        let mut model = [false; 130];
        let mut state = 7u32;
        for _ in 0..10_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let pick = state >> 16;
            let taken = match pick % 4 {
                0 => map.take_low(pick % 7 + 1),
                1 => map.take_high(pick % 7 + 1),
                2 => map.take_exactly(pick % 5 + 1).map(|at| (at, pick % 5 + 1)),
                _ => {
                    let at = pick % 130;
                    if !model[at as usize] {
                        map.release(at, 1);
                        model[at as usize] = true;
                    }
                    None
                }
            };
            if let Some((first, count)) = taken {
                for at in first..first + count {
                    assert!(std::mem::replace(&mut model[at as usize], false), "block {at} was free");
                }
            }
            assert_eq!(map.free() as usize, model.iter().filter(|&&free| free).count());
        }
    }
}
