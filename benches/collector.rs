//! Collector: what the foreground feels while a deleted snapshot is collected, and how fast that goes.
//!
//! One thread writes 4 KiB and flushes, over and over. First alone; then while a snapshot that alone holds 8 GiB of 4 KiB blocks, scattered
//! over store and disk, is collected in the background. The blocks of data lie in a [`SparseDevice`]; everything else (journal,
//! nodes, refcounts) also goes to a file in `COWBLK_BENCH_DIR`, or the directory for temporary files, and a sync is that file's. So syncs
//! cost what they cost there. Run with `cargo bench --bench collector`; `-- --test` runs everything once on a small disk.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]
#![allow(clippy::print_stdout, reason = "figures are what a benchmark is for")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod sparse_device;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cowblk::device::Device;
use cowblk::{Disk, Options, Store};
use sparse_device::{SparseDevice, block, is_uniform};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const BLOCK: u64 = 4096;
/// Writes between two looks whether it is over.
const ASK_EVERY: u64 = 16;

/// Whether everything should run once, quickly, and prove only that it runs.
fn is_quick() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    arguments.iter().any(|a| a == "--test") || !arguments.iter().any(|a| a == "--bench")
}

/// A [`SparseDevice`] whose syncs cost what a file's do.
struct Synced {
    memory: Arc<SparseDevice>,
    file: File,
}

impl Synced {
    fn new() -> Arc<Self> {
        let dir = std::env::var_os("COWBLK_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Arc::new(Self { memory: SparseDevice::new(), file: tempfile::tempfile_in(dir).unwrap() })
    }
}

impl Device for Synced {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.memory.read_at(buf, offset)
    }

    /// Blocks of data are blocks that repeat a word: no other block of a store is.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.memory.write_at(buf, offset)?;
        if buf.chunks(4096).all(is_uniform) { Ok(()) } else { self.file.write_all_at(buf, offset) }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.memory.len_bytes()
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.file.set_len(len_bytes)?;
        self.memory.grow(len_bytes)
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.memory.discard(offset, len_bytes)
    }

    fn can_grow(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }
}

fn options() -> Options {
    Options::default().cache_bytes(GIB)
}

/// Writes every block of a disk, in a scattered order.
fn fill(disk: &Disk, round: u64) {
    let (blocks, mut buf) = (disk.size_bytes() / BLOCK, vec![0; 4096]);
    for n in 0..blocks {
        // An odd factor visits every block of a power of two once.
        let at = n.wrapping_mul(0x9E37_79B9 + 2 * round) % blocks;
        block(&mut buf, at + round);
        disk.write_at(&buf, at * BLOCK).unwrap();
    }
}

/// A store in which the deletion of a snapshot frees all that `disk` held before.
struct Victim {
    store: Store,
    busy: Disk,
}

fn victim(bytes: u64, options: Options) -> Victim {
    let store = Store::create_on(Synced::new(), options).unwrap();
    let server = store.create_server("web").unwrap();
    let disk = server.create_disk("vda", bytes).unwrap();
    fill(&disk, 0);
    let snapshot = server.snapshot("old", "").unwrap();
    fill(&disk, 1);
    let busy = store.create_server("busy").unwrap().create_disk("vda", GIB).unwrap();
    store.checkpoint().unwrap();
    store.delete_snapshot(snapshot.id()).unwrap();
    Victim { store, busy }
}

/// How long each write and its flush took, until `is_over`.
fn load(disk: &Disk, mut is_over: impl FnMut() -> bool) -> Vec<Duration> {
    let (blocks, mut buf, mut times) = (disk.size_bytes() / BLOCK, vec![0; 4096], Vec::new());
    let mut n: u64 = 0;
    while !n.is_multiple_of(ASK_EVERY) || !is_over() {
        n += 1;
        block(&mut buf, n);
        buf[..8].copy_from_slice(&n.to_le_bytes()); // not uniform: its journal record, and it, go to the file
        let start = Instant::now();
        disk.write_at(&buf, n.wrapping_mul(0x9E37_79B9) % blocks * BLOCK).unwrap();
        disk.flush().unwrap();
        times.push(start.elapsed());
    }
    times
}

fn report(name: &str, times: &mut [Duration], spent: Duration) {
    times.sort_unstable();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a list"
        )]
        let index = (times.len() as f64 * share) as usize;
        times[index.min(times.len() - 1)].as_secs_f64() * 1e6
    };
    println!(
        "{name:<28} {:>8} writes in {:>5.1} s; microseconds: p50 {:>7.0}  p99 {:>7.0}  p99.9 {:>7.0}  max {:>7.0}",
        times.len(),
        spent.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

fn timed_load(name: &str, disk: &Disk, is_over: impl FnMut() -> bool) {
    let start = Instant::now();
    let mut times = load(disk, is_over);
    report(name, &mut times, start.elapsed());
}

fn alone(disk: &Disk, seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    timed_load("alone", disk, || Instant::now() > end);
}

/// The load beside the collector, which the options may slow down.
fn beside(name: &str, bytes: u64, options: Options) {
    let Victim { store, busy } = victim(bytes, options);
    let start = Instant::now();
    let is_collected = || store.status().reclaimable_versions == 0;
    timed_load(name, &busy, is_collected);
    let blocks = store.stats().collected_blocks;
    let spent = start.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = blocks as f64 / spent;
    println!("{:<28} {blocks:>8} blocks dropped in {spent:.1} s: {rate:.0} a second", "");
    alone(&busy, if is_quick() { 1 } else { 10 });
    store.close().unwrap();
}

/// How fast the collector is with nothing beside it, and all extent nodes in memory.
fn throughput(bytes: u64) {
    let Victim { store, .. } = victim(bytes, options().background(false));
    let start = Instant::now();
    store.collect().unwrap();
    let (blocks, spent) = (store.stats().collected_blocks, start.elapsed().as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = blocks as f64 / spent;
    println!(
        "{:<28} {blocks:>8} blocks dropped in {spent:.2} s: {rate:.0} a second",
        "collector, nothing beside it"
    );
    store.close().unwrap();
}

fn main() {
    let bytes = if is_quick() { 64 * MIB } else { 8 * GIB };
    throughput(bytes);
    beside("beside the collector", bytes, options());
    if !is_quick() {
        beside("beside 100,000 a second", bytes, options().collect_rate(Some(100_000)));
    }
}
