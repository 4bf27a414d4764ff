//! Dedup: blocks with the same bytes share one, exactly as long as somebody needs it.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk::device::MemoryDevice;
use cowblk::{DedupOptions, Deduplicated, Disk, Options, Store, check_device, recount_sizes};
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
