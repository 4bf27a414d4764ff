//! Replies: simple ones, and chunks of structured and extended ones.

use super::wire::{Append, ExtendedReply, Fields, SimpleReply, StructuredReply, narrow};
use super::words::{
    EXTENDED_REPLY_MAGIC, NbdError, REPLY_DONE, SIMPLE_REPLY_MAGIC, STRING_BYTES_MAX, STRUCTURED_REPLY_MAGIC,
    chunk,
};
use super::{Decoded, Request, Style};
use zerocopy::{FromBytes, IntoBytes};

/// A run of bytes of one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How many bytes.
    pub len: u64,
    /// What the context says of them.
    pub status: u64,
}

impl Extent {
    /// The longest extent that a reply of this style can tell of (bytes): a multiple of 64 KiB, so that
    /// what had to be cut is cut where blocks end.
    pub const fn len_max(style: Style) -> u64 {
        match style {
            Style::Simple | Style::Structured => (1 << 32) - (64 << 10),
            Style::Extended => 1 << 62,
        }
    }
}

/// The bytes before the data of a reply.
#[derive(Clone, Copy)]
pub struct ReplyHead {
    bytes: [u8; 40],
    len: usize,
}

impl std::ops::Deref for ReplyHead {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl ReplyHead {
    fn of(parts: [&[u8]; 2]) -> Self {
        let mut head = Self { bytes: [0; 40], len: 0 };
        for part in parts {
            head.bytes[head.len..head.len + part.len()].copy_from_slice(part);
            head.len += part.len();
        }
        head
    }

    /// Bytes of the head of a reply that carries `OFFSET_DATA`, or of a simple one.
    pub const fn data_bytes(style: Style) -> usize {
        match style {
            Style::Simple => size_of::<SimpleReply>(),
            Style::Structured => size_of::<StructuredReply>() + 8,
            Style::Extended => size_of::<ExtendedReply>() + 8,
        }
    }

    /// The head of a reply whose `len` bytes of data, from `offset` on, follow. A simple reply has one
    /// such piece; the others may have several, the last of which is `done`.
    pub fn data(style: Style, request: &Request, offset: u64, len: usize, done: bool) -> Self {
        let at = zerocopy::big_endian::U64::new(offset);
        let (flags, kind) = (if done { REPLY_DONE } else { 0 }, chunk::OFFSET_DATA);
        match style {
            Style::Simple => Self::of([simple(request.cookie, 0).as_bytes(), &[]]),
            Style::Structured => {
                let head = structured(request.cookie, flags, kind, narrow(len + 8));
                Self::of([head.as_bytes(), at.as_bytes()])
            }
            Style::Extended => {
                let head = extended(request, flags, kind, len as u64 + 8);
                Self::of([head.as_bytes(), at.as_bytes()])
            }
        }
    }

    /// A whole reply that says: done, and carries nothing.
    pub fn done(style: Style, request: &Request) -> Self {
        match style {
            // With structured replies, too, a simple one may answer whatever carries no data.
            Style::Simple | Style::Structured => Self::of([simple(request.cookie, 0).as_bytes(), &[]]),
            Style::Extended => Self::of([extended(request, REPLY_DONE, chunk::NONE, 0).as_bytes(), &[]]),
        }
    }

    /// The last chunk of a READ of no bytes, which a simple reply cannot answer once others are agreed on.
    pub fn nothing(style: Style, request: &Request) -> Self {
        match style {
            Style::Structured => {
                Self::of([structured(request.cookie, REPLY_DONE, chunk::NONE, 0).as_bytes(), &[]])
            }
            Style::Simple | Style::Extended => Self::done(style, request),
        }
    }
}

fn simple(cookie: u64, error: u32) -> SimpleReply {
    SimpleReply { magic: SIMPLE_REPLY_MAGIC.into(), error: error.into(), cookie: cookie.into() }
}

fn structured(cookie: u64, flags: u16, kind: u16, len: u32) -> StructuredReply {
    StructuredReply {
        magic: STRUCTURED_REPLY_MAGIC.into(),
        flags: flags.into(),
        kind: kind.into(),
        cookie: cookie.into(),
        len: len.into(),
    }
}

fn extended(request: &Request, flags: u16, kind: u16, len: u64) -> ExtendedReply {
    ExtendedReply {
        magic: EXTENDED_REPLY_MAGIC.into(),
        flags: flags.into(),
        kind: kind.into(),
        cookie: request.cookie.into(),
        offset: request.offset.into(),
        len: len.into(),
    }
}

/// Appends the head of a chunk; `len` bytes follow.
fn put_chunk(style: Style, request: &Request, flags: u16, (kind, len): (u16, usize), out: &mut Vec<u8>) {
    match style {
        Style::Simple | Style::Structured => {
            out.extend_from_slice(structured(request.cookie, flags, kind, narrow(len)).as_bytes());
        }
        Style::Extended => out.extend_from_slice(extended(request, flags, kind, len as u64).as_bytes()),
    }
}

/// Appends a whole reply that says what failed. Simple replies have no room for the message, which is
/// otherwise cut to what the protocol allows.
pub fn put_error(style: Style, request: &Request, error: NbdError, message: &str, out: &mut Vec<u8>) {
    if style == Style::Simple {
        out.extend_from_slice(simple(request.cookie, error.number()).as_bytes());
        return;
    }
    let message = cut(message);
    put_chunk(style, request, REPLY_DONE, (chunk::ERROR, 6 + message.len()), out);
    out.put_u32(error.number());
    out.put_u16(u16::try_from(message.len()).unwrap_or(0));
    out.extend_from_slice(message.as_bytes());
}

/// A message of at most as many bytes as the protocol allows, cut between characters.
pub(crate) fn cut(message: &str) -> &str {
    let end = message.floor_char_boundary(STRING_BYTES_MAX);
    message.get(..end).unwrap_or_default()
}

/// Appends one chunk of a reply to `BLOCK_STATUS`: at least one extent, each of which fits the style.
pub fn put_status(
    style: Style,
    request: &Request,
    context: u32,
    extents: &[Extent],
    done: bool,
    out: &mut Vec<u8>,
) {
    let flags = if done { REPLY_DONE } else { 0 };
    if style == Style::Extended {
        put_chunk(style, request, flags, (chunk::BLOCK_STATUS_EXT, 8 + 16 * extents.len()), out);
        out.put_u32(context);
        out.put_u32(narrow(extents.len()));
        for extent in extents {
            out.put_u64(extent.len);
            out.put_u64(extent.status);
        }
    } else {
        put_chunk(style, request, flags, (chunk::BLOCK_STATUS, 4 + 8 * extents.len()), out);
        out.put_u32(context);
        for extent in extents {
            out.put_u32(u32::try_from(extent.len).unwrap_or(u32::MAX));
            out.put_u32(u32::try_from(extent.status).unwrap_or(u32::MAX));
        }
    }
}

/// The head of a reply or of a chunk of one, as a client reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkHead {
    /// A simple reply; data follows if it answers a READ and the error is 0.
    Simple {
        /// The request's.
        cookie: u64,
        /// 0, or what failed.
        error: u32,
    },
    /// A chunk; this many bytes follow.
    Chunk {
        /// The request's.
        cookie: u64,
        /// Bits: the last one, or not.
        flags: u16,
        /// One of [`chunk`](super::chunk).
        kind: u16,
        /// Bytes of payload.
        len: u64,
    },
}

