//! Refusal: why a request is not done, as a status, a stable word and a sentence.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cowblk::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What every refused request is answered with.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ErrorView {
    /// A stable word.
    #[schema(example = "not_found")]
    pub(crate) error: String,
    /// What was wrong and what to do, in a sentence.
    #[schema(example = "there is no snapshot 801")]
    pub(crate) detail: String,
}

/// The kinds of refusals, each with its stable word and its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// A parameter breaks a rule.
    Invalid,
    /// A range reaches past the end.
    OutOfRange,
    /// The name, or a larger id, is taken.
    NameTaken,
    /// There are as many as there may be.
    LimitReached,
    /// The server is not in a state that allows it.
    WrongState,
    /// Somebody protected it.
    Protected,
    /// The operator did not allow that hook.
    HookNotAllowed,
    /// The operator did not allow that image.
    ImageNotAllowed,
    /// There is no store for backups.
    NoBackups,
    /// The token is not known.
    Unauthorized,
    /// The token lacks the scope.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The address does not take that method.
    MethodNotAllowed,
    /// A request with the same key is being done.
    UnderWay,
    /// The body is too large.
    TooLarge,
    /// The body is no JSON.
    UnsupportedMediaType,
    /// The key stands for another request.
    KeyReused,
    /// Too many tokens that nobody knows.
    TooManyFailures,
    /// The medium failed.
    Io,
    /// Bytes fail their checksum.
    Corrupt,
    /// A fault of ours.
    Internal,
    /// The store cannot do that.
    Unsupported,
    /// A hook failed.
    HookFailed,
    /// Too much at once.
    Busy,
    /// The store takes no changes since a write failed.
    Halted,
    /// The store must not be written.
    ReadOnly,
    /// It took too long.
    TimedOut,
    /// The store is full.
    Full,
}

impl Code {
    /// The stable word and the status of HTTP.
    const fn wire(self) -> (&'static str, StatusCode) {
        match self {
            Self::Invalid => ("invalid", StatusCode::BAD_REQUEST),
            Self::OutOfRange => ("out_of_range", StatusCode::BAD_REQUEST),
            Self::NameTaken => ("name_taken", StatusCode::BAD_REQUEST),
            Self::LimitReached => ("limit_reached", StatusCode::BAD_REQUEST),
            Self::WrongState => ("wrong_state", StatusCode::BAD_REQUEST),
            Self::Protected => ("protected", StatusCode::BAD_REQUEST),
            Self::HookNotAllowed => ("hook_not_allowed", StatusCode::BAD_REQUEST),
            Self::ImageNotAllowed => ("image_not_allowed", StatusCode::BAD_REQUEST),
            Self::NoBackups => ("no_backups", StatusCode::BAD_REQUEST),
            Self::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED),
            Self::UnderWay => ("under_way", StatusCode::CONFLICT),
            Self::TooLarge => ("too_large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::UnsupportedMediaType => ("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::KeyReused => ("key_reused", StatusCode::UNPROCESSABLE_ENTITY),
            Self::TooManyFailures => ("too_many_failures", StatusCode::TOO_MANY_REQUESTS),
            Self::Io => ("io", StatusCode::INTERNAL_SERVER_ERROR),
            Self::Corrupt => ("corrupt", StatusCode::INTERNAL_SERVER_ERROR),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
            Self::Unsupported => ("unsupported", StatusCode::INTERNAL_SERVER_ERROR),
            Self::HookFailed => ("hook_failed", StatusCode::BAD_GATEWAY),
            Self::Busy => ("busy", StatusCode::SERVICE_UNAVAILABLE),
            Self::Halted => ("halted", StatusCode::SERVICE_UNAVAILABLE),
            Self::ReadOnly => ("read_only", StatusCode::SERVICE_UNAVAILABLE),
            Self::TimedOut => ("timed_out", StatusCode::GATEWAY_TIMEOUT),
            Self::Full => ("full", StatusCode::INSUFFICIENT_STORAGE),
        }
    }
}

