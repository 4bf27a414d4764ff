//! Reads, writes and flushes: what a disk of the store gives on the file system below it.
//!
//! Claims: random 4 KiB writes become large sequential device writes, so they come near to the sequential ones; reads verify each block's
//! checksum and still keep up with the page cache; a flush of a few blocks is one contiguous device write and one sync, so writes share it; a store
//! that was just opened reads as fast once its map was read, and writes as fast at once, for it reads no map; two threads get more than one, and many disks as
//! much as one.
//!
//! Run with `cargo bench --bench io`; `-- --test` runs everything once on a small disk. The store lies in
//! `COWBLK_BENCH_DIR`, or in the directory for temporary files: compare only runs on the same medium. One store serves all. Reads come first, while
//! the disk lies as it was filled, and read what the page cache holds; the last ones read what was then written in pieces.

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod ground;

use std::hint::black_box;
use std::time::{Duration, Instant};

use cowblk::{Disk, Options, Store};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ground::{BLOCK, Ground, MIB, fill, is_quick, noise, scattered, settings};

/// The disk of most benchmarks. All files together stay within the page cache.
fn disk_bytes() -> u64 {
    if is_quick() { 16 * MIB } else { 512 * MIB }
}

/// The order in which a benchmark visits its pieces of the disk.
#[derive(Clone, Copy)]
enum Order {
    Sequential,
    Random,
}

const ORDERS: [Order; 2] = [Order::Sequential, Order::Random];

impl Order {
    fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Random => "random",
        }
    }

    /// The offset of the `n`th piece.
    fn offset(self, n: u64, disk: &Disk, piece_bytes: u64) -> u64 {
        match self {
            Self::Sequential => n % (disk.size_bytes() / piece_bytes) * piece_bytes,
            Self::Random => scattered(n, disk.size_bytes(), piece_bytes),
        }
    }
}

/// From a sector, which makes the store read what else is in the block, to a whole run.
const PIECES: [(&str, u64); 4] = [("512B", 512), ("4KiB", BLOCK), ("64KiB", 64 << 10), ("1MiB", MIB)];

/// What is done with a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Read,
    Write,
    /// And a flush after every so many.
    WriteAndFlush(u64),
}

/// Pieces of some disks in turn.
struct Load<'a> {
    disks: Vec<&'a Disk>,
    verb: Verb,
    order: Order,
    piece_bytes: u64,
    /// Pieces done so far: where the next sample goes on.
    done: u64,
}

impl<'a> Load<'a> {
    fn new(disks: Vec<&'a Disk>, verb: Verb, order: Order, piece_bytes: u64) -> Self {
        Self { disks, verb, order, piece_bytes, done: 0 }
    }

    /// Pieces up to a flush.
    fn batch(&self) -> u64 {
        if let Verb::WriteAndFlush(every) = self.verb { every } else { 1 }
    }

    /// Runs on for `count` pieces. The time of that.
    fn run(&mut self, count: u64) -> Duration {
        let mut buf = vec![0; usize::try_from(self.piece_bytes).unwrap()];
        noise(&mut buf, self.done + 1);
        let start = Instant::now();
        for n in self.done..self.done + count {
            let turn = self.disks.len() as u64;
            let disk = self.disks[usize::try_from(n % turn).unwrap()];
            let offset = self.order.offset(n / turn, disk, self.piece_bytes);
            if self.verb == Verb::Read {
                disk.read_at(black_box(&mut buf), offset).unwrap();
                continue;
            }
            // No two blocks are the same.
            for (k, block) in (0_u64..).zip(buf.chunks_mut(4096)) {
                block[..16].copy_from_slice(&(u128::from(n) << 64 | u128::from(k)).to_le_bytes());
            }
            disk.write_at(black_box(&buf), offset).unwrap();
            if matches!(self.verb, Verb::WriteAndFlush(every) if (n + 1) % every == 0) {
                disk.flush().unwrap();
            }
        }
        self.done += count;
        start.elapsed()
    }

    /// One benchmark, on so many threads. Its time is that of a piece, or of all up to a flush.
    fn measure(c: &mut Criterion, (group, name): (&str, &str), mut loads: Vec<Self>) {
        let mut group = c.benchmark_group(group);
        let batch = loads[0].batch();
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Bytes(loads[0].piece_bytes * batch * loads.len() as u64));
        group.bench_function(name, |b| {
            b.iter_custom(|count| match &mut loads[..] {
                [only] => only.run(count * batch),
                all => {
                    let start = Instant::now();
                    std::thread::scope(|scope| {
                        for load in all {
                            scope.spawn(move || load.run(count * batch));
                        }
                    });
                    start.elapsed()
                }
            });
        });
        group.finish();
        loads[0].disks[0].flush().unwrap();
    }
}

/// Reads a whole disk once, so that the page cache holds it: writes go past it.
fn warm_up(disk: &Disk) {
    Load::new(vec![disk], Verb::Read, Order::Sequential, MIB).run(disk.size_bytes() / MIB);
}

/// Claim: reads keep up with the page cache, in whatever order and size; after many small writes, too.
fn reads(c: &mut Criterion, disk: &Disk, suffix: &str) {
    warm_up(disk);
    for (label, piece_bytes) in PIECES {
        for order in ORDERS {
            let load = Load::new(vec![disk], Verb::Read, order, piece_bytes);
            Load::measure(c, (&format!("{}-{label}", order.name()), &format!("read{suffix}")), vec![load]);
        }
    }
}

