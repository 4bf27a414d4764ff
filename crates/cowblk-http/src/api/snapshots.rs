//! Snapshots: list, create, show, change, delete, restore, clone; what deleting some would free.

use crate::app::{Shared, server_of, snapshot_of};
use crate::flows::create as creation;
use crate::flows::restore::{Target, restore as go_back};
use crate::flows::snapshot::{create as make, parse_time, wanted};
use crate::gate::{Body, Id, Query, RequestMark};
use crate::model::{
    CreatedView, List, NewServerView, NewSnapshotView, Owner, Part, RestoredView, ServerView,
    SnapshotChangeView, SnapshotView, is_shown,
};
use crate::refusal::Refusal;
use crate::state::own_labels;
use crate::times::{mebibytes, rfc3339};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use cowblk::{Freed, SnapshotId, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// Snapshots that can be asked about at once.
const SET_MAX: usize = 1000;

/// Which snapshots to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Only those of this server.
    server_id: Option<u64>,
    /// What restores replaced, too.
    #[serde(default)]
    #[param(default = false)]
    automatic: bool,
    /// Show so many at most.
    limit: Option<u32>,
    /// Leave out so many of the newest.
    #[serde(default)]
    #[param(default = 0)]
    offset: u32,
}

/// List snapshots
#[utoipa::path(get, path = "/api/v1/snapshots/", tag = "snapshots", operation_id = "list_snapshots", params(Filter),
    responses((status = 200, body = List<SnapshotView>)))]
pub(super) async fn list(
    State(app): State<Shared>,
    Query(filter): Query<Filter>,
) -> Result<Json<List<SnapshotView>>, Refusal> {
    let filter_is_narrow = filter.server_id.is_some();
    let act = move |store: &Store| {
        let mut all = match filter.server_id {
            Some(id) => {
                // A filter that nothing passes is no error.
                let Ok(server) = server_of(store, id) else {
                    return Ok(List { count: 0, results: Vec::new() });
                };
                let automatic = server.before_restore().filter(|_| filter.automatic);
                server.snapshots().into_iter().chain(automatic).collect()
            }
            None if filter.automatic => {
                let automatic = store.servers().into_iter().filter_map(|server| server.before_restore());
                store.snapshots().into_iter().chain(automatic).collect()
            }
            None => store.snapshots(),
        };
        all.retain(is_shown);
        all.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.id()));
        let mut owners = BTreeMap::new();
        let part = Part { limit: filter.limit, offset: filter.offset };
        Ok(List::part(all, part, |snapshot| {
            let server = snapshot.server();
            let name = || Owner {
                id: server.0,
                name: store.server_by_id(server).map(|one| one.name()).unwrap_or_default(),
            };
            SnapshotView::of(&snapshot, owners.entry(server).or_insert_with(name))
        }))
    };
    if filter_is_narrow {
        // A look at memory, shorter than a change of threads.
        return act(app.engine.store()).map(Json);
    }
    app.engine.run(act).await.map(Json)
}

/// Make a snapshot
///
/// All disks at one instant. It is durable and can be restored when this returns; its size is counted moments later.
#[utoipa::path(post, path = "/api/v1/snapshots/", tag = "snapshots", operation_id = "create_snapshot", request_body = NewSnapshotView,
    params(("Idempotency-Key" = Option<String>, Header, description = "Do this once, however often it is sent")),
    responses((status = 201, body = CreatedView)))]
pub(super) async fn create(
    State(app): State<Shared>,
    mark: Option<Extension<RequestMark>>,
    Body(view): Body<NewSnapshotView>,
) -> Result<(StatusCode, Json<CreatedView>), Refusal> {
    let id = view.server_id;
    let wanted = wanted(view, mark.as_deref())?;
    make(&app, id, wanted).await.map(|view| (StatusCode::CREATED, Json(view)))
}

/// Show a snapshot
#[utoipa::path(get, path = "/api/v1/snapshots/{id}/", tag = "snapshots", operation_id = "show_snapshot", params(("id" = u64, Path)),
    responses((status = 200, body = SnapshotView)))]
pub(super) async fn show(State(app): State<Shared>, Id(id): Id) -> Result<Json<SnapshotView>, Refusal> {
    app.engine.run(move |store| view_of(store, id)).await.map(Json)
}

/// Change what keeps a snapshot, and its labels
#[utoipa::path(patch, path = "/api/v1/snapshots/{id}/", tag = "snapshots", operation_id = "change_snapshot", params(("id" = u64, Path)),
    request_body = SnapshotChangeView, responses((status = 200, body = SnapshotView)))]
pub(super) async fn change(
    State(app): State<Shared>,
    Id(id): Id,
    Body(change): Body<SnapshotChangeView>,
) -> Result<Json<SnapshotView>, Refusal> {
    let expires_at = match change.expires_at.as_deref() {
        None => None,
        Some("") => Some(None),
        Some(text) => Some(Some(parse_time(text)?)),
    };
    change.labels.as_ref().map_or(Ok(()), own_labels).map_err(Refusal::invalid)?;
    let act = move |store: &Store| {
        let (snapshot, _) = snapshot_of(store, id)?;
        let mut marks = snapshot.marks();
        marks.protected = change.protected.unwrap_or(marks.protected);
        marks.expires_at = expires_at.unwrap_or(marks.expires_at);
        if let Some(labels) = change.labels {
            marks.labels.retain(|key, _| key.starts_with("cowblk."));
            marks.labels.extend(labels);
        }
        snapshot.set_marks(marks)?;
        view_of(store, id)
    };
    let view = app.engine.run(act).await?;
    app.tell("snapshot.changed", Some(view.server.id), Some(id));
    Ok(Json(view))
}

