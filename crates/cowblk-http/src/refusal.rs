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

/// Why a request is not done.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    retry_after_seconds: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after_seconds: None }
    }

    /// A parameter that breaks a rule, which the sentence names.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    /// The server is not in a state that allows it.
    pub(crate) fn wrong_state(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "wrong_state", detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// A fault of ours or of the machine.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// Too much at once: the same request can be done later.
    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).after_seconds(1)
    }

    /// The same, with the time after which to try again.
    pub(crate) fn after_seconds(self, seconds: u64) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    /// The same for what is missing in a request's body instead of its path.
    pub(crate) fn view(&self) -> ErrorView {
        ErrorView { error: self.code.into(), detail: self.detail.clone() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (status, code) = match error.kind() {
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            ErrorKind::Exists => (StatusCode::BAD_REQUEST, "name_taken"),
            ErrorKind::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
            ErrorKind::OutOfRange => (StatusCode::BAD_REQUEST, "out_of_range"),
            ErrorKind::Limit => (StatusCode::BAD_REQUEST, "limit_reached"),
            ErrorKind::Protected => (StatusCode::BAD_REQUEST, "protected"),
            ErrorKind::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            ErrorKind::ReadOnly => (StatusCode::SERVICE_UNAVAILABLE, "read_only"),
            ErrorKind::Halted => (StatusCode::SERVICE_UNAVAILABLE, "halted"),
            ErrorKind::Full => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            ErrorKind::Corrupt => (StatusCode::INTERNAL_SERVER_ERROR, "corrupt"),
            ErrorKind::Unsupported => (StatusCode::INTERNAL_SERVER_ERROR, "unsupported"),
            // `ErrorKind` may grow: a kind that this crate does not know is still a failed operation.
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "io"),
        };
        Self::new(status, code, error.to_string())
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
        let mut response = (self.status, Json(self.view())).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
