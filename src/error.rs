//! Error: what was being done, where, what was wrong, and what to do about it.
//!
//! Floor 0. One public error type. Its [`ErrorKind`] is small and stable, so that an embedder can
//! match on it; its text is a sentence for people; damage also carries its [`Defect`].

use crate::defect::Defect;
use std::fmt;
use std::sync::Arc;

/// What a caller can decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The medium failed.
    Io,
    /// Bytes on the medium are not what was written; see [`Error::defect`].
    Corrupt,
    /// No free block is left, and the store cannot grow.
    Full,
    /// There is no such server, disk, snapshot or file.
    NotFound,
    /// The name is taken, or the file is there already.
    Exists,
    /// Another process, or another handle, has the store open.
    Busy,
    /// An argument breaks a rule that the message names.
    Invalid,
    /// A limit that the server was given is reached; the message says which.
    Limit,
    /// The snapshot is protected: take the protection back first.
    Protected,
    /// The range reaches past the end of the disk.
    OutOfRange,
    /// The store was opened read-only, or the medium refuses writes.
    ReadOnly,
    /// The store needs a newer version of this library.
    Unsupported,
    /// An earlier write or sync failed: reads go on, changes are refused until the store is reopened.
    Halted,
}

impl ErrorKind {
    /// The POSIX error number for those who know no other words: guests, wire protocols, C callers. The match
    /// names every kind, so that a new one cannot become an I/O error unnoticed.
    pub const fn errno(self) -> i32 {
        match self {
            Self::Io | Self::Corrupt | Self::Halted => 5, // EIO
            Self::NotFound => 2,                          // ENOENT
            Self::Busy => 16,                             // EBUSY
            Self::Exists => 17,                           // EEXIST
            Self::Invalid | Self::OutOfRange => 22,       // EINVAL
            Self::Protected => 1,                         // EPERM
            Self::Limit => 122,                           // EDQUOT
            Self::Full => 28,                             // ENOSPC
            Self::ReadOnly => 30,                         // EROFS
            Self::Unsupported => 95,                      // EOPNOTSUPP
        }
    }
}

/// The result of every fallible call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation. Cheap to clone: several callers can wait for one flush.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    defect: Option<Defect>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` whose `message` is a sentence: what was done, where, what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), defect: None, cause: None }))
    }

    /// Damage: the bytes at `place` are not what was written there.
    pub fn corrupt(defect: Defect, place: impl fmt::Display) -> Self {
        let message = format!("{} {}: {place}", defect.code(), defect.title());
        Self(Arc::new(Inner { kind: ErrorKind::Corrupt, message, defect: Some(defect), cause: None }))
    }

    /// A failed call of the medium, in the midst of `doing`. "No space left" keeps its kind.
    pub fn io(doing: impl fmt::Display, cause: std::io::Error) -> Self {
        let kind = match cause.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Full,
            std::io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("{doing}: {cause}")).caused_by(cause)
    }

    /// The same error with what caused it, for [`source`](std::error::Error::source); the message stays.
    #[must_use]
    pub fn caused_by(self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        let Inner { kind, ref message, defect, .. } = *self.0;
        Self(Arc::new(Inner { kind, message: message.clone(), defect, cause: Some(Box::new(cause)) }))
    }

    /// The same error, said of what the caller was doing: `"<doing>: <message>"`.
    #[must_use]
    pub fn while_doing(self, doing: impl fmt::Display) -> Self {
        let message = format!("{doing}: {}", self.0.message);
        let wrapped = Inner { kind: self.0.kind, message, defect: self.0.defect, cause: None };
        match &self.0.cause {
            None => Self(Arc::new(wrapped)),
            Some(_) => Self(Arc::new(Inner { cause: Some(Box::new(Cause(self.clone()))), ..wrapped })),
        }
    }

    /// What a caller can decide on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The permanent number of the damage, where the error is damage.
    pub fn defect(&self) -> Option<Defect> {
        self.0.defect
    }
}

/// Passes a shared cause on to the error that wraps it.
struct Cause(Error);

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.0.cause {
            Some(cause) => cause.fmt(f),
            None => f.write_str(&self.0.0.message),
        }
    }
}

impl std::error::Error for Cause {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            Some(cause) => Some(&**cause),
            None => None,
        }
    }
}

/// For adapters to `std::io` traits: the kind survives as far as `std::io` has a word for it.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            ErrorKind::Full => Io::StorageFull,
            ErrorKind::NotFound => Io::NotFound,
            ErrorKind::Exists => Io::AlreadyExists,
            ErrorKind::Busy => Io::ResourceBusy,
            ErrorKind::Invalid => Io::InvalidInput,
            ErrorKind::OutOfRange => Io::UnexpectedEof,
            ErrorKind::Limit => Io::QuotaExceeded,
            ErrorKind::Protected => Io::PermissionDenied,
            ErrorKind::ReadOnly => Io::ReadOnlyFilesystem,
            ErrorKind::Unsupported => Io::Unsupported,
            ErrorKind::Corrupt => Io::InvalidData,
            ErrorKind::Io | ErrorKind::Halted => Io::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_system_stays_full() {
        let cause = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Error::io("write extent node at block 8812", cause).while_doing("checkpoint 4");
        assert_eq!(error.kind(), ErrorKind::Full);
        assert_eq!(error.to_string(), "checkpoint 4: write extent node at block 8812: no storage space");
    }
}
