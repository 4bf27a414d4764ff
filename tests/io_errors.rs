//! I/O errors: every call that a workload makes of its device fails, once or from then on, in every way it can.
//!
//! The store may refuse, but never panic: after a failed write or sync it takes no changes, reads go on and are right,
//! and once the medium works again everything that was flushed is there.

#![allow(clippy::similar_names, reason = "a store has a story")]
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "the number of cases is part of the result")]

mod model;

use cowblk::device::sim::{Fault, Faults, SimDevice, Survival, When};
use cowblk::{ErrorKind, Result, Store, check_device};
use model::{BLOCK, Dice, Fill, Judge, Limit, Model, Moment, Shape, Story, Tally, Verb, observe};
use std::sync::Arc;

const SHAPE: Shape = Shape { zone_blocks: 128, journal_bytes: 64 << 10, ..Shape::SMALL };

/// Verbs of every kind, with checkpoints that they force, growths, and laps of the journal.
fn workload() -> Vec<Verb> {
    let server = || "s".to_owned();
    let write = |disk: &str, blocks: std::ops::Range<u64>, stamp| Verb::Write {
        server: server(),
        disk: disk.into(),
        range: blocks.start * BLOCK..blocks.end * BLOCK,
        fill: Fill { stamp, zero_every: 0 },
    };
    let ragged = |disk: &str, range, stamp| Verb::Write {
        server: server(),
        disk: disk.into(),
        range,
        fill: Fill { stamp, zero_every: 0 },
    };
    vec![
        Verb::CreateServer(server()),
        Verb::CreateDisk { server: server(), disk: "a".into(), size: 40 * BLOCK },
        Verb::CreateDisk { server: server(), disk: "b".into(), size: 300 * BLOCK },
        write("a", 0..30, 1),
        write("b", 250..260, 2),
        Verb::Flush,
        ragged("a", 1000..9000, 3),
        Verb::Snapshot { server: server(), snapshot: "n0".into() },
        write("a", 3..20, 4),
        Verb::Discard { server: server(), disk: "b".into(), range: 252 * BLOCK + 100..300 * BLOCK },
        Verb::Checkpoint,
        ragged("a", 5000..6000, 5),
        write("b", 292..300, 6),
        Verb::Flush,
        Verb::Restore { server: server(), snapshot: "n0".into() },
        write("a", 0..40, 7),
        write("a", 8..12, 8),
        Verb::Undo { server: server() },
        Verb::Snapshot { server: server(), snapshot: "n1".into() },
        Verb::Resize { server: server(), disk: "b".into(), size: 70_000 * BLOCK },
        write("b", 65_532..65_540, 9),
        Verb::WriteZeroes { server: server(), disk: "a".into(), range: 100..20_000 },
        Verb::DeleteSnapshot { server: server(), snapshot: "n0".into() },
        Verb::Collect,
        write("a", 10..30, 10),
        write("b", 0..40, 11),
        Verb::DeleteDisk { server: server(), disk: "b".into() },
        Verb::DeleteSnapshot { server: server(), snapshot: "n1".into() },
        ragged("a", 30_000..50_000, 12),
        Verb::Collect,
        Verb::CreateServer("t".into()),
        Verb::DeleteServer(server()),
        Verb::Collect,
        Verb::Checkpoint,
    ]
}

/// What one run of the workload does beside the workload itself.
struct Case<'a> {
    base: &'a SimDevice,
    fault: Fault,
    when: fn(u64) -> When,
    seed: u64,
    /// Reads fail for good, so that nothing can be looked at before the device is mended.
    is_blind: bool,
}

