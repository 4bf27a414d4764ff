//! Reader: takes a stream apart, and hands out nothing that its seals do not vouch for.
//!
//! Any bytes either give the frames that a writer wrote, or an error; what is allocated is bounded by one frame.

use std::io::Read;

use crate::error::{Error, ErrorKind, Result};
use crate::fields::Cursor;
use crate::frame::{Frame, FrameHead};
use crate::header::{Header, Position};
use crate::limits::{FRAME_HEAD_BYTES, HEADER_BYTES_MAX, MAGIC, PROLOGUE_BYTES, SEAL_BYTES, VERSION};
use crate::writer::next_seal;

/// Reads a stream.
pub struct StreamReader<R> {
    input: R,
    header: Header,
    seal: blake3::Hash,
    reached: Position,
    frames: u64,
    data_bytes: u64,
    data: Vec<u8>,
}

impl<R: Read> StreamReader<R> {
    /// Reads and verifies the header. Not a byte more is taken from `input` than belongs to the stream.
    ///
    /// # Errors
    /// `NotAStream`, `Unsupported`, `Truncated`, `Damaged`, `Io`.
    pub fn new(mut input: R) -> Result<Self> {
        let mut prologue = [0; PROLOGUE_BYTES];
        let found = fill(&mut input, &mut prologue)?;
        let length = check_prologue(&prologue, found)?;
        let mut encoded = vec![0; length];
        read(&mut input, &mut encoded)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&prologue).update(&encoded);
        let seal = hasher.finalize();
        read_seal(&mut input, seal, "its header")?;
        let header = Header::decode(&encoded)?;
        let reached = header.start;
        Ok(Self { input, header, seal, reached, frames: 0, data_bytes: 0, data: Vec::new() })
    }

    /// What the stream carries.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Everything before this place was handed out.
    pub fn reached(&self) -> Position {
        self.reached
    }

    /// The next frame. Nothing follows on [`Frame::End`].
    ///
    /// # Errors
    /// `Truncated`, `Damaged`, `Io`.
    pub fn next_frame(&mut self) -> Result<Frame<'_>> {
        let mut bytes = [0; FRAME_HEAD_BYTES];
        read(&mut self.input, &mut bytes)?;
        let head = FrameHead::decode(&bytes, &self.header, self.reached)?;
        let length = if let FrameHead::Data { len, .. } = head { len } else { 0 };
        self.data.resize(length, 0);
        read(&mut self.input, &mut self.data)?;
        self.seal = next_seal(self.seal, &bytes, &self.data);
        read_seal(&mut self.input, self.seal, "a frame")?;
        self.reached = head.end().unwrap_or(self.reached);
        match head {
            FrameHead::End { frames, data_bytes } => {
                if (frames, data_bytes) != (self.frames, self.data_bytes) {
                    return Err(Error::damaged("it does not hold what its end says"));
                }
                Ok(Frame::End { frames, data_bytes })
            }
            FrameHead::Hole { at, len } => {
                self.frames += 1;
                Ok(Frame::Hole { at, len })
            }
            FrameHead::Data { at, .. } => {
                self.frames += 1;
                self.data_bytes += length as u64;
                Ok(Frame::Data { at, bytes: &self.data })
            }
        }
    }
}

/// The length of the header, if this is the beginning of a stream.
fn check_prologue(prologue: &[u8; PROLOGUE_BYTES], found: usize) -> Result<usize> {
    if found == 0 {
        return Err(Error::new(ErrorKind::NotAStream, "the stream is empty"));
    }
    let is_magic = prologue.iter().zip(&MAGIC).take(found).all(|(a, b)| a == b);
    if !is_magic {
        return Err(Error::new(ErrorKind::NotAStream, "this is no stream that `cowblk send` wrote"));
    }
    if found < PROLOGUE_BYTES {
        return Err(Error::new(ErrorKind::Truncated, "the stream ends within its first bytes"));
    }
    let mut cursor = Cursor(&prologue[MAGIC.len()..]);
    let (version, length) = (cursor.u32()?, cursor.u32()?);
    if version != VERSION {
        let message = format!("the stream has version {version}; this program reads version {VERSION}");
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let length = usize::try_from(length).ok().filter(|length| *length <= HEADER_BYTES_MAX);
    length.ok_or_else(|| Error::damaged("its header is too long"))
}

/// Fills `buf` as far as the input goes.
fn fill(input: &mut impl Read, buf: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match input.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", error)),
        }
    }
    Ok(filled)
}

fn read(input: &mut impl Read, buf: &mut [u8]) -> Result<()> {
    input.read_exact(buf).map_err(|cause| Error::io("read", cause))
}

fn read_seal(input: &mut impl Read, expected: blake3::Hash, what: &str) -> Result<()> {
    let mut seal = [0; SEAL_BYTES];
    read(input, &mut seal)?;
    if expected == blake3::Hash::from_bytes(seal) {
        Ok(())
    } else {
        Err(Error::damaged(format!("{what} does not match its seal")))
    }
}
