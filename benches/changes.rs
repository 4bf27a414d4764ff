//! Changes: the ranges that differ between two snapshots cost what differs, not what the disk holds.
//!
//! Run with `cargo bench --bench changes`; `-- --test` runs everything once.

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod ground;
#[allow(dead_code, reason = "no benchmark uses all of it")]
mod sparse_device;

use cowblk::{Options, Store};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ground::{BLOCK, MIB, is_quick, scattered, settings};
use sparse_device::{SparseDevice, block};

/// Claim: 4,096 changed blocks are found as fast on 8 GiB as on 256 MiB, and 64 of them in a fraction of that.
fn changes(c: &mut Criterion) {
    let mut group = c.benchmark_group("changes");
    let large = if is_quick() { 64 * MIB } else { 8192 * MIB };
    for (label, disk_bytes) in [("256MiB", large.min(256 * MIB)), ("8GiB", large)] {
        let store = Store::create_on(SparseDevice::new(), Options::default().background(false)).unwrap();
        let server = store.create_server("web").unwrap();
        let disk = server.create_disk("vda", disk_bytes).unwrap();
        let mut buf = vec![0; 4096];
        for n in 0..disk_bytes / BLOCK {
            block(&mut buf, n);
            disk.write_at(&buf, n * BLOCK).unwrap();
        }
        for changed in [64, 4096] {
            let before = server.snapshot(&format!("before-{changed}"), "").unwrap();
            for n in 0..changed {
                block(&mut buf, 1 << 40 | changed << 20 | n);
                disk.write_at(&buf, scattered(n, disk_bytes, BLOCK)).unwrap();
            }
            server.snapshot(&format!("after-{changed}"), "").unwrap();
            store.checkpoint().unwrap();
            group.throughput(Throughput::Elements(changed));
            group.bench_function(BenchmarkId::new(format!("{changed}-blocks"), label), |b| {
                b.iter(|| {
                    let found = disk.changes_since(before.id()).unwrap();
                    let bytes: u64 = found.map(|change| change.unwrap().len).sum();
                    assert_eq!(bytes, changed * BLOCK);
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = settings();
    targets = changes
}
criterion_main!(benches);
