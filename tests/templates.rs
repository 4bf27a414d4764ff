//! Templates: what a registered snapshot holds is not written again.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk::device::{Device, MemoryDevice};
use cowblk::{Disk, ErrorKind, Options, SnapshotId, Store, Template, check_device, recount_sizes};
use std::ops::ControlFlow;
use std::sync::Arc;

const BLOCK: u64 = 4096;

fn options() -> Options {
    Options::default().journal_bytes(1 << 20).zone_blocks(512).background(false).dedup_memory_bytes(1 << 20)
}

struct Rig {
    device: Arc<MemoryDevice>,
    store: Store,
    golden: SnapshotId,
}

impl Rig {
    /// A template of 200 blocks, each of its own kind, that nobody else holds.
    fn new() -> Self {
        let device = Arc::new(MemoryDevice::new(0));
        let store = Store::create_on(device.clone(), options()).unwrap();
        let server = store.create_server("golden").unwrap();
        let disk = server.create_disk("root", 400 * BLOCK).unwrap();
        (0..200).for_each(|at| put(&disk, at, at));
        let golden = server.snapshot("v1", "").unwrap().id();
        server.delete_disk("root").unwrap();
        store.collect().unwrap();
        Self { device, store, golden }
    }

    fn register(&self) -> Template {
        self.store.register_template(self.golden, |_, _| ControlFlow::Continue(())).unwrap()
    }

    fn disk(&self, server: &str) -> Disk {
        self.store.create_server(server).unwrap().create_disk("vda", 70_000 * BLOCK).unwrap()
    }

    /// Blocks of data, and references to them.
    fn audit(&self) -> (u64, u64) {
        self.store.checkpoint().unwrap();
        let report = check_device(&*self.device).unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
        assert!(recount_sizes(&*self.device).unwrap().is_clean());
        (report.data_blocks_in_use, report.data_blocks_mapped)
    }
}

