//! States: filled to the last block in each state that a store can be in, then emptied.

use super::stamped::{
    BLOCK, DISK_BLOCKS, Stamps, assert_disk, assert_snapshot, block, discard, fill, server, write,
};
use super::{LIMITS, options, small_store};
use crate::model::Limit;
use cowblk::device::sim::{SimDevice, Survival};
use cowblk::{ErrorKind, Server, SnapshotMarks, Store, check_device};
use std::sync::Arc;

/// What a store has been through before it is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    Snapshots,
    Clones,
    /// A snapshot and a server were deleted, and the collector has not run.
    Deletes,
    /// The same, and the collector has done a step and rests.
    Collecting,
    /// What the disk held waits for an undo.
    Restore,
}

/// What the store must hold.
struct Expected {
    live: Stamps,
    snapshots: Vec<(&'static str, Stamps)>,
    clone: Option<Stamps>,
}

fn prepare(store: &Store, web: &Server, before: Before) -> Expected {
    let disk = web.disk("vda").unwrap();
    let mut expected = Expected { live: Stamps::new(), snapshots: Vec::new(), clone: None };
    for at in 0..100 {
        write(&disk, &mut expected.live, at * 699, 1 + at).unwrap();
    }
    if before == Before::Nothing {
        return expected;
    }
    let first = web.snapshot("first", "").unwrap();
    expected.snapshots.push(("first", expected.live.clone()));
    for at in 0..60 {
        write(&disk, &mut expected.live, at * 699, 1000 + at).unwrap();
    }
    match before {
        Before::Nothing | Before::Snapshots => {}
        Before::Clones => {
            let clone = first.clone_server("clone").unwrap();
            let mut stamps = expected.snapshots[0].1.clone();
            write(&clone.disk("vda").unwrap(), &mut stamps, 5, 5000).unwrap();
            expected.clone = Some(stamps);
        }
        Before::Deletes | Before::Collecting => {
            let other = server(store, "other");
            fill_a_little(&other);
            let second = web.snapshot("second", "").unwrap();
            let clone = second.clone_server("short-lived").unwrap();
            for at in 0..60 {
                write(&disk, &mut expected.live, at * 699, 2000 + at).unwrap();
            }
            store.delete_server(other.id()).unwrap();
            store.delete_snapshot(second.id()).unwrap();
            store.checkpoint().unwrap();
            store.delete_server(clone.id()).unwrap();
            while before == Before::Collecting && store.status().collected_blocks == 0 {
                std::thread::yield_now();
            }
        }
        Before::Restore => {
            web.restore(first.id()).unwrap();
            expected.live = expected.snapshots[0].1.clone();
        }
    }
    expected
}

fn fill_a_little(server: &Server) {
    let (disk, mut stamps) = (server.disk("vda").unwrap(), Stamps::new());
    for at in 0..80 {
        write(&disk, &mut stamps, at * 800, 1).unwrap();
    }
}

fn assert_all(store: &Store, expected: &Expected, what: &str) {
    let web = store.server("web").unwrap();
    assert_disk(&web, &expected.live, what);
    for (name, stamps) in &expected.snapshots {
        assert_snapshot(&web, name, stamps, what);
    }
    if let Some(stamps) = &expected.clone {
        assert_disk(&store.server("clone").unwrap(), stamps, what);
    }
}

/// The power goes now: what was flushed is there.
fn assert_all_after_crash(device: &SimDevice, limit: Limit, expected: &Expected, what: &str) {
    for survival in [Survival::Nothing, Survival::Everything, Survival::Random(3)] {
        let after = device.crash(&survival);
        let report = check_device(&after).unwrap();
        assert!(report.is_clean(), "{what}: {:?}", report.findings);
        let store = Store::open_on(Arc::new(after.clone()), options(limit)).unwrap();
        assert_all(&store, expected, what);
        after.cut_power();
    }
}

fn refused_or_done<T>(outcome: cowblk::Result<T>, what: &str) -> Option<T> {
    match outcome {
        Ok(done) => Some(done),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Full, "{what}: {error}");
            None
        }
    }
}

