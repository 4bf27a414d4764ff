//! Dedup: blocks a second that a run over a store looks at, where none and where half of them have an equal one.
//!
//! Claim: a run reads and hashes at the speed of BLAKE3 and of the medium, and sharing a block costs little more than seeing that none is equal.
//!
//! Run with `cargo bench --bench dedup`; `-- --test` runs everything once.

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod ground;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use cowblk::{DedupOptions, Options};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ground::{Ground, MIB, fill, is_quick, noise, settings};

/// The time of one run over two disks, of which the second holds the same as the first or not.
fn run(disk_bytes: u64, is_equal: bool) -> Duration {
    let ground = Ground::new(disk_bytes, Options::default());
    fill(&ground.disk);
    let other = ground.server.create_disk("vdb", disk_bytes).unwrap();
    let mut buf = vec![0; 1 << 20];
    for offset in (0..disk_bytes).step_by(1 << 20) {
        noise(&mut buf, offset + u64::from(!is_equal));
        other.write_at(&buf, offset).unwrap();
    }
    ground.store.checkpoint().unwrap();
    let start = Instant::now();
    let done = ground.store.dedup(&DedupOptions::default(), |_| ControlFlow::Continue(())).unwrap();
    let spent = start.elapsed();
    assert_eq!(done.shared_bytes, if is_equal { disk_bytes } else { 0 });
    spent
}

fn dedup(c: &mut Criterion) {
    let disk_bytes = if is_quick() { 4 * MIB } else { 64 * MIB };
    let mut group = c.benchmark_group("dedup");
    group.throughput(Throughput::Bytes(2 * disk_bytes));
    for (label, is_equal) in [("none-equal", false), ("half-equal", true)] {
        group.bench_function(BenchmarkId::from_parameter(label), |b| {
            b.iter_custom(|count| (0..count).map(|_| run(disk_bytes, is_equal)).sum());
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
