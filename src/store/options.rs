//! Options: how a store is made and opened.
//!
//! Floor 5.

use crate::limits::CUT_BLOCKS_MIN;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// How a store is made and opened. The defaults suit a host with many disks.
///
/// ```
/// let options = cowblk::Options::default().cache_bytes(256 << 20).max_bytes(1 << 40);
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each switches something of its own")]
pub struct Options {
    pub(crate) block_size: u32,
    pub(crate) zone_blocks: Option<u32>,
    pub(crate) journal_bytes: u64,
    pub(crate) max_bytes: u64,
    pub(crate) cache_bytes: u64,
    pub(crate) dirty_bytes: u64,
    pub(crate) dedup_memory_bytes: u64,
    pub(crate) background: bool,
    pub(crate) collect_rate: Option<u64>,
    pub(crate) direct_writes: bool,
    pub(crate) mapped_reads: bool,
    pub(crate) punch_holes: bool,
    pub(crate) cut_blocks_min: u64,
    pub(crate) overwrite: bool,
    pub(crate) keep_replaced: Option<u64>,
    pub(crate) keep_replaced_when_full: bool,
    pub(crate) watermarks: Vec<u8>,
    pub(crate) handover: Option<PathBuf>,
    pub(crate) clock: fn() -> u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            block_size: 4096,
            zone_blocks: None,
            journal_bytes: 64 << 20,
            max_bytes: u64::MAX,
            cache_bytes: 128 << 20,
            dirty_bytes: 128 << 20,
            dedup_memory_bytes: 0,
            background: true,
            collect_rate: None,
            direct_writes: true,
            mapped_reads: false,
            punch_holes: false,
            cut_blocks_min: CUT_BLOCKS_MIN,
            overwrite: false,
            keep_replaced: Some(7 * 24 * 60 * 60),
            keep_replaced_when_full: false,
            watermarks: vec![80, 90, 95],
            handover: None,
            clock: system_clock,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock; embedders can replace it")]
fn system_clock() -> u64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Options {
    /// Bytes in a block: a power of two from 4096 to 65536. Fixed when the store is made.
    #[must_use]
    pub fn block_size(self, bytes: u32) -> Self {
        Self { block_size: bytes, ..self }
    }

    /// Blocks in a zone, the step in which a store grows. Fixed when the store is made; about 64 MiB by default.
    #[must_use]
    pub fn zone_blocks(self, blocks: u32) -> Self {
        Self { zone_blocks: Some(blocks), ..self }
    }

    /// Bytes in the journal. Fixed when the store is made; 64 MiB by default. A larger one means fewer
    /// checkpoints and a longer opening after a crash.
    #[must_use]
    pub fn journal_bytes(self, bytes: u64) -> Self {
        Self { journal_bytes: bytes, ..self }
    }

    /// The store's file never grows beyond this many bytes. Unlimited by default. The store does not record it: it is
    /// the host's to say, who may move the store to a larger one. A limit below what the file has already takes nothing away.
    #[must_use]
    pub fn max_bytes(self, bytes: u64) -> Self {
        Self { max_bytes: bytes, ..self }
    }

    /// Memory for extent nodes that were read; 128 MiB by default.
    #[must_use]
    pub fn cache_bytes(self, bytes: u64) -> Self {
        Self { cache_bytes: bytes, ..self }
    }

    /// Memory for changed extent maps; beyond it a checkpoint starts. 128 MiB by default.
    #[must_use]
    pub fn dirty_bytes(self, bytes: u64) -> Self {
        Self { dirty_bytes: bytes, ..self }
    }

    /// Memory for the blocks of templates, 32 bytes each: 64 MiB for 8 GiB of blocks of 4 KiB. It is all taken at opening. 0, the
    /// default, turns sharing on writes off. See [`Store::register_template`](crate::Store::register_template).
    #[must_use]
    pub fn dedup_memory_bytes(self, bytes: u64) -> Self {
        Self { dedup_memory_bytes: bytes, ..self }
    }

    /// Whether the store runs checkpoints and the collector on a thread of its own (the default). Without
    /// it, checkpoints run inside the calls that need them, and the collector only in
    /// [`Store::collect`](crate::Store::collect).
    #[must_use]
    pub fn background(self, on: bool) -> Self {
        Self { background: on, ..self }
    }

    /// The background thread drops at most so many references to deleted blocks a second; `None` (the default) for as
    /// many as it comes to beside reads, writes and flushes, to which it leaves three quarters of a processor. A write
    /// that finds no space, and [`Store::collect`](crate::Store::collect), do not wait for that.
    #[must_use]
    pub fn collect_rate(self, blocks_per_second: Option<u64>) -> Self {
        Self { collect_rate: blocks_per_second, ..self }
    }

    /// Whether large writes, and those that a flush waits for, go past the host's page cache (`O_DIRECT`), where the file system
    /// permits. On by default: guests have caches of their own, and a sync then finds little left to write. Without it what
    /// was written stays in the host's memory for the next read. Reads go through the page cache either way.
    #[must_use]
    pub fn direct_writes(self, on: bool) -> Self {
        Self { direct_writes: on, ..self }
    }

    /// Whether short reads are copied out of memory maps of the store's file, which takes half the time of a system call where the host's page
    /// cache holds the block. Off by default, for what it costs: a read error of the medium, or another program that truncates the
    /// file in spite of the lock, then ends the process with SIGBUS, instead of failing one read.
    #[must_use]
    pub fn mapped_reads(self, on: bool) -> Self {
        Self { mapped_reads: on, ..self }
    }

    /// Whether the space of blocks that become free is given back to the file system (holes are punched into the store's file) or
    /// block device: zone by zone, by the background thread and by [`Store::collect`](crate::Store::collect). Off by default: the
    /// file then keeps what it grew to, and writes find it at hand. What was given back may be gone when the store
    /// wants it again: a write is refused then as in a full store.
    #[must_use]
    pub fn punch_holes(self, on: bool) -> Self {
        Self { punch_holes: on, ..self }
    }

    /// Whether creating a store may overwrite a file or block device that holds data. Off by default.
    #[must_use]
    pub fn overwrite(self, on: bool) -> Self {
        Self { overwrite: on, ..self }
    }

    /// For tests, whose disks are small: the fewest blocks of data in a subtree that a discard cuts off for the collector.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn cut_blocks_min(self, blocks: u64) -> Self {
        Self { cut_blocks_min: blocks, ..self }
    }

