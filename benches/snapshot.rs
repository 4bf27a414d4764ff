//! Snapshots: create, restore and the delete call cost the same on an empty disk and on one of 1 TiB that is full, beside 1 snapshot and beside
//! 10,000; and a store opens after a crash as fast whatever it holds.
//!
//! The stores lie in a [`SparseDevice`](sparse_device::SparseDevice), so that a tebibyte of mapped blocks fits into memory, no disk adds its noise, and a sync costs
//! nothing: what is measured is the store's own work. Every block is really written, placed, counted and mapped; the medium forgets nothing
//! but that equal blocks are several.
//!
//! Run with `cargo bench --bench snapshot`; `-- --test` runs everything once on small disks. `COWBLK_BENCH_TIB=0` leaves the
//! tebibyte out, whose writing takes most of the time.

#![allow(missing_docs, reason = "criterion_group! makes functions that nobody else sees")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]
#![allow(clippy::print_stdout, reason = "figures are what a benchmark is for")]

#[allow(dead_code, reason = "no benchmark uses all of it")]
mod ground;
mod medians;
mod pool;
#[allow(dead_code, reason = "no benchmark uses all of it")]
mod sparse_device;

use std::hint::black_box;
use std::time::{Duration, Instant};

use cowblk::Store;
use criterion::{Criterion, criterion_group, criterion_main};
use ground::{MIB, is_quick, is_wanted, settings};
use medians::Medians;
use pool::{Mapping, Pool, options, sizes, write_scattered};
use sparse_device::block;

/// What is measured on each store.
const VERBS: [&str; 3] = ["create", "delete", "restore"];

/// Calls between two runs of the collector, which as in a store in use has taken away what was deleted before.
const COLLECT_EVERY: u64 = 16;

/// Snapshots that the store holds already when a verb is measured.
fn populations() -> [u64; 3] {
    if is_quick() { [1, 10, 100] } else { [1, 1_000, 10_000] }
}

fn wants_verbs(label: &str) -> bool {
    VERBS.iter().any(|verb| is_wanted(&format!("{verb}/{label}")))
}

/// What calls took, one by one.
#[derive(Default)]
struct Calls(Vec<Duration>);

impl Calls {
    /// Times `verb` alone, `count` times, with `before`, `after` and the collector outside of the clock.
    fn time<A, B>(
        &mut self,
        (store, count): (&Store, u64),
        mut before: impl FnMut() -> A,
        mut verb: impl FnMut(A) -> B,
        mut after: impl FnMut(B),
    ) -> Duration {
        let mut total = Duration::ZERO;
        for n in 0..count {
            if n % COLLECT_EVERY == 0 {
                store.collect().unwrap();
                // The collector looks at every snapshot and leaves the processor's caches full of them.
                let input = before();
                let output = verb(input);
                after(output);
            }
            let input = before();
            let start = Instant::now();
            let output = black_box(verb(input));
            let spent = start.elapsed();
            self.0.push(spent);
            total += spent;
            after(output);
        }
        total
    }
}

/// Measures the three verbs on one store.
fn verbs(c: &mut Criterion, medians: &mut Medians, label: &str, pool: &Pool) {
    let Pool { store, server, disk, .. } = pool;
    let mut unique = 0_u64;
    let mut name = || {
        unique += 1;
        format!("bench-{unique}")
    };
    let mut buf = vec![0; 4096];
    block(&mut buf, 42);

    let mut calls = Calls::default();
    c.bench_function(&format!("create/{label}"), |b| {
        b.iter_custom(|count| {
            let create = |name: String| server.snapshot(&name, "").unwrap();
            calls.time((store, count), &mut name, create, |made| store.delete_snapshot(made.id()).unwrap())
        });
    });
    medians.note("create", label, calls.0);

    let mut calls = Calls::default();
    c.bench_function(&format!("delete/{label}"), |b| {
        b.iter_custom(|count| {
            let before = || {
                disk.write_at(&buf, 0).unwrap();
                server.snapshot(&name(), "").unwrap()
            };
            calls.time((store, count), before, |made| store.delete_snapshot(made.id()).unwrap(), drop)
        });
    });
    medians.note("delete", label, calls.0);

    let mut calls = Calls::default();
    let target = server.snapshot("restore-target", "").unwrap();
    c.bench_function(&format!("restore/{label}"), |b| {
        b.iter_custom(|count| {
            let before = || disk.write_at(&buf, 0).unwrap();
            calls.time((store, count), before, |()| server.restore(target.id()).unwrap(), drop)
        });
    });
    medians.note("restore", label, calls.0);
    // What the restore replaced would be one more snapshot for the next who measures here.
    let replaced = server.before_restore().map(|snapshot| snapshot.id());
    replaced.into_iter().chain([target.id()]).for_each(|id| store.delete_snapshot(id).unwrap());
    store.collect().unwrap();
}

