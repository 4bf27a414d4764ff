//! Back and forth: restores to any snapshot in any order, each undone or not; and clones that live for one request.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "figures are part of the result")]

use cowblk::device::MemoryDevice;
use cowblk::{Options, Server, SnapshotId, Store, check_device};
use std::sync::Arc;
use std::time::{Duration, Instant};

const BLOCK: u64 = 4096;

/// The first byte of each block of each disk.
type Content = Vec<Vec<u8>>;

fn content(server: &Server) -> Content {
    let first_bytes = |disk: &cowblk::Disk| {
        let read = |at: u64| {
            let mut byte = [0xEE];
            disk.read_at(&mut byte, at * BLOCK).unwrap();
            byte[0]
        };
        (0..disk.size_bytes() / BLOCK).map(read).collect()
    };
    server.disks().iter().map(first_bytes).collect()
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }
}

/// Writes to two disks here and there, discards, and changes a size.
fn change(server: &Server, dice: &mut Dice, byte: u8) {
    for disk in server.disks() {
        let blocks = disk.size_bytes() / BLOCK;
        for _ in 0..20 {
            disk.write_at(&[byte; 4096], dice.below(blocks) * BLOCK).unwrap();
        }
        disk.discard(dice.below(blocks / 2) * BLOCK, dice.below(blocks / 2) * BLOCK).unwrap();
    }
    let grown = server.disk("vdb").unwrap();
    grown.resize(grown.size_bytes() + 16 * BLOCK).unwrap();
}

#[test]
fn any_snapshot_is_restored_in_any_order_back_and_forth() {
    for seed in 0..6 {
        let mut dice = Dice(seed);
        let device = Arc::new(MemoryDevice::new(0));
        let options = Options::default().zone_blocks(512).journal_bytes(1 << 20).background(seed % 2 == 0);
        let store = Store::create_on(device.clone(), options).unwrap();
        let server = store.create_server("web").unwrap();
        server.create_disk("vda", 100 * BLOCK).unwrap();
        server.create_disk("vdb", 50 * BLOCK).unwrap();
        let mut kept: Vec<(SnapshotId, Content)> = Vec::new();
        for nth in 0..12 {
            change(&server, &mut dice, 1 + nth);
            kept.push((server.snapshot(&format!("s{nth}"), "").unwrap().id(), content(&server)));
        }
        for step in 0..80u8 {
            if step % 3 == 0 {
                change(&server, &mut dice, 100 + step);
            }
            let before = content(&server);
            let (id, expected) = &kept[dice.index(kept.len())];
            server.restore(*id).unwrap();
            assert_eq!(&content(&server), expected, "seed {seed}, step {step}");
            if dice.below(3) == 0 {
                server.undo_restore().unwrap();
                assert_eq!(content(&server), before, "seed {seed}, step {step}: undone");
            }
            // Whatever is restored, all others stay; now and then one is deleted.
            if step % 20 == 19 {
                let (id, _) = kept.swap_remove(dice.index(kept.len()));
                store.delete_snapshot(id).unwrap();
            }
            let there: Vec<SnapshotId> = server.snapshots().iter().map(cowblk::Snapshot::id).collect();
            assert!(kept.iter().all(|(id, _)| there.contains(id)), "seed {seed}, step {step}");
        }
        store.close().unwrap();
        let report = check_device(&*device).unwrap();
        assert!(report.is_clean(), "seed {seed}: {:?}", report.findings);
    }
}

/// A clone for each request: made, written, taken back, deleted. Space stays as it was; what each takes is told with `--nocapture`.
#[test]
fn a_clone_for_each_request_leaves_nothing_behind() {
    let cycles =
        std::env::var("COWBLK_CLONES").map_or(600, |text| text.parse().expect("COWBLK_CLONES is a number"));
    let device = Arc::new(MemoryDevice::new(0));
    let store = Store::create_on(device.clone(), Options::default().journal_bytes(16 << 20)).unwrap();
    let template = store.create_server("template").unwrap();
    let disk = template.create_disk("vda", 1 << 30).unwrap();
    for at in 0..2000 {
        disk.write_at(&[1; 4096], at * 131 % 262_144 * BLOCK).unwrap();
    }
    let golden = template.snapshot("golden", "").unwrap();
    store.collect().unwrap();
    let used = store.status().used_blocks;
    let begun = Instant::now();
    let mut spent = [Duration::ZERO; 4];
    for cycle in 0..cycles {
        let mut timed = |nth: usize, act: &mut dyn FnMut()| {
            let start = Instant::now();
            act();
            spent[nth] += start.elapsed();
        };
        let mut clone = None;
        timed(0, &mut || clone = Some(golden.clone_server(&format!("vm-{cycle}")).unwrap()));
        let clone = clone.unwrap();
        let disk = clone.disk("vda").unwrap();
        timed(1, &mut || {
            for nth in 0..100 {
                disk.write_at(&[2; 4096], (cycle * 31 + nth * 683) % 262_144 * BLOCK).unwrap();
            }
        });
        timed(2, &mut || clone.reset().unwrap());
        let mut byte = [0];
        disk.read_at(&mut byte, cycle * 31 % 262_144 * BLOCK).unwrap();
        assert_ne!(byte, [2], "cycle {cycle}");
        timed(3, &mut || store.delete_server(clone.id()).unwrap());
    }
    let each = spent.map(|spent| spent.as_secs_f64() * 1e6 / f64::from(u32::try_from(cycles).unwrap()));
    println!(
        "{cycles} cycles in {:.1} s; microseconds each: clone {:.0}, write 100 blocks {:.0}, reset {:.0}, delete {:.0}",
        begun.elapsed().as_secs_f64(),
        each[0],
        each[1],
        each[2],
        each[3]
    );
    store.collect().unwrap();
    let now = store.status();
    assert!(now.used_blocks <= used + 8, "{used} blocks before, {now:?}");
    store.close().unwrap();
    assert!(check_device(&*device).unwrap().is_clean());
}
