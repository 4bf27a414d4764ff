//! Servers: list, create, show, change, delete, start, stop, suspend, resume, undo, prune; their disks.

use super::snapshots::Afterwards;
use crate::app::{Shared, server_of};
use crate::flows::restore::{Target, restore};
use crate::flows::{create as creation, power};
use crate::gate::{Body, Id, IdAndName, Query, RequestMark};
use crate::model::{
    DiskView, Fate, List, NewDiskView, NewServerView, Part, RestoredView, RetentionView, ServerChangeView,
    ServerView, SizeView, is_shown,
};
use crate::refusal::Refusal;
use crate::state::{ServerStatus, UPDATED_AT};
use crate::times::{now, rfc3339};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use cowblk::{Candidate, ErrorKind, Retention, Server, Snapshot, Store, Verdict};
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

/// How many snapshots to keep.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Keep {
    /// So many of the newest.
    #[serde(default)]
    last: u32,
    /// The newest of each of so many hours.
    #[serde(default)]
    hourly: u32,
    /// The newest of each of so many days.
    #[serde(default)]
    daily: u32,
    /// The newest of each of so many weeks.
    #[serde(default)]
    weekly: u32,
    /// The newest of each of so many months.
    #[serde(default)]
    monthly: u32,
    /// The newest of each of so many years.
    #[serde(default)]
    yearly: u32,
}

/// What a retention policy would keep, and why
#[utoipa::path(get, path = "/api/v1/servers/{id}/prune/", tag = "servers", params(("id" = u64, Path), Keep),
    responses((status = 200, body = List<Fate>)))]
pub(super) async fn plan_prune(
    State(app): State<Shared>,
    Id(id): Id,
    Query(keep): Query<Keep>,
) -> Result<Json<List<Fate>>, Refusal> {
    let Keep { last, hourly, daily, weekly, monthly, yearly } = keep;
    let policy = RetentionView { last, hourly, daily, weekly, monthly, yearly }.policy(None);
    let act = move |store: &Store| Ok(fates(&plan(&server_of(store, id)?, &policy)));
    app.engine.run(act).await.map(Json)
}

/// Delete what a retention policy does not keep
///
/// What is protected, and what a restore keeps, stays. A policy without any rule deletes only what has expired.
#[utoipa::path(post, path = "/api/v1/servers/{id}/prune/", tag = "servers", params(("id" = u64, Path)),
    request_body = RetentionView, responses((status = 200, body = List<Fate>)))]
pub(super) async fn prune(
    State(app): State<Shared>,
    Id(id): Id,
    Body(policy): Body<RetentionView>,
) -> Result<Json<List<Fate>>, Refusal> {
    let _lock = app.lock(id).await;
    let act = move |store: &Store| {
        let mut planned = plan(&server_of(store, id)?, &policy.policy(None));
        for (verdict, _) in planned.iter().filter(|(verdict, _)| !verdict.is_kept()) {
            store.delete_snapshot(verdict.id).or_else(|error| match error.kind() {
                // Somebody deleted or protected it meanwhile.
                ErrorKind::NotFound | ErrorKind::Protected => Ok(()),
                _ => Err(error),
            })?;
        }
        planned.retain(|(verdict, _)| verdict.is_kept() || store.snapshot(verdict.id).is_err());
        Ok(fates(&planned))
    };
    let list = app.engine.run(act).await?;
    for fate in list.results.iter().filter(|fate| !fate.kept) {
        app.tell("snapshot.deleted", Some(id), Some(fate.id));
    }
    Ok(Json(list))
}

/// What becomes of the snapshots that are for everybody to see, and their names. Those that backups are made of do not count.
fn plan(server: &Server, policy: &Retention) -> Vec<(Verdict, String)> {
    let shown: Vec<Snapshot> = server.snapshots().into_iter().filter(is_shown).collect();
    let candidate = |one: &Snapshot| Candidate {
        id: one.id(),
        created_at: one.created_at(),
        kind: one.kind(),
        marks: one.marks(),
    };
    let candidates: Vec<Candidate> = shown.iter().map(candidate).collect();
    let name = |id| shown.iter().find(|one| one.id() == id).map(Snapshot::name).unwrap_or_default();
    let verdicts = policy.plan(&candidates, now()).into_iter();
    verdicts.map(|verdict| (verdict.clone(), name(verdict.id))).collect()
}

