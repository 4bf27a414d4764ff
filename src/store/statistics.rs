//! Statistics: what a store is made of, and what it did since it was opened.
//!
//! Floor 5.

use super::blocks::Purpose;
use super::engine::Engine;
use super::latencies::Waits;
use super::reclaimable::reclaimable_blocks;
use crate::format::FORMAT_VERSION;
use crate::units::wide;
use serde::Serialize;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that calls add to.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    pub(super) checkpoints: AtomicU64,
    pub(super) collected_blocks: AtomicU64,
    pub(super) taken_over_bytes: AtomicU64,
    pub(super) refused_writes: AtomicU64,
}

impl Counters {
    /// Adds to a counter. Returns what it was before.
    pub(super) fn add(counter: &AtomicU64, count: u64) -> u64 {
        counter.fetch_add(count, Ordering::Relaxed)
    }
}

/// What a store is made of now.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it; those that do not are documented")]
pub struct Status {
    /// Hexadecimal, 32 digits.
    pub uuid: String,
    pub format_version: u32,
    pub block_size: u32,
    pub zone_blocks: u32,
    pub zones: u64,
    /// The length of the file or device.
    pub file_bytes: u64,
    pub journal_bytes: u64,
    pub servers: u64,
    pub disks: u64,
    /// Snapshots that users made or restores kept.
    pub snapshots: u64,
    /// Blocks that can be written now, without growing.
    pub free_blocks: u64,
    /// Those of them that may have no space in the file system, to which it was given back; they get it before they are written.
    pub thin_blocks: u64,
    /// Blocks that hold data, extent nodes or the catalog, or wait for a checkpoint to free them.
    pub used_blocks: u64,
    /// Data blocks that the store can come to have; null where nobody knows, since its file may grow without a limit.
    pub capacity_blocks: Option<u64>,
    /// Blocks of superblocks, journal and refcount tables.
    pub metadata_blocks: u64,
    /// Blocks of the free ones that data never takes: deletes, discards, checkpoints and closing live on them.
    pub reserve_blocks: u64,
    /// Blocks that deduplication saves, as of the last checkpoint: references beyond the first of each block.
    pub saved_blocks: u64,
    /// Deleted versions, and parts of maps that were cut off, that are still there: to be walked by the collector, or walked
    /// and kept while several disks or snapshots go on from them.
    pub reclaimable_versions: u64,
    /// Those of them that the collector has still to walk: 0 once it has nothing left to do.
    pub uncollected_versions: u64,
    /// About how many blocks of data that will free: of a snapshot or disk exactly, if its size was counted when it was deleted.
    pub reclaimable_blocks: u64,
    /// References that the collector dropped since the store was opened.
    pub collected_blocks: u64,
    /// How many checkpoints the store has seen.
    pub generation: u64,
    /// What a recovery would have to read.
    pub journal_used_bytes: u64,
    /// Memory that changed extent maps take.
    pub dirty_bytes: u64,
    /// A write or sync failed: changes are refused.
    pub halted: bool,
    pub read_only: bool,
}

/// What a store did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it; those that do not are documented")]
pub struct Stats {
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
    /// Bytes that callers read.
    pub bytes_read: u64,
    /// Bytes that callers wrote.
    pub bytes_written: u64,
    pub device_reads: u64,
    pub device_writes: u64,
    pub device_bytes_read: u64,
    pub device_bytes_written: u64,
    pub device_syncs: u64,
    pub checkpoints: u64,
    /// Extent nodes found in the cache.
    pub cache_hits: u64,
    /// Extent nodes read from the device.
    pub cache_misses: u64,
    /// References that the collector dropped.
    pub collected_blocks: u64,
    /// Bytes of blocks that a process which was killed left in its handover file, and that opening took over.
    pub taken_over_bytes: u64,
    /// Writes that failed because there was no space.
    pub refused_writes: u64,
    /// What checkpoints took, in nanoseconds. They run beside reads and writes.
    pub checkpoint_ns: u64,
    /// What the steps of the collector took, in nanoseconds, without its rests and without checkpoints.
    pub collector_ns: u64,
    /// What callers waited for.
    pub waits: Waits,
}

impl Engine {
    /// What the store is made of now.
    pub(super) fn status(&self) -> Status {
        let (free, thin, zones, unused, level) = {
            let allocator = self.allocator.lock();
            let (thin, level) = (allocator.thin_free(), self.level(&allocator));
            (allocator.free() + thin, thin, allocator.zones(), allocator.reserved(), level)
        };
        let data = zones * u64::from(self.geometry.data_blocks_per_zone());
        let state = self.state.read();
        let lineage = &state.catalog.lineage;
        Status {
            uuid: self.uuid.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            }),
            format_version: FORMAT_VERSION,
            block_size: self.block_size(),
            zone_blocks: self.geometry.zone_blocks(),
            zones,
            file_bytes: self.device.len_bytes().unwrap_or(0),
            journal_bytes: self.geometry.journal_bytes(),
            servers: wide(state.catalog.servers.len()),
            disks: wide(state.catalog.disks.len()),
            snapshots: wide(state.catalog.snapshots.len()),
            free_blocks: free + unused,
            thin_blocks: thin,
            used_blocks: data - free - unused,
            capacity_blocks: level.map(|level| level.capacity),
            metadata_blocks: self.geometry.length_blocks(zones) - data,
            reserve_blocks: self.floor(Purpose::Data),
            reclaimable_blocks: reclaimable_blocks(&state, self.block_size()).min(data - free - unused),
            collected_blocks: self.counters.collected_blocks.load(Ordering::Relaxed),
            saved_blocks: self.saved_blocks.load(Ordering::Relaxed),
            reclaimable_versions: wide(
                lineage.queue.len() + lineage.kept.len() + state.catalog.garbage.len(),
            ),
            uncollected_versions: wide(lineage.queue.len() + state.catalog.garbage.len()),
            generation: self.maintenance.try_lock().map_or(0, |checkpointer| checkpointer.generation.0),
            journal_used_bytes: self.journal.used_bytes(),
            dirty_bytes: self.dirty_bytes.load(Ordering::Relaxed),
            halted: self.is_halted.load(Ordering::Acquire),
            read_only: self.is_read_only,
        }
    }

    /// What the store did since it was opened.
    pub(super) fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (cache_hits, cache_misses) = self.nodes.hits_and_misses();
        Stats {
            reads: get(&self.counters.reads),
            writes: get(&self.counters.writes),
            flushes: get(&self.counters.flushes),
            bytes_read: get(&self.counters.bytes_read),
            bytes_written: get(&self.counters.bytes_written),
            device_reads: get(&self.meter.reads),
            device_writes: get(&self.meter.writes),
            device_bytes_read: get(&self.meter.bytes_read),
            device_bytes_written: get(&self.meter.bytes_written),
            device_syncs: get(&self.meter.syncs),
            checkpoints: get(&self.counters.checkpoints),
            cache_hits,
            cache_misses,
            collected_blocks: get(&self.counters.collected_blocks),
            taken_over_bytes: get(&self.counters.taken_over_bytes),
            refused_writes: get(&self.counters.refused_writes),
            checkpoint_ns: self.times.checkpoint.sum_ns(),
            collector_ns: self.times.collector.spent().total_ns,
            waits: self.waits(),
        }
    }
}
