//! Dedup: blocks with the same bytes share one, exactly as long as somebody needs it.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk::device::MemoryDevice;
use cowblk::{
    DedupCursor, DedupOptions, Deduplicated, Disk, Options, Store, check_device, recount_blocks,
    recount_sizes,
};
use std::ops::ControlFlow;
use std::sync::Arc;

const BLOCK: u64 = 4096;

fn options() -> Options {
    Options::default().journal_bytes(1 << 20).zone_blocks(512).background(false)
}

struct Rig {
    device: Arc<MemoryDevice>,
    store: Store,
}

impl Rig {
    fn new() -> Self {
        let device = Arc::new(MemoryDevice::new(0));
        let store = Store::create_on(device.clone(), options()).unwrap();
        store.collect().unwrap();
        Self { device, store }
    }

    fn disk(&self, server: &str, blocks: u64) -> Disk {
        let server = self.store.server(server).or_else(|_| self.store.create_server(server)).unwrap();
        server.create_disk(&format!("d{}", server.disks().len()), blocks * BLOCK).unwrap()
    }

    fn dedup(&self) -> Deduplicated {
        self.store
            .dedup(&DedupOptions::default().memory_bytes(1 << 20), |_| ControlFlow::Continue(()))
            .unwrap()
    }

    /// The auditor finds nothing. How many data blocks are held, and by how many references.
    fn audit(&self) -> (u64, u64) {
        self.store.checkpoint().unwrap();
        let report = check_device(&*self.device).unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
        let sizes = recount_sizes(&*self.device).unwrap();
        assert!(sizes.is_clean(), "{:#?}", sizes.findings);
        (report.data_blocks_in_use, report.data_blocks_mapped)
    }

    /// Everything is deleted: nothing is left.
    fn empty(&self) {
        for server in self.store.servers() {
            self.store.delete_server(server.id()).unwrap();
        }
        self.store.collect().unwrap();
        assert_eq!(self.audit(), (0, 0));
    }
}

/// A block that says what it is.
fn block(n: u64) -> Vec<u8> {
    (0..BLOCK / 8).flat_map(|word| (n << 32 | word).to_le_bytes()).collect()
}

fn put(disk: &Disk, at: u64, n: u64) {
    disk.write_at(&block(n), at * BLOCK).unwrap();
}

fn holds(disk: &Disk, at: u64, n: u64) -> bool {
    let mut found = vec![0; 4096];
    disk.read_at(&mut found, at * BLOCK).unwrap();
    found == block(n)
}

#[test]
fn equal_blocks_share_one_and_whoever_is_last_frees_it() {
    let rig = Rig::new();
    let (a, b) = (rig.disk("a", 300), rig.disk("b", 1000));
    for at in 0..100 {
        put(&a, at, at);
        put(&b, 900 - at, at);
    }
    put(&b, 5, 7);
    assert_eq!(rig.audit(), (201, 201));
    let done = rig.dedup();
    assert_eq!((done.shared_bytes, done.read_bytes), (101 * BLOCK, 201 * BLOCK));
    assert_eq!((done.done_bytes, done.total_bytes, done.stopped_at), (201 * BLOCK, 201 * BLOCK, None));
    assert_eq!(rig.audit(), (100, 201));
    assert_eq!(rig.dedup().shared_bytes, 0, "once is enough");
    assert!((0..100).all(|at| holds(&a, at, at) && holds(&b, 900 - at, at)) && holds(&b, 5, 7));
    a.discard(0, 50 * BLOCK).unwrap();
    assert_eq!(rig.audit(), (100, 151), "the other disk holds them still");
    put(&b, 900, 1000); // was 0, whose other reference is gone
    assert_eq!(rig.audit(), (100, 151));
    rig.store.delete_server(rig.store.server("a").unwrap().id()).unwrap();
    rig.store.collect().unwrap();
    assert_eq!(rig.audit(), (100, 101));
    assert!((1..100).all(|at| holds(&b, 900 - at, at)) && holds(&b, 900, 1000) && holds(&b, 5, 7));
    rig.empty();
}

