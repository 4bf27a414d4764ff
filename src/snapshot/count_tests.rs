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
