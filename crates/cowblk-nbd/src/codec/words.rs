//! The numbers of the protocol: magics, options, replies, commands, flags and errors.

/// Largest string that either side may send: an export name, a context name, a message (bytes).
pub const STRING_BYTES_MAX: usize = 4096;
/// Largest payload of one READ or WRITE (bytes): what every client may assume.
pub const PAYLOAD_BYTES_MAX: u32 = 32 << 20;

/// First word of a server's greeting.
pub const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// Second word of the greeting, and first word of every option.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// First word of every reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// First word of a request with a 32-bit length.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// First word of a request with a 64-bit length.
pub const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
/// First word of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// First word of a chunk of a structured reply.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
/// First word of a chunk of a reply with extended headers.
pub const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// Flags that the server offers in its greeting; the client answers with the same bits.
pub mod greeted {
    /// Options other than the export's name are understood.
    pub const FIXED_NEWSTYLE: u16 = 1 << 0;
    /// No 124 zeros behind the answer to `EXPORT_NAME`.
    pub const NO_ZEROES: u16 = 1 << 1;
}

/// What an export can do, as told when transmission begins.
pub mod transmission {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// Writes are refused.
    pub const READ_ONLY: u16 = 1 << 1;
    /// FLUSH works.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// The FUA flag works.
    pub const SEND_FUA: u16 = 1 << 3;
    /// TRIM works.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `WRITE_ZEROES` works.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// The DF flag of READ works.
    pub const SEND_DF: u16 = 1 << 7;
    /// A flush on one connection covers what was completed on all.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// CACHE works.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// The `FAST_ZERO` flag of `WRITE_ZEROES` works.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
    /// `BLOCK_STATUS` takes a payload that names contexts.
    pub const BLOCK_STATUS_PAYLOAD: u16 = 1 << 12;
}

/// Flags of a request.
pub mod command {
    /// Reply only when the data is durable.
    pub const FUA: u16 = 1 << 0;
    /// `WRITE_ZEROES`: leave no hole.
    pub const NO_HOLE: u16 = 1 << 1;
    /// READ: reply in one piece.
    pub const DF: u16 = 1 << 2;
    /// `BLOCK_STATUS`: one extent for each context.
    pub const REQ_ONE: u16 = 1 << 3;
    /// `WRITE_ZEROES`: fail rather than be slow.
    pub const FAST_ZERO: u16 = 1 << 4;
    /// The length is that of a payload (extended headers only).
    pub const PAYLOAD_LEN: u16 = 1 << 5;
}

/// Flag of a reply chunk: the last one.
pub const REPLY_DONE: u16 = 1 << 0;

/// Types of reply chunks.
pub mod chunk {
    /// No payload: the reply is complete.
    pub const NONE: u16 = 0;
    /// An offset and data.
    pub const OFFSET_DATA: u16 = 1;
    /// An offset and a count of zeros.
    pub const OFFSET_HOLE: u16 = 2;
    /// A context and its extents, with 32-bit lengths.
    pub const BLOCK_STATUS: u16 = 5;
    /// A context and its extents, with 64-bit lengths.
    pub const BLOCK_STATUS_EXT: u16 = 6;
    /// Set in the types that tell of an error.
    pub const ERROR_BIT: u16 = 1 << 15;
    /// An error and a message.
    pub const ERROR: u16 = ERROR_BIT | 1;
}

/// Bits of an extent of `base:allocation`.
pub mod allocation {
    /// No space is taken.
    pub const HOLE: u64 = 1 << 0;
    /// It reads as zeros.
    pub const ZERO: u64 = 1 << 1;
}

/// Kinds of information about an export.
pub mod info {
    /// Size and flags.
    pub const EXPORT: u16 = 0;
    /// The name that the server gives it.
    pub const NAME: u16 = 1;
    /// A text for people.
    pub const DESCRIPTION: u16 = 2;
    /// Smallest, preferred and largest block.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Replies to options.
pub mod answer {
    /// Done.
    pub const ACK: u32 = 1;
    /// An export of a list.
    pub const SERVER: u32 = 2;
    /// A piece of information.
    pub const INFO: u32 = 3;
    /// A metadata context.
    pub const META_CONTEXT: u32 = 4;
    /// Set in the replies that refuse.
    pub const ERROR_BIT: u32 = 1 << 31;
    /// The server does not know the option.
    pub const UNSUPPORTED: u32 = ERROR_BIT | 1;
    /// The server does not allow it.
    pub const POLICY: u32 = ERROR_BIT | 2;
    /// The option's data makes no sense.
    pub const INVALID: u32 = ERROR_BIT | 3;
    /// TLS first.
    pub const TLS_REQUIRED: u32 = ERROR_BIT | 5;
    /// There is no such export.
    pub const UNKNOWN: u32 = ERROR_BIT | 6;
    /// The server is going down.
    pub const SHUTDOWN: u32 = ERROR_BIT | 7;
    /// Too much data.
    pub const TOO_BIG: u32 = ERROR_BIT | 9;
    /// Extended headers are in use already.
    pub const EXTENDED_HEADERS_REQUIRED: u32 = ERROR_BIT | 0xa;
}

/// Declares an enum over the numbers of the protocol, which keeps those that it does not know.
macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident: $repr:ty { $($(#[$word_doc:meta])* $word:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$word_doc])* $word,)*
            /// One that this crate does not know.
            Unknown($repr),
        }

        impl From<$repr> for $name {
            fn from(number: $repr) -> Self {
                match number {
                    $($number => Self::$word,)*
                    other => Self::Unknown(other),
                }
            }
        }

        impl From<$name> for $repr {
            fn from(word: $name) -> Self {
                match word {
                    $($name::$word => $number,)*
                    $name::Unknown(number) => number,
                }
            }
        }
    };
}

numbers! {
    /// What a client asks for before transmission.
    OptionCode: u32 {
        /// Choose an export; cannot be refused but by hanging up.
        ExportName = 1,
        /// End the session.
        Abort = 2,
        /// List the exports.
        List = 3,
        /// Go on in TLS.
        StartTls = 5,
        /// Tell about an export.
        Info = 6,
        /// Choose an export.
        Go = 7,
        /// Use structured replies.
        StructuredReply = 8,
        /// List metadata contexts.
        ListMetaContext = 9,
        /// Choose metadata contexts.
        SetMetaContext = 10,
        /// Use 64-bit headers.
        ExtendedHeaders = 11,
    }
}

numbers! {
    /// What a client asks for in transmission.
    Command: u16 {
        /// Read.
        Read = 0,
        /// Write.
        Write = 1,
        /// End the session; there is no reply.
        Disconnect = 2,
        /// Make durable what was written.
        Flush = 3,
        /// Forget a range.
        Trim = 4,
        /// Bring a range near.
        Cache = 5,
        /// Write zeros.
        WriteZeroes = 6,
        /// Tell the status of a range.
        BlockStatus = 7,
    }
}

/// Why a request failed, in the protocol's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum NbdError {
    /// Not permitted: the export is read-only.
    Permission = 1,
    /// The medium failed, or its bytes are damaged.
    Io = 5,
    /// Not enough memory.
    Memory = 12,
    /// The request makes no sense.
    Invalid = 22,
    /// No space is left.
    NoSpace = 28,
    /// Too large for one piece.
    Overflow = 75,
    /// Not supported.
    Unsupported = 95,
    /// The server is going down.
    Shutdown = 108,
}

impl NbdError {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }
}
