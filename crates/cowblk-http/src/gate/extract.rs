//! Extract: ids, queries and bodies, with refusals of our own shape.

use crate::app::Shared;
use crate::refusal::{Code, Refusal};
use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::{HeaderMap, header, request::Parts};
use serde::de::DeserializeOwned;

/// The number in a path. What is no number names nothing.
pub(crate) struct Id(pub(crate) u64);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| nothing(""))?;
        text.parse().map(Self).map_err(|_| nothing(&text))
    }
}

/// A number and a name in a path.
pub(crate) struct IdAndName(pub(crate) u64, pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for IdAndName {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let found = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((text, name)) = found.map_err(|_| nothing(""))?;
        text.parse().map(|id| Self(id, name)).map_err(|_| nothing(&text))
    }
}

fn nothing(text: &str) -> Refusal {
    let shown: String = text.chars().take(40).collect();
    Refusal::not_found(format!("nothing has the id {shown:?}; ids are whole numbers"))
}

/// What follows the `?`.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let parsed = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        parsed.map(|query| Self(query.0)).map_err(|cause| Refusal::invalid(cause.body_text()))
    }
}

/// A body of JSON.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Refusal> {
        let is_json = is_json(request.headers());
        let bytes = read(request, app.rules.body_bytes_max).await?;
        if bytes.is_empty() {
            return Err(Refusal::invalid("the body is empty; send a JSON object"));
        }
        if !is_json {
            let detail = "send the body as JSON, with `Content-Type: application/json`";
            return Err(Refusal::new(Code::UnsupportedMediaType, detail));
        }
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Self).map_err(|cause| Refusal::invalid(format!("the body cannot be understood: {cause}")))
    }
}

/// The whole body, if it is not too large.
pub(super) async fn read(request: Request, bytes_max: usize) -> Result<axum::body::Bytes, Refusal> {
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let too_large = || {
        let detail = format!("the body has more than {bytes_max} bytes");
        Refusal::new(Code::TooLarge, detail)
    };
    if announced.is_some_and(|length: usize| length > bytes_max) {
        return Err(too_large());
    }
    to_bytes(request.into_body(), bytes_max).await.map_err(|cause| {
        let is_limit = std::error::Error::source(&cause)
            .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
        if is_limit { too_large() } else { Refusal::invalid("the body did not arrive whole") }
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}
