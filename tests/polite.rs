//! Polite: the collector in the background keeps its rate, shows how far it came, makes way, and hurries where somebody is in need.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk::device::MemoryDevice;
use cowblk::{Disk, ErrorKind, Options, Server, Status, Store, check_device};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

const BLOCK: u64 = 4096;
/// Leaves with one block each: the collector's steps are counted in places, so this is many of them.
const LEAVES: u64 = 160;

struct Scene {
    device: Arc<MemoryDevice>,
    store: Store,
    server: Server,
    disk: Disk,
}

/// A store that has just deleted a snapshot, which alone holds a block in each leaf.
fn deleted(options: Options) -> Scene {
    let device = Arc::new(MemoryDevice::new(0));
    let store = Store::create_on(device.clone(), options.journal_bytes(1 << 20)).unwrap();
    let server = store.create_server("web").unwrap();
    let disk = server.create_disk("vda", LEAVES * 256 * BLOCK).unwrap();
    let write = |byte: u8| (0..LEAVES).for_each(|leaf| disk.write_at(&[byte; 4096], leaf << 20).unwrap());
    write(1);
    let snapshot = server.snapshot("old", "").unwrap();
    write(2);
    store.checkpoint().unwrap();
    store.delete_snapshot(snapshot.id()).unwrap();
    Scene { device, store, server, disk }
}

impl Scene {
    /// What the status says, again and again, until nothing is left to collect.
    fn watch(&self) -> Vec<Status> {
        let mut seen = vec![self.store.status()];
        while seen.last().unwrap().reclaimable_versions > 0 {
            sleep(Duration::from_millis(5));
            seen.push(self.store.status());
        }
        seen
    }

    fn assert_clean(self) {
        self.store.close().unwrap();
        let report = check_device(&*self.device).unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
    }
}

/// The call waits for one sync and reads nothing, whether the snapshot alone holds one block or many.
#[test]
fn deleting_a_snapshot_is_one_flush_whatever_it_holds() {
    for blocks in [0, 1, LEAVES] {
        let options = Options::default().background(false).journal_bytes(1 << 20);
        let store = Store::create_on(Arc::new(MemoryDevice::new(0)), options).unwrap();
        let server = store.create_server("web").unwrap();
        let disk = server.create_disk("vda", LEAVES * 256 * BLOCK).unwrap();
        let write = |byte: u8| (0..blocks).for_each(|leaf| disk.write_at(&[byte; 4096], leaf << 20).unwrap());
        write(1);
        let snapshot = server.snapshot("old", "").unwrap();
        write(2);
        store.checkpoint().unwrap();
        let before = store.stats();
        store.delete_snapshot(snapshot.id()).unwrap();
        let after = store.stats();
        let costs = (after.device_syncs - before.device_syncs, after.device_reads - before.device_reads);
        assert_eq!(costs, (1, 0), "{blocks} blocks");
        let (uncollected, used) = (store.status().uncollected_versions, store.status().used_blocks);
        store.collect().unwrap();
        assert!(
            uncollected == 1 && used - store.status().used_blocks >= blocks,
            "it was the collector's work"
        );
    }
}

/// 160 blocks and as many nodes, at 400 a second. The last step is not rested behind.
#[test]
fn a_rate_is_kept_and_the_status_shows_how_far_it_came() {
    let start = Instant::now();
    let scene = deleted(Options::default().collect_rate(Some(400)));
    let seen = scene.watch();
    let spent = start.elapsed();
    assert!(spent >= Duration::from_millis(600), "320 references went in {spent:?}");
    // The collector may have begun before the first look.
    assert!((1..=LEAVES).contains(&seen[0].reclaimable_blocks), "{:?}", seen[0]);
    let steps = seen.windows(2).filter(|pair| pair[0].collected_blocks < pair[1].collected_blocks).count();
    assert!(steps >= 3, "progress was seen {steps} times: {seen:?}");
    for pair in seen.windows(2) {
        assert!(pair[0].reclaimable_blocks >= pair[1].reclaimable_blocks, "{pair:?}");
    }
    let last = seen.last().unwrap();
    assert_eq!(last.reclaimable_blocks, 0);
    assert!(last.collected_blocks >= 2 * LEAVES);
    scene.assert_clean();
}

/// Whoever waited for the rate would wait for minutes.
#[test]
fn who_asks_for_the_collector_does_not_wait_for_its_rate() {
    let scene = deleted(Options::default().collect_rate(Some(1)));
    while scene.store.status().collected_blocks == 0 {
        sleep(Duration::from_millis(5));
    }
    scene.store.collect().unwrap();
    assert_eq!(scene.store.status().reclaimable_versions, 0);
    scene.assert_clean();
}

