//! Changes: which ranges of disks differ between two snapshots, or between a snapshot and now.

use crate::app::{Shared, server_of, snapshot_of};
use crate::gate::{Id, Query};
use crate::model::List;
use crate::refusal::Refusal;
use axum::Json;
use axum::extract::State;
use cowblk::{Point, Server, Snapshot, SnapshotId, Store};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Ranges of one disk that an answer lists at most.
const RANGES_MAX: usize = 10_000;

/// What to compare with.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Since {
    /// A snapshot of the same server. Without one: everything that a snapshot holds; of a server, what changed since the
    /// snapshot that each disk descends from.
    since: Option<u64>,
}

/// A disk's changes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangesView {
    disk: String,
    /// The snapshot that it is compared with; null for a disk that is not in one.
    since: Option<u64>,
    /// Null for a disk that the older snapshot does not hold.
    older_size_bytes: Option<u64>,
    /// Null for a disk that is gone.
    size_bytes: Option<u64>,
    data_bytes: u64,
    hole_bytes: u64,
    changes: Vec<RangeView>,
    /// There are more ranges than are listed; the sums are of all.
    is_cut: bool,
}

/// A range that changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RangeView {
    offset: u64,
    length: u64,
    /// `data` or `hole`.
    kind: &'static str,
}

/// A disk as it is to be compared: its name, where to look, and what it descends from.
struct Newer {
    disk: String,
    point: Point,
    parent: Option<SnapshotId>,
}

/// Which ranges changed between two snapshots
#[utoipa::path(get, path = "/api/v1/snapshots/{id}/changes/", tag = "snapshots", operation_id = "snapshot_changes",
    params(("id" = u64, Path), Since), responses((status = 200, body = List<ChangesView>)))]
pub(super) async fn of_snapshot(
    State(app): State<Shared>,
    Id(id): Id,
    Query(query): Query<Since>,
) -> Result<Json<List<ChangesView>>, Refusal> {
    let act = move |store: &Store| {
        let (snapshot, server) = snapshot_of(store, id)?;
        let older = query.since.map(|id| older_of(store, &server, id)).transpose()?;
        let newer =
            |disk: &cowblk::SnapshotDisk| Newer { disk: disk.name(), point: Point::from(disk), parent: None };
        compare(store, older.as_ref(), snapshot.disks().iter().map(newer))
    };
    app.engine.run(act).await.map(Json)
}

/// Which ranges of a server's disks changed since a snapshot
#[utoipa::path(get, path = "/api/v1/servers/{id}/changes/", tag = "servers", operation_id = "server_changes",
    params(("id" = u64, Path), Since), responses((status = 200, body = List<ChangesView>)))]
pub(super) async fn of_server(
    State(app): State<Shared>,
    Id(id): Id,
    Query(query): Query<Since>,
) -> Result<Json<List<ChangesView>>, Refusal> {
    let act = move |store: &Store| {
        let server = server_of(store, id)?;
        let older = query.since.map(|id| older_of(store, &server, id)).transpose()?;
        let newer = |disk: &cowblk::Disk| Newer {
            disk: disk.name(),
            point: Point::from(disk),
            parent: disk.parent(),
        };
        compare(store, older.as_ref(), server.disks().iter().map(newer))
    };
    app.engine.run(act).await.map(Json)
}

fn older_of(store: &Store, server: &Server, id: u64) -> Result<Snapshot, Refusal> {
    match snapshot_of(store, id) {
        Ok((older, owner)) if owner.id() == server.id() => Ok(older),
        _ => Err(Refusal::invalid(format!("`since`: server {:?} has no snapshot {id}", server.name()))),
    }
}

fn compare(
    store: &Store,
    older: Option<&Snapshot>,
    newer: impl Iterator<Item = Newer>,
) -> Result<List<ChangesView>, Refusal> {
    let mut results = Vec::new();
    for Newer { disk, point, parent } in newer {
        let descent = match older {
            Some(_) => None,
            None => parent.and_then(|id| store.snapshot(id).ok()),
        };
        results.push(changes(store, disk, older.or(descent.as_ref()), &point)?);
    }
    for gone in older.iter().flat_map(|older| older.disks()) {
        if !results.iter().any(|view: &ChangesView| view.disk == gone.name()) {
            results.push(ChangesView {
                disk: gone.name(),
                since: older.map(|snapshot| snapshot.id().0),
                older_size_bytes: Some(gone.size_bytes()),
                size_bytes: None,
                data_bytes: 0,
                hole_bytes: 0,
                changes: Vec::new(),
                is_cut: false,
            });
        }
    }
    Ok(List { count: results.len(), results })
}

fn changes(
    store: &Store,
    disk: String,
    older: Option<&Snapshot>,
    newer: &Point,
) -> Result<ChangesView, Refusal> {
    let held = older.and_then(|snapshot| snapshot.disk(&disk).ok());
    let found = store.changes(held.as_ref().map(Point::from).as_ref(), newer)?;
    let mut view = ChangesView {
        disk,
        since: older.filter(|_| held.is_some()).map(|snapshot| snapshot.id().0),
        older_size_bytes: found.older_size_bytes(),
        size_bytes: Some(found.newer_size_bytes()),
        data_bytes: 0,
        hole_bytes: 0,
        changes: Vec::new(),
        is_cut: false,
    };
    for change in found {
        let change = change?;
        let sum = if change.is_data() { &mut view.data_bytes } else { &mut view.hole_bytes };
        *sum += change.len;
        if view.changes.len() < RANGES_MAX {
            let kind = if change.is_data() { "data" } else { "hole" };
            view.changes.push(RangeView { offset: change.offset, length: change.len, kind });
        } else {
            view.is_cut = true;
        }
    }
    Ok(view)
}
