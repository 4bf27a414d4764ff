//! Discard: it costs what it removes, and leaves large parts to the collector. Costs are counted in extent nodes that are looked at.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk::device::MemoryDevice;
use cowblk::{Disk, Options, Server, SnapshotId, Store, check_device, recount_sizes};
use std::sync::Arc;

const BLOCK: u64 = 4096;
const MIB: u64 = 1 << 20;
/// What a subtree of 256 leaves maps.
const PART: u64 = 256 * MIB;

struct Scene {
    device: Arc<MemoryDevice>,
    store: Store,
    server: Server,
    disk: Disk,
}

/// A store that cuts off subtrees of a few blocks, too.
fn scene(options: Options, size: u64) -> Scene {
    let device = Arc::new(MemoryDevice::new(0));
    let options = options.journal_bytes(1 << 20).background(false).cut_blocks_min(200);
    let store = Store::create_on(device.clone(), options).unwrap();
    let server = store.create_server("web").unwrap();
    let disk = server.create_disk("vda", size).unwrap();
    Scene { device, store, server, disk }
}

impl Scene {
    /// One block in each leaf of some mebibytes.
    fn write(&self, mebibytes: std::ops::Range<u64>, byte: u8) {
        mebibytes.for_each(|at| self.disk.write_at(&[byte; 4096], at * MIB).unwrap());
    }

    fn assert_holds(&self, mebibytes: std::ops::Range<u64>, byte: u8) {
        for at in mebibytes {
            let mut got = [0xAA; 4096];
            self.disk.read_at(&mut got, at * MIB).unwrap();
            assert!(got == [byte; 4096], "mebibyte {at} holds {}", got[0]);
        }
    }

    /// How many nodes `act` looked at.
    fn nodes(&self, act: impl FnOnce()) -> u64 {
        let looked = || self.store.stats().cache_hits + self.store.stats().cache_misses;
        let before = looked();
        act();
        looked() - before
    }

    fn assert_clean(&self) {
        self.store.checkpoint().unwrap();
        for report in [check_device(&*self.device), recount_sizes(&*self.device)] {
            let report = report.unwrap();
            assert!(report.is_clean(), "{:?}", report.findings);
        }
    }
}

/// 64 TiB would have 67 million leaves.
#[test]
fn an_empty_disk_of_64_tebibytes_is_discarded_walked_and_compared_at_once() {
    const SIZE: u64 = 64 << 40;
    let scene = scene(Options::default().zone_blocks(2050), SIZE);
    let snapshot = scene.server.snapshot("empty", "").unwrap();
    let nodes = scene.nodes(|| {
        scene.disk.discard(0, SIZE).unwrap();
        scene.disk.discard(3 * BLOCK, SIZE - 7 * BLOCK).unwrap();
        scene.disk.write_zeroes(BLOCK, SIZE - 5 * BLOCK).unwrap();
        scene.store.checkpoint().unwrap();
        assert_eq!(scene.disk.extents(0..SIZE).count(), 1);
        assert_eq!(scene.disk.changes_since(snapshot.id()).unwrap().count(), 0);
        scene.store.checkpoint().unwrap();
    });
    assert!(nodes <= 40, "{nodes} nodes were looked at");
    // A block at each end, and one in the middle.
    for at in [0, SIZE / 2, SIZE - BLOCK] {
        scene.disk.write_at(&[1; 4096], at).unwrap();
    }
    scene.store.checkpoint().unwrap();
    let nodes = scene.nodes(|| {
        assert_eq!(scene.disk.extents(0..SIZE).count(), 5);
        assert_eq!(scene.disk.changes_since(snapshot.id()).unwrap().count(), 3);
        scene.disk.discard(BLOCK, SIZE - 2 * BLOCK).unwrap();
        scene.store.checkpoint().unwrap();
        assert_eq!(scene.disk.extents(0..SIZE).count(), 3);
    });
    assert!(nodes <= 150, "{nodes} nodes were looked at");
    scene.assert_clean();
}