/// What snapshots hold is kept, and shared with.
#[test]
fn a_disk_gives_up_only_what_is_its_own() {
    let rig = Rig::new();
    let a = rig.disk("a", 100);
    (0..10).for_each(|at| put(&a, at, 1));
    let server = rig.store.server("a").unwrap();
    let snapshot = server.snapshot("s", "").unwrap();
    (20..30).for_each(|at| put(&a, at, 1));
    let done = rig.dedup();
    assert_eq!(done.shared_bytes, 10 * BLOCK);
    assert_eq!(rig.audit(), (10, 20));
    rig.store.delete_snapshot(snapshot.id()).unwrap();
    rig.store.collect().unwrap();
    assert_eq!(rig.dedup().shared_bytes, 9 * BLOCK, "all of it is the disk's now");
    assert_eq!(rig.audit(), (1, 20));
    assert!((0..10).chain(20..30).all(|at| holds(&a, at, 1)));
    rig.empty();
}

/// A place that comes back to the block that it held before, at a moment at which its map still has it.
#[test]
fn a_reference_that_is_made_twice_counts_once() {
    let rig = Rig::new();
    let a = rig.disk("a", 100);
    (0..3).for_each(|at| put(&a, at, 1));
    rig.dedup();
    assert_eq!(rig.audit(), (1, 3));
    for _ in 0..3 {
        (1..3).for_each(|at| put(&a, at, 2));
        rig.store.checkpoint().unwrap();
        (1..3).for_each(|at| put(&a, at, 1));
        rig.dedup();
        assert_eq!(rig.audit(), (1, 3));
    }
    rig.empty();
}

