//! Concurrency: threads that read and write at once, while the store snapshots, restores, deletes and collects.
//!
//! Every sector carries a stamp, so that a lost, torn, stale or misplaced one is recognised on each read. How much work is
//! done is fixed by counts, never by the clock.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod fixture;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use cowblk::{Disk, Options, Server, SnapshotDisk, Store};
use fixture::{Dice, SECTOR, assert_clean, scratch, stamp, stamps};

const SECTORS_PER_BLOCK: u64 = 8;

fn options(background: bool) -> Options {
    Options::default()
        .zone_blocks(512)
        .journal_bytes(512 << 10)
        .cache_bytes(128 << 10)
        .dirty_bytes(512 << 10)
        .background(background)
}

fn bytes_of(sectors: u64) -> usize {
    usize::try_from(sectors).unwrap() * SECTOR
}

fn put(disk: &Disk, first: u64, sectors: u64, number: u64) {
    let mut bytes = vec![0; bytes_of(sectors)];
    stamp(&mut bytes, first, number);
    disk.write_at(&bytes, first * SECTOR as u64).unwrap();
}

fn get(disk: &Disk, first: u64, sectors: u64) -> Vec<u64> {
    let mut bytes = vec![0xAA; bytes_of(sectors)];
    disk.read_at(&mut bytes, first * SECTOR as u64).unwrap();
    stamps(&bytes, first).unwrap_or_else(|e| panic!("{e}"))
}

fn get_snapshot(disk: &SnapshotDisk) -> Vec<u64> {
    let mut bytes = vec![0xAA; usize::try_from(disk.size_bytes()).unwrap()];
    disk.read_at(&mut bytes, 0).unwrap();
    stamps(&bytes, 0).unwrap_or_else(|e| panic!("{e}"))
}

/// Restores, snapshots, deletes and checkpoints on one server of its own, until told to stop.
fn disturb(store: &Store, name: &str, stop: &AtomicBool) {
    let server = store.create_server(name).unwrap();
    let disk = server.create_disk("vda", 1 << 20).unwrap();
    let mut dice = Dice::new(name.len() as u64);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let first = dice.below(2_048 - 64);
        put(&disk, first, 1 + dice.below(64), number);
        match dice.below(20) {
            0..4 if server.snapshots().len() < 5 => {
                server.snapshot(&format!("s-{number}"), "").unwrap();
            }
            4..6 if !server.snapshots().is_empty() => {
                let snapshots = server.snapshots();
                let target = dice.pick(&snapshots);
                let expected = get_snapshot(&target.disk("vda").unwrap());
                server.restore(target.id()).unwrap();
                assert!(get(&disk, 0, 2_048) == expected, "a restored disk reads what the snapshot read");
            }
            6..9 if !server.snapshots().is_empty() => {
                store.delete_snapshot(dice.pick(&server.snapshots()).id()).unwrap();
            }
            9 => store.checkpoint().unwrap(),
            10 => store.collect().unwrap(),
            11 => disk.discard(0, 64 << 10).unwrap(),
            12 => store.flush().unwrap(),
            _ => drop(get(&disk, 0, 2_048)),
        }
    }
}

/// Runs `work` on a store where two other servers are snapshotted, restored and collected all the while.
fn amid_disturbance(file: &str, work: impl FnOnce(&Store, &Server)) {
    let dir = scratch();
    let path = dir.path().join(file);
    let is_mapped = file.len().is_multiple_of(2); // some of the tests one way, the rest the other
    let store = Store::create(&path, options(true).mapped_reads(is_mapped)).unwrap();
    let server = store.create_server("web").unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for name in ["noise", "more-noise"] {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || {
                let _stop = StopOnPanic(stop);
                disturb(store, name, stop);
            });
        }
        let _stop = StopOnDrop(&stop);
        work(&store, &server);
    });
    drop(server);
    store.close().unwrap();
    assert_clean(&path, "after the threads have stopped");
}

/// Stops the others when this thread fails, so that a failure never hangs.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The read-modify-write of a block that two threads share must not undo what the other one wrote.
#[test]
fn neighbouring_sectors_of_one_block_never_lose_one_another() {
    amid_disturbance("neighbours.cow", |_, server| {
        let sectors = 16 * SECTORS_PER_BLOCK;
        let disk = server.create_disk("vda", sectors * SECTOR as u64).unwrap();
        thread::scope(|scope| {
            for lane in 0..4_u64 {
                let disk = disk.clone();
                scope.spawn(move || {
                    let mine: Vec<u64> = (0..sectors).filter(|sector| sector % 4 == lane).collect();
                    for round in 1..=60 {
                        for &sector in &mine {
                            put(&disk, sector, 1, round);
                            let got = get(&disk, sector, 1)[0];
                            assert_eq!(got, round, "sector {sector} straight after its write");
                        }
                        if round % 16 == lane {
                            disk.flush().unwrap();
                        }
                        for &sector in &mine {
                            assert_eq!(
                                get(&disk, sector, 1)[0],
                                round,
                                "sector {sector} at the end of a round"
                            );
                        }
                    }
                });
            }
        });
        assert!(get(&disk, 0, sectors).iter().all(|&s| s == 60), "a sector was lost");
    });
}