/// Opens what a crash left, whose journal holds the same writes everywhere.
fn open(c: &mut Criterion, medians: &mut Medians, label: &str, pool: &Pool) {
    write_scattered(&pool.disk, 16 * MIB);
    pool.store.flush().unwrap();
    let mut calls = Vec::new();
    c.bench_function(&format!("open/{label}"), |b| {
        b.iter_custom(|count| {
            let mut total = Duration::ZERO;
            for _ in 0..count {
                let crashed = pool.device.copy();
                let start = Instant::now();
                let store = Store::open_on(crashed, options()).unwrap();
                let spent = start.elapsed();
                drop(black_box(store));
                calls.push(spent);
                total += spent;
            }
            total
        });
    });
    medians.note("open", label, calls);
}

/// Claim: create, restore and the delete call take the same time on an empty disk, on 1 GiB, on 16 GiB and on 1 TiB of mapped data,
/// however the blocks are scattered; and a store opens in the time that it takes to read its journal.
fn flat_in_data(c: &mut Criterion) {
    let mut medians = Medians::default();
    for (label, mapped_bytes, mapping) in sizes() {
        let (verbs_too, open_too) = (wants_verbs(label), is_wanted(&format!("open/{label}")));
        if !verbs_too && !open_too {
            continue;
        }
        let start = Instant::now();
        let pool = Pool::new(mapped_bytes, mapping);
        println!("{label}: {} MiB mapped in {:.1} s", mapped_bytes / MIB, start.elapsed().as_secs_f64());
        if verbs_too {
            verbs(c, &mut medians, label, &pool);
        }
        if open_too {
            open(c, &mut medians, label, &pool);
        }
    }
    medians.print("create, restore, the delete call and opening are flat in what is mapped");
}

/// Claim: create, restore and the delete call take the same time in a store with 1 snapshot, with 1,000 and with 10,000.
fn flat_in_snapshots(c: &mut Criterion) {
    let labels = populations().map(|count| (count, format!("beside-{count}-snapshots")));
    if !labels.iter().any(|(_, label)| wants_verbs(label)) {
        return;
    }
    let (mut medians, mut pool) = (Medians::default(), Pool::new(16 * MIB, Mapping::Sequential));
    for (count, label) in labels {
        pool.take_snapshots(count);
        if wants_verbs(&label) {
            verbs(c, &mut medians, &label, &pool);
        }
    }
    medians.print("create, restore and the delete call are flat in the number of snapshots");
}

/// The delete call beside deleted neighbours that the collector has not come to: it looks for those whose sizes are to be counted anew, and
/// walks through a region of deleted ones once.
fn delete_beside_deleted(c: &mut Criterion) {
    let uncollected = if is_quick() { vec![1, 16] } else { vec![1, 1_000, 10_000] };
    let names = uncollected.into_iter().map(|count| (count, format!("delete/beside-{count}-uncollected")));
    let names: Vec<(u64, String)> = names.collect();
    if !names.iter().any(|(_, name)| is_wanted(name)) {
        return;
    }
    let (mut medians, pool) = (Medians::default(), Pool::new(16 * MIB, Mapping::Sequential));
    let (mut buf, mut unique) = (vec![0; 4096], 0_u64);
    let mut snapshot = || {
        unique += 1;
        block(&mut buf, unique);
        pool.disk.write_at(&buf, 0).unwrap();
        pool.server.snapshot(&format!("bench-{unique}"), "").unwrap().id()
    };
    for (count, name) in names {
        let mut calls = Vec::new();
        c.bench_function(&name, |b| {
            b.iter_custom(|calls_wanted| {
                let mut total = Duration::ZERO;
                for n in 0..calls_wanted {
                    if n % COLLECT_EVERY == 0 {
                        pool.store.collect().unwrap();
                        let deleted: Vec<_> = (0..count).map(|_| snapshot()).collect();
                        for id in deleted {
                            pool.store.delete_snapshot(id).unwrap();
                        }
                    }
                    let id = snapshot();
                    let start = Instant::now();
                    pool.store.delete_snapshot(id).unwrap();
                    let spent = start.elapsed();
                    calls.push(spent);
                    total += spent;
                }
                total
            });
        });
        medians.note("delete", &format!("beside {count} uncollected"), calls);
    }
    medians.print("the same, however many deleted snapshots the collector has still to walk");
}

criterion_group! {
    name = benches;
    config = settings();
    targets = flat_in_data, flat_in_snapshots, delete_beside_deleted
}
criterion_main!(benches);