/// A run that was stopped goes on where it was; the rest is found all the same.
#[test]
fn it_can_be_stopped_and_goes_on() {
    let rig = Rig::new();
    let disk = rig.disk("a", 2000);
    (0..1500).for_each(|at| put(&disk, at, at % 10));
    let options = DedupOptions::default().memory_bytes(1 << 20);
    let mut calls = 0;
    let stopped = rig.store.dedup(&options, |done| {
        assert!(done.done_bytes <= done.total_bytes && done.total_bytes == 1500 * BLOCK);
        calls += 1;
        if calls > 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let stopped = stopped.unwrap();
    assert_eq!((stopped.done_bytes, stopped.shared_bytes), (512 * BLOCK, 502 * BLOCK));
    let cursor: DedupCursor = stopped.stopped_at.unwrap().to_string().parse().unwrap();
    let rest = rig.store.dedup(&options.clone().from(cursor), |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((rest.read_bytes, rest.stopped_at), (988 * BLOCK, None));
    assert_eq!(rig.audit().0, 20, "what came before was not looked at again: ten blocks for each part");
    assert_eq!(rig.dedup().shared_bytes, 988 * BLOCK);
    assert_eq!(rig.audit().0, 10);
    assert!((0..1500).all(|at| holds(&disk, at, at % 10)));
    rig.empty();
}

/// No count goes round: the block after the last one that fits is a source of its own.
#[test]
fn a_block_has_as_many_references_as_a_count_can_tell() {
    let rig = Rig::new();
    let disk = rig.disk("a", 70_000);
    let total = 65_535 + 20;
    let mut at = 0;
    while at < total {
        let count = (total - at).min(4000);
        let bytes = block(1).repeat(usize::try_from(count).unwrap());
        disk.write_at(&bytes, at * BLOCK).unwrap();
        rig.dedup();
        at += count;
    }
    assert_eq!(rig.audit(), (2, total));
    let server = rig.store.server("a").unwrap();
    server.snapshot("all", "").unwrap();
    disk.discard(0, 65_000 * BLOCK).unwrap();
    disk.write_at(&block(1).repeat(700), 0).unwrap();
    rig.dedup();
    assert_eq!(rig.audit(), (3, total + 700), "none of them with the one that is full");
    assert!((0..700).chain(65_000..total).all(|at| holds(&disk, at, 1)));
    rig.empty();
}

impl Rig {
    /// The blocks of the store with these bytes.
    fn blocks_with(&self, n: u64) -> Vec<u64> {
        let bytes = self.device.to_bytes();
        let wanted = block(n);
        (0..).zip(bytes.chunks(4096)).filter(|(_, bytes)| **bytes == wanted[..]).map(|(at, _)| at).collect()
    }

    fn rot(&self, block: u64) {
        use cowblk::device::Device;
        let mut byte = [0];
        self.device.read_at(&mut byte, block * BLOCK + 77).unwrap();
        self.device.write_at(&[byte[0] ^ 1], block * BLOCK + 77).unwrap();
    }
}

/// Damage does not spread: a bad block is neither shared nor given up, and who holds it is told when reading.
#[test]
fn a_block_that_rotted_is_never_shared() {
    for nth in 0..3 {
        let rig = Rig::new();
        let disk = rig.disk("a", 100);
        (0..3).for_each(|at| put(&disk, at, 1));
        rig.store.checkpoint().unwrap();
        let blocks = rig.blocks_with(1);
        assert_eq!(blocks.len(), 3);
        rig.rot(blocks[nth]);
        let done = rig.dedup();
        assert_eq!((done.bad_blocks, done.shared_bytes), (1, BLOCK), "the other two share");
        let bad = u64::try_from(nth).unwrap();
        assert!((0..3).all(|at| at == bad || holds(&disk, at, 1)));
        let mut found = vec![0; 4096];
        assert!(disk.read_at(&mut found, bad * BLOCK).is_err());
        assert_eq!(rig.audit(), (2, 3));
        rig.empty();
    }
}

/// A source that rots between being seen and being shared: it is read once more.
#[test]
fn a_source_that_rots_meanwhile_is_not_shared() {
    let rig = Rig::new();
    let disk = rig.disk("a", 2000);
    put(&disk, 0, 1);
    put(&disk, 1000, 1);
    put(&disk, 1999, 1);
    rig.store.checkpoint().unwrap();
    let source = rig.blocks_with(1)[0];
    let mut has_rotted = false;
    let options = DedupOptions::default().memory_bytes(1 << 20);
    let done = rig.store.dedup(&options, |done| {
        if done.done_bytes == BLOCK && !has_rotted {
            rig.rot(source);
            has_rotted = true;
        }
        ControlFlow::Continue(())
    });
    assert_eq!(done.unwrap().shared_bytes, BLOCK, "the last with the one in the middle");
    assert!(has_rotted && holds(&disk, 1000, 1) && holds(&disk, 1999, 1));
    assert_eq!(rig.audit(), (2, 3));
}

/// In a store that is full, it makes room.
#[test]
fn a_full_store_has_room_again() {
    let device = Arc::new(MemoryDevice::new(0));
    let bytes_max = (128 << 10) + (1 << 20) + (2 + 1024) * BLOCK;
    let store = Store::create_on(device.clone(), options().max_bytes(bytes_max)).unwrap();
    let rig = Rig { device, store };
    let disk = rig.disk("a", 2000);
    let written = (0..2000).find(|at| disk.write_at(&block(at % 5), at * BLOCK).is_err()).unwrap();
    assert!(written > 500);
    let (mut at, mut rounds) = (written, 0);
    while at < 2000 {
        match disk.write_at(&block(at % 5), at * BLOCK) {
            Ok(()) => at += 1,
            Err(error) => {
                assert_eq!(error.kind(), cowblk::ErrorKind::Full);
                assert!(rig.dedup().shared_bytes >= 500 * BLOCK);
                rounds += 1;
            }
        }
    }
    assert!(rounds > 0 && (0..2000).all(|at| holds(&disk, at, at % 5)));
    rig.dedup();
    assert_eq!(rig.audit(), (5, 2000));
    rig.empty();
}

/// Sizes count blocks: each once, and as going only with its last reference.
#[test]
fn sizes_follow_blocks_and_not_references() {
    let rig = Rig::new();
    let disk = rig.disk("a", 100);
    let other = rig.disk("a", 100);
    (0..10).for_each(|at| put(&disk, at, at % 2)); // two blocks
    (0..4).for_each(|at| put(&other, at, 5 + at));
    put(&other, 50, 1); // one of the two
    rig.dedup();
    let server = rig.store.server("a").unwrap();
    let first = server.snapshot("first", "").unwrap();
    disk.discard(0, 100 * BLOCK).unwrap();
    other.discard(0, 100 * BLOCK).unwrap();
    put(&disk, 20, 0);
    put(&disk, 21, 9);
    put(&disk, 22, 9);
    rig.dedup(); // 20 shares with the snapshot, if it is read first
    let template = DedupOptions::default().memory_bytes(1 << 20).templates(&[first.id()]);
    rig.store.dedup(&template, |_| ControlFlow::Continue(())).unwrap();
    let second = server.snapshot("second", "").unwrap();
    disk.discard(0, 100 * BLOCK).unwrap();
    rig.store.collect().unwrap();
    assert_eq!(rig.store.status().saved_blocks, 11);
    assert_eq!(rig.audit(), (7, 18));
    assert_eq!((first.size_bytes(), second.size_bytes()), (Some(6 * BLOCK), Some(2 * BLOCK)));
    assert_eq!((first.exclusive_bytes(), second.exclusive_bytes()), (Some(5 * BLOCK), Some(BLOCK)));
    let frees = |ids: &[_]| rig.store.would_free(ids).unwrap().data_bytes / BLOCK;
    assert_eq!((frees(&[first.id()]), frees(&[second.id()])), (5, 1));
    assert_eq!(frees(&[first.id(), second.id()]), 7, "the one that both hold goes with the last");
    rig.store.delete_snapshot(second.id()).unwrap();
    rig.store.collect().unwrap();
    assert_eq!((rig.audit().0, first.exclusive_bytes()), (6, Some(6 * BLOCK)));
    let reopened =
        Store::open_on(Arc::new(MemoryDevice::from_bytes(rig.device.to_bytes())), options()).unwrap();
    let held = reopened.snapshot(first.id()).unwrap();
    assert_eq!((held.size_bytes(), held.exclusive_bytes()), (None, None), "nobody has counted yet");
    held.count_sizes().unwrap();
    assert_eq!((held.size_bytes(), held.exclusive_bytes()), (Some(6 * BLOCK), Some(6 * BLOCK)));
    let (_, recounted) = recount_blocks(&*rig.device).unwrap();
    let found = recounted.snapshots[&first.id()];
    assert_eq!((found.referenced, found.exclusive), (6, 6));
    rig.empty();
}

/// What the journal shares is there after a crash; and what was shared and let go of in one checkpoint, too.
#[test]
fn the_journal_tells_of_shares() {
    let rig = Rig::new();
    let (a, b) = (rig.disk("a", 300), rig.disk("b", 300));
    (0..50).for_each(|at| put(&a, at, at));
    (0..50).for_each(|at| put(&b, 99 - at, at));
    let mut is_first = true;
    let options = DedupOptions::default().memory_bytes(1 << 20);
    // Stopped behind the last part, so that no checkpoint follows.
    let mut images = Vec::new();
    rig.store
        .dedup(&options, |done| {
            if done.shared_bytes > 0 && is_first {
                is_first = false;
                a.discard(0, 10 * BLOCK).unwrap();
                put(&b, 99, 1000);
                rig.store.flush().unwrap();
                images.push(rig.device.to_bytes());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    for image in images {
        let device = Arc::new(MemoryDevice::from_bytes(image));
        let report = check_device(&*device).unwrap();
        assert!(report.is_clean() && report.journal_batches > 0, "{report:?}");
        let store = Store::open_on(device.clone(), self::options()).unwrap();
        let rig = Rig { device, store };
        let b = rig.store.server("b").unwrap().disk("d0").unwrap();
        assert!((1..50).all(|at| holds(&b, 99 - at, at)) && holds(&b, 99, 1000));
        assert_eq!(rig.audit(), (50, 90));
        rig.empty();
    }
    assert!(!is_first);
}

/// A disk and its clone on the same server, frozen by the same snapshots, with the same bytes at the same place.
#[test]
fn a_disk_and_its_clone_are_told_apart() {
    let rig = Rig::new();
    let disk = rig.disk("a", 300);
    (0..10).for_each(|at| put(&disk, at, at));
    let server = rig.store.server("a").unwrap();
    let snapshot = server.snapshot("s", "").unwrap();
    let clone = snapshot.disk("d0").unwrap().clone_disk(&server, "clone").unwrap();
    let both = server.snapshot("both", "").unwrap();
    (3..6).for_each(|at| put(&disk, at, 100));
    (3..6).for_each(|at| put(&clone, at, 100));
    rig.dedup();
    assert_eq!(rig.audit(), (11, 16));
    let later = server.snapshot("later", "").unwrap();
    rig.store.collect().unwrap();
    assert_eq!((both.size_bytes(), later.size_bytes()), (Some(10 * BLOCK), Some(8 * BLOCK)));
    disk.discard(0, 300 * BLOCK).unwrap();
    rig.store.delete_snapshot(later.id()).unwrap();
    rig.store.collect().unwrap();
    assert_eq!(rig.audit(), (11, 13), "the clone holds it still");
    assert!((3..6).all(|at| holds(&clone, at, 100)));
    for held in [snapshot, both] {
        rig.store.delete_snapshot(held.id()).unwrap();
    }
    rig.store.collect().unwrap();
    assert_eq!(rig.audit(), (8, 10));
    rig.empty();
}