/// A reader never sees a sector that is torn, of another place, or older than what it saw before.
#[test]
fn readers_beside_a_writer_see_time_go_forward() {
    amid_disturbance("forward.cow", |_, server| {
        let sectors = 1_024;
        let disk = server.create_disk("vda", sectors * SECTOR as u64).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                let (disk, done) = (disk.clone(), &done);
                scope.spawn(move || {
                    let mut seen = vec![0; bytes_of(sectors) / SECTOR];
                    while !done.load(Ordering::Relaxed) {
                        for (sector, (old, new)) in seen.iter().zip(get(&disk, 0, sectors)).enumerate() {
                            assert!(new >= *old, "sector {sector} went back from {old} to {new}");
                        }
                        seen = get(&disk, 0, sectors);
                    }
                });
            }
            let _done = StopOnDrop(&done);
            let mut dice = Dice::new(7);
            for number in 1..3_000 {
                let first = dice.below(sectors);
                put(&disk, first, (1 + dice.below(80)).min(sectors - first), number);
            }
        });
    });
}

/// Writers each have a disk of their own on one server; each knows what it must read, always.
#[test]
fn many_disks_are_written_at_once() {
    amid_disturbance("many.cow", |_, server| {
        let sectors = 600_u64;
        thread::scope(|scope| {
            for lane in 0..4_u64 {
                let disk = server.create_disk(&format!("vd{lane}"), sectors * SECTOR as u64).unwrap();
                scope.spawn(move || {
                    let (mut dice, mut expected) = (Dice::new(lane), vec![0; bytes_of(sectors) / SECTOR]);
                    for number in 1..1_500 {
                        let first = dice.below(sectors);
                        let count = (1 + dice.below(40)).min(sectors - first);
                        put(&disk, first, count, number);
                        let (from, to) =
                            (usize::try_from(first).unwrap(), usize::try_from(first + count).unwrap());
                        expected[from..to].fill(number);
                        if number % 50 == 0 {
                            assert!(get(&disk, 0, sectors) == expected, "disk {lane} after write {number}");
                        }
                    }
                    disk.flush().unwrap();
                    assert!(get(&disk, 0, sectors) == expected, "disk {lane} at the end");
                });
            }
        });
    });
}

/// One thread writes number n to the first disk, then to the second, at place n of each. So a snapshot that is one instant
/// holds on each disk a prefix of the numbers, and the first disk is ahead by one or by none.
#[test]
fn a_snapshot_is_one_instant_across_all_disks() {
    amid_disturbance("instant.cow", |store, server| {
        let places = 512;
        let disks: Vec<Disk> = ["vda", "vdb"]
            .iter()
            .map(|name| server.create_disk(name, places * SECTORS_PER_BLOCK * SECTOR as u64).unwrap())
            .collect();
        let written = Arc::new(AtomicU64::new(0));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let (writer_disks, writer_written, stop) = (&disks, Arc::clone(&written), &done);
            scope.spawn(move || {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    for disk in writer_disks {
                        put(disk, number % places * SECTORS_PER_BLOCK, SECTORS_PER_BLOCK, number);
                    }
                    writer_written.store(number, Ordering::SeqCst);
                }
            });
            let _done = StopOnDrop(&done);
            for round in 0..150 {
                let before = written.load(Ordering::SeqCst);
                let snapshot = server.snapshot(&format!("instant-{round}"), "").unwrap();
                let newest: Vec<u64> = ["vda", "vdb"]
                    .iter()
                    .map(|name| newest_of_a_prefix(&get_snapshot(&snapshot.disk(name).unwrap()), places))
                    .collect();
                assert!(newest[0] >= before, "the snapshot misses write {before}, which had returned");
                assert!(
                    newest[0] - newest[1] <= 1,
                    "{newest:?}: the disks were frozen at different instants"
                );
                store.delete_snapshot(snapshot.id()).unwrap();
            }
        });
    });
}

