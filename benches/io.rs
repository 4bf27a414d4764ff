//! Reads, writes and flushes: what a disk of the store gives on the file system below it.
//!
//! Claims: random 4 KiB writes become large sequential device writes, so they come near to the sequential ones; reads verify each block's
//! checksum and still keep up with the medium; a flush of a few blocks is one contiguous device write and one sync; a store that was just opened
//! reads as fast once its map was read; two threads get more than one, and many disks as much as one.
//!
//! Run with `cargo bench --bench io`; `cargo test --bench io` runs everything once on a small disk. The store lies in
//! `COWBLK_BENCH_DIR`, or in the directory for temporary files: compare only runs on the same medium.

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod ground;

use std::hint::black_box;
use std::time::{Duration, Instant};

use cowblk::{Disk, Options, Store};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ground::{BLOCK, Ground, MIB, fill, is_quick, noise, scattered, settings};

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
        match self {
            Self::Sequential => n % (disk_bytes() / piece_bytes) * piece_bytes,
            Self::Random => scattered(n, disk_bytes(), piece_bytes),
        }
    }
}

/// From a sector, which makes the store read what else is in the block, to a whole run.
const PIECES: [(&str, u64); 4] = [("512B", 512), ("4KiB", BLOCK), ("64KiB", 64 << 10), ("1MiB", MIB)];

/// Claim: random writes come near to sequential ones, whatever their size; reads keep up with the medium.
fn transfers(c: &mut Criterion) {
    let ground = Ground::full(disk_bytes());
    let disk = &ground.disk;
    for (label, piece_bytes) in PIECES {
        let mut buf = vec![0; usize::try_from(piece_bytes).unwrap()];
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

/// Claim: a flush of a few blocks is one contiguous device write and one sync, so it takes what the medium's sync takes, and
/// 32 writes share it.
fn flushes(c: &mut Criterion) {
    let ground = Ground::full(disk_bytes());
    let mut buf = vec![0; 4096];
    let mut n = 0;
    let mut write_and_flush = |every: u64| {
        for _ in 0..every {
            n += 1;
            noise(&mut buf, n);
            ground.disk.write_at(&buf, Order::Random.offset(n, BLOCK)).unwrap();
        }
        ground.disk.flush().unwrap();
    };
    let mut group = c.benchmark_group("write-4KiB-and-flush-every");
    for every in [1, 8, 32] {
        group.throughput(Throughput::Elements(every));
        group.bench_function(BenchmarkId::from_parameter(every), |b| b.iter(|| write_and_flush(every)));
    }
    group.finish();
    let (before, pieces) = (ground.store.stats(), 16);
    (0..pieces).for_each(|_| write_and_flush(1));
    let syncs = ground.store.stats().device_syncs - before.device_syncs;
    assert!(syncs <= 2 * pieces, "{pieces} small flushes took {syncs} syncs");
}

/// Claim: after reopening, the first reads cost a node each at most, and then as much as before.
fn after_reopening(c: &mut Criterion) {
    let Ground { store, server, disk, dir } = Ground::full(disk_bytes());
    drop((server, disk));
    store.close().unwrap();
    let open = || Store::open(dir.path().join("bench.cow"), Options::default()).unwrap();
    let disk_of = |store: &Store| store.server("web").unwrap().disk("vda").unwrap();
    let mut buf = vec![0; 4096];
    let mut group = c.benchmark_group("reopened");
    // Each sample reads on in a store that was opened for it.
    group.bench_function("first-reads", |b| {
        b.iter_custom(|count| {
            let store = open();
            let disk = disk_of(&store);
            let start = Instant::now();
            (0..count).for_each(|n| disk.read_at(&mut buf, Order::Random.offset(n, BLOCK)).unwrap());
            start.elapsed()
        });
    });
    let store = open();
    let disk = disk_of(&store);
    (0..disk_bytes() / BLOCK).for_each(|n| disk.read_at(&mut buf, n * BLOCK).unwrap());
    let mut n = 0;
    group.bench_function("warm-reads", |b| {
        b.iter(|| {
            n += 1;
            disk.read_at(&mut buf, Order::Random.offset(n, BLOCK)).unwrap();
        });
    });
    group.finish();
}

/// The time of `count` operations on each of so many threads, each with a disk of its own or all with one.
fn on_threads(disks: &[&Disk], count: u64, is_read: bool) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for (thread, disk) in (1..).zip(disks) {
            scope.spawn(move || {
                let mut buf = vec![0; 4096];
                noise(&mut buf, thread);
                for n in 0..count {
                    let offset = scattered(n + thread * 7919, disk.size_bytes(), BLOCK);
                    if is_read {
                        disk.read_at(&mut buf, offset).unwrap();
                    } else {
                        buf[..8].copy_from_slice(&n.to_le_bytes());
                        disk.write_at(&buf, offset).unwrap();
                    }
                }
            });
        }
    });
    start.elapsed()
}

/// Claim: two threads on one disk, or on two, do together more than one does; the time of an operation stays.
fn threads(c: &mut Criterion) {
    let ground = Ground::full(disk_bytes());
    let other = ground.server.create_disk("vdb", disk_bytes()).unwrap();
    fill(&other);
    ground.store.checkpoint().unwrap();
    let disk = &ground.disk;
    for (name, is_read) in [("read", true), ("write", false)] {
        let mut group = c.benchmark_group(format!("threads-{name}-4KiB"));
        for (label, disks) in
            [("1", vec![disk]), ("2-on-one-disk", vec![disk; 2]), ("2-on-two-disks", vec![disk, &other])]
        {
            group.throughput(Throughput::Elements(disks.len() as u64));
            group.bench_function(label, |b| b.iter_custom(|count| on_threads(&disks, count, is_read)));
        }
        group.finish();
    }
}

/// Claim: a thread that goes from disk to disk is as fast as one that stays.
fn many_disks(c: &mut Criterion) {
    let count = 16;
    let ground = Ground::new(disk_bytes(), Options::default());
    let small = disk_bytes() / count;
    let disks: Vec<Disk> =
        (0..count).map(|n| ground.server.create_disk(&format!("disk-{n}"), small).unwrap()).collect();
    disks.iter().for_each(fill);
    fill(&ground.disk);
    ground.store.checkpoint().unwrap();
    let mut buf = vec![0; 4096];
    noise(&mut buf, 3);
    let mut group = c.benchmark_group("disks-write-4KiB");
    for (label, disks) in [("one", std::slice::from_ref(&ground.disk)), ("16-in-turn", &disks)] {
        let mut n: u64 = 0;
        group.bench_function(label, |b| {
            b.iter(|| {
                n += 1;
                buf[..8].copy_from_slice(&n.to_le_bytes());
                let disk = &disks[usize::try_from(n).unwrap() % disks.len()];
                disk.write_at(&buf, scattered(n, disk.size_bytes(), BLOCK)).unwrap();
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = settings();
    targets = transfers, flushes, after_reopening, threads, many_disks
}
criterion_main!(benches);
