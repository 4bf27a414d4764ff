//! Reads, writes and flushes: what a disk of the store gives on the file system below it.
//!
//! Run with `cargo bench --bench io`; `cargo test --bench io` runs everything once on a small disk. The store lies in
//! `COWBLK_BENCH_DIR`, or in the directory for temporary files: compare only runs on the same medium.

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use cowblk::{Disk, Options, Store};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// Whether everything should run once, quickly, and prove only that it runs.
fn is_quick() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    arguments.iter().any(|a| a == "--test") || !arguments.iter().any(|a| a == "--bench")
}

fn disk_bytes() -> u64 {
    if is_quick() { 16 * MIB } else { 1024 * MIB }
}

/// The order in which a benchmark visits its pieces of the disk.
#[derive(Clone, Copy)]
enum Order {
    Sequential,
    Random,
}

impl Order {
    fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Random => "random",
        }
    }

    /// The offset of the `n`th piece.
    fn offset(self, n: u64, piece_bytes: u64) -> u64 {
        let pieces = disk_bytes() / piece_bytes;
        let index = match self {
            Self::Sequential => n % pieces,
            // An odd factor visits every piece of a power of two once.
            Self::Random => n.wrapping_mul(0x9E37_79B9) % pieces,
        };
        index * piece_bytes
    }
}

fn noise(buf: &mut [u8], mut seed: u64) {
    for chunk in buf.chunks_mut(8) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.copy_from_slice(&seed.to_le_bytes()[..chunk.len()]);
    }
}

fn written_disk() -> (TempDir, Store, Disk) {
    let dir = std::env::var_os("COWBLK_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(dir).unwrap();
    let store = Store::create(dir.path().join("bench.cow"), Options::default()).unwrap();
    let disk = store.create_server("web").unwrap().create_disk("vda", disk_bytes()).unwrap();
    let mut buf = vec![0; 1 << 20];
    for offset in (0..disk_bytes()).step_by(1 << 20) {
        noise(&mut buf, offset);
        disk.write_at(&buf, offset).unwrap();
    }
    store.checkpoint().unwrap();
    (dir, store, disk)
}

/// Claim: random 4 KiB writes become large sequential device writes, so they come near to the sequential ones; reads verify
/// each block's checksum and still keep up with the medium.
fn transfers(c: &mut Criterion) {
    let (_dir, _store, disk) = written_disk();
    for piece_bytes in [4096, MIB] {
        let mut buf = vec![0; usize::try_from(piece_bytes).unwrap()];
        let label = if piece_bytes == MIB { "1MiB" } else { "4KiB" };
        for order in [Order::Sequential, Order::Random] {
            let mut group = c.benchmark_group(format!("{}-{label}", order.name()));
            group.throughput(Throughput::Bytes(piece_bytes));
            let mut n = 0;
            group.bench_function("read", |b| {
                b.iter(|| {
                    n += 1;
                    disk.read_at(black_box(&mut buf), order.offset(n, piece_bytes)).unwrap();
                });
            });
            noise(&mut buf, 1);
            group.bench_function("write", |b| {
                b.iter(|| {
                    n += 1;
                    buf[..8].copy_from_slice(&n.to_le_bytes());
                    disk.write_at(black_box(&buf), order.offset(n, piece_bytes)).unwrap();
                });
            });
            group.finish();
            disk.flush().unwrap();
        }
    }
}

/// Claim: a flush of a few blocks is one contiguous device write and one sync, so it takes what the medium's sync takes.
fn flushes(c: &mut Criterion) {
    let (_dir, store, disk) = written_disk();
    let mut buf = vec![0; 4096];
    let mut n = 0;
    c.bench_function("write-4KiB-and-flush", |b| {
        b.iter(|| {
            n += 1;
            noise(&mut buf, n);
            disk.write_at(&buf, Order::Random.offset(n, 4096)).unwrap();
            disk.flush().unwrap();
        });
    });
    let (before, pieces) = (store.stats(), 16);
    for n in 0..pieces {
        noise(&mut buf, n);
        disk.write_at(&buf, Order::Random.offset(n, 4096)).unwrap();
        disk.flush().unwrap();
    }
    let syncs = store.stats().device_syncs - before.device_syncs;
    assert!(syncs <= 2 * pieces, "{pieces} small flushes took {syncs} syncs");
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(3));
    targets = transfers, flushes
}
criterion_main!(benches);
