//! Fields: numbers, identities and texts, as a stream's header has them. Little-endian; nothing is trusted.

use crate::error::{Error, ErrorKind, Result};

/// Collects fields.
#[derive(Default)]
pub(crate) struct Fields(pub(crate) Vec<u8>);

impl Fields {
    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A length of two bytes, and the text.
    ///
    /// # Errors
    /// `Unsupported` for a text that is longer than a stream can carry: no store has one.
    pub(crate) fn text(&mut self, text: &str, max: usize) -> Result<&mut Self> {
        let length = u16::try_from(text.len()).ok().filter(|_| text.len() <= max);
        let too_long = || Error::new(ErrorKind::Unsupported, format!("a text of {} bytes", text.len()));
        let length = length.ok_or_else(too_long)?;
        Ok(self.bytes(&length.to_le_bytes()).bytes(text.as_bytes()))
    }
}

/// Takes fields from the front of a slice.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (found, rest) =
            self.0.split_first_chunk::<N>().ok_or_else(|| Error::damaged("its header is too short"))?;
        self.0 = rest;
        Ok(*found)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn text(&mut self, max: usize) -> Result<String> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        if length > max {
            return Err(Error::damaged(format!("a text of {length} bytes, where {max} are possible")));
        }
        let (found, rest): (&'a [u8], _) =
            self.0.split_at_checked(length).ok_or_else(|| Error::damaged("its header is too short"))?;
        self.0 = rest;
        let text = std::str::from_utf8(found).map_err(|_| Error::damaged("a text is no UTF-8"))?;
        Ok(text.to_owned())
    }
}
