//! Backups: list, create, show, restore, delete.

use super::snapshots::Afterwards;
use crate::app::Shared;
use crate::flows::backup;
use crate::flows::restore::{Target, restore as go_back};
use crate::gate::{Body, Id, Query, RequestMark};
use crate::model::{BackupType, BackupView, List, NewBackupView, Part, RestoredView};
use crate::refusal::Refusal;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use cowblk::Store;
use serde::Deserialize;
use utoipa::IntoParams;

/// Which backups to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Only those of this server, which may be gone.
    server_id: Option<u64>,
    /// Only those of this kind.
    #[param(inline)]
    backup_type: Option<BackupType>,
    /// Show so many at most.
    limit: Option<u32>,
    /// Leave out so many of the newest.
    #[serde(default)]
    #[param(default = 0)]
    offset: u32,
}

/// List backups
#[utoipa::path(get, path = "/api/v1/backups/", tag = "backups", params(Filter), operation_id = "list_backups",
    responses((status = 200, body = List<BackupView>)))]
pub(super) async fn list(
    State(app): State<Shared>,
    Query(filter): Query<Filter>,
) -> Result<Json<List<BackupView>>, Refusal> {
    let backups = backup::storage(&app)?;
    let act = move |store: &Store| {
        let mut all = backup::list(store, &backups);
        all.retain(|view| filter.server_id.is_none_or(|id| view.server.id == id));
        all.retain(|view| filter.backup_type.is_none_or(|kind| view.backup_type == kind));
        Ok(List::part(all, Part { limit: filter.limit, offset: filter.offset }, |view| view))
    };
    app.engine.run(act).await.map(Json)
}

/// Make a backup
///
/// The instant is that of the request; the copy is made behind the answer.
#[utoipa::path(post, path = "/api/v1/backups/", tag = "backups", request_body = NewBackupView,
    params(("Idempotency-Key" = Option<String>, Header, description = "Do this once, however often it is sent")),
    operation_id = "create_backup", responses((status = 201, body = BackupView)))]
pub(super) async fn create(
    State(app): State<Shared>,
    mark: Option<Extension<RequestMark>>,
    Body(view): Body<NewBackupView>,
) -> Result<(StatusCode, Json<BackupView>), Refusal> {
    let description = view.description.unwrap_or_default();
    let view =
        backup::create(&app, view.server_id, (BackupType::Manual, description), mark.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Show a backup
#[utoipa::path(get, path = "/api/v1/backups/{id}/", tag = "backups", params(("id" = u64, Path)),
    operation_id = "show_backup", responses((status = 200, body = BackupView)))]
pub(super) async fn show(State(app): State<Shared>, Id(id): Id) -> Result<Json<BackupView>, Refusal> {
    let backups = backup::storage(&app)?;
    let act = move |store: &Store| {
        let found = backup::list(store, &backups).into_iter().find(|view| view.id == id);
        found.ok_or_else(|| Refusal::not_found(format!("there is no backup {id}")))
    };
    app.engine.run(act).await.map(Json)
}

/// Take a server back to a backup
///
/// As a restore of a snapshot: an active server is stopped first, and it can be undone.
#[utoipa::path(post, path = "/api/v1/backups/{id}/restore/", tag = "backups", params(("id" = u64, Path), Afterwards),
    operation_id = "restore_backup", responses((status = 200, body = RestoredView)))]
pub(super) async fn restore(
    State(app): State<Shared>,
    Id(id): Id,
    Query(afterwards): Query<Afterwards>,
) -> Result<Json<RestoredView>, Refusal> {
    go_back(&app, Target::Backup(id), afterwards.start).await.map(Json)
}

/// Delete a backup
#[utoipa::path(delete, path = "/api/v1/backups/{id}/", tag = "backups", params(("id" = u64, Path)),
    operation_id = "delete_backup", responses((status = 204)))]
pub(super) async fn delete(State(app): State<Shared>, Id(id): Id) -> Result<StatusCode, Refusal> {
    let backups = backup::storage(&app)?;
    app.engine.run(move |store| backup::delete(store, &backups, id)).await?;
    app.tell("backup.deleted", None, None);
    Ok(StatusCode::NO_CONTENT)
}