fn run(limit: Limit, before: Before, is_background: bool) {
    let what = format!("{limit:?}, {before:?}, background {is_background}");
    // One step, and then minutes of rest, if nobody is in need.
    let rate = (before == Before::Collecting).then_some(1);
    let (device, store) = small_store(limit, |options| options.background(is_background).collect_rate(rate));
    store.collect().unwrap();
    let when_empty = store.status().used_blocks;
    let web = server(&store, "web");
    let disk = web.disk("vda").unwrap();
    let mut expected = prepare(&store, &web, before);
    if before == Before::Collecting {
        let status = store.status();
        assert!(status.collected_blocks > 0 && status.uncollected_versions > 0, "{what}: {status:?}");
        store.flush().unwrap();
        assert_all_after_crash(&device, limit, &expected, &what);
    }
    let written = fill(&disk, &mut expected.live, 10_000);
    assert!(written > 300, "{what}: only {written} blocks fit");
    disk.flush().unwrap();
    assert_all(&store, &expected, &what);
    assert_all_after_crash(&device, limit, &expected, &what);

    // A full store refuses what takes space, and does what does not.
    if let Some(late) = refused_or_done(web.snapshot("late", ""), &what) {
        store.delete_snapshot(late.id()).unwrap();
    }
    refused_or_done(store.create_server("late"), &what);
    refused_or_done(write(&disk, &mut expected.live, 0, 77), &what);
    store.checkpoint().unwrap();
    disk.write_at(&vec![0; 8192], 1001 * BLOCK).unwrap();
    expected.live.retain(|at, _| *at != 1001 && *at != 1002);
    if let Some(first) = web.snapshots().last().filter(|_| before != Before::Nothing) {
        first.set_marks(SnapshotMarks { protected: true, ..SnapshotMarks::default() }).unwrap();
        assert_eq!(store.delete_snapshot(first.id()).unwrap_err().kind(), ErrorKind::Protected);
        first.set_marks(SnapshotMarks::default()).unwrap();
    }
    disk.flush().unwrap();
    assert_all(&store, &expected, &what);
    assert!(!store.status().halted, "{what}");

    // Cutting a disk in the midst of a block writes what is left of that block anew: there is room for that, too.
    fill(&disk, &mut expected.live, 15_000);
    let (last, stamp) = expected.live.pop_last().unwrap();
    disk.resize_cutting(last * BLOCK + 512).unwrap();
    disk.resize(DISK_BLOCKS * BLOCK).unwrap();
    let mut left = vec![0xEE; 4096];
    disk.read_at(&mut left, last * BLOCK).unwrap();
    assert!(left[..512] == block(stamp)[..512] && left[512..].iter().all(|byte| *byte == 0), "{what}");
    discard(&disk, &mut expected.live, last, 1);

    // What is given back can be written again, as often as one likes.
    for round in 0..3 {
        discard(&disk, &mut expected.live, 1000, 300);
        let again = fill(&disk, &mut expected.live, 20_000 + round * 1000);
        assert!(again > 100, "{what}, round {round}: only {again} blocks fit");
        disk.flush().unwrap();
        assert_all(&store, &expected, &what);
    }
    discard(&disk, &mut expected.live, 20_000, 30_000);
    disk.resize_cutting(30_000 * BLOCK + 512).unwrap();
    disk.resize(DISK_BLOCKS * BLOCK).unwrap();
    expected.live.retain(|at, _| *at < 30_000);
    disk.flush().unwrap();
    assert_all_after_crash(&device, limit, &expected, &what);
    drop((web, disk));
    store.close().unwrap();
    let report = check_device(&device).unwrap();
    assert!(report.is_clean(), "{what}: {:?}", report.findings);

    let store = Store::open_on(Arc::new(device.clone()), options(limit)).unwrap();
    assert_all(&store, &expected, &what);
    for server in store.servers() {
        for snapshot in server.snapshots() {
            store.delete_snapshot(snapshot.id()).unwrap();
        }
        store.delete_server(server.id()).unwrap();
    }
    store.collect().unwrap();
    assert_eq!(store.status().used_blocks, when_empty, "{what}");
}

fn run_all(before: Before) {
    for limit in LIMITS {
        for is_background in [false, true] {
            run(limit, before, is_background);
        }
    }
}

#[test]
fn with_nothing_but_a_disk() {
    run_all(Before::Nothing);
}

#[test]
fn with_snapshots() {
    run_all(Before::Snapshots);
}

#[test]
fn with_clones() {
    run_all(Before::Clones);
}

#[test]
fn while_deleted_content_is_collected() {
    run_all(Before::Deletes);
}

#[test]
fn in_the_midst_of_collecting() {
    for limit in LIMITS {
        run(limit, Before::Collecting, true);
    }
}

#[test]
fn behind_a_restore() {
    run_all(Before::Restore);
}

/// A limit that was lowered below what the file has takes nothing away, and one that was raised lets it grow.
#[test]
fn a_limit_can_be_lowered_and_raised() {
    let (device, store) = small_store(Limit::Options, |options| options);
    let web = server(&store, "web");
    let disk = web.disk("vda").unwrap();
    let mut stamps = Stamps::new();
    let written = fill(&disk, &mut stamps, 1);
    drop((web, disk));
    store.close().unwrap();

    let lowered = options(Limit::Options).max_bytes(1 << 20);
    let store = Store::open_on(Arc::new(device.clone()), lowered).unwrap();
    let web = store.server("web").unwrap();
    let disk = web.disk("vda").unwrap();
    assert_disk(&web, &stamps, "lowered");
    let refused = write(&disk, &mut stamps, 0, 5).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full);
    discard(&disk, &mut stamps, 1000, 500);
    store.checkpoint().unwrap();
    write(&disk, &mut stamps, 0, 5).unwrap();
    let length = store.status().file_bytes;
    drop((web, disk));
    store.close().unwrap();

    let raised = options(Limit::Options).max_bytes(64 << 20);
    let store = Store::open_on(Arc::new(device.clone()), raised).unwrap();
    assert_eq!(store.status().file_bytes, length);
    let web = store.server("web").unwrap();
    assert!(fill(&web.disk("vda").unwrap(), &mut stamps, 50_000) > 2 * written);
    assert_disk(&web, &stamps, "raised");
    drop(web);
    store.close().unwrap();
    assert!(check_device(&device).unwrap().is_clean());
}
