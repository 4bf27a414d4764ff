//! Changes: the ranges that differ between two snapshots cost what differs, not what the disk holds.
//!
//! What differs are leaves of the map, of 256 blocks each, and the nodes above them: those are read, all others are stepped over. The
//! stores lie in a [`SparseDevice`](sparse_device::SparseDevice).
//!
//! Run with `cargo bench --bench changes`; `-- --test` runs everything once.

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod ground;
mod medians;
#[allow(dead_code, reason = "no benchmark uses all of it")]
mod pool;
#[allow(dead_code, reason = "no benchmark uses all of it")]
mod sparse_device;

use std::time::Instant;

use cowblk::SnapshotId;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ground::{BLOCK, GIB, MIB, is_quick, settings};
use medians::Medians;
use pool::{Mapping, Pool};
use sparse_device::block;

/// Blocks that one leaf maps.
const LEAF_BLOCKS: u64 = 256;
/// Leaves in which something is written.
const LEAVES: u64 = 64;

/// Writes `each` blocks in each of 64 leaves that are spread over the first gibibyte, between two snapshots. The older one.
fn change(pool: &Pool, each: u64) -> SnapshotId {
    let before = pool.server.snapshot(&format!("before-{each}"), "").unwrap();
    let apart = GIB / BLOCK / LEAVES;
    assert!(apart >= LEAF_BLOCKS, "each stretch is a leaf at least");
    let mut buf = vec![0; 4096];
    for leaf in 0..LEAVES {
        for n in 0..each {
            block(&mut buf, 1 << 40 | each << 32 | leaf << 16 | n);
            pool.disk.write_at(&buf, (leaf * apart + n * (LEAF_BLOCKS / each)) * BLOCK).unwrap();
        }
    }
    pool.server.snapshot(&format!("after-{each}"), "").unwrap();
    pool.store.checkpoint().unwrap();
    before.id()
}

/// Claim: what changed in 64 leaves is found as fast on 64 GiB as on 1 GiB, and 64 changed blocks in each as fast as one.
fn changes(c: &mut Criterion) {
    let large = if is_quick() { 128 * MIB } else { 64 * GIB };
    let mut medians = Medians::default();
    for (label, disk_bytes) in [("1GiB", large.min(GIB)), ("64GiB", large)] {
        let pool = Pool::new(disk_bytes, Mapping::Uniform);
        for each in [1, 64] {
            let before = change(&pool, each);
            let mut group = c.benchmark_group("changes");
            group.throughput(Throughput::Elements(LEAVES * each));
            let mut calls = Vec::new();
            group.bench_function(format!("{}-blocks/{label}", LEAVES * each), |b| {
                b.iter(|| {
                    let start = Instant::now();
                    let found = pool.disk.changes_since(before).unwrap();
                    let bytes: u64 = found.map(|change| change.unwrap().len).sum();
                    calls.push(start.elapsed());
                    assert_eq!(bytes, LEAVES * each * BLOCK);
                });
            });
            group.finish();
            medians.note(&format!("{}-blocks", LEAVES * each), label, calls);
        }
    }
    medians.print("what changed is found at the cost of the leaves that differ, whatever the disk holds");
}

criterion_group! {
    name = benches;
    config = settings();
    targets = changes
}
criterion_main!(benches);
