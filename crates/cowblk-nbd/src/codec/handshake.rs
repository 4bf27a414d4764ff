//! The handshake: greeting, options, and replies to options.

use super::Decoded;
use super::wire::{Append, Fields, Greeting, OptionHeader, OptionReplyHeader, narrow};
use super::words::{GREETING_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC, OptionCode, STRING_BYTES_MAX, greeted};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a greeting.
pub const GREETING_BYTES: usize = size_of::<Greeting>();
/// Bytes before the data of an option.
pub const OPTION_HEADER_BYTES: usize = size_of::<OptionHeader>();
/// Bytes before the data of a reply to an option.
pub const OPTION_REPLY_HEADER_BYTES: usize = size_of::<OptionReplyHeader>();

/// What a server says first.
pub fn greeting() -> [u8; GREETING_BYTES] {
    let words = Greeting {
        magic: GREETING_MAGIC.into(),
        option_magic: OPTION_MAGIC.into(),
        flags: (greeted::FIXED_NEWSTYLE | greeted::NO_ZEROES).into(),
    };
    zerocopy::transmute!(words)
}

/// What a client answers to the greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientFlags {
    /// It knows options.
    pub is_fixed: bool,
    /// It wants no padding.
    pub no_zeroes: bool,
}

impl ClientFlags {
    /// The four bytes that a client sends; broken if a bit is set that the server did not offer.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let Some(bits) = Fields(bytes).u32() else { return Decoded::Incomplete(4) };
        let (fixed, no_zeroes) = (u32::from(greeted::FIXED_NEWSTYLE), u32::from(greeted::NO_ZEROES));
        if bits & !(fixed | no_zeroes) != 0 {
            return Decoded::Broken;
        }
        Decoded::Value(Self { is_fixed: bits & fixed != 0, no_zeroes: bits & no_zeroes != 0 }, 4)
    }

    /// Appends the four bytes.
    pub fn encode(self, out: &mut Vec<u8>) {
        let fixed = if self.is_fixed { greeted::FIXED_NEWSTYLE } else { 0 };
        let no_zeroes = if self.no_zeroes { greeted::NO_ZEROES } else { 0 };
        out.put_u32(u32::from(fixed | no_zeroes));
    }
}

/// What stands before the data of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHead {
    /// What is asked for.
    pub code: OptionCode,
    /// Bytes of data that follow.
    pub len: u32,
}

impl OptionHead {
    /// Reads the head of an option.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let Ok((header, _)) = OptionHeader::read_from_prefix(bytes) else {
            return Decoded::Incomplete(OPTION_HEADER_BYTES);
        };
        if header.magic.get() != OPTION_MAGIC {
            return Decoded::Broken;
        }
        let head = Self { code: header.option.get().into(), len: header.len.get() };
        Decoded::Value(head, OPTION_HEADER_BYTES)
    }

    /// Appends an option with its data.
    pub fn encode(code: OptionCode, data: &[u8], out: &mut Vec<u8>) {
        let header = OptionHeader {
            magic: OPTION_MAGIC.into(),
            option: u32::from(code).into(),
            len: narrow(data.len()).into(),
        };
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data);
    }
}

/// What stands before the data of a reply to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionReply {
    /// The option that it answers.
    pub code: OptionCode,
    /// One of [`answer`](super::answer).
    pub kind: u32,
    /// Bytes of data that follow.
    pub len: u32,
}

impl OptionReply {
    /// Reads the head of a reply.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let Ok((header, _)) = OptionReplyHeader::read_from_prefix(bytes) else {
            return Decoded::Incomplete(OPTION_REPLY_HEADER_BYTES);
        };
        if header.magic.get() != OPTION_REPLY_MAGIC {
            return Decoded::Broken;
        }
        let head = Self { code: header.option.get().into(), kind: header.kind.get(), len: header.len.get() };
        Decoded::Value(head, OPTION_REPLY_HEADER_BYTES)
    }

    /// Appends a reply with its data.
    pub fn encode(code: OptionCode, kind: u32, data: &[u8], out: &mut Vec<u8>) {
        let header = OptionReplyHeader {
            magic: OPTION_REPLY_MAGIC.into(),
            option: u32::from(code).into(),
            kind: kind.into(),
            len: narrow(data.len()).into(),
        };
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data);
    }
}

