//! Changes: which ranges of disks differ between two snapshots, or between a snapshot and now.

use crate::app::{Shared, server_of, snapshot_of};
use crate::gate::{Id, Query};
use crate::model::List;
use crate::refusal::Refusal;
use axum::Json;
use axum::extract::State;
use cowblk::{Disk, Point, Server, Snapshot, SnapshotDisk, SnapshotId, Store};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Ranges of one disk that an answer lists at most.
const RANGES_MAX: usize = 10_000;

/// What to compare with.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Comparison {
    /// A snapshot of the same server.
    since: Option<u64>,
    /// Without `since`: compare with nothing, and tell everything that is there (so it is for a snapshot unless told otherwise), or compare
    /// with the snapshot that each disk descends from (so it is for a server).
    whole: Option<bool>,
    /// Tell the way back: what would change from here to there.
    #[serde(default)]
    #[param(default = false)]
    reverse: bool,
}

/// A disk's changes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangesView {
    disk: String,
    /// The snapshot that the comparison begins with; null if there is none, or it does not hold the disk.
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

/// A disk on one side of a comparison.
#[derive(Clone)]
struct Side {
    /// What it is called on the side that was asked for.
    disk: String,
    point: Point,
    size_bytes: u64,
    snapshot: Option<u64>,
}

impl Side {
    fn held(name: String, disk: &SnapshotDisk, snapshot: &Snapshot) -> Self {
        let (point, size_bytes) = (Point::from(disk), disk.size_bytes());
        Self { disk: name, point, size_bytes, snapshot: Some(snapshot.id().0) }
    }

    fn all_of(snapshot: &Snapshot) -> Vec<Self> {
        snapshot.disks().iter().map(|disk| Self::held(disk.name(), disk, snapshot)).collect()
    }
}

/// Which ranges changed between two snapshots
#[utoipa::path(get, path = "/api/v1/snapshots/{id}/changes/", tag = "snapshots", operation_id = "snapshot_changes",
    params(("id" = u64, Path), Comparison), responses((status = 200, body = List<ChangesView>)))]
pub(super) async fn of_snapshot(
    State(app): State<Shared>,
    Id(id): Id,
    Query(query): Query<Comparison>,
) -> Result<Json<List<ChangesView>>, Refusal> {
    let act = move |store: &Store| {
        let (snapshot, server) = snapshot_of(store, id)?;
        let parents: Vec<_> = snapshot.disks().iter().map(SnapshotDisk::parent).collect();
        let older = older_side(store, &server, &query, (&Side::all_of(&snapshot), &parents), true)?;
        compare(store, older, Side::all_of(&snapshot), query.reverse)
    };
    app.engine.run(act).await.map(Json)
}

/// Which ranges of a server's disks changed since a snapshot
#[utoipa::path(get, path = "/api/v1/servers/{id}/changes/", tag = "servers", operation_id = "server_changes",
    params(("id" = u64, Path), Comparison), responses((status = 200, body = List<ChangesView>)))]
pub(super) async fn of_server(
    State(app): State<Shared>,
    Id(id): Id,
    Query(query): Query<Comparison>,
) -> Result<Json<List<ChangesView>>, Refusal> {
    let act = move |store: &Store| {
        let server = server_of(store, id)?;
        let disks = server.disks();
        let live = |disk: &Disk| Side {
            disk: disk.name(),
            point: Point::from(disk),
            size_bytes: disk.size_bytes(),
            snapshot: None,
        };
        let newer: Vec<Side> = disks.iter().map(live).collect();
        let parents: Vec<_> = disks.iter().map(Disk::parent).collect();
        let older = older_side(store, &server, &query, (&newer, &parents), false)?;
        compare(store, older, newer, query.reverse)
    };
    app.engine.run(act).await.map(Json)
}

/// What a comparison begins with: the disks of a snapshot, nothing, or each disk as the snapshot holds it that it descends from.
fn older_side(
    store: &Store,
    server: &Server,
    query: &Comparison,
    (newer, parents): (&[Side], &[Option<SnapshotId>]),
    is_whole_unasked: bool,
) -> Result<Vec<Side>, Refusal> {
    match (query.since, query.whole) {
        (Some(_), Some(true)) => {
            Err(Refusal::invalid("`since` begins with a snapshot, and `whole` with nothing: give one"))
        }
        (Some(id), _) => Ok(Side::all_of(&older_of(store, server, id)?)),
        (None, whole) if whole.unwrap_or(is_whole_unasked) => Ok(Vec::new()),
        (None, _) => {
            let mut older = Vec::new();
            for (side, parent) in newer.iter().zip(parents) {
                if let Some(parent) = parent {
                    let snapshot = store.snapshot(*parent)?;
                    older.push(Side::held(side.disk.clone(), &snapshot.disk_behind(&side.point)?, &snapshot));
                }
            }
            Ok(older)
        }
    }
}

fn older_of(store: &Store, server: &Server, id: u64) -> Result<Snapshot, Refusal> {
    match snapshot_of(store, id) {
        Ok((older, owner)) if owner.id() == server.id() => Ok(older),
        _ => Err(Refusal::invalid(format!("`since`: server {:?} has no snapshot {id}", server.name()))),
    }
}

fn compare(
    store: &Store,
    mut older: Vec<Side>,
    mut newer: Vec<Side>,
    is_reverse: bool,
) -> Result<List<ChangesView>, Refusal> {
    if is_reverse {
        std::mem::swap(&mut older, &mut newer);
    }
    let find = |sides: &[Side], name: &str| sides.iter().find(|side| side.disk == name).cloned();
    let mut results = Vec::new();
    for side in &newer {
        results.push(changes(store, find(&older, &side.disk).as_ref(), side)?);
    }
    for gone in older.iter().filter(|old| find(&newer, &old.disk).is_none()) {
        results.push(ChangesView {
            disk: gone.disk.clone(),
            since: gone.snapshot,
            older_size_bytes: Some(gone.size_bytes),
            size_bytes: None,
            data_bytes: 0,
            hole_bytes: 0,
            changes: Vec::new(),
            is_cut: false,
        });
    }
    Ok(List { count: results.len(), results })
}

fn changes(store: &Store, older: Option<&Side>, newer: &Side) -> Result<ChangesView, Refusal> {
    let found = store.changes(older.map(|side| &side.point), &newer.point)?;
    let mut view = ChangesView {
        disk: newer.disk.clone(),
        since: older.and_then(|side| side.snapshot),
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