fn block(n: u64) -> Vec<u8> {
    (0..BLOCK / 8).flat_map(|word| ((n + 1) << 32 | word).to_le_bytes()).collect()
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
fn what_a_template_holds_is_not_written_again() {
    let rig = Rig::new();
    let disk = rig.disk("web");
    put(&disk, 300, 7);
    assert_eq!(rig.audit(), (201, 201), "nothing is registered yet");
    let registered = rig.register();
    assert_eq!(registered, Template { indexed_bytes: 200 * BLOCK, ..Template::default() });
    assert_eq!(rig.store.templates(), [rig.golden]);
    let written = rig.store.stats().device_bytes_written;
    let image: Vec<u8> = (0..200).flat_map(block).collect();
    disk.write_at(&image, 0).unwrap();
    disk.flush().unwrap();
    assert!(rig.store.stats().device_bytes_written - written < 16 * BLOCK, "no data went to the medium");
    assert_eq!(rig.audit(), (201, 401));
    put(&disk, 5, 1000);
    disk.write_at(&[9; 100], 6 * BLOCK + 50).unwrap(); // in part
    assert_eq!(rig.audit(), (203, 401));
    assert!((0..200).filter(|at| *at != 5 && *at != 6).all(|at| holds(&disk, at, at)));
    assert!(rig.store.unregister_template(rig.golden) && !rig.store.unregister_template(rig.golden));
    put(&disk, 301, 8);
    assert_eq!(rig.audit(), (204, 402), "not any more");
    rig.store.delete_snapshot(rig.golden).unwrap();
    rig.store.collect().unwrap();
    assert_eq!(rig.audit(), (202, 202));
    assert!((0..200).filter(|at| *at != 5 && *at != 6).all(|at| holds(&disk, at, at)));
    rig.store.delete_server(rig.store.server("web").unwrap().id()).unwrap();
    rig.store.collect().unwrap();
    assert_eq!(rig.audit(), (0, 0));
}

/// The same bytes to the same place, again and again, before and after checkpoints.
#[test]
fn what_is_written_again_counts_once() {
    let rig = Rig::new();
    rig.register();
    let disk = rig.disk("web");
    for round in 0..5 {
        put(&disk, 3, 3);
        put(&disk, 3, 3);
        put(&disk, 4, if round % 2 == 0 { 3 } else { 500 });
        put(&disk, 4, 3);
        if round != 2 {
            assert_eq!(rig.audit(), (200, 202), "round {round}");
        }
    }
    let crashed = Arc::new(MemoryDevice::from_bytes(rig.device.to_bytes()));
    put(&disk, 3, 3);
    rig.store.flush().unwrap();
    let store = Store::open_on(crashed.clone(), options()).unwrap();
    assert_eq!(store.templates(), [], "a template is registered for as long as the store is open");
    let disk = store.server("web").unwrap().disk("vda").unwrap();
    assert!(holds(&disk, 3, 3) && holds(&disk, 4, 3));
}

#[test]
fn a_template_goes_with_its_snapshot() {
    let rig = Rig::new();
    rig.register();
    let disk = rig.disk("web");
    put(&disk, 0, 7);
    rig.store.delete_snapshot(rig.golden).unwrap();
    assert_eq!(rig.store.templates(), []);
    put(&disk, 1, 7);
    rig.store.collect().unwrap();
    assert_eq!(rig.audit(), (2, 2));
    assert!(holds(&disk, 0, 7) && holds(&disk, 1, 7));
    let gone = rig.store.register_template(rig.golden, |_, _| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

/// Bytes are compared with what the medium gives at that moment.
#[test]
fn a_block_that_rotted_is_written_and_not_shared() {
    let rig = Rig::new();
    rig.register();
    let bytes = rig.device.to_bytes();
    let at = (0..).zip(bytes.chunks(4096)).find(|(_, bytes)| **bytes == block(7)[..]).unwrap().0;
    rig.device.write_at(&[0xEE], at * BLOCK + 9).unwrap();
    let disk = rig.disk("web");
    put(&disk, 0, 7);
    put(&disk, 1, 8);
    assert!(holds(&disk, 0, 7) && holds(&disk, 1, 8));
    assert_eq!(rig.audit(), (201, 202));
}

#[test]
fn no_count_goes_round() {
    let rig = Rig::new();
    rig.register();
    let disk = rig.disk("web");
    let many = block(7).repeat(1024);
    (0..66).for_each(|nth| disk.write_at(&many, nth * 1024 * BLOCK).unwrap());
    assert_eq!(rig.audit(), (200 + 66 * 1024 - 65_534, 200 + 66 * 1024));
    rig.store.unregister_template(rig.golden);
    let again = rig.register();
    assert_eq!((again.indexed_bytes, again.unfit_blocks), (199 * BLOCK, 1));
    put(&disk, 69_000, 7);
    disk.discard(0, 1000 * BLOCK).unwrap();
    rig.store.checkpoint().unwrap();
    rig.store.unregister_template(rig.golden);
    assert_eq!(rig.register().unfit_blocks, 0);
    let before = rig.audit();
    (0..1001).for_each(|at| put(&disk, at, 7));
    assert_eq!(
        rig.audit(),
        (before.0 + 1, before.1 + 1000),
        "one had no room; the last place was mapped before"
    );
}

#[test]
fn a_store_that_was_not_told_to_shares_nothing() {
    let store = Store::create_on(Arc::new(MemoryDevice::new(0)), options().dedup_memory_bytes(0)).unwrap();
    let server = store.create_server("web").unwrap();
    let id = server.snapshot("s", "").unwrap().id();
    let refused = store.register_template(id, |_, _| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

/// Little memory finds less, and says so.
#[test]
fn the_index_never_takes_more_than_it_was_given() {
    let rig = Rig::new();
    let store = Store::open_on(
        Arc::new(MemoryDevice::from_bytes(rig.device.to_bytes())),
        options().dedup_memory_bytes(64 * 32),
    );
    let store = store.unwrap();
    let registered = store.register_template(rig.golden, |_, _| ControlFlow::Continue(())).unwrap();
    assert!(registered.indexed_bytes <= 64 * BLOCK && registered.indexed_bytes > 32 * BLOCK);
    assert_eq!(registered.indexed_bytes / BLOCK + registered.left_out_blocks, 200);
}
