//! Failing: runs a workload on a device that fails at one call or from one call on, and judges what is left.

#![allow(dead_code, reason = "every test file compiles its own copy and uses only a part of it")]
#![allow(unreachable_pub, reason = "a test crate has no outside")]
#![allow(clippy::similar_names, reason = "a store has a story")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test stops where it is surprised")]

use crate::model::{Judge, Model, Moment, Shape, Story, Tally, Verb, observe};
use cowblk::device::sim::{Fault, Faults, SimDevice, Survival, When};
use cowblk::{ErrorKind, Result, Store, check_device};
use std::sync::Arc;

/// What one run of the workload does beside the workload itself.
pub struct Case<'a> {
    pub shape: Shape,
    pub base: &'a SimDevice,
    pub workload: &'a [Verb],
    pub fault: Fault,
    pub when: fn(u64) -> When,
    pub seed: u64,
    /// Reads fail for good, so that nothing can be looked at before the device is mended.
    pub is_blind: bool,
}

impl Case<'_> {
    /// Strikes at the nth operation. Whether the workload came that far.
    pub fn run(&self, nth: u64, tally: &Tally) -> bool {
        let device = self.base.fork();
        device.set_faults(Faults::none().with(self.fault, (self.when)(device.operations() + nth)));
        let started = device.operations();
        let mut story = Story::new(Model::default());
        if let Ok(store) = Store::open_on(Arc::new(device.clone()), self.shape.options()) {
            self.work(store, &mut story);
        }
        let reached = device.operations() - started >= nth;
        device.cut_power();
        for survival in [Survival::Everything, Survival::Nothing, Survival::Random(self.seed ^ nth)] {
            self.mended(&device.crash(&survival), &story, tally);
        }
        reached
    }

    fn work(&self, store: Store, story: &mut Story) {
        for verb in self.workload {
            let before = story.moment().asked;
            if story.ask(verb).is_err() {
                continue; // it asks for what an earlier failure prevented
            }
            let ran = verb.run(&store);
            let Err(error) = ran else {
                if verb.is_durable() {
                    story.promise();
                }
                continue;
            };
            let kinds = [ErrorKind::Io, ErrorKind::Full, ErrorKind::Halted];
            assert!(kinds.contains(&error.kind()), "{verb} under {}: {error:?}", self.fault);
            let is_seen = self.look(&store, story, before);
            if store.status().halted {
                refuses_changes(&store);
                self.look(&store, story, before);
                return;
            }
            if !is_seen {
                return; // how far the verb came is not known: the rest of the workload may end in many ways
            }
        }
        if store.close().is_ok() {
            story.promise();
        }
    }

    /// Reads are right, or fail. Whether they were.
    fn look(&self, store: &Store, story: &mut Story, before: usize) -> bool {
        match observe(store) {
            Ok(_) => {
                let found = self
                    .judge(story, &Tally::default())
                    .locate(store, Moment { promised: before, asked: story.moment().asked });
                if !store.status().halted {
                    story.stop_at(found);
                }
                true
            }
            Err(error) => {
                assert!(self.is_blind, "reads go on: {error:?}");
                false
            }
        }
    }

    /// The device works again.
    fn mended(&self, device: &SimDevice, story: &Story, tally: &Tally) {
        tally.add();
        let report = check_device(device).unwrap();
        assert!(report.is_clean(), "after {}: {:?}", self.fault, report.findings);
        let store = Store::open_on(Arc::new(device.clone()), self.shape.options()).unwrap();
        self.judge(story, tally).locate(&store, story.moment());
        device.cut_power();
    }

    fn judge<'b>(&self, story: &'b Story, tally: &'b Tally) -> Judge<'b> {
        Judge { shape: self.shape, story, blocks_when_empty: 0, tally, again_one_in: 0, go_on_one_in: 0 }
    }
}

fn refuses_changes(store: &Store) {
    let refused = |result: Result<()>, what: &str| {
        let error = result.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Halted, "{what}: {error}");
    };
    refused(store.flush(), "flush");
    refused(store.checkpoint(), "checkpoint");
    refused(store.collect(), "collect");
    refused(store.create_server("late").map(drop), "create a server");
    for server in store.servers() {
        refused(server.snapshot("late", "").map(drop), "snapshot");
        refused(store.delete_server(server.id()), "delete a server");
        for disk in server.disks() {
            refused(disk.write_at(&[1], 0), "write");
            refused(disk.discard(0, 4096), "discard");
            refused(disk.resize(disk.size_bytes() + 512), "resize");
            refused(server.delete_disk(&disk.name()), "delete a disk");
        }
        for snapshot in server.snapshots() {
            refused(server.restore(snapshot.id()), "restore");
            refused(store.delete_snapshot(snapshot.id()), "delete a snapshot");
        }
    }
}

/// A store that was made and closed.
pub fn base(shape: Shape) -> SimDevice {
    let device = SimDevice::new(0, 1);
    Store::create_on(Arc::new(device.clone()), shape.options()).unwrap().close().unwrap();
    device.crash(&Survival::Everything)
}
