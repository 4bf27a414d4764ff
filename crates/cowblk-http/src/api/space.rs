//! Space: how full the store is, and what the collector has still to do.

use crate::app::Shared;
use crate::refusal::Refusal;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

/// How full the store is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SpaceView {
    /// The length of the store's file or device.
    file_bytes: u64,
    used_bytes: u64,
    /// What can be written without growing.
    free_bytes: u64,
    /// What data can come to take; null where nobody knows, since the file may grow without a limit.
    capacity_bytes: Option<u64>,
    servers: u64,
    disks: u64,
    snapshots: u64,
    block_size: u32,
    /// A write or sync failed: changes are refused.
    halted: bool,
}

/// What the collector does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CollectorView {
    /// Deleted contents that it has still to walk.
    waiting_versions: u64,
    /// Blocks that it let go of since the daemon was started.
    collected_blocks: u64,
}

/// How full the store is
#[utoipa::path(get, path = "/api/v1/space/", tag = "store", responses((status = 200, body = SpaceView)))]
pub(super) async fn space(State(app): State<Shared>) -> Result<Json<SpaceView>, Refusal> {
    let status = app.engine.run(|store| Ok(store.status())).await?;
    let block = u64::from(status.block_size);
    Ok(Json(SpaceView {
        file_bytes: status.file_bytes,
        used_bytes: status.used_blocks * block,
        free_bytes: status.free_blocks * block,
        capacity_bytes: status.capacity_blocks.map(|blocks| blocks * block),
        servers: status.servers,
        disks: status.disks,
        snapshots: status.snapshots,
        block_size: status.block_size,
        halted: status.halted,
    }))
}

/// What the collector has still to do
#[utoipa::path(get, path = "/api/v1/collector/", tag = "store", responses((status = 200, body = CollectorView)))]
pub(super) async fn collector(State(app): State<Shared>) -> Result<Json<CollectorView>, Refusal> {
    let act =
        |store: &cowblk::Store| Ok((store.status().reclaimable_versions, store.stats().collected_blocks));
    let (waiting_versions, collected_blocks) = app.engine.run(act).await?;
    Ok(Json(CollectorView { waiting_versions, collected_blocks }))
}
