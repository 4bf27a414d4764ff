//! Log: what was asked of a simulated device, and what came of it.
//!
//! Floor 1. Off by default. When a seed fails, the log of its replay is the story of the failure.

use std::{fmt, io};

use super::Fault;

/// One call of a device, with byte offsets and lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `read_at`.
    Read {
        /// The first byte.
        offset: u64,
        /// How many bytes.
        len_bytes: u64,
    },
    /// `write_at`.
    Write {
        /// The first byte.
        offset: u64,
        /// How many bytes.
        len_bytes: u64,
    },
    /// `sync`.
    Sync,
    /// `grow`.
    Grow {
        /// The length that was asked for.
        len_bytes: u64,
    },
    /// `allocate`.
    Allocate {
        /// The first byte.
        offset: u64,
        /// How many bytes.
        len_bytes: u64,
    },
    /// `discard`.
    Discard {
        /// The first byte.
        offset: u64,
        /// How many bytes.
        len_bytes: u64,
    },
}

/// One finished operation of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The first operation of a device is number 1.
    pub number: u64,
    /// What was asked for.
    pub call: Call,
    /// The faults that struck it.
    pub faults: Vec<Fault>,
    /// The kind of error that it returned, if it did.
    pub error: Option<io::ErrorKind>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Read { offset, len_bytes } => write!(f, "read {len_bytes} bytes at {offset}"),
            Call::Write { offset, len_bytes } => write!(f, "write {len_bytes} bytes at {offset}"),
            Call::Sync => write!(f, "sync"),
            Call::Grow { len_bytes } => write!(f, "grow to {len_bytes} bytes"),
            Call::Allocate { offset, len_bytes } => write!(f, "allocate {len_bytes} bytes at {offset}"),
            Call::Discard { offset, len_bytes } => write!(f, "discard {len_bytes} bytes at {offset}"),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.call)?;
        for fault in &self.faults {
            write!(f, ", struck by {fault}")?;
        }
        match self.error {
            Some(kind) => write!(f, ", failed: {kind}"),
            None => Ok(()),
        }
    }
}