/// Delete a snapshot
///
/// It is gone at once; the collector gives back what nobody else holds.
#[utoipa::path(delete, path = "/api/v1/snapshots/{id}/", tag = "snapshots", operation_id = "delete_snapshot", params(("id" = u64, Path)),
    responses((status = 204)))]
pub(super) async fn delete(State(app): State<Shared>, Id(id): Id) -> Result<StatusCode, Refusal> {
    let act = move |store: &Store| {
        let (_, server) = snapshot_of(store, id)?;
        store.delete_snapshot(SnapshotId(id))?;
        Ok(server.id().0)
    };
    let server = app.engine.run(act).await?;
    app.tell("snapshot.deleted", Some(server), Some(id));
    Ok(StatusCode::NO_CONTENT)
}

/// What a restore does afterwards.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Afterwards {
    /// Start the server again.
    #[serde(default)]
    #[param(default = false)]
    pub(super) start: bool,
}

/// Take a server back to a snapshot
///
/// An active server is stopped first. Newer snapshots stay, and what the disks held is kept until the next restore:
/// `POST /api/v1/servers/{id}/undo/` takes the restore back.
#[utoipa::path(post, path = "/api/v1/snapshots/{id}/restore/", tag = "snapshots", params(("id" = u64, Path), Afterwards,
    ("Idempotency-Key" = Option<String>, Header, description = "Do this once, however often it is sent")),
    responses((status = 200, body = RestoredView)))]
pub(super) async fn restore(
    State(app): State<Shared>,
    Id(id): Id,
    Query(afterwards): Query<Afterwards>,
) -> Result<Json<RestoredView>, Refusal> {
    go_back(&app, Target::Snapshot(id), afterwards.start).await.map(Json)
}

/// A server that is to be made of a snapshot.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CloneView {
    /// Letters, digits, hyphens, underscores; unique.
    #[schema(example = "web-server-02", min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    name: String,
}

/// Make a server of a snapshot
///
/// At once, whatever its size. Server and snapshot are independent.
#[utoipa::path(post, path = "/api/v1/snapshots/{id}/clone/", tag = "snapshots", params(("id" = u64, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "Do this once, however often it is sent")),
    request_body = CloneView, responses((status = 201, body = ServerView)))]
pub(super) async fn clone_server(
    State(app): State<Shared>,
    mark: Option<Extension<RequestMark>>,
    Id(id): Id,
    Body(view): Body<CloneView>,
) -> Result<(StatusCode, Json<ServerView>), Refusal> {
    app.engine.run(move |store| snapshot_of(store, id).map(drop)).await?;
    let view = NewServerView { name: view.name, snapshot_id: Some(id), ..NewServerView::default() };
    let made = creation::create(&app, view, mark.map(|Extension(mark)| mark)).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// A set of snapshots, or a server with all that it has.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Set {
    /// Ids with commas between them.
    #[param(example = "801,802")]
    ids: Option<String>,
    server_id: Option<u64>,
}

/// What deleting would free.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FreedView {
    ids: Vec<u64>,
    data_bytes: u64,
    data_mb: u64,
    /// Of the maps, at most.
    metadata_bytes: u64,
    counted_at: String,
}

impl FreedView {
    fn of(ids: Vec<u64>, Freed { data_bytes, metadata_bytes }: Freed, counted_at: String) -> Self {
        Self { ids, data_bytes, data_mb: mebibytes(data_bytes), metadata_bytes, counted_at }
    }
}

/// What deleting these snapshots, all together, or a server with its disks and snapshots, would free
#[utoipa::path(get, path = "/api/v1/would-free/", tag = "snapshots", params(Set),
    responses((status = 200, body = FreedView)))]
pub(super) async fn would_free(
    State(app): State<Shared>,
    Query(set): Query<Set>,
) -> Result<Json<FreedView>, Refusal> {
    let counted_at = rfc3339(app.now());
    let ids = match (set.ids, set.server_id) {
        (Some(ids), None) => ids,
        (None, Some(id)) => {
            let act = move |store: &Store| {
                let server = server_of(store, id)?;
                let shown = server.snapshots().into_iter().filter(is_shown);
                let mut ids: Vec<u64> = shown.map(|one| one.id().0).collect();
                ids.sort_unstable();
                Ok(FreedView::of(ids, server.would_free()?, counted_at))
            };
            return app.engine.run(act).await.map(Json);
        }
        _ => return Err(Refusal::invalid("give either `ids` or `server_id`")),
    };
    let parsed: Result<Vec<u64>, _> = ids.split(',').map(|text| text.trim().parse()).collect();
    let mut ids = parsed.map_err(|_| Refusal::invalid("`ids` are whole numbers with commas between them"))?;
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > SET_MAX {
        return Err(Refusal::invalid(format!("at most {SET_MAX} snapshots at once")));
    }
    let act = move |store: &Store| {
        for id in &ids {
            snapshot_of(store, *id)?;
        }
        let set: Vec<SnapshotId> = ids.iter().copied().map(SnapshotId).collect();
        Ok(FreedView::of(ids, store.would_free(&set)?, counted_at))
    };
    app.engine.run(act).await.map(Json)
}

fn view_of(store: &Store, id: u64) -> Result<SnapshotView, Refusal> {
    let (snapshot, server) = snapshot_of(store, id)?;
    Ok(SnapshotView::of(&snapshot, &Owner::of(&server)))
}