/// Claim: random writes come near to sequential ones, whatever their size; a sector costs a read besides.
fn writes(c: &mut Criterion, disk: &Disk) {
    for (label, piece_bytes) in PIECES.into_iter().rev() {
        for order in ORDERS {
            let load = Load::new(vec![disk], Verb::Write, order, piece_bytes);
            Load::measure(c, (&format!("{}-{label}", order.name()), "write"), vec![load]);
        }
    }
}

/// Claim: a flush of a few blocks is one contiguous device write and one sync, so it takes what the medium's sync takes, and
/// 8 or 32 writes share it.
fn flushes(c: &mut Criterion, store: &Store, disk: &Disk) {
    for (label, piece_bytes) in PIECES {
        for order in ORDERS {
            for every in [1, 8, 32] {
                let load = Load::new(vec![disk], Verb::WriteAndFlush(every), order, piece_bytes);
                let name = format!("write-and-flush-every-{every}");
                Load::measure(c, (&format!("{}-{label}", order.name()), &name), vec![load]);
            }
        }
    }
    let (before, pieces) = (store.stats(), 16);
    Load::new(vec![disk], Verb::WriteAndFlush(1), Order::Random, BLOCK).run(pieces);
    let syncs = store.stats().device_syncs - before.device_syncs;
    assert!(syncs <= 2 * pieces, "{pieces} small flushes took {syncs} syncs");
}

/// Claim: two threads on one disk, or on two, do together more than one does: the time of an operation stays below twice that of one.
fn threads(c: &mut Criterion, disk: &Disk, other: &Disk) {
    let verbs = [
        ("read", Verb::Read),
        ("write", Verb::Write),
        ("write-and-flush-every-1", Verb::WriteAndFlush(1)),
        ("write-and-flush-every-32", Verb::WriteAndFlush(32)),
    ];
    for (label, piece_bytes, order) in [("4KiB", BLOCK, Order::Random), ("1MiB", MIB, Order::Sequential)] {
        [disk, other].into_iter().for_each(warm_up);
        for (name, verb) in verbs {
            let group = format!("threads-{}-{label}-{name}", order.name());
            for (label, disks) in
                [("1", vec![disk]), ("2-on-one-disk", vec![disk; 2]), ("2-on-two-disks", vec![disk, other])]
            {
                let mut loads: Vec<Load<'_>> =
                    disks.iter().map(|disk| Load::new(vec![disk], verb, order, piece_bytes)).collect();
                // The second does not follow the first around.
                loads.iter_mut().skip(1).for_each(|load| load.done = disk_bytes() / piece_bytes / 2);
                Load::measure(c, (&group, label), loads);
            }
        }
    }
}

/// Claim: a thread that goes from disk to disk is as fast as one that stays.
fn many_disks(c: &mut Criterion, ground: &Ground) {
    let count = 16;
    let name = |n| format!("disk-{n}");
    let disks: Vec<Disk> =
        (0..count).map(|n| ground.server.create_disk(&name(n), disk_bytes() / count).unwrap()).collect();
    disks.iter().for_each(fill);
    ground.store.checkpoint().unwrap();
    disks.iter().for_each(warm_up);
    warm_up(&ground.disk);
    for (name, verb) in
        [("read", Verb::Read), ("write", Verb::Write), ("write-and-flush-every-32", Verb::WriteAndFlush(32))]
    {
        for (label, disks) in [("one", vec![&ground.disk]), ("16-in-turn", disks.iter().collect())] {
            let load = Load::new(disks, verb, Order::Random, BLOCK);
            Load::measure(c, (&format!("disks-random-4KiB-{name}"), label), vec![load]);
        }
    }
}

/// Claim: after reopening, the first reads cost a node each at most, and then as much as before; writes read nothing.
fn after_reopening(c: &mut Criterion, ground: Ground) {
    let Ground { store, server, disk, dir } = ground;
    warm_up(&disk);
    drop((server, disk));
    store.close().unwrap();
    let open = || Store::open(dir.path().join("bench.cow"), Options::default()).unwrap();
    let disk_of = |store: &Store| store.server("web").unwrap().disk("vda").unwrap();
    for (name, verb) in [("first-reads", Verb::Read), ("first-writes", Verb::Write)] {
        for (label, piece_bytes) in PIECES {
            for order in ORDERS {
                let mut group = c.benchmark_group(format!("reopened-{}-{label}", order.name()));
                group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(piece_bytes));
                // Each sample goes on in a store that was opened for it.
                let mut done = 0;
                group.bench_function(name, |b| {
                    b.iter_custom(|count| {
                        let store = open();
                        let disk = disk_of(&store);
                        let mut load = Load { done, ..Load::new(vec![&disk], verb, order, piece_bytes) };
                        let spent = load.run(count);
                        done = load.done;
                        spent
                    });
                });
                group.finish();
            }
        }
    }
    let store = open();
    reads(c, &disk_of(&store), "-reopened");
}

fn io(c: &mut Criterion) {
    let ground = Ground::full(disk_bytes());
    reads(c, &ground.disk, "");
    writes(c, &ground.disk);
    reads(c, &ground.disk, "-of-small-writes");
    flushes(c, &ground.store, &ground.disk);
    let other = ground.server.create_disk("vdb", disk_bytes()).unwrap();
    fill(&other);
    ground.store.checkpoint().unwrap();
    threads(c, &ground.disk, &other);
    drop(other);
    many_disks(c, &ground);
    after_reopening(c, ground);
}

criterion_group! {
    name = benches;
    config = settings().warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(600));
    targets = io
}
criterion_main!(benches);
