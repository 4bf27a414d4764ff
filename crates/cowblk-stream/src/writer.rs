//! Writer: puts a header and frames into a stream, each sealed on top of all before it.

use std::io::Write;

use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::frame::Frame;
use crate::header::Header;
use crate::limits::{MAGIC, VERSION};

/// Writes a stream.
pub struct StreamWriter<W> {
    out: W,
    seal: blake3::Hash,
    frames: u64,
    data_bytes: u64,
}

/// The seal of a frame: BLAKE3 over the seal before it, its head and its data.
pub(crate) fn next_seal(before: blake3::Hash, head: &[u8], data: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before.as_bytes()).update(head).update(data);
    hasher.finalize()
}

/// The first bytes of a stream.
pub(crate) fn prologue(header_bytes: u32) -> Vec<u8> {
    let mut fields = Fields::default();
    fields.bytes(&MAGIC).u32(VERSION).u32(header_bytes);
    fields.0
}

impl<W: Write> StreamWriter<W> {
    /// Begins a stream.
    ///
    /// # Errors
    /// `Io`; `Unsupported` for a header that no stream can carry.
    pub fn new(mut out: W, header: &Header) -> Result<Self> {
        let encoded = header.encode()?;
        let length = u32::try_from(encoded.len()).map_err(|_| Error::damaged("its header is too long"))?;
        let mut bytes = prologue(length);
        bytes.extend_from_slice(&encoded);
        let seal = blake3::hash(&bytes);
        bytes.extend_from_slice(seal.as_bytes());
        out.write_all(&bytes).map_err(|cause| Error::io("write", cause))?;
        Ok(Self { out, seal, frames: 0, data_bytes: 0 })
    }

    /// Writes a frame. The caller keeps their order: disk after disk, and rising offsets.
    ///
    /// # Errors
    /// `Io`.
    pub fn frame(&mut self, frame: Frame<'_>) -> Result<()> {
        let head = frame.head().encode();
        self.seal = next_seal(self.seal, &head, frame.data());
        self.frames += 1;
        self.data_bytes += frame.data().len() as u64;
        self.put(&head)?;
        self.put(frame.data())?;
        self.put(self.seal.as_bytes().to_owned().as_slice())
    }

    /// Ends the stream, and hands back what it was written to, flushed.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(mut self) -> Result<W> {
        self.frame(Frame::End { frames: self.frames, data_bytes: self.data_bytes })?;
        self.out.flush().map_err(|cause| Error::io("write", cause))?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|cause| Error::io("write", cause))
    }
}
