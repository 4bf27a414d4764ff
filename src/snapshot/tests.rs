//! Tests of what deleting leaves: the collector step by step, with changes, checkpoints and crashes between its steps.

use crate::device::MemoryDevice;
use crate::limits::COLLECT_STEP_BLOCKS;
use crate::{Options, Server, Store, check_device, recount_sizes};
use std::collections::BTreeMap;
use std::sync::Arc;

const BLOCK: u64 = 4096;
/// Enough leaves, one block in each, that the collector needs several steps.
const LEAVES: u64 = 900;
const STRIDE: u64 = 256;

/// A store whose collector is driven by hand, and what its one disk holds.
struct Scene {
    device: Arc<MemoryDevice>,
    store: Store,
    server: Server,
    /// Leaf and stamp.
    disk: BTreeMap<u64, u64>,
    state: u64,
    when_empty: u64,
}

fn options() -> Options {
    Options::default().zone_blocks(2050).journal_bytes(1 << 20).background(false).cut_blocks_min(1)
}

impl Scene {
    fn new(seed: u64) -> Self {
        Self::of_size(seed, LEAVES * STRIDE)
    }

    fn of_size(seed: u64, blocks: u64) -> Self {
        let device = Arc::new(MemoryDevice::new(0));
        let store = Store::create_on(device.clone(), options()).unwrap();
        store.checkpoint().unwrap();
        let when_empty = store.status().used_blocks;
        let server = store.create_server("web").unwrap();
        server.create_disk("vda", blocks * BLOCK).unwrap();
        let mut scene = Self { device, store, server, disk: BTreeMap::new(), state: seed, when_empty };
        (0..LEAVES).for_each(|leaf| scene.write(leaf));
        scene
    }

    fn dice(&mut self, end: u64) -> u64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % end
    }

    fn write(&mut self, leaf: u64) {
        let stamp = self.dice(1 << 30) << 1 | 1;
        let bytes = stamp.to_le_bytes().repeat(512);
        self.server.disk("vda").unwrap().write_at(&bytes, leaf * STRIDE * BLOCK).unwrap();
        self.disk.insert(leaf, stamp);
    }

    fn discard(&mut self, leaf: u64) {
        self.server.disk("vda").unwrap().discard(leaf * STRIDE * BLOCK, BLOCK).unwrap();
        self.disk.remove(&leaf);
    }

    /// Overwrites or discards some of the leaves, all over the disk.
    fn change_one_in(&mut self, one_in: u64) {
        for leaf in 0..LEAVES {
            if self.dice(one_in) == 0 {
                if self.dice(4) == 0 { self.discard(leaf) } else { self.write(leaf) }
            }
        }
    }

    fn assert_sound(&self, store: &Store) {
        let server = store.server("web").unwrap();
        let disk = server.disk("vda").unwrap();
        for leaf in 0..LEAVES {
            let mut bytes = [9; 8];
            disk.read_at(&mut bytes, leaf * STRIDE * BLOCK).unwrap();
            let stamp = self.disk.get(&leaf).copied().unwrap_or(0);
            assert_eq!(u64::from_le_bytes(bytes), stamp, "leaf {leaf}");
        }
    }

    /// Runs the collector to its end, with changes, checkpoints and audits between its steps; and each time a copy of
    /// the medium, as a crash would leave it, by itself. How many steps it took.
    fn collect_by_steps(&mut self) -> u64 {
        let mut steps = 0;
        self.store.checkpoint().unwrap();
        while self.store.shared.collect_step(COLLECT_STEP_BLOCKS).unwrap() {
            steps += 1;
            self.change_one_in(20);
            self.store.checkpoint().unwrap();
            let report = check_device(&*self.device).unwrap();
            assert!(report.is_clean(), "after step {steps}: {:?}", report.findings);
            let copy = Arc::new(MemoryDevice::from_bytes(self.device.to_bytes()));
            let crashed = Store::open_on(copy.clone(), options()).unwrap();
            crashed.collect().unwrap();
            self.assert_sound(&crashed);
            let report = check_device(&*copy).unwrap();
            assert!(report.is_clean(), "after a crash behind step {steps}: {:?}", report.findings);
        }
        self.assert_sound(&self.store);
        steps
    }

    /// Nothing that was deleted is left, and a store that is emptied holds nothing.
    fn end(self) {
        self.store.collect().unwrap();
        assert_eq!(self.store.status().reclaimable_versions, 0);
        self.store.delete_server(self.server.id()).unwrap();
        self.store.collect().unwrap();
        self.store.checkpoint().unwrap();
        assert_eq!(self.store.status().used_blocks, self.when_empty, "something was not given back");
    }
}

