//! Clones: making one, and taking one back to where it began, costs the same whatever the template holds and the clone wrote.
//!
//! Run with `cargo bench --bench clones`; `-- --test` runs everything once. The store lies in a [`SparseDevice`], whose syncs cost nothing: what is
//! measured is the store's own work.

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod ground;
#[allow(dead_code, reason = "no benchmark uses all of it")]
mod sparse_device;

use std::time::{Duration, Instant};

use cowblk::{Options, Server, Snapshot, Store};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ground::{BLOCK, MIB, is_quick, scattered, settings};
use sparse_device::{SparseDevice, block};

/// A store with a snapshot of a full disk.
fn template(bytes: u64) -> (Store, Snapshot) {
    let store = Store::create_on(SparseDevice::new(), Options::default().background(false)).unwrap();
    let server = store.create_server("template").unwrap();
    let disk = server.create_disk("vda", bytes).unwrap();
    let mut buf = vec![0; 4096];
    for n in 0..bytes / BLOCK {
        block(&mut buf, n);
        disk.write_at(&buf, scattered(n, bytes, BLOCK)).unwrap();
    }
    let snapshot = server.snapshot("golden", "").unwrap();
    store.checkpoint().unwrap();
    (store, snapshot)
}

/// Overwrites the first blocks of a clone.
fn write(server: &Server, blocks: u64) {
    let disk = server.disk("vda").unwrap();
    let mut buf = vec![0; 4096];
    for n in 0..blocks {
        block(&mut buf, 1 << 40 | n);
        disk.write_at(&buf, n * BLOCK).unwrap();
    }
}

/// Claim: a clone costs the same of 64 MiB and of 4 GiB.
fn clone(c: &mut Criterion) {
    let mut group = c.benchmark_group("clone");
    for (label, bytes) in [("64MiB", 64 * MIB), ("4GiB", if is_quick() { 64 * MIB } else { 4096 * MIB })] {
        let (store, snapshot) = template(bytes);
        let mut unique = 0;
        group.bench_function(BenchmarkId::from_parameter(label), |b| {
            b.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    unique += 1;
                    let name = format!("clone-{unique}");
                    let start = Instant::now();
                    let clone = snapshot.clone_server(&name).unwrap();
                    spent += start.elapsed();
                    store.delete_server(clone.id()).unwrap();
                }
                store.collect().unwrap();
                spent
            });
        });
    }
    group.finish();
}

/// Claim: a reset costs the same behind 1 written block and behind 4,096.
fn reset(c: &mut Criterion) {
    let mut group = c.benchmark_group("reset");
    let (store, snapshot) = template(64 * MIB);
    let clone = snapshot.clone_server("clone").unwrap();
    for written in [1, 4096] {
        group.bench_function(BenchmarkId::new("blocks-written", written), |b| {
            b.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    write(&clone, written);
                    let start = Instant::now();
                    clone.reset().unwrap();
                    spent += start.elapsed();
                }
                store.collect().unwrap();
                spent
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = settings();
    targets = clone, reset
}
criterion_main!(benches);