    /// How many seconds the automatic snapshot of what a restore replaced is kept at most; a week by default, `None`
    /// for as long as it is the last one.
    #[must_use]
    pub fn keep_replaced(self, seconds: Option<u64>) -> Self {
        Self { keep_replaced: seconds, ..self }
    }

    /// Whether a store that is full keeps the automatic snapshots of what restores replaced, and refuses writes. By
    /// default it deletes them, the oldest first, before it refuses one; a protected one is always kept.
    #[must_use]
    pub fn keep_replaced_when_full(self, keep: bool) -> Self {
        Self { keep_replaced_when_full: keep, ..self }
    }

    /// How full the store has to be, in percent, for [`Store::notices`](crate::Store::notices) to say so; 80, 90 and
    /// 95 by default. Where nobody knows how large the store's file may become, nothing is said until the file
    /// system refuses more.
    #[must_use]
    pub fn watermarks(self, percents: &[u8]) -> Self {
        Self { watermarks: percents.to_vec(), ..self }
    }

    /// Keeps a copy of what is written and not yet on its way to the medium in this file, until the store is closed: where the process
    /// is killed, the next opening takes over from there, and every write that returned is in the store, flushed or not. For a
    /// process that guests outlive, as an NBD server; a hypervisor that goes down with its guests needs none. The file grows to some
    /// tens of MiB, is never synced, and means nothing once the machine was started anew. Whoever opens
    /// the store by its path finds it at [`Store::handover_path`](crate::Store::handover_path) without this option. Linux only.
    ///
    /// Costs a write of each block into the page cache.
    #[must_use]
    pub fn handover(self, file: Option<PathBuf>) -> Self {
        Self { handover: file, ..self }
    }

    /// Where `created_at` comes from: UTC seconds since 1970. The system's clock by default.
    #[must_use]
    pub fn clock(self, clock: fn() -> u64) -> Self {
        Self { clock, ..self }
    }
}
