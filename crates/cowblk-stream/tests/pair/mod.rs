//! Pair: what the tests share: a source with a history, a target, and a comparison of what both hold.

#![allow(dead_code, reason = "every test file compiles its own copy and uses only a part of it")]
#![allow(unused_imports, reason = "for the same reason")]
#![allow(unreachable_pub, reason = "a test crate has no outside")]

#[path = "../../../../tests/fixture/mod.rs"]
mod fixture;

use std::sync::Arc;

use cowblk::device::{Device, MemoryDevice};
use cowblk::{Options, Server, Snapshot, Store};
use cowblk_stream::{Receive, Received, Result, Send};
pub use fixture::{Dice, ReplayOnPanic, seeds};

pub const MIB: u64 = 1 << 20;

pub fn options() -> Options {
    Options::default().journal_bytes(2 << 20).zone_blocks(2050).background(false)
}

/// An empty store, and what it lies on.
pub fn store() -> (Arc<MemoryDevice>, Store) {
    let device = Arc::new(MemoryDevice::new(0));
    let store = Store::create_on(device.clone(), options()).unwrap();
    (device, store)
}

/// Closes the store and has it audited.
pub fn assert_clean(device: &dyn Device, store: Store) {
    store.close().unwrap();
    let report = cowblk::check_device(device).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// A whole or incremental stream, in memory.
pub fn stream(store: &Store, snapshot: &Snapshot, base: Option<&Snapshot>) -> Vec<u8> {
    let mut stream = Vec::new();
    let sending = Send::new(store, snapshot);
    let sending = match base {
        Some(base) => sending.since(base),
        None => sending,
    };
    sending.write(&mut stream).unwrap();
    stream
}

pub fn receive(store: &Store, mut stream: &[u8]) -> Result<Received> {
    let received = Receive::new(store).read(&mut stream)?;
    assert!(stream.is_empty(), "{} bytes are left", stream.len());
    Ok(received)
}

/// The content of each disk, by name.
pub fn contents(snapshot: &Snapshot) -> Vec<(String, Vec<u8>)> {
    let mut contents: Vec<_> = snapshot
        .disks()
        .iter()
        .map(|disk| {
            let mut bytes = vec![0; usize::try_from(disk.size_bytes()).unwrap()];
            disk.read_at(&mut bytes, 0).unwrap();
            (disk.name(), bytes)
        })
        .collect();
    contents.sort();
    contents
}

/// Both are the same snapshot: bit by bit, hole by hole, with its name, times and identity.
pub fn assert_same(source: &Snapshot, target: &Snapshot, when: &str) {
    let facts = |snapshot: &Snapshot| {
        (snapshot.name(), snapshot.description(), snapshot.created_at(), snapshot.identity())
    };
    assert_eq!(facts(source), facts(target), "{when}");
    assert!(contents(source) == contents(target), "{when}: the contents differ");
    let mapped = |snapshot: &Snapshot| {
        let data = |disk: &cowblk::SnapshotDisk| {
            let extents = disk.extents(0..disk.size_bytes()).map(|extent| extent.unwrap());
            extents.filter(cowblk::Extent::is_data).map(|extent| extent.len).sum::<u64>()
        };
        snapshot.disks().iter().map(data).sum::<u64>()
    };
    assert_eq!(mapped(source), mapped(target), "{when}: what is a hole here takes space there");
}

/// The live disks of a server hold what the snapshot holds.
pub fn assert_head(server: &Server, snapshot: &Snapshot, when: &str) {
    let mut head: Vec<_> = server
        .disks()
        .iter()
        .map(|disk| {
            let mut bytes = vec![0; usize::try_from(disk.size_bytes()).unwrap()];
            disk.read_at(&mut bytes, 0).unwrap();
            (disk.name(), bytes)
        })
        .collect();
    head.sort();
    assert!(head == contents(snapshot), "{when}: the disks differ from the snapshot");
}

/// Something happens to the disks of a server: writes, discards, resizes, disks that come and go.
pub fn change(server: &Server, dice: &mut Dice, step: u64) {
    for _ in 0..=dice.below(6) {
        let disks = server.disks();
        match dice.below(20) {
            0 if disks.len() < 4 => {
                server
                    .create_disk(&format!("d{step}-{}", dice.below(1 << 30)), 512 * (1 + dice.below(4000)))
                    .unwrap();
            }
            1 if disks.len() > 1 => server.delete_disk(&disks[dice.index(disks.len())].name()).unwrap(),
            2 | 3 => {
                let disk = &disks[dice.index(disks.len())];
                let (old, new) = (disk.size_bytes(), 512 * (1 + dice.below(6000)));
                if new < old {
                    disk.discard(new, old - new).unwrap();
                }
                disk.resize(new).unwrap();
            }
            4..=6 => {
                let disk = &disks[dice.index(disks.len())];
                let range = dice.range(disk.size_bytes());
                disk.discard(range.start, range.end - range.start).unwrap();
            }
            _ => {
                let disk = &disks[dice.index(disks.len())];
                let range = dice.range(disk.size_bytes());
                let byte = u8::try_from(dice.below(5)).unwrap();
                let mut bytes = vec![byte; usize::try_from(range.end - range.start).unwrap()];
                if let Some(first) = bytes.first_mut() {
                    *first = u8::try_from(step % 251).unwrap();
                }
                disk.write_at(&bytes, range.start).unwrap();
            }
        }
    }
}

/// A server `web` with three snapshots that differ a little, on two disks.
pub fn three_snapshots(store: &Store) -> [Snapshot; 3] {
    let web = store.create_server("web").unwrap();
    let (vda, vdb) = (web.create_disk("vda", 8 * MIB).unwrap(), web.create_disk("vdb", MIB + 512).unwrap());
    vda.write_at(&vec![1; 300_000], 4096).unwrap();
    vdb.write_at(&[2; 512], MIB).unwrap();
    let first = web.snapshot("first", "the first one").unwrap();
    vda.write_at(&vec![3; 50_000], 2 * MIB).unwrap();
    vda.discard(8192, 40_960).unwrap();
    vdb.write_at(&vec![4; 20_000], 10_000).unwrap();
    let second = web.snapshot("second", "").unwrap();
    vda.write_at(&[5; 700], 7 * MIB).unwrap();
    let third = web.snapshot("third", "").unwrap();
    [first, second, third]
}
