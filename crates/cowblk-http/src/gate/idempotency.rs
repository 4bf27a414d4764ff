//! Idempotency: a POST that carries an `Idempotency-Key` is done once, however often it is sent.
//!
//! The answer is kept for a day. A daemon that was killed in the midst of such a request finds out at its next start
//! whether it happened (`flows/recover.rs`).

use super::extract;
use crate::app::{Shared, backup_of, snapshot_of};
use crate::refusal::{Code, Refusal};
use crate::state::{Answer, Claim, Holder, Interrupted, Witness};
use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cowblk::{ServerId, Store};

const KEY_BYTES_MAX: usize = 255;
/// Digits of the hash that stands for a key.
const MARK_DIGITS: usize = 32;

/// What a key is known by: the hash of who sent it, and what for.
#[derive(Clone, Debug)]
pub(crate) struct RequestMark(pub(crate) String);

/// Carries out a request that changes something.
pub(super) async fn run(app: &Shared, request: Request, next: Next, holder: &Holder) -> Response {
    let key = request.headers().get("idempotency-key").cloned();
    match key {
        Some(key) if *request.method() == Method::POST => {
            let done = run_once(app, request, next, (holder, &key)).await;
            done.unwrap_or_else(IntoResponse::into_response)
        }
        _ => next.run(request).await,
    }
}

async fn run_once(
    app: &Shared,
    request: Request,
    next: Next,
    (holder, key): (&Holder, &HeaderValue),
) -> Result<Response, Refusal> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Refusal::invalid(format!("an Idempotency-Key has 1 to {KEY_BYTES_MAX} bytes")));
    }
    let whole = request.uri().path_and_query().map_or("", |path| path.as_str()).to_owned();
    let path = request.uri().path().to_owned();
    let (parts, body) = request.into_parts();
    let body = extract::read(Request::from_parts(parts.clone(), body), app.rules.body_bytes_max).await?;
    let mark = mark_of(holder, &path, key);
    let body_hash = blake3::Hasher::new().update(whole.as_bytes()).update(b"\0").update(&body).finalize();
    let begun = Interrupted {
        key: mark.clone(),
        body_hash: body_hash.to_hex().to_string(),
        path: path.clone(),
        witness: Witness::default(),
        at: app.now(),
        name: name_in(&body),
    };
    let shared = app.clone();
    let claimed = app.engine.run(move |store| {
        let witness = witness_of(&shared, store, &begun.path);
        shared
            .journal
            .claim(Interrupted { witness, ..begun })
            .map_err(|cause| Refusal::internal(cause.to_string()))
    });
    match claimed.await? {
        Claim::New => {}
        Claim::Done(answer) => return Ok(replay(&answer)),
        Claim::UnderWay => {
            let detail = "a request with this Idempotency-Key is under way; ask again in a second";
            return Err(Refusal::new(Code::UnderWay, detail).after_seconds(1));
        }
        Claim::OfAnother => {
            let detail = "this Idempotency-Key was used for another request; each request needs its own";
            return Err(Refusal::new(Code::KeyReused, detail));
        }
    }
    let mut request = Request::from_parts(parts, Body::from(body));
    request.extensions_mut().insert(RequestMark(mark.clone()));
    let response = next.run(request).await;
    settle(app, mark, response).await
}

/// Keeps an answer, before it is sent. What did nothing can be tried again with the same key.
async fn settle(app: &Shared, mark: String, response: Response) -> Result<Response, Refusal> {
    let shared = app.clone();
    if !response.status().is_success() {
        let forget = move |_: &Store| {
            shared.journal.forget(&mark).map_err(|cause| Refusal::internal(cause.to_string()))
        };
        app.engine.run(forget).await?;
        return Ok(response);
    }
    let status = response.status().as_u16();
    let (parts, body) = response.into_parts();
    let failed = || Refusal::internal("the answer was lost on its way");
    let bytes = axum::body::to_bytes(body, usize::MAX).await.map_err(|_| failed())?;
    let value = if bytes.is_empty() {
        serde_json::Value::Null
    } else {
        serde_json::from_slice(&bytes).map_err(|_| failed())?
    };
    let keep = move |_: &Store| {
        let kept = shared.journal.answer(&mark, Answer { status, body: value });
        kept.map_err(|cause| Refusal::internal(cause.to_string()))
    };
    app.engine.run(keep).await?;
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

/// The name that a body gives to what is to be made.
fn name_in(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    value.get("name")?.as_str().map(str::to_owned)
}

fn replay(answer: &Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, Json(&answer.body)).into_response();
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    response
}

fn mark_of(holder: &Holder, path: &str, key: &HeaderValue) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&holder.id.to_le_bytes()).update(path.as_bytes()).update(b"\0").update(key.as_bytes());
    hasher.finalize().to_hex().as_str().chars().take(MARK_DIGITS).collect()
}

/// How things stand before a request, so that the next start can tell whether it happened.
fn witness_of(app: &Shared, store: &Store, path: &str) -> Witness {
    let mut words = path.trim_matches('/').split('/').skip(2);
    let (noun, id) = (words.next(), words.next().and_then(|text| text.parse().ok()));
    let server = match (noun, id) {
        (Some("servers"), Some(id)) => store.server_by_id(ServerId(id)).ok(),
        (Some("snapshots"), Some(id)) => snapshot_of(store, id).ok().map(|(_, server)| server),
        (Some("backups"), Some(id)) => {
            let backup = app.backups.as_ref().and_then(|backups| backup_of(backups, id));
            backup.and_then(|(_, server)| store.server_by_id(server).ok())
        }
        _ => None,
    };
    server.map_or_else(Witness::default, |server| Witness {
        server: Some(server.id().0),
        before_restore: server.before_restore().map(|snapshot| snapshot.id().0),
        status: Some(app.status(&server).word().into()),
    })
}
