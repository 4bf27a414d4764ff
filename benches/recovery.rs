//! Recovery: a store whose journal is full opens in a fraction of the time that the writes in it took, whatever the disk's size.
//!
//! Run with `cargo bench --bench recovery`; `-- --test` runs everything once. The writes go to a [`SyncedDevice`], whose syncs cost what those of a
//! file do; what is opened lies in memory, so that the replay is measured. What reading a cold medium adds is in docs/performance.md.

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]
#![allow(clippy::print_stdout, reason = "figures are what a benchmark is for")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod ground;
mod medians;
#[allow(dead_code, reason = "no benchmark uses all of it")]
mod pool;
#[allow(dead_code, reason = "no benchmark uses all of it")]
mod sparse_device;
mod synced_device;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cowblk::Store;
use cowblk::device::Device;
use criterion::{Criterion, criterion_group, criterion_main};
use ground::{BLOCK, GIB, MIB, is_quick, scattered, settings};
use medians::Medians;
use pool::{Mapping, Pool, options};
use sparse_device::{SparseDevice, block};
use synced_device::SyncedDevice;

/// What a crash leaves when the journal is as full as it becomes before a checkpoint begins: half. And how long the writes in it took.
fn crashed(filled: &SparseDevice, flush_every: u64, are_synced: bool) -> (Arc<SparseDevice>, Duration) {
    let memory = filled.copy();
    let device: Arc<dyn Device> = if are_synced { SyncedDevice::new(memory.clone()) } else { memory.clone() };
    let store = Store::open_on(device, options()).unwrap();
    let disk = store.server("web").unwrap().disk("vda").unwrap();
    let (mut buf, half) = (vec![0; 4096], store.status().journal_bytes / 2);
    let full = if is_quick() { MIB } else { half - MIB };
    let (start, mut n) = (Instant::now(), 0_u64);
    while !n.is_multiple_of(32) || store.status().journal_used_bytes < full {
        block(&mut buf, 1 << 40 | n);
        disk.write_at(&buf, scattered(n, disk.size_bytes(), BLOCK)).unwrap();
        n += 1;
        if n.is_multiple_of(flush_every) {
            disk.flush().unwrap();
        }
    }
    let spent = start.elapsed();
    (memory.copy(), spent)
}

/// Claim: opening takes at most a quarter of the time that the journalled writes took, and about the same on a disk of 1 GiB and of 64 GiB.
fn open(c: &mut Criterion) {
    let (mut medians, mut wrote) = (Medians::default(), BTreeMap::new());
    for (label, disk_bytes) in [("1GiB", GIB), ("64GiB", 64 * GIB)] {
        let filled = Pool::new(if is_quick() { 64 * MIB } else { disk_bytes }, Mapping::Uniform);
        for flush_every in [1, 32] {
            // The same writes fill the journal in both, so they are synced in one.
            let (device, spent) = crashed(&filled.device, flush_every, disk_bytes == GIB);
            let wrote = *wrote.entry(flush_every).or_insert(spent);
            let mut calls = Vec::new();
            c.bench_function(&format!("open-after-a-crash/flush-every-{flush_every}/{label}"), |b| {
                b.iter_custom(|count| {
                    let mut total = Duration::ZERO;
                    for _ in 0..count {
                        let copy = device.copy();
                        let start = Instant::now();
                        let store = Store::open_on(copy, options()).unwrap();
                        let spent = start.elapsed();
                        drop(black_box(store));
                        calls.push(spent);
                        total += spent;
                    }
                    total
                });
            });
            let one = calls
                .iter()
                .sum::<Duration>()
                .checked_div(u32::try_from(calls.len()).unwrap())
                .unwrap_or_default();
            println!("{label}: the writes took {wrote:.3?}, opening {one:.3?}");
            assert!(
                one * 4 <= wrote || is_quick(),
                "opening took more than a quarter of what the writes took"
            );
            medians.note(&format!("open, flush every {flush_every}"), label, calls);
        }
    }
    medians.print("a store opens in a quarter of the time that the writes in its journal took, and about as fast whatever its size");
}

criterion_group! {
    name = benches;
    config = settings();
    targets = open
}
criterion_main!(benches);
