//! Requests, as a client sends them in transmission.

use super::wire::{CompactRequest, ExtendedRequest, Fields};
use super::words::{Command, EXTENDED_REQUEST_MAGIC, REQUEST_MAGIC, command};
use super::{Decoded, Style};
use zerocopy::{FromBytes, IntoBytes};

/// A request without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bits of [`command`](super::command).
    pub flags: u16,
    /// What is asked for.
    pub command: Command,
    /// Chosen by the client, and given back with the reply.
    pub cookie: u64,
    /// Where the range begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; or how long the payload is, if the flag says so.
    pub len: u64,
}

impl Request {
    /// Bytes of a request of this style.
    pub const fn head_bytes(style: Style) -> usize {
        match style {
            Style::Simple | Style::Structured => size_of::<CompactRequest>(),
            Style::Extended => size_of::<ExtendedRequest>(),
        }
    }

    /// Reads the head of a request.
    pub fn decode(bytes: &[u8], style: Style) -> Decoded<Self> {
        let needed = Self::head_bytes(style);
        let compact = |head: CompactRequest| (head.magic.get() == REQUEST_MAGIC, Self::from_compact(&head));
        let extended =
            |head: ExtendedRequest| (head.magic.get() == EXTENDED_REQUEST_MAGIC, Self::from_extended(&head));
        let read = match style {
            Style::Simple | Style::Structured => {
                CompactRequest::read_from_prefix(bytes).ok().map(|(head, _)| compact(head))
            }
            Style::Extended => ExtendedRequest::read_from_prefix(bytes).ok().map(|(head, _)| extended(head)),
        };
        match read {
            None => Decoded::Incomplete(needed),
            Some((false, _)) => Decoded::Broken,
            Some((true, request)) => Decoded::Value(request, needed),
        }
    }

    fn from_compact(head: &CompactRequest) -> Self {
        Self {
            flags: head.flags.get(),
            command: head.command.get().into(),
            cookie: head.cookie.get(),
            offset: head.offset.get(),
            len: head.len.get().into(),
        }
    }

    fn from_extended(head: &ExtendedRequest) -> Self {
        Self {
            flags: head.flags.get(),
            command: head.command.get().into(),
            cookie: head.cookie.get(),
            offset: head.offset.get(),
            len: head.len.get(),
        }
    }

    /// Appends the head of the request. A length that the style has no room for is cut to its largest.
    pub fn encode(&self, style: Style, out: &mut Vec<u8>) {
        let (flags, command) = (self.flags.into(), u16::from(self.command).into());
        let (cookie, offset) = (self.cookie.into(), self.offset.into());
        match style {
            Style::Simple | Style::Structured => {
                let len = u32::try_from(self.len).unwrap_or(u32::MAX).into();
                let magic = REQUEST_MAGIC.into();
                let head = CompactRequest { magic, flags, command, cookie, offset, len };
                out.extend_from_slice(head.as_bytes());
            }
            Style::Extended => {
                let magic = EXTENDED_REQUEST_MAGIC.into();
                let head = ExtendedRequest { magic, flags, command, cookie, offset, len: self.len.into() };
                out.extend_from_slice(head.as_bytes());
            }
        }
    }

    /// Whether this bit of [`command`](super::command) is set.
    pub const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// How many bytes of payload follow the head.
    pub fn payload_bytes(&self, style: Style) -> u64 {
        let says_payload = style == Style::Extended && self.has(command::PAYLOAD_LEN);
        if self.command == Command::Write || says_payload { self.len } else { 0 }
    }
}

/// The payload of `BLOCK_STATUS`: how long the range is, and which contexts are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusPayload {
    /// How long the range is, in bytes.
    pub len: u64,
    /// The contexts.
    pub ids: Vec<u32>,
}

impl StatusPayload {
    /// The largest payload that is read (bytes).
    pub const BYTES_MAX: u64 = 8 + 4 * 1024;

    /// Reads the payload; `None` if it makes no sense.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let len = fields.u64()?;
        if !fields.0.len().is_multiple_of(4) {
            return None;
        }
        let ids = std::iter::from_fn(|| fields.u32()).collect();
        Some(Self { len, ids })
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use super::wire::Append;
        out.put_u64(self.len);
        for id in &self.ids {
            out.put_u32(*id);
        }
    }
}
