//! Clones: making one, and taking one back to where it began, costs the same whatever the template holds, the clone wrote, and however many
//! clones there are.
//!
//! Run with `cargo bench --bench clones`; `-- --test` runs everything once. The store lies in a [`SparseDevice`], whose syncs cost nothing: what is
//! measured is the store's own work.

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod ground;
mod medians;
#[allow(dead_code, reason = "no benchmark uses all of it")]
mod sparse_device;

use std::time::{Duration, Instant};

use cowblk::{Options, Server, Snapshot, Store};
use criterion::{Criterion, criterion_group, criterion_main};
use ground::{BLOCK, GIB, MIB, is_quick, scattered, settings};
use medians::Medians;
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

/// Claim: a clone costs the same of 64 MiB and of 4 GiB, and where there are 1,000 clones already.
fn clone(c: &mut Criterion) {
    let (large, many) = if is_quick() { (64 * MIB, 10) } else { (4 * GIB, 1_000) };
    let mut medians = Medians::default();
    for (label, bytes, clones) in
        [("64MiB", 64 * MIB, 0), ("4GiB", large, 0), ("64MiB-beside-1000-clones", 64 * MIB, many)]
    {
        let (store, snapshot) = template(bytes);
        for n in 0..clones {
            snapshot.clone_server(&format!("kept-{n}")).unwrap();
        }
        store.checkpoint().unwrap();
        let (mut unique, mut calls) = (0, Vec::new());
        c.bench_function(&format!("clone/{label}"), |b| {
            b.iter_custom(|count| {
                let mut total = Duration::ZERO;
                for _ in 0..count {
                    unique += 1;
                    let name = format!("clone-{unique}");
                    let start = Instant::now();
                    let clone = snapshot.clone_server(&name).unwrap();
                    let spent = start.elapsed();
                    store.delete_server(clone.id()).unwrap();
                    calls.push(spent);
                    total += spent;
                }
                store.collect().unwrap();
                total
            });
        });
        medians.note("clone", label, calls);
    }
    medians.print("a clone costs the same whatever its template holds, and however many others there are");
}

/// Claim: a reset costs the same behind 1 written block and behind 4,096. Either way 4,096 were just written, to this clone or another, and flushed
/// outside of the clock: the processor's caches are as cold.
fn reset(c: &mut Criterion) {
    let (mut medians, (store, snapshot)) = (Medians::default(), template(64 * MIB));
    let clone = snapshot.clone_server("clone").unwrap();
    let other = snapshot.clone_server("other").unwrap();
    for written in [1, 4096] {
        let mut calls = Vec::new();
        c.bench_function(&format!("reset/blocks-written/{written}"), |b| {
            b.iter_custom(|count| {
                let mut total = Duration::ZERO;
                for _ in 0..count {
                    other.reset().unwrap();
                    write(&other, 4096 - written);
                    write(&clone, written);
                    store.flush().unwrap();
                    let start = Instant::now();
                    clone.reset().unwrap();
                    let spent = start.elapsed();
                    calls.push(spent);
                    total += spent;
                }
                store.collect().unwrap();
                total
            });
        });
        medians.note("reset", &format!("{written} blocks written"), calls);
    }
    medians.print("a reset costs the same however much was written");
}

criterion_group! {
    name = benches;
    config = settings();
    targets = clone, reset
}
criterion_main!(benches);
