//! Events: what happens, as it happens (server-sent events).

use crate::app::{EventView, Shared};
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// How often a client hears from us while nothing happens.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// What happens, as it happens
///
/// A stream of server-sent events. `kind` is `server.created`, `server.changed`, `server.status`, `server.restored`,
/// `server.deleted`, `snapshot.created`, `snapshot.completed`, `snapshot.changed`, `snapshot.deleted`, `backup.completed`,
/// `backup.failed`, `backup.deleted`, `schedule.failed`, `collector.done`, `store.space_above`, `store.space_below` (both with the watermark,
/// `percent`, and `used_bytes` and `capacity_bytes`), `disk.write_waits` or `disk.write_refused` (both with the name of the `disk`;
/// at most once a second). A snapshot that the store deleted unasked has a `reason`: `expired`, or `no_space` for what a restore
/// left. A client that is too slow gets `missed`: it should list anew.
#[utoipa::path(get, path = "/api/v1/events/", tag = "store",
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(super) async fn events(State(app): State<Shared>) -> Response {
    let state = (app.listen(), app.closing.subscribe(), true);
    let stream = futures_of(state);
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response()
}

type Listening = (tokio::sync::broadcast::Receiver<EventView>, tokio::sync::watch::Receiver<bool>, bool);

fn futures_of(
    state: Listening,
) -> impl futures_core::Stream<Item = Result<String, std::convert::Infallible>> {
    futures_util::stream::unfold(state, async |(mut events, mut closing, is_first)| {
        if is_first {
            return Some((Ok(": listening\n\n".to_owned()), (events, closing, false)));
        }
        let text = tokio::select! {
            event = events.recv() => match event {
                Ok(event) => say(&event),
                Err(RecvError::Lagged(_)) => "event: missed\ndata: {}\n\n".to_owned(),
                Err(RecvError::Closed) => return None,
            },
            _ = closing.changed() => return None,
            () = tokio::time::sleep(SILENCE_MAX) => ": still here\n\n".to_owned(),
        };
        Some((Ok(text), (events, closing, false)))
    })
}

fn say(event: &EventView) -> String {
    let text = serde_json::to_string(event).unwrap_or_default();
    format!("event: {}\ndata: {text}\n\n", event.kind)
}