impl Case<'_> {
    /// Strikes at the nth operation. Whether the workload came that far.
    fn run(&self, nth: u64, tally: &Tally) -> bool {
        let device = self.base.fork();
        device.set_faults(Faults::none().with(self.fault, (self.when)(device.operations() + nth)));
        let started = device.operations();
        let mut story = Story::new(Model::default());
        if let Ok(store) = Store::open_on(Arc::new(device.clone()), SHAPE.options()) {
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
        for verb in workload() {
            let before = story.moment().asked;
            assert_eq!(story.ask(&verb), Ok(()), "{verb}");
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
                let found = judge(story, &Tally::default())
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
        let store = Store::open_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
        judge(story, tally).locate(&store, story.moment());
        device.cut_power();
    }
}

fn judge<'a>(story: &'a Story, tally: &'a Tally) -> Judge<'a> {
    Judge { shape: SHAPE, story, blocks_when_empty: 0, tally, again_one_in: 0, go_on_one_in: 0 }
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
fn base() -> SimDevice {
    let device = SimDevice::new(0, 1);
    Store::create_on(Arc::new(device.clone()), SHAPE.options()).unwrap().close().unwrap();
    device.crash(&Survival::Everything)
}

fn sweep(fault: Fault, when: fn(u64) -> When, is_blind: bool) {
    let (base, tally) = (base(), Tally::default());
    let case = Case { base: &base, fault, when, seed: 99, is_blind };
    let mut nth = 1;
    while case.run(nth, &tally) {
        nth += 1;
    }
    assert!(nth > 100, "the workload is too short to say anything");
    println!("{fault}: {} operations, {} states", nth - 1, tally.count());
}

#[test]
fn any_call_may_fail_once() {
    sweep(Fault::AnyError, When::At, false);
}

#[test]
fn any_call_may_fail_and_all_after_it() {
    sweep(Fault::AnyError, When::From, true);
}

#[test]
fn a_medium_may_be_full_once() {
    sweep(Fault::NoSpace, When::At, false);
}

#[test]
fn a_medium_may_be_full_for_good() {
    sweep(Fault::NoSpace, When::From, false);
}

#[test]
fn writes_may_fail_for_good() {
    sweep(Fault::WriteError, When::From, false);
}

#[test]
fn syncs_may_fail_for_good() {
    sweep(Fault::SyncError, When::From, false);
}

#[test]
fn a_sync_may_fail_and_forget_what_it_was_to_sync() {
    sweep(Fault::SyncDropsWrites, When::At, false);
}

#[test]
fn a_call_may_be_interrupted() {
    sweep(Fault::Interrupted, When::At, false);
}

#[test]
fn a_transfer_may_be_short() {
    sweep(Fault::ShortTransfer, When::At, false);
}

#[test]
fn a_store_may_fail_to_grow() {
    sweep(Fault::GrowError, When::From, false);
}

#[test]
fn the_power_may_go_at_any_call() {
    sweep(Fault::PowerCut, When::At, true);
}

#[test]
fn a_store_that_could_not_be_made_is_no_store_and_no_panic() {
    for nth in 1.. {
        let device = SimDevice::new(0, 1);
        device.set_faults(Faults::none().with(Fault::AnyError, When::At(nth)));
        let made = Store::create_on(Arc::new(device.clone()), SHAPE.options()).map(Store::close);
        if device.operations() < nth {
            return;
        }
        drop(made);
        device.cut_power();
        for survival in [Survival::Everything, Survival::Nothing, Survival::Random(nth)] {
            let device = device.crash(&survival);
            if let Ok(store) = Store::open_on(Arc::new(device.clone()), SHAPE.options()) {
                assert!(store.servers().is_empty());
                store.create_server("s").unwrap();
            }
            // What is there may be overwritten by a store that can be made.
            Store::create_on(Arc::new(device), SHAPE.options()).unwrap().create_server("s").unwrap();
        }
    }
}

/// A full store is no dead end: whatever filled it, deleting makes room, and no call that makes room halts it.
#[test]
fn a_full_store_can_always_be_emptied() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let shape = Shape { zones_max: 2 + dice.below(4), limit: Limit::Fixed, ..SHAPE };
        let device = shape.device(seed);
        let store = Store::create_on(Arc::new(device.clone()), shape.options()).unwrap();
        store.collect().unwrap();
        let when_empty = store.status().used_blocks;
        for round in 0..4 {
            let server = store.create_server("s").unwrap();
            let disk = server.create_disk("d", 70_000 * BLOCK).unwrap();
            let spread = *dice.pick(&[1, 7, 256, 300]);
            let mut refused = 0;
            for nth in 0..4000u64 {
                let at = nth * spread % 69_000 * BLOCK;
                let tried = match dice.below(40) {
                    0 => server
                        .snapshot(&format!("n{nth}"), &"x".repeat(usize::try_from(dice.below(1000)).unwrap()))
                        .map(drop),
                    1 => disk.discard(at, BLOCK),
                    2 if refused > 0 => disk.discard(dice.below(60_000) * BLOCK, 9000 * BLOCK),
                    3 => disk.flush(),
                    4 => server.snapshots().last().map_or(Ok(()), |last| server.restore(last.id())),
                    _ => disk.write_at(&Fill { stamp: nth + 1, zero_every: 0 }.bytes(at..at + BLOCK), at),
                };
                if let Err(error) = tried {
                    assert_eq!(error.kind(), ErrorKind::Full, "seed {seed}, round {round}, {nth}: {error}");
                    assert!(!store.status().halted, "seed {seed}, round {round}, {nth}: {error}");
                    refused += 1;
                }
                if refused > 60 {
                    break;
                }
            }
            assert!(refused > 60, "seed {seed}: the store was never full");
            disk.flush().unwrap();
            store.checkpoint().unwrap();
            match dice.below(3) {
                0 => {
                    for snapshot in server.snapshots() {
                        store.delete_snapshot(snapshot.id()).unwrap();
                    }
                    store.collect().unwrap();
                    disk.discard(0, 70_000 * BLOCK).unwrap();
                    store.checkpoint().unwrap();
                    server.delete_disk("d").unwrap();
                }
                1 => {
                    server.delete_disk("d").unwrap();
                    store.collect().unwrap();
                }
                _ => {}
            }
            store.delete_server(server.id()).unwrap();
            store.collect().unwrap();
            assert_eq!(store.status().used_blocks, when_empty, "seed {seed}, round {round}");
            let report = check_device(&device).unwrap();
            assert!(report.is_clean(), "seed {seed}, round {round}: {:?}", report.findings);
        }
    }
}