#[test]
fn a_version_with_one_child_is_merged_into_it_step_by_step() {
    for seed in 0..2 {
        let mut scene = Scene::new(seed);
        let snapshot = scene.server.snapshot("s", "").unwrap().id();
        scene.change_one_in(1);
        scene.store.delete_snapshot(snapshot).unwrap();
        assert!(scene.collect_by_steps() > 2);
        scene.end();
    }
}

/// The child is a version that nothing writes to any more.
#[test]
fn a_version_between_two_others_is_merged_step_by_step() {
    let mut scene = Scene::new(10);
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(scene.server.snapshot(name, "").unwrap().id());
        scene.change_one_in(1);
    }
    scene.store.delete_snapshot(ids[1]).unwrap();
    assert!(scene.collect_by_steps() > 2);
    scene.store.delete_snapshot(ids[0]).unwrap();
    scene.collect_by_steps();
    scene.end();
}

#[test]
fn a_version_with_two_children_is_trimmed_and_merged_into_the_last() {
    for seed in 20..22 {
        let mut scene = Scene::new(seed);
        let early = scene.server.snapshot("early", "").unwrap().id();
        scene.change_one_in(1);
        let snapshot = scene.server.snapshot("s", "").unwrap().id();
        let held = scene.disk.clone();
        scene.change_one_in(1);
        let branch = scene.server.snapshot("branch", "").unwrap().id();
        scene.server.restore(snapshot).unwrap();
        scene.disk = held;
        scene.change_one_in(2);
        scene.store.delete_snapshot(snapshot).unwrap();
        assert!(scene.collect_by_steps() > 2);
        assert!(scene.store.status().reclaimable_versions > 0, "it has two children still");
        scene.store.delete_snapshot(branch).unwrap();
        let before = scene.server.before_restore().unwrap().id();
        scene.store.delete_snapshot(before).unwrap();
        scene.collect_by_steps();
        assert_eq!(scene.store.status().reclaimable_versions, 0);
        scene.store.delete_snapshot(early).unwrap();
        scene.collect_by_steps();
        scene.end();
    }
}

/// Large parts of a map, cut off in the midst of a merge or without one. Those that nothing was shared with are the collector's,
/// as subtrees; counts stay exact.
#[test]
fn parts_of_a_map_are_cut_off_and_dropped_step_by_step() {
    for has_snapshot in [false, true] {
        let mut scene = Scene::new(40);
        scene.store.checkpoint().unwrap();
        if has_snapshot {
            let snapshot = scene.server.snapshot("s", "").unwrap().id();
            scene.change_one_in(2);
            scene.store.checkpoint().unwrap();
            scene.store.delete_snapshot(snapshot).unwrap();
            assert!(scene.store.shared.collect_step(300 << 8).unwrap(), "a merge that is not at its end");
        }
        // Three subtrees of 256 leaves, of which a merge has passed one, and a part of another.
        scene.server.disk("vda").unwrap().discard(100 << 20, 700 << 20).unwrap();
        scene.disk.retain(|leaf, _| !(100..800).contains(leaf));
        scene.store.checkpoint().unwrap();
        let cuts = scene.store.shared.state().catalog.garbage.len();
        assert_eq!(cuts, 2, "subtrees of 256 leaves that lie in what was discarded");
        let sizes = recount_sizes(&*scene.device).unwrap();
        assert!(sizes.is_clean(), "{:?}", sizes.findings);
        assert!(scene.collect_by_steps() > 1);
        scene.end();
    }
}

/// One whose disk is as long as its map reaches, so that a discard cuts it off at once; and one without a child.
#[test]
fn a_whole_map_is_dropped_step_by_step() {
    for has_snapshot in [false, true] {
        let mut scene = Scene::of_size(30, 1 << 24);
        scene.store.checkpoint().unwrap();
        if has_snapshot {
            let snapshot = scene.server.snapshot("s", "").unwrap().id();
            scene.change_one_in(2);
            scene.store.checkpoint().unwrap();
            scene.store.delete_snapshot(snapshot).unwrap();
            assert!(
                scene.store.shared.collect_step(COLLECT_STEP_BLOCKS).unwrap(),
                "a merge that is not at its end"
            );
        }
        let disk = scene.server.disk("vda").unwrap();
        disk.discard(0, disk.size_bytes()).unwrap();
        scene.disk.clear();
        drop(disk);
        assert!(scene.collect_by_steps() > 1);
        scene.end();
    }
    let mut scene = Scene::new(31);
    scene.store.checkpoint().unwrap();
    scene.server.delete_disk("vda").unwrap();
    scene.server.create_disk("vda", LEAVES * STRIDE * BLOCK).unwrap();
    scene.disk.clear();
    assert!(scene.collect_by_steps() > 2);
    scene.end();
}