/// A string of the protocol: UTF-8, no NUL, at most 4096 bytes.
pub(crate) fn string(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    (bytes.len() <= STRING_BYTES_MAX && !bytes.contains(&0)).then_some(text)
}

/// The data of INFO and GO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoQuery<'a> {
    /// The export's name.
    pub name: &'a str,
    /// Which kinds of [`info`](super::info) are wanted, 2 bytes each.
    wanted: &'a [u8],
}

impl<'a> InfoQuery<'a> {
    /// Reads the data of the option; `None` if it makes no sense.
    pub fn decode(data: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(data);
        let name = string(fields.counted()?)?;
        let count = fields.u16()?;
        let wanted = fields.bytes(usize::from(count) * 2)?;
        fields.0.is_empty().then_some(Self { name, wanted })
    }

    /// Whether the client asked for this kind of information.
    pub fn wants(&self, kind: u16) -> bool {
        self.wanted.chunks_exact(2).any(|bytes| Fields(bytes).u16() == Some(kind))
    }

    /// Appends the data of the option.
    pub fn encode(name: &str, wanted: &[u16], out: &mut Vec<u8>) {
        out.put_counted(name.as_bytes());
        out.put_u16(u16::try_from(wanted.len()).unwrap_or(u16::MAX));
        for kind in wanted {
            out.put_u16(*kind);
        }
    }
}

/// The data of `LIST_META_CONTEXT` and `SET_META_CONTEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextQuery<'a> {
    /// The export's name.
    pub name: &'a str,
    /// How many queries there are.
    pub count: u32,
    queries: &'a [u8],
}

impl<'a> ContextQuery<'a> {
    /// Reads the data of the option; `None` if it makes no sense.
    pub fn decode(data: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(data);
        let name = string(fields.counted()?)?;
        let count = fields.u32()?;
        let queries = fields.0;
        for _ in 0..count {
            string(fields.counted()?)?;
        }
        fields.0.is_empty().then_some(Self { name, count, queries })
    }

    /// The queries, in order.
    pub fn queries(&self) -> impl Iterator<Item = &'a str> {
        let mut fields = Fields(self.queries);
        std::iter::from_fn(move || string(fields.counted()?))
    }

    /// Appends the data of the option.
    pub fn encode(name: &str, queries: &[&str], out: &mut Vec<u8>) {
        out.put_counted(name.as_bytes());
        out.put_u32(narrow(queries.len()));
        for query in queries {
            out.put_counted(query.as_bytes());
        }
    }
}

/// The answers to options that carry data, as a server writes them.
pub(crate) mod answers {
    use super::super::words::info;
    use super::Append;

    /// A name of the list, and a text for people.
    pub(crate) fn listed(name: &str, description: &str) -> Vec<u8> {
        let mut data = Vec::with_capacity(4 + name.len() + description.len());
        data.put_counted(name.as_bytes());
        data.extend_from_slice(description.as_bytes());
        data
    }

    /// Size and flags, as information.
    pub(crate) fn export(size_bytes: u64, flags: u16) -> Vec<u8> {
        let mut data = Vec::with_capacity(12);
        data.put_u16(info::EXPORT);
        data.put_u64(size_bytes);
        data.put_u16(flags);
        data
    }

    /// A text, as information.
    pub(crate) fn text(kind: u16, text: &str) -> Vec<u8> {
        let mut data = Vec::with_capacity(2 + text.len());
        data.put_u16(kind);
        data.extend_from_slice(text.as_bytes());
        data
    }

    /// Block sizes, as information.
    pub(crate) fn block_sizes(smallest: u32, preferred: u32, largest: u32) -> Vec<u8> {
        let mut data = Vec::with_capacity(14);
        data.put_u16(info::BLOCK_SIZE);
        for size in [smallest, preferred, largest] {
            data.put_u32(size);
        }
        data
    }

    /// A metadata context.
    pub(crate) fn context(id: u32, name: &str) -> Vec<u8> {
        let mut data = Vec::with_capacity(4 + name.len());
        data.put_u32(id);
        data.extend_from_slice(name.as_bytes());
        data
    }

    /// The answer to `EXPORT_NAME`, which has no header.
    pub(crate) fn export_name(size_bytes: u64, flags: u16, no_zeroes: bool, out: &mut Vec<u8>) {
        out.put_u64(size_bytes);
        out.put_u16(flags);
        if !no_zeroes {
            out.extend_from_slice(&[0; 124]);
        }
    }
}
