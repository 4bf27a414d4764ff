//! Servers: list, create, show, change, delete, start, stop, suspend, resume, undo.

use super::snapshots::Afterwards;
use crate::app::{Shared, server_of};
use crate::flows::restore::{Target, reset as go_back_to_origin, restore};
use crate::flows::{create as creation, power};
use crate::gate::{Body, Id, Query, RequestMark};
use crate::model::{List, NewServerView, Part, RestoredView, ServerChangeView, ServerView};
use crate::refusal::Refusal;
use crate::state::ServerStatus;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use cowblk::Store;
use serde::Deserialize;
use utoipa::IntoParams;

/// Which servers to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Only those with this status.
    #[param(inline)]
    status: Option<ServerStatus>,
    /// Only the one with this name.
    name: Option<String>,
    /// Show so many at most.
    limit: Option<u32>,
    /// Leave out so many of the newest.
    #[serde(default)]
    #[param(default = 0)]
    offset: u32,
}

/// List servers
#[utoipa::path(get, path = "/api/v1/servers/", tag = "servers", operation_id = "list_servers", params(Filter),
    responses((status = 200, body = List<ServerView>)))]
pub(super) async fn list(
    State(app): State<Shared>,
    Query(filter): Query<Filter>,
) -> Result<Json<List<ServerView>>, Refusal> {
    let shared = app.clone();
    let act = move |store: &Store| {
        let mut all = match &filter.name {
            Some(name) => {
                store.server(name).into_iter().filter(|one| one.kind() == cowblk::ServerKind::User).collect()
            }
            None => store.servers(),
        };
        all.retain(|server| filter.status.is_none_or(|status| shared.status(server) == status));
        all.sort_by_key(|server| std::cmp::Reverse(server.id()));
        let part = Part { limit: filter.limit, offset: filter.offset };
        Ok(List::part(all, part, |server| shared.view(&server)))
    };
    app.engine.run(act).await.map(Json)
}

/// Make a server
///
/// With disks that are empty, come from images or from snapshots. All of it, or nothing.
#[utoipa::path(post, path = "/api/v1/servers/", tag = "servers", operation_id = "create_server", request_body = NewServerView,
    params(("Idempotency-Key" = Option<String>, Header, description = "Do this once, however often it is sent")),
    responses((status = 201, body = ServerView)))]
pub(super) async fn create(
    State(app): State<Shared>,
    mark: Option<Extension<RequestMark>>,
    Body(view): Body<NewServerView>,
) -> Result<(StatusCode, Json<ServerView>), Refusal> {
    let made = creation::create(&app, view, mark.map(|Extension(mark)| mark)).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Show a server
#[utoipa::path(get, path = "/api/v1/servers/{id}/", tag = "servers", operation_id = "show_server", params(("id" = u64, Path)),
    responses((status = 200, body = ServerView)))]
pub(super) async fn show(State(app): State<Shared>, Id(id): Id) -> Result<Json<ServerView>, Refusal> {
    let shared = app.clone();
    app.engine.run(move |store| Ok(shared.view(&server_of(store, id)?))).await.map(Json)
}

/// Change what is known of a server
#[utoipa::path(patch, path = "/api/v1/servers/{id}/", tag = "servers", operation_id = "change_server", params(("id" = u64, Path)),
    request_body = ServerChangeView, responses((status = 200, body = ServerView)))]
pub(super) async fn change(
    State(app): State<Shared>,
    Id(id): Id,
    Body(change): Body<ServerChangeView>,
) -> Result<Json<ServerView>, Refusal> {
    creation::change(&app, id, change).await.map(Json)
}

/// Delete a server, its disks and its snapshots
///
/// A server that is active has to be stopped first.
#[utoipa::path(delete, path = "/api/v1/servers/{id}/", tag = "servers", operation_id = "delete_server", params(("id" = u64, Path)),
    responses((status = 204)))]
pub(super) async fn delete(State(app): State<Shared>, Id(id): Id) -> Result<StatusCode, Refusal> {
    let _lock = app.lock(id).await;
    let shared = app.clone();
    let act = move |store: &Store| {
        let server = server_of(store, id)?;
        let status = shared.status(&server);
        if matches!(status, ServerStatus::Active | ServerStatus::Restoring) {
            let detail =
                format!("server {:?} is {}; stop it before deleting it", server.name(), status.word());
            return Err(Refusal::wrong_state(detail));
        }
        let _hold = shared.nbd.as_ref().map(|nbd| nbd.hold(server.id(), "its server is being deleted"));
        store.delete_server(server.id())?;
        shared.details.forget(id).map_err(|cause| Refusal::internal(cause.to_string()))
    };
    app.engine.run(act).await?;
    app.tell("server.deleted", Some(id), None);
    Ok(StatusCode::NO_CONTENT)
}

/// Start a stopped server
#[utoipa::path(post, path = "/api/v1/servers/{id}/start/", tag = "servers", params(("id" = u64, Path)),
    responses((status = 200, body = ServerView)))]
pub(super) async fn start(State(app): State<Shared>, Id(id): Id) -> Result<Json<ServerView>, Refusal> {
    power::start(&app, id).await.map(Json)
}

/// Stop an active server
#[utoipa::path(post, path = "/api/v1/servers/{id}/stop/", tag = "servers", params(("id" = u64, Path)),
    responses((status = 200, body = ServerView)))]
pub(super) async fn stop(State(app): State<Shared>, Id(id): Id) -> Result<Json<ServerView>, Refusal> {
    power::stop(&app, id).await.map(Json)
}

/// Put a server aside, stopping it if it is active
#[utoipa::path(post, path = "/api/v1/servers/{id}/suspend/", tag = "servers", params(("id" = u64, Path)),
    responses((status = 200, body = ServerView)))]
pub(super) async fn suspend(State(app): State<Shared>, Id(id): Id) -> Result<Json<ServerView>, Refusal> {
    power::suspend(&app, id).await.map(Json)
}

/// Take a suspended server back into use, stopped
#[utoipa::path(post, path = "/api/v1/servers/{id}/resume/", tag = "servers", params(("id" = u64, Path)),
    responses((status = 200, body = ServerView)))]
pub(super) async fn resume(State(app): State<Shared>, Id(id): Id) -> Result<Json<ServerView>, Refusal> {
    power::resume(&app, id).await.map(Json)
}

/// Take the last restore back
///
/// The disks hold again what it replaced. Doing it again goes forth.
#[utoipa::path(post, path = "/api/v1/servers/{id}/undo/", tag = "servers", params(("id" = u64, Path), Afterwards,
    ("Idempotency-Key" = Option<String>, Header, description = "Do this once, however often it is sent")),
    responses((status = 200, body = RestoredView)))]
pub(super) async fn undo(
    State(app): State<Shared>,
    Id(id): Id,
    Query(afterwards): Query<Afterwards>,
) -> Result<Json<RestoredView>, Refusal> {
    restore(&app, Target::Undo(id), afterwards.start).await.map(Json)
}

/// Take a clone back to what it was cloned from
///
/// An active server is stopped first. What its disks hold is not kept: this cannot be undone.
#[utoipa::path(post, path = "/api/v1/servers/{id}/reset/", tag = "servers", params(("id" = u64, Path), Afterwards,
    ("Idempotency-Key" = Option<String>, Header, description = "Do this once, however often it is sent")),
    responses((status = 200, body = ServerView)))]
pub(super) async fn reset(
    State(app): State<Shared>,
    Id(id): Id,
    Query(afterwards): Query<Afterwards>,
) -> Result<Json<ServerView>, Refusal> {
    go_back_to_origin(&app, id, afterwards.start).await.map(Json)
}
