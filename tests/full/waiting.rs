//! Waiting: a write to a disk that is set to wait ends when space comes, however it comes, and fails in the end.

use super::small_store;
use super::stamped::{BLOCK, DISK_BLOCKS, Stamps, assert_disk, discard, fill, server, write};
use crate::model::Limit;
use cowblk::{Disk, ErrorKind, Notice, Notices, Server, Store, WhenFull};
use std::thread;
use std::time::{Duration, Instant};

/// Who waits so many seconds has not been woken.
const LONG: u32 = 600;

fn heard(notices: &Notices, wanted: impl Fn(&Notice) -> bool) -> Notice {
    loop {
        let notice = notices.next_within(Duration::from_secs(u64::from(LONG))).unwrap();
        if wanted(&notice) {
            return notice;
        }
    }
}

/// A full store whose disk waits: a write to it has begun to. `relieve` then makes space, or does not.
fn wait_and(
    limit: Limit,
    is_background: bool,
    when_full: WhenFull,
    relieve: impl FnOnce(&Store, &Server, &Disk, &mut Stamps),
) -> (cowblk::Result<()>, Duration) {
    let (_device, store) = small_store(limit, |options| options.background(is_background));
    let web = server(&store, "web");
    let disk = web.disk("vda").unwrap();
    let mut stamps = Stamps::new();
    for at in 200..400 {
        write(&disk, &mut stamps, at, at).unwrap();
    }
    web.snapshot("held", "").unwrap();
    discard(&disk, &mut stamps, 200, 200);
    write(&disk, &mut stamps, 3, 3).unwrap();
    fill(&disk, &mut stamps, 1);
    disk.flush().unwrap();
    disk.set_when_full(when_full).unwrap();
    let notices = store.notices();
    let begun = Instant::now();
    let outcome = thread::scope(|scope| {
        let writer = scope.spawn(|| disk.write_at(&[9; 4096], 7 * BLOCK));
        assert_eq!(
            heard(&notices, |notice| matches!(notice, Notice::WriteWaits { .. })),
            Notice::WriteWaits { disk: disk.id() }
        );
        relieve(&store, &web, &disk, &mut stamps);
        writer.join().unwrap()
    });
    let waited = begun.elapsed();
    match &outcome {
        Ok(()) => drop(stamps.insert(7, u64::from_le_bytes([9; 8]))),
        Err(error) if error.kind() == ErrorKind::Full => {
            heard(&notices, |notice| matches!(notice, Notice::WriteRefused { .. }));
        }
        Err(_) => {}
    }
    assert_disk(&web, &stamps, "after the wait");
    (outcome, waited)
}

#[test]
fn a_discard_wakes_it() {
    for is_background in [false, true] {
        let (outcome, _) =
            wait_and(Limit::Fixed, is_background, WhenFull::WaitSeconds(LONG), |_, _, disk, stamps| {
                discard(disk, stamps, 1000, 200);
            });
        outcome.unwrap();
    }
}

#[test]
fn blocks_of_zeros_wake_it() {
    let (outcome, _) = wait_and(Limit::Options, false, WhenFull::WaitSeconds(LONG), |_, _, disk, stamps| {
        disk.write_at(&vec![0; 100 * 4096], 1000 * BLOCK).unwrap();
        stamps.retain(|at, _| !(1000..1100).contains(at));
    });
    outcome.unwrap();
}

#[test]
fn a_deleted_snapshot_wakes_it() {
    for is_background in [false, true] {
        let (outcome, _) =
            wait_and(Limit::Medium, is_background, WhenFull::WaitSeconds(LONG), |store, web, _, _| {
                let held = web.snapshots().pop().unwrap();
                store.delete_snapshot(held.id()).unwrap();
            });
        outcome.unwrap();
    }
}

#[test]
fn its_time_ends() {
    let (outcome, waited) = wait_and(Limit::Fixed, true, WhenFull::WaitSeconds(1), |_, _, _, _| ());
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Full);
    assert!(waited >= Duration::from_secs(1), "only {waited:?}");
}

#[test]
fn deleting_its_disk_ends_it() {
    let (outcome, _) = wait_and(Limit::Fixed, false, WhenFull::WaitSeconds(LONG), |_, web, _, stamps| {
        web.delete_disk("vda").unwrap();
        web.create_disk("vda", DISK_BLOCKS * BLOCK).unwrap();
        stamps.clear();
    });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn closing_the_store_ends_it() {
    let (outcome, _) = wait_and(Limit::Fixed, false, WhenFull::WaitSeconds(LONG), |store, _, _, _| {
        store.clone().close().unwrap();
    });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Halted);
}

#[test]
fn nobody_else_is_held_up_by_it() {
    let (outcome, _) =
        wait_and(Limit::Fixed, true, WhenFull::WaitSeconds(LONG), |store, web, disk, stamps| {
            let mut buf = [0; 4096];
            disk.read_at(&mut buf, 3 * BLOCK).unwrap();
            disk.flush().unwrap();
            store.checkpoint().unwrap();
            assert!(web.snapshots().len() == 1 && web.create_disk("vdb", 1 << 20).is_ok());
            // Another disk, which is not set to wait, is refused at once; so is the ragged end of a discard.
            let refused = web.disk("vdb").unwrap().write_at(&[1; 4096], 0).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Full);
            assert!(stamps.contains_key(&1001));
            let ragged = disk.discard(1001 * BLOCK + 1, 4095).unwrap_err();
            assert_eq!(ragged.kind(), ErrorKind::Full);
            discard(disk, stamps, 1000, 300);
        });
    outcome.unwrap();
}

#[test]
fn many_that_wait_all_get_their_space() {
    let (_device, store) = small_store(Limit::Fixed, |options| options.background(true));
    let web = server(&store, "web");
    let disk = web.disk("vda").unwrap();
    let mut stamps = Stamps::new();
    fill(&disk, &mut stamps, 1);
    disk.set_when_full(WhenFull::WaitSeconds(LONG)).unwrap();
    let notices = store.notices();
    thread::scope(|scope| {
        for writer in 0..8u64 {
            let disk = disk.clone();
            scope.spawn(move || {
                for nth in 0..10 {
                    disk.write_at(&[9; 4096], (writer * 10 + nth) * BLOCK).unwrap();
                }
            });
        }
        heard(&notices, |notice| matches!(notice, Notice::WriteWaits { .. }));
        for first in (1000..1200).step_by(20) {
            discard(&disk, &mut stamps, first, 20);
        }
    });
    stamps.extend((0..80).map(|at| (at, u64::from_le_bytes([9; 8]))));
    assert_disk(&web, &stamps, "after all waits");
}

/// The file system has no room, and then it has.
#[test]
fn a_file_system_with_room_again_wakes_it() {
    let (device, store) = small_store(Limit::Options, |options| options.max_bytes(u64::MAX));
    let web = server(&store, "web");
    let disk = web.disk("vda").unwrap();
    disk.set_when_full(WhenFull::WaitSeconds(LONG)).unwrap();
    let notices = store.notices();
    let length = store.status().file_bytes;
    drop(device.clone().with_capacity(usize::try_from(length).unwrap()));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for at in 0..2000u64 {
                disk.write_at(&[9; 4096], at * BLOCK).unwrap();
            }
        });
        heard(&notices, |notice| matches!(notice, Notice::WriteWaits { .. }));
        assert_eq!(store.status().file_bytes, length);
        drop(device.clone().with_capacity(usize::MAX));
        writer.join().unwrap();
    });
    let stamps = (0..2000).map(|at| (at, u64::from_le_bytes([9; 8]))).collect();
    assert_disk(&web, &stamps, "after the wait");
}
