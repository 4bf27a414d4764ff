//! Snapshots: create, restore and delete cost the same on an empty disk and on a full one.
//!
//! The stores lie in a [`SparseDevice`], so that 16 GiB of mapped blocks fit into memory and no disk adds its noise. Run
//! with `cargo bench --bench snapshot`; `cargo test --bench snapshot` runs everything once on small disks.
//! `COWBLK_BENCH_TIB=1` adds a store with 1 TiB of mapped blocks to the openings (5 GB of memory, three minutes).

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod sparse_device;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cowblk::{Disk, Options, Server, Snapshot, Store};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sparse_device::{SparseDevice, block};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const BLOCK: u64 = 4096;
/// Room for the two superblock slots (docs/format.md).
const HEADER_BYTES: u64 = 128 << 10;

/// Whether everything should run once, quickly, and prove only that it runs.
fn is_quick() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    arguments.iter().any(|a| a == "--test") || !arguments.iter().any(|a| a == "--bench")
}

/// Whether the command line asks for a benchmark with this in its name: no store is filled for the others.
fn is_wanted(name: &str) -> bool {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    filter.is_none_or(|filter| name.contains(&filter))
}

/// How a disk's blocks came to their places in the store.
#[derive(Clone, Copy, Debug)]
enum Mapping {
    /// Written from the first to the last block, in large pieces.
    Sequential,
    /// Written block by block in a scattered order: neighbours on the disk are strangers in the store.
    Random,
    /// As `Sequential`, but all blocks look the same: the device then keeps a tebibyte of them in a few words.
    Uniform,
}

/// A store with one disk of which `mapped_bytes` hold data.
struct Pool {
    device: Arc<SparseDevice>,
    store: Store,
    server: Server,
    disk: Disk,
}

fn options() -> Options {
    Options::default().background(false)
}

impl Pool {
    fn new(mapped_bytes: u64, mapping: Mapping) -> Self {
        let device = SparseDevice::new();
        let store = Store::create_on(device.clone(), options()).unwrap();
        let server = store.create_server("web").unwrap();
        let disk = server.create_disk("vda", mapped_bytes.max(GIB)).unwrap();
        match mapping {
            Mapping::Sequential => write_sequentially(&disk, mapped_bytes, |at| at),
            Mapping::Uniform => write_sequentially(&disk, mapped_bytes, |_| 1),
            Mapping::Random => write_scattered(&disk, mapped_bytes),
        }
        store.checkpoint().unwrap();
        let pool = Self { device, store, server, disk };
        pool.assert_small_metadata(mapped_bytes);
        pool
    }

    /// Claim: metadata takes at most 0.6 % of what is mapped. The journal and one zone that is not yet full are counted
    /// apart, for they do not grow with the data.
    fn assert_small_metadata(&self, mapped_bytes: u64) {
        let status = self.store.status();
        let block = u64::from(status.block_size);
        let zone_table = u64::from(status.zone_blocks) * 2 * 2;
        let fixed = status.journal_bytes + HEADER_BYTES + zone_table + 64 * block;
        let taken = (status.used_blocks + status.metadata_blocks) * block - mapped_bytes;
        let metadata = taken.saturating_sub(fixed);
        assert!(
            metadata * 1000 <= mapped_bytes * 6,
            "{metadata} bytes of metadata for {mapped_bytes} mapped bytes are more than 0.6 %"
        );
    }

    /// Snapshots with one written block between each two.
    fn take_snapshots(&self, count: u64) {
        let mut buf = vec![0; 4096];
        for n in 0..count {
            block(&mut buf, n);
            self.disk.write_at(&buf, n % 1000 * BLOCK).unwrap();
            self.server.snapshot(&format!("kept-{n}"), "").unwrap();
        }
        self.store.checkpoint().unwrap();
    }
}

fn write_sequentially(disk: &Disk, bytes: u64, word: impl Fn(u64) -> u64) {
    let mut buf = vec![0; 1 << 20];
    for offset in (0..bytes).step_by(1 << 20) {
        for (n, part) in (0..).zip(buf.chunks_mut(4096)) {
            block(part, word(offset / BLOCK + n));
        }
        disk.write_at(&buf, offset).unwrap();
    }
}

fn write_scattered(disk: &Disk, bytes: u64) {
    let (blocks, mut buf) = (bytes / BLOCK, vec![0; 4096]);
    for n in 0..blocks {
        // An odd factor visits every block of a power of two once.
        let at = n.wrapping_mul(0x9E37_79B9) % blocks;
        block(&mut buf, at);
        disk.write_at(&buf, at * BLOCK).unwrap();
    }
}

/// What is measured on each of them.
const VERBS: [&str; 3] = ["create", "delete", "restore"];

/// The disks to measure on: name, mapped bytes, how they are mapped.
fn sizes() -> Vec<(&'static str, u64, Mapping)> {
    let (small, large) = if is_quick() { (16 * MIB, 64 * MIB) } else { (GIB, 16 * GIB) };
    vec![
        ("empty", 0, Mapping::Sequential),
        ("1GiB-sequential", small, Mapping::Sequential),
        ("1GiB-random", small, Mapping::Random),
        ("16GiB-sequential", large, Mapping::Sequential),
        ("16GiB-random", large, Mapping::Random),
    ]
}

/// Snapshots that the store holds already when a verb is measured.
fn populations() -> [u64; 2] {
    if is_quick() { [1, 100] } else { [1, 10_000] }
}

