//! Space: how full the store is, what the collector has still to do, and giving space back at once.

use crate::app::Shared;
use crate::refusal::Refusal;
use axum::Json;
use axum::extract::State;
use cowblk::Store;
use serde::Serialize;
use utoipa::ToSchema;

/// How full the store is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SpaceView {
    /// The length of the store's file or device.
    file_bytes: u64,
    /// Data, maps and the catalog, of what was deleted and not collected, too.
    used_bytes: u64,
    /// What can be written without growing.
    free_bytes: u64,
    /// Of the used bytes, about what the collector will free.
    reclaimable_bytes: u64,
    /// Superblocks, journal and refcount tables; neither used nor free.
    metadata_bytes: u64,
    /// Of the free bytes, what data never takes: deleting, discarding and closing live on them.
    reserve_bytes: u64,
    /// What deduplication saves.
    saved_bytes: u64,
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
    /// About how much that will free, at most.
    waiting_bytes: u64,
    /// Blocks that it let go of since the daemon was started.
    collected_blocks: u64,
}

/// What collecting freed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CollectedView {
    used_blocks_before: u64,
    used_blocks_after: u64,
    freed_bytes: u64,
}

/// What was given back to what lies below the store.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrimmedView {
    given_back_bytes: u64,
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
        reclaimable_bytes: status.reclaimable_blocks * block,
        metadata_bytes: status.metadata_blocks * block,
        reserve_bytes: status.reserve_blocks * block,
        saved_bytes: status.saved_blocks * block,
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
    let act = |store: &Store| {
        let status = store.status();
        Ok(CollectorView {
            waiting_versions: status.uncollected_versions,
            waiting_bytes: status.reclaimable_blocks * u64::from(status.block_size),
            collected_blocks: status.collected_blocks,
        })
    };
    app.engine.run(act).await.map(Json)
}

/// Collect everything that was deleted, at full speed
#[utoipa::path(post, path = "/api/v1/collector/", tag = "store", responses((status = 200, body = CollectedView)))]
pub(super) async fn collect(State(app): State<Shared>) -> Result<Json<CollectedView>, Refusal> {
    let act = |store: &Store| {
        let before = store.status();
        store.collect()?;
        let after = store.status();
        let freed = before.used_blocks.saturating_sub(after.used_blocks);
        Ok(CollectedView {
            used_blocks_before: before.used_blocks,
            used_blocks_after: after.used_blocks,
            freed_bytes: freed * u64::from(after.block_size),
        })
    };
    let view = app.engine.run(act).await?;
    app.tell("collector.done", None, None);
    Ok(Json(view))
}

/// Give the space of free blocks back to the file system or device below the store
#[utoipa::path(post, path = "/api/v1/trim/", tag = "store", responses((status = 200, body = TrimmedView)))]
pub(super) async fn trim(State(app): State<Shared>) -> Result<Json<TrimmedView>, Refusal> {
    let act = |store: &Store| Ok(TrimmedView { given_back_bytes: store.trim()? });
    app.engine.run(act).await.map(Json)
}