impl ChunkHead {
    /// Reads the head of whatever reply comes next.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let Some(magic) = Fields(bytes).u32() else { return Decoded::Incomplete(4) };
        match magic {
            SIMPLE_REPLY_MAGIC => match SimpleReply::read_from_prefix(bytes) {
                Ok((head, _)) => Decoded::Value(
                    Self::Simple { cookie: head.cookie.get(), error: head.error.get() },
                    size_of::<SimpleReply>(),
                ),
                Err(_) => Decoded::Incomplete(size_of::<SimpleReply>()),
            },
            STRUCTURED_REPLY_MAGIC => match StructuredReply::read_from_prefix(bytes) {
                Ok((head, _)) => Decoded::Value(
                    Self::Chunk {
                        cookie: head.cookie.get(),
                        flags: head.flags.get(),
                        kind: head.kind.get(),
                        len: head.len.get().into(),
                    },
                    size_of::<StructuredReply>(),
                ),
                Err(_) => Decoded::Incomplete(size_of::<StructuredReply>()),
            },
            EXTENDED_REPLY_MAGIC => match ExtendedReply::read_from_prefix(bytes) {
                Ok((head, _)) => Decoded::Value(
                    Self::Chunk {
                        cookie: head.cookie.get(),
                        flags: head.flags.get(),
                        kind: head.kind.get(),
                        len: head.len.get(),
                    },
                    size_of::<ExtendedReply>(),
                ),
                Err(_) => Decoded::Incomplete(size_of::<ExtendedReply>()),
            },
            _ => Decoded::Broken,
        }
    }
}

/// The payload of a chunk, as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Nothing.
    None,
    /// Data from an offset on.
    Data(u64, &'a [u8]),
    /// Zeros from an offset on.
    Hole(u64, u32),
    /// The extents of a context.
    Status(u32, Vec<Extent>),
    /// What failed, and a text for people.
    Error(u32, &'a str),
}

impl<'a> Chunk<'a> {
    /// Reads the payload of a chunk of this kind; `None` if it makes no sense.
    pub fn decode(kind: u16, payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let read = match kind {
            chunk::NONE => Self::None,
            chunk::OFFSET_DATA => {
                let offset = fields.u64()?;
                return (!fields.0.is_empty()).then_some(Self::Data(offset, fields.0));
            }
            chunk::OFFSET_HOLE => Self::Hole(fields.u64()?, fields.u32()?),
            chunk::BLOCK_STATUS => {
                let context = fields.u32()?;
                let mut extents = Vec::new();
                while !fields.0.is_empty() {
                    extents.push(Extent { len: fields.u32()?.into(), status: fields.u32()?.into() });
                }
                Self::Status(context, extents)
            }
            chunk::BLOCK_STATUS_EXT => {
                let (context, count) = (fields.u32()?, fields.u32()?);
                let mut extents = Vec::new();
                for _ in 0..count {
                    extents.push(Extent { len: fields.u64()?, status: fields.u64()? });
                }
                Self::Status(context, extents)
            }
            kind if kind & chunk::ERROR_BIT != 0 => {
                let (error, len) = (fields.u32()?, fields.u16()?);
                let message = std::str::from_utf8(fields.bytes(len.into())?).ok()?;
                return Some(Self::Error(error, message));
            }
            _ => return None,
        };
        fields.0.is_empty().then_some(read)
    }
}
