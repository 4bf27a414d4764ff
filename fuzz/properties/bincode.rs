//! Bincode: the encoding of catalog records and events, as docs/format.md has it.

use super::input::Input;

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

/// Reads fields one after another; zeros behind the end.
pub(crate) struct Reader<'a> {
    pub(crate) input: Input<'a>,
    whole: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { input: Input(bytes), whole: bytes.len() }
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> usize {
        self.whole - self.input.0.len()
    }

    pub(crate) fn integer(&mut self) -> u64 {
        match self.input.byte() {
            small @ 0..=250 => u64::from(small),
            251 => self.input.word(2),
            252 => self.input.word(4),
            _ => self.input.word(8),
        }
    }

    pub(crate) fn string(&mut self) {
        let length = self.integer();
        self.input.bytes(length as usize);
    }

    pub(crate) fn option(&mut self) {
        if self.input.byte() == 1 {
            self.integer();
        }
    }
}
