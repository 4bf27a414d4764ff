//! Gate: who may come in, how much of a request is believed, and what is noted about it.
//!
//! G1  No request below `/api/` and none for `/metrics` gets further without a token, whatever it asks for.
//! G2  What changes something runs to its end even if its client goes away or its time is over.
//! G3  A token appears in no log, no error and no answer.

mod extract;
mod failures;
mod idempotency;
mod parts;

pub(crate) use extract::{Body, Id, IdAndName, Query};
pub(crate) use failures::Failures;
pub(crate) use idempotency::RequestMark;
pub(crate) use parts::Peer;

use crate::app::Shared;
use crate::refusal::{Code, Refusal};
use crate::state::{AuditLine, Holder, Scope};
use crate::times;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::time::Instant;

/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 256;
/// What anyone may read: it says nothing about the store.
const OPEN_PATH: &str = "/api/v1/openapi.json";

/// Every request passes here, those to nowhere included.
pub(crate) async fn enter(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("other", |path| path.as_str()).to_owned();
    let mut response = admit(&app, request, next).await.unwrap_or_else(IntoResponse::into_response);
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    app.metrics.request(word_of(&method), &route, response.status().as_u16(), begun.elapsed());
    response
}

async fn admit(app: &Shared, request: Request, next: Next) -> Result<Response, Refusal> {
    let path = request.uri().path();
    let is_open = !(path.starts_with("/api/") || path == "/metrics") || path == OPEN_PATH;
    if is_open {
        return Ok(next.run(request).await);
    }
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let is_change = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let holder = sign_in(app, &request, &peer);
    let limit = app.rules.request_time;
    if !is_change {
        let holder = holder?;
        require(&holder, Scope::Read)?;
        let work = tokio::time::timeout(limit, next.run(request)).await;
        return work.map_err(|_| timed_out(limit.as_secs(), "it was given up"));
    }
    let app = app.clone();
    let work = tokio::spawn(async move { change(&app, request, next, holder, &peer).await });
    let done = tokio::time::timeout(limit, work).await;
    let done =
        done.map_err(|_| timed_out(limit.as_secs(), "it goes on nevertheless; look at its server later"))?;
    done.map_err(|_| Refusal::internal("the request failed on a fault of the daemon; see its log"))
}

/// Carries out a request that changes something, and notes it.
async fn change(
    app: &Shared,
    request: Request,
    next: Next,
    holder: Result<Holder, Refusal>,
    peer: &Peer,
) -> Response {
    let begun = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let allowed = holder.clone().and_then(|holder| require(&holder, Scope::Write).map(|()| holder));
    let response = match allowed {
        Ok(holder) => idempotency::run(app, request, next, &holder).await,
        Err(refusal) => refusal.into_response(),
    };
    let holder = holder.ok();
    let shown: String = path.chars().take(256).collect();
    app.audit.write(&AuditLine {
        time: times::rfc3339(app.now()),
        token_id: holder.as_ref().map(|holder| holder.id),
        token_name: holder.as_ref().map(|holder| holder.name.as_str()),
        peer: &peer.to_string(),
        method: word_of(&method),
        path: &shown,
        status: response.status().as_u16(),
        milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    response
}

fn sign_in(app: &Shared, request: &Request, peer: &Peer) -> Result<Holder, Refusal> {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = header.and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let known =
        given.filter(|token| token.len() <= TOKEN_BYTES_MAX).and_then(|token| app.tokens.holder(token));
    if let Some(holder) = known {
        return Ok(holder);
    }
    app.metrics.refused_signin();
    // Who holds a token that is known is never turned away: with 256 random bits there is nothing to guess, and one
    // client that guesses would lock out all behind the same address.
    if let Some(seconds) = app.failures.note(peer, Instant::now()) {
        let detail = "too many requests without a token that is known; wait before trying again";
        return Err(Refusal::new(Code::TooManyFailures, detail).after_seconds(seconds));
    }
    let detail = if given.is_none() {
        "send `Authorization: Bearer <token>`; `cowblk token create` makes a token"
    } else {
        "the token is not known, or was revoked; `cowblk token create` makes a new one"
    };
    Err(Refusal::new(Code::Unauthorized, detail))
}

fn require(holder: &Holder, scope: Scope) -> Result<(), Refusal> {
    if holder.may(scope) {
        return Ok(());
    }
    let word = if scope == Scope::Write { "write" } else { "read" };
    let detail =
        format!("the token has no scope `{word}`; make one with `cowblk token create --scope {word}`");
    Err(Refusal::new(Code::Forbidden, detail))
}

fn timed_out(seconds: u64, what: &str) -> Refusal {
    let detail = format!("the request took longer than {seconds} seconds; {what}");
    Refusal::new(Code::TimedOut, detail)
}

/// A method's name; others than those of HTTP share one, so that nobody fills the metrics.
fn word_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
