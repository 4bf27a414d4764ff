//! Resize: up and down while the disk is in use, remembered by each snapshot; and disks that come and go between
//! a snapshot and its restore.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod fixture;

use cowblk::{Disk, ErrorKind, Options, Server, Store};
use fixture::{assert_clean, scratch};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const BLOCK: u64 = 4096;

fn options() -> Options {
    Options::default().zone_blocks(1024).journal_bytes(1 << 20).background(false)
}

fn bytes(disk: &Disk) -> Vec<u8> {
    let mut buf = vec![0xEE; usize::try_from(disk.size_bytes()).unwrap()];
    disk.read_at(&mut buf, 0).unwrap();
    buf
}

fn filled(disk: &Disk, byte: u8) -> Vec<u8> {
    let content = vec![byte; usize::try_from(disk.size_bytes()).unwrap()];
    disk.write_at(&content, 0).unwrap();
    content
}

#[test]
fn shrinking_cuts_only_when_told_to_and_growing_again_shows_zeros() {
    let dir = scratch();
    let path = dir.path().join("cut.cow");
    let store = Store::create(&path, options()).unwrap();
    let web = store.create_server("web").unwrap();
    let disk = web.create_disk("vda", 10 * BLOCK + 1536).unwrap();
    for smaller in [10 * BLOCK + 1024, 10 * BLOCK, 9 * BLOCK + 512, 5 * BLOCK, 512] {
        let mut content = filled(&disk, 7);
        let size = disk.size_bytes();
        let refused = disk.resize(smaller).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert_eq!((bytes(&disk), disk.size_bytes()), (content.clone(), size));
        disk.resize_cutting(smaller).unwrap();
        assert_eq!(disk.size_bytes(), smaller);
        let beyond = disk.read_at(&mut [0], smaller).unwrap_err();
        assert_eq!(beyond.kind(), ErrorKind::OutOfRange);
        store.checkpoint().unwrap();
        disk.resize(size).unwrap();
        content[usize::try_from(smaller).unwrap()..].fill(0);
        assert_eq!(bytes(&disk), content, "cut to {smaller}");
    }
    // What is zero can go without being told.
    disk.resize(512).unwrap();
    for wrong in [0, 513, (1 << 50) + 512] {
        assert_eq!(disk.resize(wrong).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(disk.resize_cutting(wrong).unwrap_err().kind(), ErrorKind::Invalid);
    }
    drop((web, disk));
    store.close().unwrap();
    assert_clean(&path, "after cuts");
}

#[test]
fn each_snapshot_remembers_the_size_and_restoring_brings_it_back() {
    let dir = scratch();
    let path = dir.path().join("sizes.cow");
    let store = Store::create(&path, options()).unwrap();
    let web = store.create_server("web").unwrap();
    let disk = web.create_disk("vda", BLOCK).unwrap();
    let sizes = [300 * BLOCK + 512, 20 * BLOCK, 70_000 * BLOCK, BLOCK / 2, 600 * BLOCK];
    let mut snapshots = Vec::new();
    for (nth, size) in (1u8..).zip(sizes) {
        disk.resize_cutting(size).unwrap();
        let end = size.min(400 * BLOCK);
        disk.write_at(&vec![nth; usize::try_from(end).unwrap()], 0).unwrap();
        disk.write_at(&[nth; 512], size - 512).unwrap();
        snapshots.push((web.snapshot(&format!("s{nth}"), "").unwrap(), nth, size));
    }
    drop((disk, web));
    let ids: Vec<_> = snapshots.into_iter().map(|(snapshot, nth, size)| (snapshot.id(), nth, size)).collect();
    store.close().unwrap();

    let store = Store::open(&path, options()).unwrap();
    let web = store.server("web").unwrap();
    let disk = web.disk("vda").unwrap();
    for &(id, nth, size) in ids.iter().chain(ids.iter().rev()) {
        let held = store.snapshot(id).unwrap().disk("vda").unwrap();
        assert_eq!(held.size_bytes(), size);
        web.restore(id).unwrap();
        assert_eq!(disk.size_bytes(), size);
        let mut ends = [0; 1024];
        disk.read_at(&mut ends[..512], 0).unwrap();
        disk.read_at(&mut ends[512..], size - 512).unwrap();
        assert_eq!(ends, [nth; 1024], "size {size}");
        assert_eq!(disk.read_at(&mut ends, size - 512).unwrap_err().kind(), ErrorKind::OutOfRange);
        let clone = store.snapshot(id).unwrap().clone_server("clone").unwrap();
        let cloned = clone.disk("vda").unwrap();
        cloned.resize_cutting(512).unwrap();
        clone.reset().unwrap();
        assert_eq!(cloned.size_bytes(), size);
        store.delete_server(clone.id()).unwrap();
    }
    web.undo_restore().unwrap();
    assert_eq!(disk.size_bytes(), sizes[1], "an undo brings the size back, too");
    store.collect().unwrap();
    drop((web, disk));
    store.close().unwrap();
    assert_clean(&path, "after restores");
}

/// Whoever reads and writes meanwhile finds the disk as it was or as it is, and nothing of what was cut.
#[test]
fn a_disk_is_resized_while_it_is_read_and_written() {
    let dir = scratch();
    let path = dir.path().join("online.cow");
    let store = Store::create(&path, options().background(true)).unwrap();
    let web = store.create_server("web").unwrap();
    let disk = web.create_disk("vda", 1000 * BLOCK).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut nth = 0;
            while !is_over.load(Ordering::Relaxed) {
                let at = nth % 1000;
                match disk.write_at(&[9; 4096], at * BLOCK) {
                    Err(error) => {
                        assert!(error.kind() == ErrorKind::OutOfRange && at >= 100, "block {at}: {error}");
                    }
                    Ok(()) if at < 100 => {
                        let mut buf = [0; 4096];
                        disk.read_at(&mut buf, at * BLOCK).unwrap();
                        assert!(buf == [9; 4096], "block {at}");
                    }
                    Ok(()) => {}
                }
                nth += 7;
            }
        });
        for nth in 0..60u64 {
            disk.resize_cutting((100 + nth * 131 % 900) * BLOCK).unwrap();
            disk.resize(1000 * BLOCK).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    disk.resize_cutting(100 * BLOCK).unwrap();
    disk.resize(1000 * BLOCK).unwrap();
    assert!(bytes(&disk)[usize::try_from(100 * BLOCK).unwrap()..].iter().all(|byte| *byte == 0));
    drop((web, disk));
    store.close().unwrap();
    assert_clean(&path, "after resizes");
}

