//! Wire: the fixed layouts of the protocol, in network byte order.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Declares a layout and asserts its length.
macro_rules! layout {
    ($(#[$doc:meta])* $name:ident, $len:literal { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub(super) struct $name { $(pub(super) $field: $type,)* }
        const _: () = assert!(size_of::<$name>() == $len);
    };
}

layout!(
    /// What a server says first.
    Greeting, 18 { magic: U64, option_magic: U64, flags: U16, }
);
layout!(
    /// Before the data of an option.
    OptionHeader, 16 { magic: U64, option: U32, len: U32, }
);
layout!(
    /// Before the data of a reply to an option.
    OptionReplyHeader, 20 { magic: U64, option: U32, kind: U32, len: U32, }
);
layout!(
    /// A request with a 32-bit length.
    CompactRequest, 28 { magic: U32, flags: U16, command: U16, cookie: U64, offset: U64, len: U32, }
);
layout!(
    /// A request with a 64-bit length.
    ExtendedRequest, 32 { magic: U32, flags: U16, command: U16, cookie: U64, offset: U64, len: U64, }
);
layout!(
    /// A simple reply.
    SimpleReply, 16 { magic: U32, error: U32, cookie: U64, }
);
layout!(
    /// A chunk of a structured reply.
    StructuredReply, 20 { magic: U32, flags: U16, kind: U16, cookie: U64, len: U32, }
);
layout!(
    /// A chunk of a reply with extended headers.
    ExtendedReply, 32 { magic: U32, flags: U16, kind: U16, cookie: U64, offset: U64, len: U64, }
);

/// Takes fields off the front of bytes that somebody sent; `None` where they end too early.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    fn take<T: FromBytes + Unaligned + KnownLayout + Immutable>(&mut self) -> Option<T> {
        let (value, rest) = T::read_from_prefix(self.0).ok()?;
        self.0 = rest;
        Some(value)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take::<U16>().map(U16::get)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take::<U32>().map(U32::get)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take::<U64>().map(U64::get)
    }

    /// A length in 32 bits, and that many bytes.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.bytes(usize::try_from(len).ok()?)
    }
}

/// Appends fields to bytes that are to be sent.
pub(super) trait Append {
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_counted(&mut self, bytes: &[u8]);
}

impl Append for Vec<u8> {
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(U16::new(value).as_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(U32::new(value).as_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(U64::new(value).as_bytes());
    }

    fn put_counted(&mut self, bytes: &[u8]) {
        self.put_u32(narrow(bytes.len()));
        self.extend_from_slice(bytes);
    }
}

/// The length of something that this side made, which is far below 4 GiB.
///
/// # Panics
/// Where it is not: a broken promise of our own code.
pub(super) fn narrow(len: usize) -> u32 {
    u32::try_from(len).expect("what this side sends in one piece is below 4 GiB")
}