fn fates(planned: &[(Verdict, String)]) -> List<Fate> {
    let fate = |(verdict, name): &(Verdict, String)| {
        let word = |reason| serde_json::to_value(reason).ok()?.as_str().map(str::to_owned);
        Fate {
            id: verdict.id.0,
            name: name.clone(),
            created_at: rfc3339(verdict.created_at),
            kept: verdict.is_kept(),
            expired: verdict.expired,
            reasons: verdict.reasons.iter().filter_map(word).collect(),
        }
    };
    let results: Vec<Fate> = planned.iter().map(fate).collect();
    List { count: results.len(), results }
}

/// Add a disk to a server
#[utoipa::path(post, path = "/api/v1/servers/{id}/disks/", tag = "servers", params(("id" = u64, Path)),
    request_body = NewDiskView, responses((status = 201, body = DiskView)))]
pub(super) async fn add_disk(
    State(app): State<Shared>,
    Id(id): Id,
    Body(view): Body<NewDiskView>,
) -> Result<(StatusCode, Json<DiskView>), Refusal> {
    let _lock = app.lock(id).await;
    let shared = app.clone();
    let act = move |store: &Store| {
        let server = changeable(&shared, store, id)?;
        let disk = creation::add_disk(&shared, store, &server, &view)?;
        touch(&server)?;
        Ok(DiskView::of(&disk))
    };
    let view = app.engine.run(act).await?;
    app.tell("server.changed", Some(id), None);
    Ok((StatusCode::CREATED, Json(view)))
}

/// Grow a disk
///
/// Its guest sees the new size when it connects again.
#[utoipa::path(patch, path = "/api/v1/servers/{id}/disks/{disk}/", tag = "servers",
    params(("id" = u64, Path), ("disk" = String, Path)), request_body = SizeView,
    responses((status = 200, body = DiskView)))]
pub(super) async fn grow_disk(
    State(app): State<Shared>,
    IdAndName(id, name): IdAndName,
    Body(size): Body<SizeView>,
) -> Result<Json<DiskView>, Refusal> {
    let wanted = size.bytes().map_err(Refusal::invalid)?;
    let _lock = app.lock(id).await;
    let shared = app.clone();
    let act = move |store: &Store| {
        let server = changeable(&shared, store, id)?;
        let disk = server.disk(&name)?;
        if wanted < disk.size_bytes() {
            let detail = format!("the disk has {} bytes, and disks only grow here", disk.size_bytes());
            return Err(Refusal::invalid(detail));
        }
        disk.resize(wanted)?;
        touch(&server)?;
        Ok(DiskView::of(&disk))
    };
    let view = app.engine.run(act).await?;
    app.tell("server.changed", Some(id), None);
    Ok(Json(view))
}

/// Delete a disk
///
/// Snapshots that hold it keep it.
#[utoipa::path(delete, path = "/api/v1/servers/{id}/disks/{disk}/", tag = "servers",
    params(("id" = u64, Path), ("disk" = String, Path)), responses((status = 204)))]
pub(super) async fn delete_disk(
    State(app): State<Shared>,
    IdAndName(id, name): IdAndName,
) -> Result<StatusCode, Refusal> {
    let _lock = app.lock(id).await;
    let shared = app.clone();
    let act = move |store: &Store| {
        let server = changeable(&shared, store, id)?;
        if shared.status(&server) == ServerStatus::Active {
            let detail = format!("server {:?} is active; stop it before deleting a disk", server.name());
            return Err(Refusal::wrong_state(detail));
        }
        server.delete_disk(&name)?;
        Ok(touch(&server)?)
    };
    app.engine.run(act).await?;
    app.tell("server.changed", Some(id), None);
    Ok(StatusCode::NO_CONTENT)
}

/// The server, unless its status forbids changing its disks.
fn changeable(app: &Shared, store: &Store, id: u64) -> Result<Server, Refusal> {
    let server = server_of(store, id)?;
    let status = app.status(&server);
    if matches!(status, ServerStatus::Active | ServerStatus::Stopped) {
        return Ok(server);
    }
    let detail = format!(
        "server {:?} is {}; its disks can be changed when it is active or stopped",
        server.name(),
        status.word()
    );
    Err(Refusal::wrong_state(detail))
}

fn touch(server: &Server) -> cowblk::Result<()> {
    let mut marks = server.marks();
    marks.labels.insert(UPDATED_AT.into(), now().to_string());
    server.set_marks(marks)
}