fn disks(server: &Server) -> Vec<(String, u64, u8)> {
    let first = |disk: &Disk| bytes(disk)[0];
    server.disks().iter().map(|disk| (disk.name(), disk.id().0, first(disk))).collect()
}

/// docs/operations.md, "Disks that come and go".
#[test]
fn disks_that_were_added_stay_and_disks_that_were_deleted_come_back() {
    let dir = scratch();
    let path = dir.path().join("disks.cow");
    let store = Store::create(&path, options()).unwrap();
    let web = store.create_server("web").unwrap();
    filled(&web.create_disk("root", 10 * BLOCK).unwrap(), 1);
    filled(&web.create_disk("data", 20 * BLOCK).unwrap(), 2);
    let before = disks(&web);
    let snapshot = web.snapshot("both", "").unwrap();
    web.delete_disk("data").unwrap();
    filled(&web.create_disk("scratch", 5 * BLOCK).unwrap(), 3);
    filled(&web.disk("root").unwrap(), 4);
    store.collect().unwrap();
    let between = disks(&web);

    web.restore(snapshot.id()).unwrap();
    let after = disks(&web);
    assert_eq!(after[..2], before, "name, id and content");
    assert_eq!(after[2], between[1], "what was made since stays as it is");
    // The undo takes back what the restore replaced. A disk that it brought back replaced nothing, and stays.
    web.undo_restore().unwrap();
    let undone = disks(&web);
    assert_eq!((&undone[0], &undone[1], &undone[2]), (&between[0], &before[1], &between[1]));

    // Another disk has the name now: that is said, and nothing happens.
    web.delete_disk("data").unwrap();
    web.create_disk("data", BLOCK).unwrap();
    let taken = disks(&web);
    let refused = web.restore(snapshot.id()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Exists);
    assert!(refused.to_string().contains("\"data\""), "{refused}");
    assert_eq!(disks(&web), taken);
    drop((web, snapshot));
    store.close().unwrap();
    assert_clean(&path, "with disks that came and went");
}

/// The disk's map is higher than its snapshot's, and holds nothing where that one lies.
#[test]
fn a_snapshot_is_counted_beside_a_disk_that_grew_and_lost_its_beginning() {
    let dir = scratch();
    let store = Store::create(dir.path().join("grown.cow"), options().background(false)).unwrap();
    let web = store.create_server("web").unwrap();
    let disk = web.create_disk("vda", 10 * BLOCK).unwrap();
    filled(&disk, 1);
    let snapshot = web.snapshot("small", "").unwrap();
    disk.resize(1000 * BLOCK).unwrap();
    disk.discard(0, 10 * BLOCK).unwrap();
    disk.write_at(&[2; 4096], 600 * BLOCK).unwrap();
    assert_eq!(store.would_free(&[snapshot.id()]).unwrap().data_bytes, 10 * BLOCK);
    store.collect().unwrap();
    assert_eq!(snapshot.exclusive_bytes(), Some(10 * BLOCK));
    assert_eq!(disk.space().unwrap().exclusive_bytes, Some(BLOCK));
}
