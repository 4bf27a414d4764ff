//! I/O errors: every call that a workload makes of its device fails, once or from then on, in every way it can.
//!
//! The store may refuse, but never panic: after a failed write or sync it takes no changes, reads go on and are right,
//! and once the medium works again everything that was flushed is there.

#![allow(clippy::similar_names, reason = "a store has a story")]
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "the number of cases is part of the result")]

mod failing;
mod model;

use cowblk::device::sim::{Fault, Faults, SimDevice, Survival, When};
use cowblk::{ErrorKind, Store, check_device};
use failing::Case;
use model::{BLOCK, Dice, Fill, Limit, Shape, Tally, Verb};
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

fn sweep(fault: Fault, when: fn(u64) -> When, is_blind: bool) {
    let (base, workload, tally) = (failing::base(SHAPE), workload(), Tally::default());
    let case = Case { shape: SHAPE, base: &base, workload: &workload, fault, when, seed: 99, is_blind };
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
fn a_sync_may_find_no_space() {
    sweep(Fault::SyncNoSpace, When::At, false);
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