/// The newest number on the disk, after checking that exactly the last `places` numbers up to it are there.
fn newest_of_a_prefix(stamps: &[u64], places: u64) -> u64 {
    let newest = *stamps.iter().max().unwrap();
    for (sector, found) in stamps.iter().enumerate() {
        let place = sector as u64 / SECTORS_PER_BLOCK;
        let expected = (newest.saturating_sub(places - 1)..=newest).find(|n| n % places == place && *n > 0);
        assert_eq!(*found, expected.unwrap_or(0), "place {place} when {newest} is the newest number");
    }
    newest
}

/// Readers of a snapshot are not disturbed by the deletion of its neighbours, nor by writes to the live disk.
#[test]
fn a_snapshot_reads_the_same_while_its_neighbours_are_deleted() {
    amid_disturbance("neighbourhood.cow", |store, server| {
        let sectors = 2_048;
        let disk = server.create_disk("vda", sectors * SECTOR as u64).unwrap();
        let mut dice = Dice::new(11);
        let mut kept = Vec::new();
        for number in 1..=12 {
            for _ in 0..20 {
                put(&disk, dice.below(sectors - 32), 32, number);
            }
            let snapshot = server.snapshot(&format!("n-{number}"), "").unwrap();
            kept.push((snapshot.clone(), get_snapshot(&snapshot.disk("vda").unwrap())));
        }
        let (odd, even): (Vec<_>, Vec<_>) = kept.into_iter().enumerate().partition(|(i, _)| i % 2 == 1);
        thread::scope(|scope| {
            scope.spawn(|| {
                for (_, (snapshot, _)) in &odd {
                    store.delete_snapshot(snapshot.id()).unwrap();
                    put(&disk, 0, 64, 99);
                }
                store.collect().unwrap();
            });
            for _ in 0..30 {
                for (_, (snapshot, expected)) in &even {
                    assert!(
                        get_snapshot(&snapshot.disk("vda").unwrap()) == *expected,
                        "a kept snapshot changed"
                    );
                }
            }
        });
    });
}

/// Threads that fill a bounded store meet `Full` and nothing else; what was acknowledged stays, and what was not is as before or
/// as asked for, sector by sector.
#[test]
fn a_store_that_many_threads_fill_only_ever_says_full() {
    let dir = scratch();
    let path = dir.path().join("narrow.cow");
    let bounded = options(true).zone_blocks(256).max_bytes(6 << 20);
    let store = Store::create(&path, bounded.clone()).unwrap();
    let sectors = 4_096_u64;
    let full = AtomicU64::new(0);
    thread::scope(|scope| {
        for lane in 0..4_u64 {
            let (store, full) = (&store, &full);
            scope.spawn(move || {
                let server = store.create_server(&format!("lane-{lane}")).unwrap();
                let disk = server.create_disk("vda", sectors * SECTOR as u64).unwrap();
                let (mut dice, mut expected) = (Dice::new(lane), vec![0; bytes_of(sectors) / SECTOR]);
                for number in 1..1_200 {
                    let first = dice.below(sectors);
                    let count = (1 + dice.below(400)).min(sectors - first);
                    let (from, to) =
                        (usize::try_from(first).unwrap(), usize::try_from(first + count).unwrap());
                    let stamp_now = if dice.chance(25) { 0 } else { number };
                    let mut bytes = vec![0; bytes_of(count)];
                    stamp(&mut bytes, first, stamp_now);
                    match disk.write_at(&bytes, first * SECTOR as u64) {
                        Ok(()) => expected[from..to].fill(stamp_now),
                        Err(error) => {
                            assert_eq!(error.kind(), cowblk::ErrorKind::Full, "{error}");
                            full.fetch_add(1, Ordering::Relaxed);
                            for (old, new) in expected[from..to].iter_mut().zip(get(&disk, first, count)) {
                                assert!(
                                    new == *old || new == stamp_now,
                                    "a failed write left {new} over {old}"
                                );
                                *old = new;
                            }
                            disk.discard(0, sectors / 2 * SECTOR as u64).unwrap();
                            expected[..usize::try_from(sectors / 2).unwrap()].fill(0);
                        }
                    }
                    if number % 40 == 0 {
                        assert!(
                            get(&disk, 0, sectors) == expected,
                            "disk of lane {lane} after write {number}"
                        );
                    }
                }
                disk.flush().unwrap();
                assert!(get(&disk, 0, sectors) == expected, "disk of lane {lane} at the end");
            });
        }
    });
    assert!(full.load(Ordering::Relaxed) > 0, "the store was never full: make it smaller");
    store.close().unwrap();
    assert_clean(&path, "after the store was full");
}
