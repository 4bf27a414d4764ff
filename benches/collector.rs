//! Collector: what the foreground feels while a deleted snapshot is collected, and how fast that goes.
//!
//! Claims: with warm metadata and nothing beside it the collector drops at least 2 million references a second; who writes and flushes beside it
//! waits at the 99th percentile at most twice as long as alone; and a rate that it was given is kept.
//!
//! One thread writes 4 KiB and flushes, over and over, while a snapshot that alone holds 8 GiB of 4 KiB blocks, scattered
//! over store and disk, is collected in the background; then alone. The store lies in a [`SyncedDevice`], whose syncs cost what those of a file in
//! `COWBLK_BENCH_DIR`, or the directory for temporary files, do. It is filled once; each part begins with a copy. Run with `cargo bench --bench collector`;
//! `-- --test` runs everything once on a small disk.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]
#![allow(clippy::print_stdout, reason = "figures are what a benchmark is for")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod ground;
#[allow(dead_code, reason = "no benchmark uses all of it")]
mod sparse_device;
mod synced_device;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cowblk::{Disk, Options, Store};
use ground::{BLOCK, GIB, MIB, is_quick};
use sparse_device::{SparseDevice, block};
use synced_device::SyncedDevice;

/// Writes between two looks whether it is over.
const ASK_EVERY: u64 = 16;

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

/// A store in which the deletion of a snapshot frees `bytes`, all that a disk held before, and what a crash right after
/// that deletion would leave.
fn victim(bytes: u64) -> (Store, Arc<SparseDevice>) {
    let device = SparseDevice::new();
    let store = Store::create_on(device.clone(), options().background(false)).unwrap();
    let server = store.create_server("web").unwrap();
    let disk = server.create_disk("vda", bytes).unwrap();
    fill(&disk, 0);
    let snapshot = server.snapshot("old", "").unwrap();
    fill(&disk, 1);
    store.create_server("busy").unwrap().create_disk("vda", GIB).unwrap();
    store.checkpoint().unwrap();
    store.delete_snapshot(snapshot.id()).unwrap();
    let left = device.copy();
    (store, left)
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

/// The load beside the collector, which the options may slow down, and then alone.
fn beside(name: &str, left: &SparseDevice, options: Options) {
    let store = Store::open_on(SyncedDevice::new(left.copy()), options).unwrap();
    let busy = store.server("busy").unwrap().disk("vda").unwrap();
    let start = Instant::now();
    let is_collected = || store.status().reclaimable_versions == 0;
    timed_load(name, &busy, is_collected);
    print_rate("", &store, start.elapsed());
    alone(&busy, if is_quick() { 1 } else { 5 });
    store.close().unwrap();
}

fn print_rate(name: &str, store: &Store, spent: Duration) {
    let blocks = store.stats().collected_blocks;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = blocks as f64 / spent.as_secs_f64();
    println!("{name:<28} {blocks:>8} references dropped in {:.2} s: {rate:.0} a second", spent.as_secs_f64());
}

fn main() {
    let (store, left) = victim(if is_quick() { 64 * MIB } else { 8 * GIB });
    let start = Instant::now();
    store.collect().unwrap();
    print_rate("collector, nothing beside it", &store, start.elapsed());
    store.close().unwrap();
    beside("beside the collector", &left, options());
    if !is_quick() {
        beside("beside 100,000 a second", &left, options().collect_rate(Some(100_000)));
    }
}
