//! Reclaim: what a store counts, and what it gives back: through growth by several levels, discards of everything, zeros,
//! unfinished runs, deletes that leave one child, and the background thread.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk::device::MemoryDevice;
use cowblk::{Disk, ErrorKind, Options, Server, Store, check_device, recount_sizes};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

const BLOCK: u64 = 4096;

fn options() -> Options {
    Options::default().zone_blocks(256).journal_bytes(256 << 10).background(false)
}

struct Scene {
    device: Arc<MemoryDevice>,
    store: Store,
    server: Server,
    disk: Disk,
}

impl Scene {
    fn new(options: Options, blocks: u64) -> Scene {
        let device = Arc::new(MemoryDevice::new(0));
        let store = Store::create_on(device.clone(), options).unwrap();
        let server = store.create_server("web").unwrap();
        let disk = server.create_disk("vda", blocks * BLOCK).unwrap();
        Scene { device, store, server, disk }
    }

    fn write(&self, block: u64, byte: u8) {
        self.disk.write_at(&[byte; 4096], block * BLOCK).unwrap();
    }

    fn assert_holds(&self, block: u64, byte: u8) {
        let mut got = [0xAA; 4096];
        self.disk.read_at(&mut got, block * BLOCK).unwrap();
        assert!(got == [byte; 4096], "block {block} holds {}", got[0]);
    }

    fn used(&self) -> u64 {
        self.store.checkpoint().unwrap();
        self.store.status().used_blocks
    }

    fn assert_clean(&self) {
        self.store.checkpoint().unwrap();
        let report = check_device(&*self.device).unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
    }
}

#[test]
fn a_map_that_grows_by_several_levels_at_once_keeps_its_content() {
    for (first, then) in [(10, 70_000), (256, 1 << 24), (300, 1 << 25), (1, 1 << 32)] {
        let scene = Scene::new(options(), first);
        scene.write(0, 1);
        scene.write(first - 1, 2);
        scene.assert_clean();
        scene.disk.resize(then * BLOCK).unwrap();
        scene.write(then - 1, 3);
        scene.assert_clean();
        scene.assert_holds(then - 1, 3);
        scene.assert_holds(then / 2, 0);
        scene.assert_holds(first - 1, 2);
        scene.assert_holds(0, if first == 1 { 2 } else { 1 });
    }
}

#[test]
fn a_count_after_a_checkpoint_is_the_same_whatever_was_overwritten() {
    let scene = Scene::new(options(), 1 << 16);
    let blocks = || (0..40).map(|nth| nth * 1000);
    blocks().for_each(|block| scene.write(block, 1));
    let used = scene.used();
    for round in 2..6 {
        let generation = scene.store.status().generation;
        blocks().for_each(|block| scene.write(block, round));
        assert!(scene.store.status().dirty_bytes > 0);
        assert_eq!(scene.used(), used, "round {round}");
        let status = scene.store.status();
        assert!(status.generation > generation, "every checkpoint has a number of its own");
        assert_eq!(status.dirty_bytes, 0, "nothing waits for a checkpoint");
    }
    scene.assert_clean();
}

#[test]
fn blocks_of_zeros_take_no_space() {
    let scene = Scene::new(options(), 1 << 16);
    let used = scene.used();
    (0..500).for_each(|block| scene.write(block, 0));
    assert_eq!(scene.used(), used);
    (0..500).for_each(|block| scene.write(block, 1));
    assert!(scene.used() > used + 500);
    (0..500).for_each(|block| scene.write(block, 0));
    assert_eq!(scene.used(), used);
    scene.assert_clean();
}

/// Each checkpoint closes a run of which one block was used.
#[test]
fn what_an_unfinished_run_did_not_use_is_free_again() {
    let scene = Scene::new(options().max_bytes(8 << 20), 1 << 16);
    for round in 0..400 {
        scene.disk.write_at(&[1 + u8::try_from(round % 200).unwrap(); 4096], 0).unwrap_or_else(|error| {
            assert_eq!(error.kind(), ErrorKind::Full);
            panic!("one block was overwritten {round} times, and the store is full")
        });
        scene.store.checkpoint().unwrap();
    }
    // Two thirds of what fits: no block is missing.
    scene.disk.write_at(&vec![7; 1200 * 4096], 0).unwrap();
    scene.assert_clean();
}

#[test]
fn deltas_take_no_more_memory_than_the_options_allow() {
    let allowed = 1 << 20;
    let scene = Scene::new(options().dirty_bytes(allowed), 1 << 24);
    for nth in 0..2000 {
        scene.write(nth * 8000, 1);
        let dirty = scene.store.status().dirty_bytes;
        assert!(dirty <= allowed + (64 << 10), "{dirty} bytes wait for a checkpoint");
    }
}

