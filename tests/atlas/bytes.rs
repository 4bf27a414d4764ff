//! Bytes: little-endian numbers and references at their places, as docs/format.md has them.

use std::ops::Range;

#[derive(Clone, Copy)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn part(self, range: Range<usize>) -> Bytes<'a> {
        Bytes(&self.0[range])
    }

    pub fn number(self, at: usize, len: usize) -> u64 {
        self.0[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    pub fn u32(self, at: usize) -> u64 {
        self.number(at, 4)
    }

    pub fn u64(self, at: usize) -> u64 {
        self.number(at, 8)
    }
}

/// A reference, as far as it says where something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    /// 0 for a hole.
    pub block: usize,
}

impl Reference {
    pub fn read(bytes: Bytes<'_>, at: usize) -> Self {
        Self { block: usize::try_from(bytes.number(at, 6)).unwrap() }
    }

    pub fn is_hole(self) -> bool {
        self.block == 0
    }
}

/// Fields in bincode, one after another.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn raw(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    pub fn integer(&mut self) -> u64 {
        let len = match self.raw(1)[0] {
            small @ 0..=250 => return u64::from(small),
            251 => 2,
            252 => 4,
            _ => 8,
        };
        Bytes(self.raw(len)).number(0, len)
    }

    pub fn string(&mut self) -> String {
        let len = usize::try_from(self.integer()).unwrap();
        String::from_utf8(self.raw(len).to_vec()).unwrap()
    }

    pub fn option(&mut self) -> Option<u64> {
        (self.raw(1)[0] == 1).then(|| self.integer())
    }

    /// What keeps a snapshot, and its labels.
    pub fn marks(&mut self) {
        let (_protected, _expires_at) = (self.raw(1), self.option());
        let _labels = self.list(|labels| (labels.string(), labels.string()));
    }

    pub fn reference(&mut self) -> Reference {
        Reference::read(Bytes(self.raw(16)), 0)
    }

    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.integer()).map(|_| item(self)).collect()
    }
}
