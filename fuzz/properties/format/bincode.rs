//! Bincode: the encoding of catalog records and events, as docs/format.md has it.

/// Collects the fields of a record.
#[derive(Default)]
pub(crate) struct Fields(pub(crate) Vec<u8>);

impl Fields {
    pub(crate) fn integer(&mut self, value: u64) -> &mut Self {
        let bytes = value.to_le_bytes();
        let (tag, count) = match value {
            0..=250 => (None, 1),
            251..=0xffff => (Some(251), 2),
            0x1_0000..=0xffff_ffff => (Some(252), 4),
            _ => (Some(253), 8),
        };
        self.0.extend(tag);
        self.0.extend_from_slice(&bytes[..count]);
        self
    }

    pub(crate) fn string(&mut self, text: &str) -> &mut Self {
        self.integer(text.len() as u64);
        self.raw(text.as_bytes())
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn option(&mut self, value: Option<u64>) -> &mut Self {
        self.0.push(u8::from(value.is_some()));
        match value {
            Some(value) => self.integer(value),
            None => self,
        }
    }
}

/// Reads fields one after another; `None` where they end too early, or make no sense.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn raw(&mut self, count: u64) -> Option<&'a [u8]> {
        let end = self.at.checked_add(usize::try_from(count).ok()?)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    /// A byte less than `end`.
    pub(crate) fn below(&mut self, end: u8) -> Option<u8> {
        self.raw(1).map(|bytes| bytes[0]).filter(|byte| *byte < end)
    }

    /// A number of 64 bits.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let count = match self.below(254)? {
            small @ 0..=250 => return Some(u64::from(small)),
            251 => 2,
            252 => 4,
            _ => 8,
        };
        let mut word = [0; 8];
        word[..count as usize].copy_from_slice(self.raw(count)?);
        Some(u64::from_le_bytes(word))
    }

    /// A number of 32 bits: one that takes eight bytes is none, whatever its value.
    pub(crate) fn small(&mut self) -> Option<u64> {
        if self.bytes.get(self.at) == Some(&253) { None } else { self.number() }
    }

    pub(crate) fn text(&mut self) -> Option<&'a [u8]> {
        let count = self.number()?;
        self.raw(count)
    }
}
