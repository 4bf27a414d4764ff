//! Error: what was wrong with a stream, or with the store at one of its ends; and where to go on.

use std::fmt;
use std::io;

use crate::token::Token;

/// What a caller can decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes are no stream of this kind, or there are none.
    NotAStream,
    /// The stream is of a version, or uses a feature, that this program does not know.
    Unsupported,
    /// The stream ends before its end frame: ask for the rest.
    Truncated,
    /// Bytes were changed, lost, repeated or put in another order on the way.
    Damaged,
    /// The receiver does not hold the snapshot that the stream builds on.
    WrongBase,
    /// The stream goes on at a place that the receiver has not come to.
    WrongPosition,
    /// The snapshot is here already, or its name is taken.
    Exists,
    /// No snapshot of the sender is what a token asks for.
    NotFound,
    /// The token is none, or was cut short.
    BadToken,
    /// Reading or writing the stream failed.
    Io,
    /// The store at this end failed: with what, says [`Error::store`].
    Store,
}

/// The result of every fallible call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed transfer.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    token: Option<Token>,
    cause: Option<Cause>,
}

#[derive(Debug)]
enum Cause {
    Io(io::Error),
    Store(cowblk::Error),
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), token: None, cause: None }
    }

    pub(crate) fn damaged(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Damaged, format!("the stream is damaged: {what}"))
    }

    pub(crate) fn io(doing: &str, cause: io::Error) -> Self {
        if cause.kind() == io::ErrorKind::UnexpectedEof {
            return Self::new(ErrorKind::Truncated, "the stream ends before its end frame");
        }
        Self { cause: Some(Cause::Io(cause)), ..Self::new(ErrorKind::Io, format!("{doing} the stream")) }
    }

    /// The same error, with what to ask the sender for.
    pub(crate) fn resumable(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// What a caller can decide on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// How far a receiver got, durably: what the sender needs in order to go on from there.
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// The failure of the store, for [`ErrorKind::Store`].
    pub fn store(&self) -> Option<&cowblk::Error> {
        match &self.cause {
            Some(Cause::Store(error)) => Some(error),
            _ => None,
        }
    }

    /// The failure of the stream's medium, for [`ErrorKind::Io`].
    pub fn io_error(&self) -> Option<&io::Error> {
        match &self.cause {
            Some(Cause::Io(error)) => Some(error),
            _ => None,
        }
    }
}

impl From<cowblk::Error> for Error {
    fn from(error: cowblk::Error) -> Self {
        let message = error.to_string();
        Self { cause: Some(Cause::Store(error)), ..Self::new(ErrorKind::Store, message) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(Cause::Io(cause)) => write!(f, "{}: {cause}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Some(Cause::Io(cause)) => Some(cause),
            Some(Cause::Store(cause)) => Some(cause),
            None => None,
        }
    }
}