/// Eight whole parts leave the map without a block of theirs being dropped; the collector does that.
#[test]
fn large_parts_of_a_disk_are_left_to_the_collector() {
    let scene = scene(Options::default().zone_blocks(4100), 16 * PART);
    scene.write(0..4096, 1);
    scene.store.checkpoint().unwrap();
    let before = scene.store.status();
    scene.disk.discard(1000 * MIB, 2100 * MIB).unwrap();
    scene.store.checkpoint().unwrap();
    scene.store.checkpoint().unwrap();
    let after = scene.store.status();
    assert_eq!(after.reclaimable_versions, 8, "parts from 1024 to 3072");
    assert_eq!(after.reclaimable_blocks, 2048);
    let kept = before.used_blocks - after.used_blocks;
    assert!(
        (90..120).contains(&kept),
        "{kept} blocks are free, and 52 blocks and their leaves were dropped at once"
    );
    assert_eq!(
        scene.disk.space().unwrap().referenced_bytes,
        (4096 - 2100) * BLOCK,
        "counts are exact at once"
    );
    scene.assert_clean();

    let crashed = Arc::new(MemoryDevice::from_bytes(scene.device.to_bytes()));
    for (store, device) in [
        (Store::open_on(crashed.clone(), Options::default().background(false)).unwrap(), &crashed),
        (scene.store.clone(), &scene.device),
    ] {
        store.collect().unwrap();
        let status = store.status();
        assert_eq!((status.reclaimable_versions, status.reclaimable_blocks), (0, 0));
        let freed = before.used_blocks - status.used_blocks;
        assert!(freed >= 2 * 2100, "{freed} blocks were freed, of 2,100 blocks and as many leaves");
        assert!(check_device(&**device).unwrap().is_clean());
    }
    scene.assert_holds(0..1000, 1);
    scene.assert_holds(1000..3100, 0);
    scene.assert_holds(3100..4096, 1);
}

/// What holds little is dropped at once: a record, and a second visit, would cost more.
#[test]
fn a_large_part_that_holds_little_is_dropped_at_once() {
    let scene = scene(Options::default().zone_blocks(4100), 16 * PART);
    scene.write(0..199, 1);
    scene.store.checkpoint().unwrap();
    let before = scene.store.status().used_blocks;
    scene.disk.discard(0, PART).unwrap();
    scene.store.checkpoint().unwrap();
    let after = scene.store.status();
    assert_eq!(after.reclaimable_versions, 0);
    assert!(before - after.used_blocks >= 2 * 199, "{before} and then {}", after.used_blocks);
    scene.assert_clean();
}

/// What a snapshot holds only leaves the map: there is nothing to collect, and the sizes of both follow.
#[test]
fn large_parts_that_a_snapshot_holds_are_its_own_then() {
    let scene = scene(Options::default().zone_blocks(4100), 4 * PART);
    scene.write(0..1024, 1);
    let snapshot = scene.server.snapshot("all", "").unwrap();
    scene.write(256..300, 2);
    scene.write(512..768, 3);
    scene.store.checkpoint().unwrap();
    scene.disk.discard(PART, 3 * PART).unwrap();
    scene.assert_clean();
    assert_eq!(
        scene.store.status().reclaimable_versions,
        1,
        "where more was written since than in the others"
    );
    scene.store.collect().unwrap();
    scene.assert_clean();
    assert_eq!(snapshot.exclusive_bytes(), Some(768 * BLOCK));
    scene.assert_holds(256..1024, 0);
    scene.server.restore(snapshot.id()).unwrap();
    scene.assert_holds(0..1024, 1);
}

/// Records of what was cut off take space. Where there is none, everything is dropped at once, and is free with the next checkpoint.
#[test]
fn a_full_store_discards_large_parts_without_the_collector() {
    let scene = scene(Options::default().zone_blocks(256).max_bytes(7 << 20), 4 * PART);
    let written = (0..1024).take_while(|at| scene.disk.write_at(&[1; 4096], at * MIB).is_ok()).count() as u64;
    assert!((520..1024).contains(&written), "{written} blocks fitted");
    let free = scene.store.status().free_blocks;
    scene.disk.discard(0, 2 * PART).unwrap();
    scene.store.checkpoint().unwrap();
    scene.store.checkpoint().unwrap();
    scene.store.collect().unwrap();
    assert!(scene.store.status().free_blocks >= free + 2 * 512);
    scene.assert_holds(512..written, 1);
    scene.assert_clean();
}

