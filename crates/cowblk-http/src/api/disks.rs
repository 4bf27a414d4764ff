//! Disks: add one, resize it, change what its writes do in a full store, delete it.

use crate::app::{Shared, server_of};
use crate::flows::create as creation;
use crate::gate::{Body, Id, IdAndName};
use crate::model::{DiskChangeView, DiskView, NewDiskView};
use crate::refusal::Refusal;
use crate::state::{ServerStatus, UPDATED_AT};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use cowblk::{Disk, Server, Store, WhenFull};

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
        touch(&shared, &server)?;
        Ok(DiskView::of(&disk))
    };
    let view = app.engine.run(act).await?;
    app.tell("server.changed", Some(id), None);
    Ok((StatusCode::CREATED, Json(view)))
}

/// Resize a disk, or change what its writes do in a full store
///
/// Growing works at any time: a client of NBD sees the new size when it connects again. A smaller size needs a server that
/// is stopped; it is refused where it would cut off data, unless `cut` says that it may, and ends the connections of NBD clients.
#[utoipa::path(patch, path = "/api/v1/servers/{id}/disks/{disk}/", tag = "servers",
    params(("id" = u64, Path), ("disk" = String, Path)), request_body = DiskChangeView,
    responses((status = 200, body = DiskView)))]
pub(super) async fn change_disk(
    State(app): State<Shared>,
    IdAndName(id, name): IdAndName,
    Body(change): Body<DiskChangeView>,
) -> Result<Json<DiskView>, Refusal> {
    let size = change.bytes().map_err(Refusal::invalid)?;
    let patience = change.when_full_wait_seconds.map(|seconds| match seconds {
        0 => WhenFull::Fail,
        seconds => WhenFull::WaitSeconds(seconds),
    });
    if size.is_none() && patience.is_none() {
        return Err(Refusal::invalid("give `size_bytes`, `size_gb` or `when_full_wait_seconds`"));
    }
    let _lock = app.lock(id).await;
    let shared = app.clone();
    let act = move |store: &Store| {
        let server = changeable(&shared, store, id)?;
        let disk = server.disk(&name)?;
        match size {
            Some(size) if size < disk.size_bytes() => shrink(&shared, &server, &disk, size, change.cut)?,
            Some(size) => disk.resize(size)?,
            None => {}
        }
        patience.map_or(Ok(()), |patience| disk.set_when_full(patience))?;
        touch(&shared, &server)?;
        Ok(DiskView::of(&disk))
    };
    let view = app.engine.run(act).await?;
    app.tell("server.changed", Some(id), None);
    Ok(Json(view))
}

/// Makes a disk smaller. Nobody uses it meanwhile, and whoever did has to look at its size again.
fn shrink(app: &Shared, server: &Server, disk: &Disk, size: u64, may_cut: bool) -> Result<(), Refusal> {
    if app.status(server) == ServerStatus::Active {
        let detail = format!("server {:?} is active; stop it before making a disk smaller", server.name());
        return Err(Refusal::wrong_state(detail));
    }
    let _hold = app.nbd.as_ref().map(|nbd| nbd.hold(server.id(), "one of its disks is made smaller"));
    let done = if may_cut { disk.resize_cutting(size) } else { disk.resize(size) };
    Ok(done?)
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
        Ok(touch(&shared, &server)?)
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

fn touch(app: &Shared, server: &Server) -> cowblk::Result<()> {
    let mut marks = server.marks();
    marks.labels.insert(UPDATED_AT.into(), app.now().to_string());
    server.set_marks(marks)
}