/// The same for a store that is closed, and for one that is full: a write needs what was deleted.
#[test]
fn neither_closing_nor_a_write_that_finds_no_space_waits_for_the_rate() {
    let scene = deleted(Options::default().collect_rate(Some(1)));
    while scene.store.status().collected_blocks == 0 {
        sleep(Duration::from_millis(5));
    }
    scene.assert_clean();

    let options =
        Options::default().collect_rate(Some(1)).zone_blocks(64).max_bytes(5 << 20).journal_bytes(1 << 20);
    let scene = deleted(options);
    let other = scene.server.create_disk("vdb", 64 << 20).unwrap();
    let refusal = (0..).find_map(|nth| other.write_at(&[3; 4096], nth * BLOCK).err()).unwrap();
    assert_eq!(refusal.kind(), ErrorKind::Full);
    assert_eq!(scene.store.status().reclaimable_versions, 0, "refused before all was collected");
    let mut byte = [0];
    scene.disk.read_at(&mut byte, 0).unwrap();
    assert_eq!(byte, [2]);
    scene.assert_clean();
}

/// A server with 64 blocks on its disk, a snapshot of them, and 32 written anew since; nothing is collected but on demand.
fn pending() -> Scene {
    let device = Arc::new(MemoryDevice::new(0));
    let options = Options::default().journal_bytes(1 << 20).background(false);
    let store = Store::create_on(device.clone(), options).unwrap();
    let server = store.create_server("web").unwrap();
    let disk = server.create_disk("vda", 1 << 20).unwrap();
    disk.write_at(&vec![1; 64 * 4096], 0).unwrap();
    server.snapshot("first", "").unwrap();
    disk.write_at(&vec![2; 32 * 4096], 0).unwrap();
    store.collect().unwrap();
    Scene { device, store, server, disk }
}

/// What the status says that collecting will free is what it frees, but for a few blocks of maps and catalog.
fn assert_foreseen(scene: Scene, wanted: u64) {
    let before = scene.store.status();
    assert_eq!(before.reclaimable_blocks, wanted);
    scene.store.collect().unwrap();
    let after = scene.store.status();
    let freed = before.used_blocks - after.used_blocks;
    assert!((wanted..wanted + 8).contains(&freed), "{freed} of {wanted} blocks");
    assert_eq!(after.reclaimable_blocks, 0);
    scene.assert_clean();
}

#[test]
fn the_status_foresees_what_deleted_disks_give_back() {
    let scene = pending();
    scene.server.delete_disk("vda").unwrap();
    assert_foreseen(scene, 32);

    // Whoever is deleted last held the rest.
    let scene = pending();
    let first = scene.server.snapshots().remove(0);
    scene.server.delete_disk("vda").unwrap();
    scene.store.collect().unwrap();
    scene.store.delete_snapshot(first.id()).unwrap();
    assert_foreseen(scene, 64);

    let scene = pending();
    scene.store.delete_server(scene.server.id()).unwrap();
    assert_foreseen(scene, 96);
}

#[test]
fn the_status_foresees_what_a_reset_gives_back() {
    let scene = pending();
    let clone = scene.server.snapshots().remove(0).clone_server("clone").unwrap();
    clone.disk("vda").unwrap().write_at(&vec![3; 16 * 4096], 0).unwrap();
    scene.store.collect().unwrap();
    clone.reset().unwrap();
    assert_foreseen(scene, 16);
}

/// A disk and then its snapshot, before the collector comes to either: the older one merges into the newer, and what it was expected to free
/// is still expected.
#[test]
fn what_one_deleted_version_hands_to_another_is_still_foreseen() {
    let device = Arc::new(MemoryDevice::new(0));
    let options = Options::default().journal_bytes(1 << 20).collect_rate(Some(400));
    let store = Store::create_on(device.clone(), options).unwrap();
    let server = store.create_server("web").unwrap();
    let disk = server.create_disk("vda", LEAVES * 256 * BLOCK).unwrap();
    (0..LEAVES).for_each(|leaf| disk.write_at(&[1; 4096], leaf << 20).unwrap());
    let snapshot = server.snapshot("first", "").unwrap();
    store.checkpoint().unwrap();
    server.delete_disk("vda").unwrap();
    store.delete_snapshot(snapshot.id()).unwrap();
    let scene = Scene { device, store, server, disk };
    let seen = scene.watch();
    assert!(seen.len() > 50, "too fast to be seen: {}", seen.len());
    for status in seen.iter().filter(|status| status.reclaimable_versions > 0) {
        // As many nodes as blocks went.
        let left = LEAVES.saturating_sub(status.collected_blocks);
        assert!((left..=LEAVES).contains(&status.reclaimable_blocks), "{left} blocks are left: {status:?}");
    }
    scene.assert_clean();
}
