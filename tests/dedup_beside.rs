//! Dedup beside everything: writers, readers, snapshots, restores, deletes, checkpoints and the collector, all at once.
//!
//! Blocks have few different contents, so that nearly each is shared, and is let go of again soon. Each writer knows what each of its
//! blocks holds. How much is done is fixed by counts, never by the clock.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod fixture;

use cowblk::{DedupOptions, Disk, ErrorKind, Options, Store};
use fixture::{Dice, assert_clean, empty, scratch};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const BLOCK: u64 = 4096;
const BLOCKS: u64 = 400;
const KINDS: u64 = 5;

fn options() -> Options {
    Options::default()
        .zone_blocks(512)
        .journal_bytes(512 << 10)
        .cache_bytes(128 << 10)
        .dirty_bytes(512 << 10)
        .dedup_memory_bytes(16 << 10)
}

/// A block of a kind; of kind 0, zeros.
fn block(kind: u64) -> Vec<u8> {
    (0..BLOCK / 8).flat_map(|word| (kind * (word << 8 | kind)).to_le_bytes()).collect()
}

fn compare(disk: &Disk, expected: &[u64]) {
    let mut bytes = vec![0xEE; expected.len() * 4096];
    disk.read_at(&mut bytes, 0).unwrap();
    for ((found, kind), at) in bytes.chunks(4096).zip(expected).zip(0..) {
        assert!(found == block(*kind), "block {at} is not of kind {kind}");
    }
}

/// Writes, discards and reads on a disk of its own, and knows what it holds.
fn write(disk: &Disk, seed: u64, rounds: u64) -> Vec<u64> {
    let mut dice = Dice::new(seed);
    let mut held = vec![0; usize::try_from(BLOCKS).unwrap()];
    for round in 0..rounds {
        let first = dice.below(BLOCKS);
        let count = 1 + dice.below((BLOCKS - first).min(40));
        let kind = dice.below(KINDS);
        let bytes = block(kind).repeat(usize::try_from(count).unwrap());
        if dice.chance(10) {
            disk.discard(first * BLOCK, count * BLOCK).unwrap();
            held[usize::try_from(first).unwrap()..][..usize::try_from(count).unwrap()].fill(0);
        } else {
            disk.write_at(&bytes, first * BLOCK).unwrap();
            held[usize::try_from(first).unwrap()..][..usize::try_from(count).unwrap()].fill(kind);
        }
        if round % 20 == 0 {
            compare(disk, &held);
        }
        if dice.chance(5) {
            disk.flush().unwrap();
        }
    }
    held
}

/// Snapshots what the writers write, deletes some, and comes and goes with clones.
fn disturb(store: &Store, names: &[String], stop: &AtomicBool) {
    let mut dice = Dice::new(99);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let server = store.server(&names[dice.index(names.len())]).unwrap();
        match dice.below(14) {
            0..4 if server.snapshots().len() < 4 => {
                server.snapshot(&format!("s{number}"), "").unwrap();
            }
            4..7 if !server.snapshots().is_empty() => {
                store.delete_snapshot(dice.pick(&server.snapshots()).id()).unwrap();
            }
            7..9 if !server.snapshots().is_empty() => {
                let clone = dice.pick(&server.snapshots()).clone_server("clone").unwrap();
                let disk = clone.disk("vda").unwrap();
                disk.write_at(&block(1 + number % 4).repeat(60), 30 * BLOCK).unwrap();
                store.checkpoint().unwrap();
                clone.reset().unwrap();
                store.delete_server(clone.id()).unwrap();
            }
            12..14 if !server.snapshots().is_empty() => {
                let id = dice.pick(&server.snapshots()).id();
                let registered = store.register_template(id, |_, _| ControlFlow::Continue(())).unwrap();
                assert!(registered.unfit_blocks == 0 || registered.indexed_bytes < BLOCKS * BLOCK);
                if dice.chance(30) {
                    store.unregister_template(*dice.pick(&store.templates()));
                }
            }
            9 => store.checkpoint().unwrap(),
            10 => store.collect().unwrap(),
            _ => {
                let ids: Vec<_> = server.snapshots().iter().map(cowblk::Snapshot::id).collect();
                match store.would_free(&ids) {
                    Err(error) => assert!(matches!(error.kind(), ErrorKind::Busy | ErrorKind::NotFound)),
                    Ok(freed) => assert!(freed.data_bytes <= 4 * BLOCKS * BLOCK),
                }
            }
        }
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn writers_beside_dedup_read_what_they_wrote() {
    let dir = scratch();
    let path = dir.path().join("shared.cow");
    let store = Store::create(&path, options()).unwrap();
    store.collect().unwrap();
    let used_when_empty = store.status().used_blocks;
    let names: Vec<String> = (0..3).map(|nth| format!("web-{nth}")).collect();
    let disks: Vec<Disk> = names
        .iter()
        .map(|name| store.create_server(name).unwrap().create_disk("vda", BLOCKS * BLOCK).unwrap())
        .collect();
    let (stop, shared) = (AtomicBool::new(false), AtomicU64::new(0));
    let held: Vec<Vec<u64>> = thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            let _stop = StopOnDrop(&stop);
            disturb(&store, &names, &stop);
        });
        scope.spawn(|| {
            let _stop = StopOnDrop(&stop);
            while !stop.load(Ordering::Relaxed) {
                let options = DedupOptions::default().memory_bytes(4096);
                let done = store.dedup(&options, |_| ControlFlow::Continue(())).unwrap();
                assert_eq!(done.bad_blocks, 0);
                shared.fetch_add(done.shared_bytes, Ordering::Relaxed);
            }
        });
        let writers: Vec<_> =
            disks.iter().zip(0..).map(|(disk, seed)| scope.spawn(move || write(disk, seed, 600))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert!(shared.load(Ordering::Relaxed) > 0);
    disks.iter().zip(&held).for_each(|(disk, held)| compare(disk, held));
    drop(disks);
    store.close().unwrap();
    assert_clean(&path, "after dedup beside writers");
    let store = Store::open(&path, options()).unwrap();
    for (name, held) in names.iter().zip(&held) {
        compare(&store.server(name).unwrap().disk("vda").unwrap(), held);
    }
    empty(&store);
    assert_eq!(store.status().used_blocks, used_when_empty);
}
