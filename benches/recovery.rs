//! Recovery: a store whose journal is full opens in a fraction of the time that the writes in it took, whatever the disk's size.
//!
//! Run with `cargo bench --bench recovery`; `-- --test` runs everything once. The stores lie in a [`SparseDevice`]: reads and syncs cost nothing, so
//! what is measured is the replay. What a real medium adds is in docs/performance.md.

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod ground;
#[allow(dead_code, reason = "no benchmark uses all of it")]
mod sparse_device;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cowblk::{Options, Store};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ground::{BLOCK, MIB, is_quick, scattered, settings};
use sparse_device::{SparseDevice, block};

fn options() -> Options {
    let journal_bytes = if is_quick() { 4 * MIB } else { 64 * MIB };
    Options::default().background(false).journal_bytes(journal_bytes)
}

/// What a crash leaves when the journal is as full as it becomes before a checkpoint begins: half.
fn crashed(disk_bytes: u64, flush_every: u64) -> (Arc<SparseDevice>, Duration) {
    let device = SparseDevice::new();
    let store = Store::create_on(device.clone(), options()).unwrap();
    let disk = store.create_server("web").unwrap().create_disk("vda", disk_bytes).unwrap();
    let mut buf = vec![0; 4096];
    for n in 0..disk_bytes / BLOCK {
        block(&mut buf, n);
        disk.write_at(&buf, n * BLOCK).unwrap();
    }
    store.checkpoint().unwrap();
    let full = store.status().journal_bytes / 2 - MIB;
    let (start, mut n) = (Instant::now(), 0_u64);
    while !n.is_multiple_of(32) || store.status().journal_used_bytes < full {
        block(&mut buf, 1 << 40 | n);
        disk.write_at(&buf, scattered(n, disk_bytes, BLOCK)).unwrap();
        n += 1;
        if n.is_multiple_of(flush_every) {
            disk.flush().unwrap();
        }
    }
    let spent = start.elapsed();
    (device.copy(), spent)
}

/// Claim: opening takes at most a quarter of the time that the journalled writes took, and the same on a disk of 256 MiB and of 8 GiB.
fn open(c: &mut Criterion) {
    let mut group = c.benchmark_group("open-after-a-crash");
    let large = if is_quick() { 64 * MIB } else { 8192 * MIB };
    for (label, disk_bytes) in [("256MiB", large.min(256 * MIB)), ("8GiB", large)] {
        for flush_every in [1, 32] {
            let (device, wrote) = crashed(disk_bytes, flush_every);
            let mut opened = (Duration::ZERO, 0);
            group.bench_function(BenchmarkId::new(format!("flush-every-{flush_every}"), label), |b| {
                b.iter_custom(|count| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..count {
                        let copy = device.copy();
                        let start = Instant::now();
                        let store = Store::open_on(copy, options()).unwrap();
                        spent += start.elapsed();
                        drop(black_box(store));
                    }
                    opened = (opened.0 + spent, opened.1 + u32::try_from(count).unwrap());
                    spent
                });
            });
            let one = opened.0.checked_div(opened.1).unwrap_or_default();
            assert!(one * 4 <= wrote || is_quick(), "opening took {one:?}, the writes {wrote:?}");
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = settings();
    targets = open
}
criterion_main!(benches);
