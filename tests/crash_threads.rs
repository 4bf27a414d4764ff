//! Crash threads: guests write, flush, snapshot, restore and delete from several threads, the store's own thread
//! settles and collects, and the power goes at any moment.
//!
//! Each writer numbers its writes, and writes each number to two disks, one after the other. So after a crash, as in
//! every snapshot, each disk must be exactly as its writer left it after some number, and the first disk may be ahead of
//! the second by one write, never behind.

#![allow(clippy::similar_names, reason = "a store has a story")]
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "the number of crash states is part of the result")]

mod model;

use cowblk::device::sim::{SimDevice, Survival};
use cowblk::{Disk, Server, Snapshot, SnapshotDisk, Store, check_device};
use model::{BLOCK, Dice, Fill, Shape, states_wanted};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const BLOCKS: u64 = 24;
const WRITERS: usize = 2;

fn options(shape: Shape, is_background: bool) -> cowblk::Options {
    shape.options().background(is_background).dirty_bytes(64 << 10)
}

/// The range that a writer's nth write covers: whole blocks, or parts of two.
fn range_of(writer: usize, nth: u64) -> std::ops::Range<u64> {
    let block = nth % (BLOCKS - 1);
    if writer == 0 {
        block * BLOCK..(block + 1) * BLOCK
    } else {
        block * BLOCK + 1000..(block + 1) * BLOCK + 700
    }
}

fn fill(writer: usize, nth: u64) -> Fill {
    Fill { stamp: nth * 2 + writer as u64, zero_every: 0 }
}

/// A disk's bytes after a writer's first `count` writes, of which the last two laps decide; and after the first block
/// of the next one, where it `is_half` done.
fn expected(writer: usize, count: u64, is_half: bool) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(BLOCKS * BLOCK).unwrap()];
    for nth in (count + 1).saturating_sub(2 * BLOCKS).max(1)..=count + u64::from(is_half) {
        let mut range = range_of(writer, nth);
        if nth > count {
            range.end = range.end.min((range.start / BLOCK + 1) * BLOCK);
        }
        let place = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        bytes[place].copy_from_slice(&fill(writer, nth).bytes(range));
    }
    bytes
}

/// After how many writes a disk looks like this: a number from `least` to `most`. A crash may halve the one after.
fn count_of(writer: usize, found: &[u8], (least, most): (u64, u64)) -> Option<u64> {
    (least..=most).rev().find(|count| {
        // The last write must be there; only then is all of it worth comparing.
        let range = range_of(writer, *count);
        let last = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let is_there = |half: bool| found == expected(writer, *count, half);
        (*count == 0 || found[last.start..last.start + 100] == fill(writer, *count).bytes(range)[..100])
            && (is_there(false) || is_there(true))
    })
}

/// What one writer has done.
#[derive(Default)]
struct Progress {
    /// Begun, returned, and promised by a flush that returned.
    begun: AtomicU64,
    done: AtomicU64,
    promised: AtomicU64,
}

struct Scene {
    store: Store,
    server: Server,
    wild: Server,
    progress: [Progress; WRITERS],
    stop: AtomicBool,
}

fn disk_name(writer: usize, second: bool) -> String {
    format!("d{writer}{}", if second { "b" } else { "a" })
}

