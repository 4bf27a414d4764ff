//! Tests of counts of sizes, with writes, snapshots, clones and checkpoints in their midst.

use crate::catalog::Child;
use crate::device::MemoryDevice;
use crate::{Options, Server, Snapshot, Store, recount_sizes};
use std::sync::Arc;

const BLOCK: u64 = 4096;
/// Blocks of which each has a leaf of its own.
const LEAF: u64 = 256 * BLOCK;

struct Rig {
    device: Arc<MemoryDevice>,
    store: Store,
}

impl Rig {
    fn new() -> Self {
        let device = Arc::new(MemoryDevice::new(0));
        let options = Options::default().zone_blocks(4096).journal_bytes(1 << 20).background(false);
        Self { store: Store::create_on(device.clone(), options).unwrap(), device }
    }

    /// A server with a disk whose first block is written, and a snapshot of it.
    fn server(&self) -> (Server, Snapshot) {
        let web = self.store.create_server("web").unwrap();
        web.create_disk("vda", 400 * LEAF).unwrap().write_at(&[1; 4096], 0).unwrap();
        let snapshot = web.snapshot("first", "").unwrap();
        (web, snapshot)
    }

    /// Counts, and does this once, when a count comes to a pause and it `is_time`, as what is being counted tells.
    fn count_and(&self, is_time: impl Fn(Option<Child>) -> bool, act: impl FnOnce()) {
        let (shared, mut act) = (&self.store.shared, Some(act));
        let mut pause = || {
            let counting = shared.state().catalog.counting;
            if let Some(act) = act.take_if(|_| is_time(counting)) {
                act();
            }
            Ok(false)
        };
        shared.engine.count_sizes(&mut pause).unwrap();
        assert!(act.is_none(), "it was never time");
    }

    fn verify(&self) {
        self.store.checkpoint().unwrap();
        let report = recount_sizes(&*self.device).unwrap();
        assert!(report.is_clean(), "{report:#?}");
    }
}

/// Two disks of a snapshot, of which one is a clone of the other, and a clone of a later snapshot of that, which is deleted.
#[test]
fn a_count_of_one_disk_of_a_snapshot_hears_of_those_around_the_others() {
    let rig = Rig::new();
    let (web, first) = rig.server();
    let vda = web.disk("vda").unwrap();
    let vdb = first.disk("vda").unwrap().clone_disk(&web, "vdb").unwrap();
    let second = web.snapshot("second", "").unwrap();
    let third = web.snapshot("third", "").unwrap();
    let other = rig.store.create_server("other").unwrap();
    let vdc = third.disk("vdb").unwrap().clone_disk(&other, "vdc").unwrap();
    rig.store.delete_snapshot(first.id()).unwrap();
    rig.store.delete_snapshot(third.id()).unwrap();
    for disk in [&vda, &vdb] {
        disk.write_at(&[2; 4096], 0).unwrap();
    }
    rig.store.collect().unwrap();
    rig.verify();
    assert_eq!(second.exclusive_bytes(), Some(0));
    vdb.write_at(&[3; 4096], LEAF).unwrap();
    rig.store.checkpoint().unwrap();
    assert_eq!(second.exclusive_bytes(), None, "it is to be counted");
    rig.count_and(
        |_| true,
        || {
            vdc.write_at(&[4; 4096], 0).unwrap();
            rig.store.checkpoint().unwrap();
        },
    );
    rig.verify();
    assert_eq!(second.exclusive_bytes(), Some(BLOCK), "vdc was the last other one that held it");
}

#[test]
fn a_count_of_a_disk_that_a_snapshot_is_made_of_meanwhile_is_void() {
    let rig = Rig::new();
    let (web, first) = rig.server();
    let clone = first.clone_server("clone").unwrap();
    let own = clone.disk("vda").unwrap();
    (1..400).for_each(|leaf| own.write_at(&[2; 4096], leaf * LEAF).unwrap());
    web.disk("vda").unwrap().write_at(&[2; 4096], BLOCK).unwrap();
    rig.store.delete_snapshot(first.id()).unwrap();
    rig.store.checkpoint().unwrap();
    let is_time = |counting| counting == Some(Child::Head(own.id()));
    rig.count_and(is_time, || {
        clone.snapshot("meanwhile", "").unwrap();
        rig.store.checkpoint().unwrap();
    });
    rig.verify();
}

