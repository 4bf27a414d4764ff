//! The protocol without I/O: bytes in, values out, and back.
//!
//! Nothing here reads a socket, allocates by a length that somebody sent, or panics on any input. Both
//! sides are here: what a server decodes, a client encodes.

mod handshake;
mod reply;
mod request;
mod wire;
mod words;

pub(crate) use handshake::answers;
pub use handshake::{
    ClientFlags, ContextQuery, GREETING_BYTES, InfoQuery, OPTION_HEADER_BYTES, OPTION_REPLY_HEADER_BYTES,
    OptionHead, OptionReply, greeting,
};
pub(crate) use reply::cut;
pub use reply::{Chunk, ChunkHead, Extent, ReplyHead, put_error, put_status};
pub use request::{Request, StatusPayload};
pub use words::*;

/// The shape of requests and replies, as negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Style {
    /// Requests with 32-bit lengths, simple replies.
    #[default]
    Simple,
    /// The same requests, structured replies to READ and `BLOCK_STATUS`.
    Structured,
    /// Requests and replies with 64-bit lengths.
    Extended,
}

/// What a decoder found in the bytes that are there so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<T> {
    /// At least this many bytes in all are needed.
    Incomplete(usize),
    /// A value, and how many bytes it took.
    Value(T, usize),
    /// No message begins with these bytes: the stream cannot be followed any more.
    Broken,
}