impl Scene {
    fn new(device: &SimDevice, shape: Shape) -> Self {
        let store = Store::create_on(Arc::new(device.clone()), options(shape, true)).unwrap();
        let (server, wild) = (store.create_server("s").unwrap(), store.create_server("wild").unwrap());
        for writer in 0..WRITERS {
            for second in [false, true] {
                server.create_disk(&disk_name(writer, second), BLOCKS * BLOCK).unwrap();
            }
        }
        wild.create_disk("w", 300 * BLOCK).unwrap();
        Self { store, server, wild, progress: Default::default(), stop: AtomicBool::new(false) }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn write(&self, writer: usize) {
        let disks = [false, true].map(|second| self.server.disk(&disk_name(writer, second)).unwrap());
        let progress = &self.progress[writer];
        for nth in 1.. {
            if self.is_over() {
                return;
            }
            progress.begun.store(nth, Ordering::SeqCst);
            let range = range_of(writer, nth);
            let bytes = fill(writer, nth).bytes(range.clone());
            for disk in &disks {
                disk.write_at(&bytes, range.start).unwrap();
            }
            progress.done.store(nth, Ordering::SeqCst);
        }
    }

    fn flush(&self) {
        while !self.is_over() {
            let done: Vec<u64> =
                self.progress.iter().map(|progress| progress.done.load(Ordering::SeqCst)).collect();
            self.store.flush().unwrap();
            for (progress, done) in self.progress.iter().zip(done) {
                progress.promised.fetch_max(done, Ordering::SeqCst);
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Snapshots come and go, and are looked at.
    fn snapshot(&self, mut dice: Dice) {
        for nth in 0u64.. {
            if self.is_over() {
                return;
            }
            let done: Vec<u64> =
                self.progress.iter().map(|progress| progress.done.load(Ordering::SeqCst)).collect();
            let made = self.server.snapshot(&format!("n{nth}"), "").unwrap();
            let begun: Vec<u64> =
                self.progress.iter().map(|progress| progress.begun.load(Ordering::SeqCst)).collect();
            for writer in 0..WRITERS {
                look_at_pair(writer, (done[writer], begun[writer]), &|second| {
                    bytes_of_frozen(&made, &disk_name(writer, second))
                });
            }
            let snapshots = self.server.snapshots();
            if snapshots.len() > 3 {
                self.store.delete_snapshot(dice.pick(&snapshots).id()).unwrap();
            }
            match dice.below(6) {
                0 => self.store.checkpoint().unwrap(),
                1 => self.store.collect().unwrap(),
                _ => thread::sleep(Duration::from_micros(dice.below(500))),
            }
        }
    }

    /// A server on which anything goes: what its disk holds is only known block by block.
    fn run_wild(&self, mut dice: Dice) {
        for nth in 1u64.. {
            if self.is_over() {
                return;
            }
            let disk = self.wild.disk("w").unwrap();
            let block = *dice.pick(&[0, 1, 2, 3, 250, 255, 256, 257, 299]);
            match dice.below(20) {
                0 => drop(self.wild.snapshot(&format!("n{}", nth % 5), "")),
                1 => {
                    if let Some(snapshot) = self.wild.snapshots().first() {
                        drop(self.wild.restore(snapshot.id()));
                    }
                }
                2 => {
                    if let Some(before) = self.wild.before_restore() {
                        drop(self.wild.restore(before.id()));
                    }
                }
                3 | 4 => {
                    if let Some(snapshot) = self.wild.snapshots().last() {
                        drop(self.store.delete_snapshot(snapshot.id()));
                    }
                }
                5 => disk.discard(block * BLOCK, (300 - block).min(20) * BLOCK).unwrap(),
                6 => disk.flush().unwrap(),
                _ => {
                    let range = block * BLOCK..(block + 1) * BLOCK;
                    disk.write_at(&Fill { stamp: nth, zero_every: 0 }.bytes(range.clone()), range.start)
                        .unwrap();
                }
            }
            look_at_wild(&disk);
        }
    }
}

fn bytes_of(disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![0xEE; usize::try_from(disk.size_bytes()).unwrap()];
    disk.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn bytes_of_frozen(snapshot: &Snapshot, name: &str) -> Vec<u8> {
    let disk: SnapshotDisk = snapshot.disk(name).unwrap();
    let mut bytes = vec![0xEE; usize::try_from(disk.size_bytes()).unwrap()];
    disk.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// The two disks of a writer must be as it left them, after between `least` and `most` writes.
fn look_at_pair(writer: usize, (least, most): (u64, u64), read: &dyn Fn(bool) -> Vec<u8>) {
    let (first, second) = (read(false), read(true));
    let first = count_of(writer, &first, (least, most));
    let first = first.unwrap_or_else(|| {
        panic!("the first disk of writer {writer} is as after none of {least}..={most} writes")
    });
    let bounds = (first.saturating_sub(1).max(least), first);
    let second = count_of(writer, &second, bounds);
    assert!(
        second.is_some(),
        "writer {writer}: its first disk is as after {first} writes, its second is not as after {bounds:?}"
    );
}

/// Each block must be whole: the store has verified that it is what was written there, or there is an error.
fn look_at_wild(disk: &Disk) {
    let mut bytes = [0; 4096];
    for block in [0, 1, 2, 3, 250, 255, 256, 257, 299] {
        disk.read_at(&mut bytes, block * BLOCK).unwrap();
    }
}

/// A crash: opened, looked at, used, emptied.
fn judge(device: &SimDevice, shape: Shape, bounds: &[(u64, u64)], blocks_when_empty: u64) {
    let report = check_device(device).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    let store = Store::open_on(Arc::new(device.clone()), options(shape, false)).unwrap();
    let server = store.server("s").unwrap();
    for (writer, bounds) in bounds.iter().enumerate() {
        look_at_pair(writer, *bounds, &|second| bytes_of(&server.disk(&disk_name(writer, second)).unwrap()));
        for snapshot in server.snapshots() {
            look_at_pair(writer, (0, bounds.1), &|second| {
                bytes_of_frozen(&snapshot, &disk_name(writer, second))
            });
        }
    }
    look_at_wild(&store.server("wild").unwrap().disk("w").unwrap());
    for nth in 0..20 {
        let range = nth * BLOCK..(nth + 1) * BLOCK;
        let disk = server.disk(&disk_name(0, false)).unwrap();
        disk.write_at(&Fill { stamp: 7, zero_every: 0 }.bytes(range.clone()), range.start).unwrap();
        disk.flush().unwrap();
    }
    drop((look_at_wild(&store.server("wild").unwrap().disk("w").unwrap()), server));
    for server in store.servers() {
        store.delete_server(server.id()).unwrap();
    }
    store.collect().unwrap();
    assert_eq!(store.status().used_blocks, blocks_when_empty, "something is left of nothing");
    let report = check_device(device).unwrap();
    assert!(report.is_clean(), "emptied: {:?}", report.findings);
}

#[test]
fn a_crash_beside_many_threads_leaves_each_of_them_a_prefix() {
    let wanted = states_wanted(100_000) / 500;
    let mut states = 0;
    for seed in 0.. {
        if states >= wanted {
            break;
        }
        let mut dice = Dice::new(seed);
        let shape =
            Shape { zone_blocks: 256, journal_bytes: *dice.pick(&[64 << 10, 256 << 10]), ..Shape::SMALL };
        let blocks_when_empty = {
            let store = Store::create_on(Arc::new(SimDevice::new(0, 0)), options(shape, false)).unwrap();
            store.collect().unwrap();
            store.status().used_blocks
        };
        let device = SimDevice::new(0, seed);
        let scene = Scene::new(&device, shape);
        let crashes = thread::scope(|scope| {
            for writer in 0..WRITERS {
                let scene = &scene;
                scope.spawn(move || scene.write(writer));
            }
            scope.spawn(|| scene.flush());
            let (one, other) = (Dice::new(dice.next()), Dice::new(dice.next()));
            scope.spawn(|| scene.snapshot(one));
            scope.spawn(|| scene.run_wild(other));
            let mut crashes = Vec::new();
            for _ in 0..20 {
                thread::sleep(Duration::from_micros(dice.below(6000)));
                let promised =
                    scene.progress.each_ref().map(|progress| progress.promised.load(Ordering::SeqCst));
                let survival = if dice.one_in(3) { Survival::Nothing } else { Survival::Random(dice.next()) };
                let after = device.crash(&survival);
                let begun = scene.progress.each_ref().map(|progress| progress.begun.load(Ordering::SeqCst));
                let bounds: Vec<(u64, u64)> = promised.into_iter().zip(begun).collect();
                crashes.push((after, bounds));
            }
            scene.stop.store(true, Ordering::Relaxed);
            crashes
        });
        for (after, bounds) in crashes {
            states += 1;
            judge(&after, shape, &bounds, blocks_when_empty);
        }
    }
    println!("{states} crash states beside many threads");
}
