//! How a command fails: one sentence for the reader, one kind for the program that called us.
//!
//! The kinds and exit codes are a promise (`cowblk --help`, docs/operations.md): scripts match on them.

use std::error::Error as _;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use cowblk::ErrorKind;
use serde_json::json;

use crate::output::Output;

/// Why a command did not do what it was asked to do.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
}

/// What went wrong, coarsely enough to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Usage,
    Invalid,
    OutOfRange,
    NotFound,
    Exists,
    Busy,
    Full,
    Corrupt,
    Unsupported,
    Limit,
    Protected,
    /// A daemon does not know the token, or it lacks the scope.
    Unauthorized,
    Io,
    ReadOnly,
    Halted,
    /// What was written does not read back as what was meant.
    Mismatch,
    /// The audit found defects; they are already listed.
    Defects,
    /// Whoever read our standard output has stopped reading. Nobody is left to tell.
    ReaderGone,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Io | Kind::ReadOnly | Kind::Halted | Kind::Mismatch | Kind::Defects | Kind::ReaderGone => 1,
            Kind::Usage | Kind::Invalid | Kind::OutOfRange => 2,
            Kind::NotFound => 3,
            Kind::Exists => 4,
            Kind::Busy => 5,
            Kind::Full => 6,
            Kind::Corrupt => 7,
            Kind::Unsupported => 8,
            Kind::Limit => 9,
            Kind::Protected => 10,
            Kind::Unauthorized => 11,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Usage => "usage",
            Kind::Invalid => "invalid",
            Kind::OutOfRange => "out_of_range",
            Kind::NotFound => "not_found",
            Kind::Exists => "exists",
            Kind::Busy => "busy",
            Kind::Full => "full",
            Kind::Corrupt => "corrupt",
            Kind::Unsupported => "unsupported",
            Kind::Limit => "limit",
            Kind::Protected => "protected",
            Kind::Unauthorized => "unauthorized",
            Kind::Io => "io",
            Kind::ReadOnly => "read_only",
            Kind::Halted => "halted",
            Kind::Mismatch => "mismatch",
            Kind::Defects => "defects",
            Kind::ReaderGone => "reader_gone",
        }
    }

    fn is_silent(self) -> bool {
        matches!(self, Kind::Defects | Kind::ReaderGone)
    }
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into() }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// A failed system call on a file that the caller named: `doing` is a verb, as in "read".
    pub(crate) fn io(doing: &str, path: &Path, cause: &io::Error) -> Failure {
        Failure::new(kind_of(cause), format!("{doing} {}: {cause}", path.display()))
    }

    /// Says it on standard error and returns the exit code.
    pub(crate) fn report(&self, output: Output) -> Result<(), u8> {
        if !self.kind.is_silent() {
            write_error(output.is_json(), self.kind.name(), &self.message);
        }
        Err(self.kind.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<cowblk::Error> for Failure {
    fn from(error: cowblk::Error) -> Failure {
        let mut message = error.to_string();
        if let Some(cause) = error.source().map(ToString::to_string)
            && !message.contains(&cause)
        {
            message = format!("{message}: {cause}");
        }
        let kind = match error.kind() {
            ErrorKind::Corrupt => Kind::Corrupt,
            ErrorKind::Full => Kind::Full,
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::Exists => Kind::Exists,
            ErrorKind::Busy => Kind::Busy,
            ErrorKind::Invalid => Kind::Invalid,
            ErrorKind::OutOfRange => Kind::OutOfRange,
            ErrorKind::ReadOnly => Kind::ReadOnly,
            ErrorKind::Unsupported => Kind::Unsupported,
            ErrorKind::Limit => Kind::Limit,
            ErrorKind::Protected => Kind::Protected,
            ErrorKind::Halted => Kind::Halted,
            // `ErrorKind` may grow: a kind that this program does not know is still a failed operation.
            _ => Kind::Io,
        };
        Failure::new(kind, message)
    }
}

impl From<cowblk_stream::Error> for Failure {
    fn from(error: cowblk_stream::Error) -> Failure {
        use cowblk_stream::ErrorKind as Stream;
        if let Some(of_store) = error.store() {
            return Failure::from(of_store.clone());
        }
        let kind = match error.kind() {
            Stream::NotAStream | Stream::BadToken | Stream::WrongPosition => Kind::Invalid,
            Stream::Unsupported => Kind::Unsupported,
            Stream::Truncated | Stream::Damaged => Kind::Corrupt,
            Stream::WrongBase | Stream::NotFound => Kind::NotFound,
            Stream::Exists => Kind::Exists,
            _ => error.io_error().map_or(Kind::Io, kind_of),
        };
        Failure::new(kind, error.to_string())
    }
}

/// What clap refused, or the help and version texts that it hands out the same way.
pub(crate) fn report_usage(refusal: &clap::Error) -> Result<(), u8> {
    if !refusal.use_stderr() {
        return refusal.print().or_else(ignore_gone_reader).map_err(|_| Kind::Io.code());
    }
    // The arguments did not parse, so whether JSON was asked for is read from them directly.
    if std::env::args_os().any(|argument| argument == "--json") {
        let text = refusal.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        write_error(true, Kind::Usage.name(), message);
    } else {
        // Nothing is left to do when even standard error is closed.
        let _ = refusal.print();
    }
    Err(Kind::Usage.code())
}

/// A reader that closes standard output early, like `head`, is not an error of ours.
pub(crate) fn ignore_gone_reader(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

fn kind_of(cause: &io::Error) -> Kind {
    match cause.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::AlreadyExists => Kind::Exists,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Full,
        io::ErrorKind::BrokenPipe => Kind::ReaderGone,
        _ => Kind::Io,
    }
}

fn write_error(as_json: bool, kind: &str, message: &str) {
    let text = if as_json {
        json!({ "error": { "kind": kind, "message": message } }).to_string()
    } else {
        format!("error: {message}")
    };
    // Nothing is left to do when even standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}