/// Why a request is not done.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) detail: String,
    retry_after_seconds: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after_seconds: None }
    }

    /// A parameter that breaks a rule, which the sentence names.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::Invalid, detail)
    }

    /// The server is not in a state that allows it.
    pub(crate) fn wrong_state(detail: impl Into<String>) -> Self {
        Self::new(Code::WrongState, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Code::NotFound, detail)
    }

    /// A fault of ours or of the machine.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(Code::Internal, detail)
    }

    /// Too much at once: the same request can be done later.
    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self::new(Code::Busy, detail).after_seconds(1)
    }

    /// The same, with the time after which to try again.
    pub(crate) fn after_seconds(self, seconds: u64) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    /// The same for what is missing in a request's body instead of its path.
    pub(crate) fn view(&self) -> ErrorView {
        ErrorView { error: self.code.wire().0.into(), detail: self.detail.clone() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.wire().0, self.detail)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::Exists => Code::NameTaken,
            ErrorKind::Invalid => Code::Invalid,
            ErrorKind::OutOfRange => Code::OutOfRange,
            ErrorKind::Limit => Code::LimitReached,
            ErrorKind::Protected => Code::Protected,
            ErrorKind::Busy => Code::Busy,
            ErrorKind::ReadOnly => Code::ReadOnly,
            ErrorKind::Halted => Code::Halted,
            ErrorKind::Full => Code::Full,
            ErrorKind::Corrupt => Code::Corrupt,
            ErrorKind::Unsupported => Code::Unsupported,
            // `ErrorKind` may grow: a kind that this crate does not know is still a failed operation.
            _ => Code::Io,
        };
        Self::new(code, error.to_string())
    }
}

impl From<cowblk_stream::Error> for Refusal {
    fn from(error: cowblk_stream::Error) -> Self {
        match error.store() {
            Some(of_store) => of_store.clone().into(),
            None => Self::internal(error.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.code.wire().1, Json(self.view())).into_response();
        let headers = response.headers_mut();
        if self.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// All of them; the compiler counts for us that none is missing below.
    const ALL: [Code; 28] = [
        Code::Invalid,
        Code::OutOfRange,
        Code::NameTaken,
        Code::LimitReached,
        Code::WrongState,
        Code::Protected,
        Code::HookNotAllowed,
        Code::ImageNotAllowed,
        Code::NoBackups,
        Code::Unauthorized,
        Code::Forbidden,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::UnderWay,
        Code::TooLarge,
        Code::UnsupportedMediaType,
        Code::KeyReused,
        Code::TooManyFailures,
        Code::Io,
        Code::Corrupt,
        Code::Internal,
        Code::Unsupported,
        Code::HookFailed,
        Code::Busy,
        Code::Halted,
        Code::ReadOnly,
        Code::TimedOut,
        Code::Full,
    ];

    /// docs/operations.md says of each word what it means, with the status that it comes with; and of no other.
    #[test]
    fn the_document_lists_every_word_with_its_status() {
        let document = include_str!("../../../docs/operations.md");
        let section = document.split("### What its errors mean").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let mut listed = BTreeSet::new();
        for line in section.lines().filter(|line| line.starts_with("| ")) {
            let mut cells = line.trim_matches('|').split('|');
            let (statuses, words) = (cells.next().unwrap(), cells.next().unwrap());
            let statuses: Vec<u16> =
                statuses.split(',').filter_map(|text| text.trim().parse().ok()).collect();
            for (nth, word) in words.split('`').skip(1).step_by(2).enumerate() {
                let status = statuses.get(nth).or(statuses.first()).copied().unwrap();
                listed.insert((word.to_owned(), status));
            }
        }
        let wire = |code: Code| (code.wire().0.to_owned(), code.wire().1.as_u16());
        assert_eq!(listed, ALL.into_iter().map(wire).collect());
        let last = ALL.map(|code| code as usize);
        assert_eq!(last, std::array::from_fn(|nth| nth), "each once, in their order");
        assert_eq!(ALL.len(), Code::Full as usize + 1, "`Full` is the last");
    }
}
