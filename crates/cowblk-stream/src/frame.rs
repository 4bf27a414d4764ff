//! Frame: a piece of one disk, or the stream's end.

use crate::error::{Error, Result};
use crate::fields::{Cursor, Fields};
use crate::header::{Header, Position};
use crate::limits::{FRAME_DATA_BYTES_MAX, FRAME_HEAD_BYTES, SECTOR_BYTES};

const KIND_DATA: u32 = 1;
const KIND_HOLE: u32 = 2;
const KIND_END: u32 = 3;

/// One piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The disk holds these bytes from this place on.
    Data {
        /// The first byte.
        at: Position,
        /// What it holds.
        bytes: &'a [u8],
    },
    /// The disk reads as zeros there.
    Hole {
        /// The first byte.
        at: Position,
        /// How many bytes.
        len: u64,
    },
    /// Everything was sent.
    End {
        /// Frames before this one.
        frames: u64,
        /// Bytes of data in them.
        data_bytes: u64,
    },
}

/// What stands before a frame's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameHead {
    Data { at: Position, len: usize },
    Hole { at: Position, len: u64 },
    End { frames: u64, data_bytes: u64 },
}

impl Frame<'_> {
    pub(crate) fn head(&self) -> FrameHead {
        match *self {
            Self::Data { at, bytes } => FrameHead::Data { at, len: bytes.len() },
            Self::Hole { at, len } => FrameHead::Hole { at, len },
            Self::End { frames, data_bytes } => FrameHead::End { frames, data_bytes },
        }
    }

    pub(crate) fn data(&self) -> &[u8] {
        match self {
            Self::Data { bytes, .. } => bytes,
            Self::Hole { .. } | Self::End { .. } => &[],
        }
    }
}

impl FrameHead {
    pub(crate) fn encode(self) -> [u8; FRAME_HEAD_BYTES] {
        let (kind, disk, offset, len) = match self {
            Self::Data { at, len } => (KIND_DATA, at.disk, at.offset, len as u64),
            Self::Hole { at, len } => (KIND_HOLE, at.disk, at.offset, len),
            Self::End { frames, data_bytes } => (KIND_END, 0, data_bytes, frames),
        };
        let mut fields = Fields::default();
        fields.u32(kind).u32(disk).u64(offset).u64(len);
        let mut head = [0; FRAME_HEAD_BYTES];
        head.copy_from_slice(&fields.0);
        head
    }

    /// The head in `bytes`, if a frame like that can follow on one that ends at `reached`.
    pub(crate) fn decode(bytes: &[u8; FRAME_HEAD_BYTES], header: &Header, reached: Position) -> Result<Self> {
        let mut cursor = Cursor(bytes);
        let (kind, disk, offset, len) = (cursor.u32()?, cursor.u32()?, cursor.u64()?, cursor.u64()?);
        let at = Position { disk, offset };
        let head = match kind {
            KIND_DATA if len <= FRAME_DATA_BYTES_MAX as u64 => {
                Self::Data { at, len: usize::try_from(len).unwrap_or(FRAME_DATA_BYTES_MAX) }
            }
            KIND_HOLE => Self::Hole { at, len },
            KIND_END if disk == 0 => return Ok(Self::End { frames: len, data_bytes: offset }),
            _ => return Err(Error::damaged(format!("a frame of kind {kind} with {len} bytes"))),
        };
        let end = offset.checked_add(len).filter(|end| end.is_multiple_of(SECTOR_BYTES) && len > 0);
        let fits = header.size_of(disk).is_some_and(|size| end.is_some_and(|end| end <= size));
        if !fits || !offset.is_multiple_of(SECTOR_BYTES) {
            return Err(Error::damaged(format!("{len} bytes at {offset} of disk {disk} lie outside of it")));
        }
        if at < reached {
            let message =
                format!("{offset} of disk {disk} comes behind {} of disk {}", reached.offset, reached.disk);
            return Err(Error::damaged(message));
        }
        Ok(head)
    }

    /// Where a frame ends; `None` for the last one.
    pub(crate) fn end(self) -> Option<Position> {
        match self {
            Self::Data { at, len } => Some(Position { offset: at.offset + len as u64, ..at }),
            Self::Hole { at, len } => Some(Position { offset: at.offset + len, ..at }),
            Self::End { .. } => None,
        }
    }
}
