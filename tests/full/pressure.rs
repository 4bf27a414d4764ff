//! Pressure: before a write is refused, what restores replaced goes, the oldest first.

use super::stamped::{Stamps, assert_disk, fill, server, write};
use super::{options, small_store};
use crate::model::Limit;
use cowblk::device::sim::{Fault, Faults, SimDevice, Survival, When};
use cowblk::{Notice, Server, SnapshotMarks, Store, check_device};
use std::sync::Arc;

/// Writes blocks, and goes back to before them: an undo holds them.
fn restore_over(server: &Server, blocks: u64) {
    let clean = server.snapshot("clean", "").unwrap();
    let (disk, mut stamps) = (server.disk("vda").unwrap(), Stamps::new());
    for at in 0..blocks {
        write(&disk, &mut stamps, at, 40 + at).unwrap();
    }
    server.restore(clean.id()).unwrap();
}

#[test]
fn the_oldest_undo_goes_first_and_only_as_many_as_it_takes() {
    let (device, store) = small_store(Limit::Fixed, |options| options);
    let servers: Vec<Server> = ["a", "b", "c"].map(|name| server(&store, name)).into();
    for server in &servers {
        restore_over(server, 120);
    }
    let undos: Vec<_> = servers.iter().map(|server| server.before_restore().unwrap()).collect();
    undos[0].set_marks(SnapshotMarks { protected: true, ..SnapshotMarks::default() }).unwrap();
    let notices = store.notices();
    let (disk, mut stamps) = (servers[0].disk("vda").unwrap(), Stamps::new());
    let mut nth = 0;
    while servers[1].before_restore().is_some() {
        write(&disk, &mut stamps, 1000 + nth, 1 + nth).unwrap();
        nth += 1;
    }
    assert!(servers[2].before_restore().is_some(), "one was enough");
    assert!(fill(&disk, &mut stamps, 9000) > 100, "the other one went, too");
    assert!(servers[2].before_restore().is_none());
    assert_eq!(servers[0].before_restore().map(|undo| undo.id()), Some(undos[0].id()), "protected");
    let given_up: Vec<_> = std::iter::from_fn(|| notices.next_now())
        .filter_map(|notice| match notice {
            Notice::UndoGivenUp { server, snapshot } => Some((server, snapshot)),
            _ => None,
        })
        .collect();
    assert_eq!(given_up, [(servers[1].id(), undos[1].id()), (servers[2].id(), undos[2].id())]);
    assert_disk(&servers[0], &stamps, "the writer's disk");
    servers[0].undo_restore().unwrap();
    drop((servers, undos, disk));
    store.close().unwrap();
    assert!(check_device(&device).unwrap().is_clean());
}

#[test]
fn a_store_that_is_told_to_keeps_them_and_refuses() {
    let (_, store) = small_store(Limit::Fixed, |options| options.keep_replaced_when_full(true));
    let web = server(&store, "web");
    restore_over(&web, 200);
    let (disk, mut stamps) = (web.disk("vda").unwrap(), Stamps::new());
    fill(&disk, &mut stamps, 1);
    assert!(web.before_restore().is_some());
    web.undo_restore().unwrap();
}

/// A store of which the next write gives up an undo, and what its disk holds.
fn on_the_brink() -> (SimDevice, Store, Server, Stamps) {
    let keep = |options: cowblk::Options| options.keep_replaced_when_full(true);
    let (device, store) = small_store(Limit::Fixed, keep);
    let web = server(&store, "web");
    restore_over(&web, 120);
    let mut stamps = Stamps::new();
    fill(&web.disk("vda").unwrap(), &mut stamps, 1);
    drop(web);
    store.close().unwrap();
    let store = Store::open_on(Arc::new(device.clone()), options(Limit::Fixed)).unwrap();
    let web = store.server("web").unwrap();
    (device, store, web, stamps)
}

#[test]
fn the_power_may_go_at_any_call_of_a_write_that_gives_up_an_undo() {
    for nth in 1.. {
        let (device, store, web, mut stamps) = on_the_brink();
        let disk = web.disk("vda").unwrap();
        let started = device.operations();
        device.set_faults(Faults::none().with(Fault::PowerCut, When::At(started + nth)));
        let written = write(&disk, &mut stamps, 500, 77).and_then(|()| disk.flush());
        drop((disk, web, store));
        if written.is_err() {
            stamps.remove(&500);
        }
        for survival in [Survival::Nothing, Survival::Everything, Survival::Random(nth)] {
            let after = device.crash(&survival);
            let report = check_device(&after).unwrap();
            assert!(report.is_clean(), "call {nth}: {:?}", report.findings);
            let store = Store::open_on(Arc::new(after), options(Limit::Fixed)).unwrap();
            let web = store.server("web").unwrap();
            let mut found = [0; 8];
            web.disk("vda").unwrap().read_at(&mut found, 500 * 4096).unwrap();
            match (u64::from_le_bytes(found), written.is_ok()) {
                (77, _) => drop(stamps.insert(500, 77)),
                (0, false) => drop(stamps.remove(&500)),
                (other, _) => panic!("call {nth}: block 500 holds {other}"),
            }
            assert_disk(&web, &stamps, &format!("call {nth}"));
        }
        if written.is_ok() {
            assert!(nth > 10, "the write gave up nothing");
            return;
        }
    }
}
