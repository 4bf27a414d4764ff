//! Dedup: bytes a second that a run over a store looks at, where none and where half of the blocks have an equal one.
//!
//! Claim: a run reads and hashes at a good part of the speed of BLAKE3 alone, and sharing a block costs little more than seeing that none is equal. The stores lie in
//! a [`SparseDevice`], which keeps these blocks byte for byte: what a medium adds is the reading of each block once.
//!
//! Run with `cargo bench --bench dedup`; `-- --test` runs everything once.

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod ground;
#[allow(dead_code, reason = "no benchmark uses all of it")]
mod sparse_device;

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cowblk::{DedupOptions, Options, Store};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ground::{MIB, fill, is_quick, noise, settings};
use sparse_device::SparseDevice;

fn options() -> Options {
    Options::default().background(false)
}

/// An index that is large enough for these disks: the default one is sized for 26 GiB, and clearing it takes as long as the run.
fn dedup_options() -> DedupOptions {
    DedupOptions::default().memory_bytes(8 << 20)
}

/// Two disks, of which the second holds the same as the first or not.
fn filled(disk_bytes: u64, is_equal: bool) -> Arc<SparseDevice> {
    let device = SparseDevice::new();
    let store = Store::create_on(device.clone(), options()).unwrap();
    let server = store.create_server("web").unwrap();
    fill(&server.create_disk("vda", disk_bytes).unwrap());
    let other = server.create_disk("vdb", disk_bytes).unwrap();
    let mut buf = vec![0; 1 << 20];
    for offset in (0..disk_bytes).step_by(1 << 20) {
        noise(&mut buf, offset + u64::from(!is_equal));
        other.write_at(&buf, offset).unwrap();
    }
    store.close().unwrap();
    device
}

fn dedup(c: &mut Criterion) {
    let disk_bytes = if is_quick() { 4 * MIB } else { 64 * MIB };
    let mut group = c.benchmark_group("dedup");
    group.throughput(Throughput::Bytes(2 * disk_bytes));
    let mut buf = vec![0; 1 << 20];
    noise(&mut buf, 1);
    group.bench_function("blake3-alone", |b| {
        b.iter(|| {
            for _ in (0..2 * disk_bytes).step_by(1 << 20) {
                for block in buf.chunks(4096) {
                    black_box(blake3::hash(black_box(block)));
                }
            }
        });
    });
    for (label, is_equal) in [("none-equal", false), ("half-equal", true)] {
        let device = filled(disk_bytes, is_equal);
        group.bench_function(BenchmarkId::from_parameter(label), |b| {
            b.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    let store = Store::open_on(device.copy(), options()).unwrap();
                    let start = Instant::now();
                    let done = store.dedup(&dedup_options(), |_| ControlFlow::Continue(())).unwrap();
                    spent += start.elapsed();
                    assert_eq!(done.shared_bytes, if is_equal { disk_bytes } else { 0 });
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = settings();
    targets = dedup
}
criterion_main!(benches);