#[test]
fn a_clone_of_one_disk_of_a_snapshot_holds_what_another_one_holds_too() {
    let rig = Rig::new();
    let (web, first) = rig.server();
    let vda = web.disk("vda").unwrap();
    let vdb = first.disk("vda").unwrap().clone_disk(&web, "vdb").unwrap();
    let second = web.snapshot("second", "").unwrap();
    rig.store.delete_snapshot(first.id()).unwrap();
    for disk in [&vda, &vdb] {
        disk.write_at(&[2; 4096], 0).unwrap();
    }
    rig.store.collect().unwrap();
    rig.verify();
    assert_eq!(second.exclusive_bytes(), Some(BLOCK));
    second.disk("vdb").unwrap().clone_disk(&web, "vdc").unwrap();
    rig.verify();
}

/// Random verbs on a few servers with disks that are clones of each other, many of them in the midst of counts.
struct Story {
    rig: Rig,
    state: u64,
    made: u64,
}

impl Story {
    fn below(&mut self, end: usize) -> usize {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.state >> 40).unwrap() % end.max(1)
    }

    fn pick<T>(&mut self, mut from: Vec<T>) -> Option<T> {
        let at = self.below(from.len());
        (!from.is_empty()).then(|| from.swap_remove(at))
    }

    fn name(&mut self) -> String {
        self.made += 1;
        format!("n{}", self.made)
    }

    /// Verbs that cannot be carried out are left out.
    fn act(&mut self) {
        let Some(server) = self.pick(self.rig.store.servers()) else { return };
        let (snapshot, disk) = (self.pick(self.rig.store.snapshots()), self.pick(server.disks()));
        match (self.below(16), snapshot, disk) {
            (0..=5, _, Some(disk)) => {
                let place = self.below(3) as u64 * LEAF + self.below(4) as u64 * BLOCK;
                let byte = u8::try_from(1 + self.below(250)).unwrap();
                disk.write_at(&[byte; 4096], place).unwrap();
            }
            (6, _, Some(disk)) => disk.discard(self.below(3) as u64 * LEAF, 2 * BLOCK).unwrap(),
            (7 | 8, ..) => drop(server.snapshot(&self.name(), "")),
            (9 | 10, Some(snapshot), _) => self.rig.store.delete_snapshot(snapshot.id()).unwrap(),
            (11, Some(snapshot), _) if server.disk_count() < 4 => {
                let of = self.pick(snapshot.disks()); // a server without disks has snapshots without any
                drop(of.map(|of| of.clone_disk(&server, &self.name())));
            }
            (12, Some(snapshot), _) if self.rig.store.servers().len() < 4 => {
                drop(snapshot.clone_server(&self.name()));
            }
            (13, Some(snapshot), _) => drop(server.restore(snapshot.id())),
            (14, ..) if self.below(3) == 0 => drop(server.reset()),
            (15, _, Some(disk)) if self.below(3) == 0 => server.delete_disk(&disk.name()).unwrap(),
            _ => self.rig.store.checkpoint().unwrap(),
        }
    }

    fn count(&mut self) {
        let shared = self.rig.store.shared.clone();
        let mut left = self.below(12);
        shared
            .engine
            .count_sizes(|| {
                for _ in 0..self.below(3) {
                    self.act();
                }
                if self.below(2) == 0 {
                    self.rig.store.checkpoint().unwrap();
                }
                left = left.saturating_sub(1);
                Ok(left == 0)
            })
            .unwrap();
    }
}

#[test]
fn counts_are_those_of_a_recount_whatever_happens_beside_them() {
    for seed in 0..60 {
        let rig = Rig::new();
        rig.server();
        let mut story = Story { rig, state: seed, made: 0 };
        for step in 0..150 {
            match story.below(8) {
                0..=4 => story.act(),
                5 | 6 => story.count(),
                _ if story.below(4) == 0 => story.rig.store.collect().unwrap(),
                _ => story.rig.store.checkpoint().unwrap(),
            }
            if step % 5 == 0 {
                story.rig.store.checkpoint().unwrap();
                let report = recount_sizes(&*story.rig.device).unwrap();
                assert!(report.is_clean(), "seed {seed}, step {step}: {report:#?}");
            }
        }
        story.rig.store.collect().unwrap();
        story.rig.verify();
    }
}
