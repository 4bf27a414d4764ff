//! Overwrites: the first writes after a snapshot cost what they cost before it, beside one snapshot and beside 10,000.
//!
//! The store lies in a [`SparseDevice`](sparse_device::SparseDevice), whose syncs cost nothing: what is measured is the store's own work, with the
//! checkpoints that the writes make necessary. What a medium adds, and what peers do, is in docs/performance.md.
//!
//! Run with `cargo bench --bench overwrite`; `-- --test` runs everything once on a small disk.

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod ground;
mod medians;
#[allow(dead_code, reason = "no benchmark uses all of it")]
mod pool;
#[allow(dead_code, reason = "no benchmark uses all of it")]
mod sparse_device;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ground::{BLOCK, MIB, is_quick, scattered, settings};
use medians::Medians;
use pool::{Mapping, Pool};
use sparse_device::block;

/// What is written: a name, how many bytes at once, and whether in a scattered order.
const LOADS: [(&str, u64, bool); 4] = [
    ("random-512B", 512, true),
    ("random-4KiB", BLOCK, true),
    ("sequential-4KiB", BLOCK, false),
    ("sequential-1MiB", MIB, false),
];

/// Writes that are timed together.
const BATCH: u32 = 64;

/// Each piece of the disk in turn, and a snapshot, which is not timed, before any of them is written a second time.
struct Writer<'a> {
    pool: &'a Pool,
    load: (u64, bool),
    takes_snapshots: bool,
    buf: Vec<u8>,
    done: u64,
    /// What each write took in batches of [`BATCH`].
    batches: Vec<Duration>,
}

impl Writer<'_> {
    fn time(&mut self, count: u64) -> Duration {
        let (piece_bytes, is_random) = self.load;
        let disk = &self.pool.disk;
        let pieces = disk.size_bytes() / piece_bytes;
        let (mut left, mut spent) = (count, Duration::ZERO);
        while left > 0 {
            if self.done.is_multiple_of(pieces) {
                self.freeze();
            }
            let now = left.min(pieces - self.done % pieces).min(BATCH.into());
            let start = Instant::now();
            for n in self.done..self.done + now {
                if piece_bytes == BLOCK {
                    block(&mut self.buf, n); // so the medium keeps it in a word
                } else {
                    self.buf[..8].copy_from_slice(&n.to_le_bytes());
                }
                let offset = if is_random {
                    scattered(n, disk.size_bytes(), piece_bytes)
                } else {
                    n % pieces * piece_bytes
                };
                disk.write_at(&self.buf, offset).unwrap();
            }
            let batch = start.elapsed();
            if now == u64::from(BATCH) {
                self.batches.push(batch / BATCH);
            }
            spent += batch;
            (self.done, left) = (self.done + now, left - now);
        }
        spent
    }

    /// What was frozen before goes: only the number of snapshots is to count, and not their data.
    fn freeze(&self) {
        let Pool { store, server, .. } = self.pool;
        if self.takes_snapshots {
            let last = server.snapshots().into_iter().find(|snapshot| snapshot.name().starts_with("round-"));
            server.snapshot(&format!("round-{}", self.done), "").unwrap();
            if let Some(last) = last {
                store.delete_snapshot(last.id()).unwrap();
            }
        }
        store.collect().unwrap();
        store.checkpoint().unwrap();
    }
}

fn measure(c: &mut Criterion, medians: &mut Medians, (pool, label): (&Pool, &str), takes_snapshots: bool) {
    for (load, piece_bytes, is_random) in LOADS {
        let mut group = c.benchmark_group(format!("overwrite-{load}"));
        group.throughput(Throughput::Bytes(piece_bytes));
        let mut buf = vec![0; usize::try_from(piece_bytes).unwrap()];
        block(&mut buf, 7);
        let mut writer = Writer {
            pool,
            load: (piece_bytes, is_random),
            takes_snapshots,
            buf,
            done: 0,
            batches: Vec::new(),
        };
        group.bench_function(BenchmarkId::from_parameter(label), |b| {
            b.iter_custom(|count| writer.time(count));
        });
        group.finish();
        medians.note(load, label, writer.batches);
        if let Some(last) = pool.server.snapshots().into_iter().find(|s| s.name().starts_with("round-")) {
            pool.store.delete_snapshot(last.id()).unwrap();
            pool.store.collect().unwrap();
        }
    }
}

/// Claim: all four columns of a load are the same. A write never looks at what it replaces, and no count of a shared block is touched.
fn overwrites(c: &mut Criterion) {
    let (bytes, populations) = if is_quick() { (16 * MIB, [10, 100]) } else { (128 * MIB, [1_000, 10_000]) };
    let mut pool = Pool::new(bytes, Mapping::Random);
    let mut medians = Medians::default();
    measure(c, &mut medians, (&pool, "without-snapshot"), false);
    measure(c, &mut medians, (&pool, "after-a-snapshot"), true);
    for count in populations {
        pool.take_snapshots(count);
        measure(c, &mut medians, (&pool, &format!("after-a-snapshot-beside-{count}")), true);
    }
    medians.print(
        "the first writes after a snapshot cost what they cost before it, beside 10,000 snapshots, too",
    );
}

criterion_group! {
    name = benches;
    config = settings();
    targets = overwrites
}
criterion_main!(benches);