#[test]
fn a_deleted_snapshot_in_the_midst_of_others_leaves_no_trace() {
    let scene = Scene::new(options(), 1 << 16);
    let mut ids = Vec::new();
    for round in 0..9 {
        (0..20).for_each(|nth| scene.write(nth * 300, round));
        ids.push(scene.server.snapshot(&format!("s{round}"), "").unwrap().id());
    }
    for nth in [4, 7, 1, 3, 6] {
        scene.store.delete_snapshot(ids[nth]).unwrap();
        scene.store.collect().unwrap();
        assert_eq!(scene.store.status().reclaimable_versions, 0, "snapshot {nth} is not gone");
        scene.assert_clean();
    }
}

/// It is kept for the sake of its two children, and gives back what neither of them holds.
#[test]
fn a_deleted_snapshot_with_two_children_holds_only_what_they_do() {
    let scene = Scene::new(options(), 1 << 16);
    let overwrite = |byte| (0..40).for_each(|nth| scene.write(nth * 300, byte));
    overwrite(1);
    let snapshot = scene.server.snapshot("s", "").unwrap().id();
    overwrite(2);
    scene.server.snapshot("branch", "").unwrap();
    scene.server.restore(snapshot).unwrap();
    overwrite(3);
    scene.store.collect().unwrap();
    let used = scene.used();
    scene.store.delete_snapshot(snapshot).unwrap();
    scene.store.collect().unwrap();
    assert_eq!(scene.store.status().reclaimable_versions, 1, "it has two children");
    assert!(scene.used() + 40 <= used, "{used} blocks were used, and {} are", scene.used());
    scene.assert_clean();
    (0..40).for_each(|nth| scene.assert_holds(nth * 300, 3));
}

/// A map that is as long as its tree reaches is cut off at once, and collected from a note in the catalog.
#[test]
fn a_map_that_was_discarded_whole_is_given_back_once_after_a_crash_too() {
    let scene = Scene::new(options(), 1 << 16);
    let used = scene.used();
    for _ in 0..3 {
        (0..60).for_each(|nth| scene.write(nth * 1000, 5));
        scene.store.checkpoint().unwrap();
        scene.disk.discard(0, (1 << 16) * BLOCK).unwrap();
        scene.assert_clean();
        let after_a_crash = |bytes| {
            let device = Arc::new(MemoryDevice::from_bytes(bytes));
            let store = Store::open_on(device.clone(), options()).unwrap();
            store.collect().unwrap();
            assert_eq!(store.status().used_blocks, used);
            let report = check_device(&*device).unwrap();
            assert!(report.is_clean(), "{:?}", report.findings);
        };
        after_a_crash(scene.device.to_bytes());
        scene.store.collect().unwrap();
        assert_eq!(scene.used(), used);
        after_a_crash(scene.device.to_bytes());
    }
}

/// Polls, for as long as it may take on a slow machine.
fn in_the_end(is_there: impl Fn() -> bool, what: &str) {
    for _ in 0..3000 {
        if is_there() {
            return;
        }
        sleep(Duration::from_millis(20));
    }
    panic!("in a minute nobody {what}");
}

#[test]
fn the_background_thread_collects_and_settles_unasked() {
    let scene = Scene::new(options().background(true), 1 << 16);
    (0..50).for_each(|nth| scene.write(nth * 300, 1));
    let snapshot = scene.server.snapshot("s", "").unwrap().id();
    (0..50).for_each(|nth| scene.write(nth * 300, 2));
    scene.store.delete_snapshot(snapshot).unwrap();
    in_the_end(|| scene.store.status().reclaimable_versions == 0, "collected a deleted snapshot");
    scene.write(1, 3);
    in_the_end(|| scene.store.status().dirty_bytes == 0, "wrote a checkpoint");
}

/// A checkpoint may know what a disk shares while the store still counts it. What is known on the medium is forgotten there, too.
#[test]
fn a_size_that_only_the_medium_knows_is_forgotten_with_its_snapshot() {
    let scene = Scene::new(options(), 20);
    (0..20).for_each(|block| scene.write(block, 1));
    let first = scene.server.snapshot("first", "").unwrap();
    scene.store.delete_snapshot(first.id()).unwrap(); // from here on the disk is to be counted
    let second = scene.server.snapshot("second", "").unwrap();
    scene.store.checkpoint().unwrap(); // the disk shares everything with it
    scene.store.delete_snapshot(second.id()).unwrap();
    scene.store.checkpoint().unwrap();
    let sizes = recount_sizes(&*scene.device).unwrap();
    assert!(sizes.is_clean(), "{:?}", sizes.findings);
}

/// A neighbour whose map is higher, and holds nothing where the whole of the lower one lies. The count met a node that is none, and gave up.
#[test]
fn a_size_is_counted_beside_a_higher_map_that_begins_with_a_hole() {
    let scene = Scene::new(options(), 1);
    scene.write(0, 1);
    let snapshot = scene.server.snapshot("low", "").unwrap();
    let clone = snapshot.clone_server("clone").unwrap();
    scene.disk.resize(600 * BLOCK).unwrap();
    scene.disk.discard(0, BLOCK).unwrap();
    scene.write(599, 2);
    clone.disk("vda").unwrap().write_at(&[3; 4096], 0).unwrap();
    scene.store.collect().unwrap();
    assert_eq!(snapshot.exclusive_bytes(), Some(BLOCK));
    scene.assert_clean();
}