/// The time of `verb` alone, `count` times, with `after` outside the clock each time.
fn timed<T>(
    count: u64,
    mut before: impl FnMut(u64) -> T,
    mut verb: impl FnMut(&T),
    mut after: impl FnMut(T),
) -> Duration {
    let mut total = Duration::ZERO;
    for n in 0..count {
        let input = before(n);
        let start = Instant::now();
        verb(&input);
        total += start.elapsed();
        after(input);
    }
    total
}

/// Measures the three verbs on one store.
fn verbs(c: &mut Criterion, label: &str, pool: &Pool) {
    let Pool { store, server, disk, .. } = pool;
    let mut unique = 0;
    let mut name = || {
        unique += 1;
        format!("bench-{unique}")
    };
    let mut buf = vec![0; 4096];
    block(&mut buf, 42);

    c.bench_function(&format!("create/{label}"), |b| {
        b.iter_custom(|count| {
            let spent = timed(
                count,
                |_| name(),
                |name| drop(black_box(server.snapshot(name, "").unwrap())),
                |name| delete_named(store, server, &name),
            );
            store.collect().unwrap();
            spent
        });
    });

    c.bench_function(&format!("delete/{label}"), |b| {
        b.iter_custom(|count| {
            let before = |_| {
                disk.write_at(&buf, 0).unwrap();
                server.snapshot(&name(), "").unwrap()
            };
            let spent = timed(count, before, |s: &Snapshot| store.delete_snapshot(s.id()).unwrap(), drop);
            store.collect().unwrap();
            spent
        });
    });

    let target = server.snapshot("restore-target", "").unwrap();
    c.bench_function(&format!("restore/{label}"), |b| {
        b.iter_custom(|count| {
            let before = |_| disk.write_at(&buf, 0).unwrap();
            let spent = timed(count, before, |()| server.restore(target.id()).unwrap(), drop);
            store.collect().unwrap();
            spent
        });
    });
    store.delete_snapshot(target.id()).unwrap();
}

fn delete_named(store: &Store, server: &Server, name: &str) {
    let newest = server.snapshots().into_iter().next().unwrap();
    assert_eq!(newest.name(), name, "snapshots are listed newest first");
    store.delete_snapshot(newest.id()).unwrap();
}

/// Claim: create, restore and the delete call take the same time on an empty disk, on 1 GiB and on 16 GiB of mapped data,
/// however the blocks are scattered.
fn flat_in_data(c: &mut Criterion) {
    for (label, mapped_bytes, mapping) in sizes() {
        if VERBS.iter().any(|verb| is_wanted(&format!("{verb}/{label}"))) {
            verbs(c, label, &Pool::new(mapped_bytes, mapping));
        }
    }
}

/// Claim: create, restore and the delete call take the same time in a store with 1 snapshot and with 10,000.
fn flat_in_snapshots(c: &mut Criterion) {
    for count in populations() {
        let label = format!("beside-{count}-snapshots");
        if !VERBS.iter().any(|verb| is_wanted(&format!("{verb}/{label}"))) {
            continue;
        }
        let pool = Pool::new(16 * MIB, Mapping::Sequential);
        pool.take_snapshots(count);
        verbs(c, &label, &pool);
    }
}

/// Claim: the first overwrite of a block after a snapshot costs what an overwrite without a snapshot costs.
fn writes_after_a_snapshot(c: &mut Criterion) {
    if !is_wanted("overwrite/without-snapshot") && !is_wanted("overwrite/after-snapshot") {
        return;
    }
    let pool = Pool::new(if is_quick() { 16 * MIB } else { GIB }, Mapping::Random);
    let blocks = pool.disk.size_bytes() / BLOCK;
    let mut buf = vec![0; 4096];
    let mut n = 0;
    let mut write = |disk: &Disk| {
        n += 1;
        block(&mut buf, n);
        disk.write_at(&buf, n.wrapping_mul(0x9E37_79B9) % blocks * BLOCK).unwrap();
    };
    c.bench_function("overwrite/without-snapshot", |b| b.iter(|| write(&pool.disk)));
    pool.take_snapshots(1);
    c.bench_function("overwrite/after-snapshot", |b| b.iter(|| write(&pool.disk)));
}

/// Claim: a store opens in the time that it takes to read its journal, whatever its size.
fn open_is_flat(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    group.sample_size(10);
    let mut stores = sizes();
    if std::env::var_os("COWBLK_BENCH_TIB").is_some() {
        stores.push(("1TiB-sequential", 1 << 40, Mapping::Uniform));
    }
    for (label, mapped_bytes, mapping) in
        stores.into_iter().filter(|(label, ..)| is_wanted(&format!("open/{label}")))
    {
        let pool = Pool::new(mapped_bytes, mapping);
        // The same journal everywhere: what stands in it after the last checkpoint is these writes.
        write_scattered(&pool.disk, 16 * MIB);
        pool.store.flush().unwrap();
        group.bench_function(BenchmarkId::from_parameter(label), |b| {
            b.iter_custom(|count| {
                let before = |_| pool.device.copy();
                timed(
                    count,
                    before,
                    |crashed| drop(black_box(Store::open_on(crashed.clone(), options()).unwrap())),
                    drop,
                )
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = flat_in_data, flat_in_snapshots, writes_after_a_snapshot, open_is_flat
}
criterion_main!(benches);