/// What each mebibyte begins with.
type Content = Vec<u8>;

/// A scene with a history, and what it comes to.
struct Story {
    scene: Scene,
    content: Content,
    kept: Vec<(SnapshotId, Content)>,
    state: u64,
}

impl Story {
    fn dice(&mut self, end: u64) -> u64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % end
    }

    fn range(&mut self, longest: u64) -> std::ops::Range<u64> {
        let first = self.dice(1024);
        first..(first + 1 + self.dice(longest)).min(1024)
    }

    fn set(&mut self, range: std::ops::Range<u64>, byte: u8) {
        self.content[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].fill(byte);
    }

    fn step(&mut self, nth: u64) {
        let byte = u8::try_from(1 + nth % 250).unwrap();
        match self.dice(16) {
            0..6 => {
                let range = self.range(200);
                self.scene.write(range.clone(), byte);
                self.set(range, byte);
            }
            6..10 => {
                let range = self.range(1024);
                self.scene.disk.discard(range.start * MIB, (range.end - range.start) * MIB).unwrap();
                self.set(range, 0);
            }
            10..12 => {
                let id = self.scene.server.snapshot(&format!("at-{nth}"), "").unwrap().id();
                self.kept.push((id, self.content.clone()));
            }
            12 if !self.kept.is_empty() => {
                let nth = self.dice(self.kept.len() as u64);
                let (id, _) = self.kept.swap_remove(usize::try_from(nth).unwrap());
                self.scene.store.delete_snapshot(id).unwrap();
            }
            13 if !self.kept.is_empty() => {
                let nth = self.dice(self.kept.len() as u64);
                let (id, content) = self.kept[usize::try_from(nth).unwrap()].clone();
                self.scene.server.restore(id).unwrap();
                self.content = content;
            }
            14 => self.scene.store.collect().unwrap(),
            _ => self.scene.store.checkpoint().unwrap(),
        }
    }

    /// What the medium holds, as a crash would leave it behind a flush: read, audited, and audited again when all is collected.
    fn crash(&self, seed: u64) {
        self.scene.store.flush().unwrap();
        let device = Arc::new(MemoryDevice::from_bytes(self.scene.device.to_bytes()));
        let store =
            Store::open_on(device.clone(), Options::default().background(false).cut_blocks_min(1)).unwrap();
        let disk = store.server("web").unwrap().disk("vda").unwrap();
        for is_collected in [false, true] {
            for (at, &byte) in (0..).zip(&self.content) {
                let mut got = [0xAA];
                disk.read_at(&mut got, at * MIB).unwrap();
                assert_eq!(got, [byte], "seed {seed}: mebibyte {at}");
            }
            for report in [check_device(&*device), recount_sizes(&*device)] {
                let report = report.unwrap();
                assert!(report.is_clean(), "seed {seed}: {:?}", report.findings);
            }
            if !is_collected {
                store.collect().unwrap();
                store.checkpoint().unwrap();
            }
        }
        assert_eq!(store.status().reclaimable_blocks, 0, "seed {seed}");
    }
}

#[test]
fn random_histories_of_large_discards_are_right_after_any_crash() {
    let mut cuts = 0;
    for seed in 0..10 {
        let scene = scene(Options::default().zone_blocks(4100), 4 * PART);
        let mut story = Story { scene, content: vec![0; 1024], kept: Vec::new(), state: seed };
        for nth in 0..60 {
            story.step(nth);
            cuts += u64::from(story.scene.store.status().reclaimable_versions > 0);
            if nth % 12 == 11 {
                story.crash(seed);
            }
        }
        story.scene.store.collect().unwrap();
        story.scene.assert_clean();
    }
    assert!(cuts > 50, "the collector had something to do {cuts} times only");
}
