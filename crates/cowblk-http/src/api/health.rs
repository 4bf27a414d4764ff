//! Health and metrics.

use crate::app::Shared;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Whether the daemon serves, and its store takes changes. Needs no token, and touches no disk.
pub(super) async fn healthz(State(app): State<Shared>) -> Response {
    let is_halted = app.engine.store().status().halted;
    let (status, word) =
        if is_halted { (StatusCode::SERVICE_UNAVAILABLE, "halted") } else { (StatusCode::OK, "ok") };
    (status, Json(json!({ "status": word }))).into_response()
}

/// Counters and histograms as Prometheus reads them.
pub(super) async fn metrics(State(app): State<Shared>) -> Response {
    let connections = app.nbd.as_ref().map(|nbd| nbd.connection_count());
    let text = app.metrics.render(&app.engine, connections);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
