//! Stats: what the store did since the daemon was started, and how long it took.

use crate::app::Shared;
use crate::refusal::Refusal;
use axum::Json;
use axum::extract::State;
use cowblk::{Latencies, LatencyHistogram, Spent, Stats, Waits};
use serde::Serialize;
use utoipa::ToSchema;

/// What the store did since the daemon was started. Times are in nanoseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatsView {
    reads: u64,
    writes: u64,
    flushes: u64,
    /// Bytes that were read from disks.
    bytes_read: u64,
    /// Bytes that were written to disks.
    bytes_written: u64,
    device_reads: u64,
    device_writes: u64,
    device_syncs: u64,
    device_bytes_read: u64,
    device_bytes_written: u64,
    checkpoints: u64,
    /// Writes that failed because the store was full.
    refused_writes: u64,
    /// Extent nodes found in memory.
    cache_hits: u64,
    /// Extent nodes read from the medium.
    cache_misses: u64,
    /// What checkpoints took.
    checkpoint_ns: u64,
    /// What the steps of the collector took.
    collector_ns: u64,
    latencies: LatenciesView,
    waits: WaitsView,
}

/// How long calls took. Of reads, writes and reads of the medium one in 16 is timed.
#[derive(Debug, Serialize, ToSchema)]
struct LatenciesView {
    read: LatencyView,
    write: LatencyView,
    flush: LatencyView,
    checkpoint: LatencyView,
    /// How long checkpoints kept changes out.
    freeze: LatencyView,
    device_read: LatencyView,
    device_write: LatencyView,
    device_sync: LatencyView,
}

/// How long calls of one kind took: each quantile at most an eighth too much.
#[derive(Debug, Serialize, ToSchema)]
struct LatencyView {
    /// Calls that were timed.
    count: u64,
    mean_ns: u64,
    /// Half of them took no longer.
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    /// None took longer.
    max_ns: u64,
}

/// What callers waited for.
#[derive(Debug, Serialize, ToSchema)]
struct WaitsView {
    /// Room in the journal.
    journal: WaitView,
    /// Memory for changes.
    memory: WaitView,
    /// The medium, since it takes data more slowly than it is written.
    write_behind: WaitView,
    /// The flushes of others.
    flush: WaitView,
    /// Checkpoints that kept changes out.
    freeze: WaitView,
    /// Free blocks.
    space: WaitView,
}

/// How often, and how long in all.
#[derive(Debug, Serialize, ToSchema)]
struct WaitView {
    count: u64,
    total_ns: u64,
}

impl StatsView {
    fn of(stats: &Stats, latencies: &Latencies) -> Self {
        Self {
            reads: stats.reads,
            writes: stats.writes,
            flushes: stats.flushes,
            bytes_read: stats.bytes_read,
            bytes_written: stats.bytes_written,
            device_reads: stats.device_reads,
            device_writes: stats.device_writes,
            device_syncs: stats.device_syncs,
            device_bytes_read: stats.device_bytes_read,
            device_bytes_written: stats.device_bytes_written,
            checkpoints: stats.checkpoints,
            refused_writes: stats.refused_writes,
            cache_hits: stats.cache_hits,
            cache_misses: stats.cache_misses,
            checkpoint_ns: stats.checkpoint_ns,
            collector_ns: stats.collector_ns,
            latencies: LatenciesView::of(latencies),
            waits: WaitsView::of(&stats.waits),
        }
    }
}

impl LatenciesView {
    fn of(latencies: &Latencies) -> Self {
        Self {
            read: LatencyView::of(&latencies.read),
            write: LatencyView::of(&latencies.write),
            flush: LatencyView::of(&latencies.flush),
            checkpoint: LatencyView::of(&latencies.checkpoint),
            freeze: LatencyView::of(&latencies.freeze),
            device_read: LatencyView::of(&latencies.device_read),
            device_write: LatencyView::of(&latencies.device_write),
            device_sync: LatencyView::of(&latencies.device_sync),
        }
    }
}

impl LatencyView {
    fn of(histogram: &LatencyHistogram) -> Self {
        Self {
            count: histogram.count(),
            mean_ns: histogram.mean_ns(),
            p50_ns: histogram.quantile_ns(0.5),
            p90_ns: histogram.quantile_ns(0.9),
            p99_ns: histogram.quantile_ns(0.99),
            p999_ns: histogram.quantile_ns(0.999),
            max_ns: histogram.quantile_ns(1.0),
        }
    }
}

impl WaitsView {
    fn of(waits: &Waits) -> Self {
        let of = |spent: Spent| WaitView { count: spent.count, total_ns: spent.total_ns };
        Self {
            journal: of(waits.journal),
            memory: of(waits.memory),
            write_behind: of(waits.write_behind),
            flush: of(waits.flush),
            freeze: of(waits.freeze),
            space: of(waits.space),
        }
    }
}

/// What the store did since the daemon was started, and how long it took
#[utoipa::path(get, path = "/api/v1/stats/", tag = "store", responses((status = 200, body = StatsView)))]
pub(super) async fn stats(State(app): State<Shared>) -> Result<Json<StatsView>, Refusal> {
    let store = app.engine.store();
    // In this order, so that no more is timed than was counted.
    let latencies = store.latencies();
    Ok(Json(StatsView::of(&store.stats(), &latencies)))
}
