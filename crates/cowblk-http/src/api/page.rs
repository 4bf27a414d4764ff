//! Page: the web page, the documentation and the OpenAPI document. Everything is in the binary; nothing asks elsewhere.

use crate::app::Shared;
use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use utoipa::openapi::OpenApi;

/// Nothing from elsewhere, nothing inline, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The addresses that need no token.
pub(super) fn router(document: &Arc<OpenApi>) -> Router<Shared> {
    let json: Arc<str> = document.to_json().unwrap_or_default().into();
    let fixed = |kind: &'static str, text: &'static str| get(async move || page(kind, text));
    Router::new()
        .route("/", fixed(HTML, include_str!("../../web/index.html")))
        .route("/app.js", fixed(SCRIPT, include_str!("../../web/app.js")))
        .route("/style.css", fixed(STYLE, include_str!("../../web/style.css")))
        .route("/docs", fixed(HTML, include_str!("../../web/docs.html")))
        .route("/docs/", fixed(HTML, include_str!("../../web/docs.html")))
        .route("/docs.js", fixed(SCRIPT, include_str!("../../web/docs.js")))
        .route(
            "/api/v1/openapi.json",
            get(async move || ([(header::CONTENT_TYPE, "application/json")], json.to_string())),
        )
}

fn page(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
