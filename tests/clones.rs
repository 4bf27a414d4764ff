//! Clones: independent of what they came from, back to it in no time; marks, limits, and adopted snapshots.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod fixture;

use cowblk::device::MemoryDevice;
use cowblk::{
    AdoptedSnapshot, ErrorKind, Options, Server, ServerMarks, SnapshotMarks, Store, WhenFull, check_device,
};
use fixture::{assert_clean, empty, scratch};
use std::sync::Arc;

const BLOCK: u64 = 4096;

fn options() -> Options {
    Options::default().zone_blocks(256).journal_bytes(1 << 20).background(false).clock(|| 1_000)
}

fn filled(server: &Server, disk: &str, blocks: u64, byte: u8) {
    let disk = server.disk(disk).unwrap();
    for block in 0..blocks {
        disk.write_at(&[byte; 4096], block * BLOCK).unwrap();
    }
}

fn byte_at(server: &Server, disk: &str, block: u64) -> u8 {
    let mut buf = [0xEE; 4096];
    server.disk(disk).unwrap().read_at(&mut buf, block * BLOCK).unwrap();
    assert!(buf.iter().all(|byte| *byte == buf[0]), "one block, one byte");
    buf[0]
}

#[test]
fn a_clone_is_independent_of_what_it_came_from() {
    let dir = scratch();
    let path = dir.path().join("clone.cow");
    let store = Store::create(&path, options()).unwrap();
    let web = store.create_server("web").unwrap();
    web.create_disk("vda", 600 * BLOCK).unwrap();
    web.create_disk("vdb", 40 * BLOCK).unwrap();
    filled(&web, "vda", 300, 1);
    filled(&web, "vdb", 10, 2);
    let golden = web.snapshot("golden", "").unwrap();
    filled(&web, "vda", 5, 9);
    let clone = golden.clone_server("clone").unwrap();
    assert_eq!(clone.origin(), Some(golden.id()));
    assert_eq!(clone.disk("vda").unwrap().parent(), Some(golden.id()));
    assert_eq!(
        (byte_at(&clone, "vda", 0), byte_at(&clone, "vda", 299), byte_at(&clone, "vdb", 9)),
        (1, 1, 2)
    );
    filled(&clone, "vda", 3, 7);
    let own = clone.snapshot("own", "").unwrap();
    let second = own.clone_server("second").unwrap();

    // Snapshots and clones go in an order that leaves versions with several children behind.
    store.delete_snapshot(golden.id()).unwrap();
    store.collect().unwrap();
    assert_eq!(clone.origin(), None);
    store.delete_server(web.id()).unwrap();
    store.collect().unwrap();
    store.delete_snapshot(own.id()).unwrap();
    store.collect().unwrap();
    for server in [&clone, &second] {
        assert_eq!(
            (byte_at(server, "vda", 2), byte_at(server, "vda", 3), byte_at(server, "vdb", 9)),
            (7, 1, 2)
        );
    }
    store.delete_server(clone.id()).unwrap();
    store.collect().unwrap();
    drop((web, golden, clone, own, second));
    store.close().unwrap();
    assert_clean(&path, "with one clone left");
    let store = Store::open(&path, options()).unwrap();
    let second = store.server("second").unwrap();
    assert_eq!((byte_at(&second, "vda", 2), byte_at(&second, "vda", 299)), (7, 1));
    empty(&store);
    drop(second);
    let used = store.status().used_blocks;
    store.close().unwrap();
    let fresh = Store::create(dir.path().join("fresh.cow"), options()).unwrap();
    fresh.collect().unwrap();
    assert_eq!(used, fresh.status().used_blocks, "nothing is left of nothing");
}

/// What a fleet of micro-VMs does for each request.
#[test]
fn ten_thousand_clones_that_write_a_hundred_blocks_and_are_reset() {
    let dir = scratch();
    let path = dir.path().join("fleet.cow");
    let store = Store::create(&path, options().zone_blocks(4096).journal_bytes(8 << 20)).unwrap();
    let template = store.create_server("template").unwrap();
    template.create_disk("vda", 70_000 * BLOCK).unwrap();
    filled(&template, "vda", 600, 1);
    let golden = template.snapshot("golden", "").unwrap();
    let clones: Vec<Server> =
        (0..10).map(|number| golden.clone_server(&format!("clone-{number}")).unwrap()).collect();
    store.collect().unwrap();
    let used_before = store.status().used_blocks;
    let mut used_most = 0;
    for cycle in 0..10_000u64 {
        let clone = &clones[usize::try_from(cycle % 10).unwrap()];
        let disk = clone.disk("vda").unwrap();
        for nth in 0..100 {
            disk.write_at(&[2; 4096], (cycle * 31 + nth * 683) % 70_000 * BLOCK).unwrap();
        }
        if cycle % 97 == 0 {
            assert_eq!(byte_at(clone, "vda", (cycle * 31) % 70_000), 2);
            clone.disk("vda").unwrap().flush().unwrap();
        }
        clone.reset().unwrap();
        if cycle % 100 == 0 {
            assert_eq!((byte_at(clone, "vda", 599), byte_at(clone, "vda", 600)), (1, 0), "cycle {cycle}");
            store.collect().unwrap();
            used_most = used_most.max(store.status().used_blocks);
        }
    }
    store.collect().unwrap();
    assert!(used_most < used_before + 2_000, "{used_most} blocks in use, {used_before} before");
    assert!(
        store.status().used_blocks <= used_before + 16,
        "{used_before} blocks before, {:?}",
        store.status()
    );
    drop((template, golden, clones));
    store.close().unwrap();
    assert_clean(&path, "after ten thousand resets");
}

#[test]
fn a_disk_can_be_cloned_into_another_server_and_what_is_no_clone_cannot_be_reset() {
    let dir = scratch();
    let store = Store::create(dir.path().join("disk.cow"), options()).unwrap();
    let (web, db) = (store.create_server("web").unwrap(), store.create_server("db").unwrap());
    web.create_disk("vda", 600 * BLOCK).unwrap();
    filled(&web, "vda", 300, 1);
    assert_eq!(web.reset().unwrap_err().kind(), ErrorKind::NotFound);
    let held = web.snapshot("one", "").unwrap();
    let disk = held.disk("vda").unwrap().clone_disk(&db, "data").unwrap();
    assert_eq!((disk.size_bytes(), byte_at(&db, "data", 299)), (600 * BLOCK, 1));
    let taken = held.disk("vda").unwrap().clone_disk(&db, "data").unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Exists);
    filled(&db, "data", 8, 5);
    disk.resize(900 * BLOCK).unwrap();
    db.reset().unwrap();
    assert_eq!((disk.size_bytes(), byte_at(&db, "data", 0)), (600 * BLOCK, 1));
    store.delete_snapshot(held.id()).unwrap();
    let gone = db.reset().unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert!(gone.to_string().contains("db/data"), "{gone}");
}

#[test]
fn protection_limits_and_labels_are_kept_and_keep() {
    let dir = scratch();
    let path = dir.path().join("marks.cow");
    let store = Store::create(&path, options()).unwrap();
    let web = store.create_server("web").unwrap();
    let disk = web.create_disk("vda", 100 * BLOCK).unwrap();
    let labels = [("env".to_owned(), "production".to_owned())].into();
    let marks = SnapshotMarks { protected: true, expires_at: Some(77), labels };
    let kept = web.snapshot_with("kept", "", marks.clone()).unwrap();
    let limits =
        ServerMarks { max_snapshots: Some(2), max_disk_bytes: Some(150 * BLOCK), ..ServerMarks::default() };
    web.set_marks(limits.clone()).unwrap();
    disk.set_when_full(WhenFull::WaitSeconds(30)).unwrap();
    let id = kept.id();
    drop((web, disk, kept));
    store.close().unwrap();

    let store = Store::open(&path, options()).unwrap();
    let (web, kept) = (store.server("web").unwrap(), store.snapshot(id).unwrap());
    assert_eq!((web.marks(), kept.marks()), (limits, marks));
    assert_eq!(web.disk("vda").unwrap().when_full(), WhenFull::WaitSeconds(30));
    let kind = |error: cowblk::Error| error.kind();
    assert_eq!(store.delete_snapshot(kept.id()).map_err(kind), Err(ErrorKind::Protected));
    assert_eq!(store.delete_server(web.id()).map_err(kind), Err(ErrorKind::Protected));
    let second = web.snapshot("second", "").unwrap();
    assert_eq!(web.snapshot("third", "").map(drop).map_err(kind), Err(ErrorKind::Limit));
    web.restore(second.id()).unwrap();
    assert_eq!(web.before_restore().unwrap().marks().expires_at, Some(1_000 + 7 * 24 * 60 * 60));
    assert_eq!(web.create_disk("vdb", 51 * BLOCK).map(drop).map_err(kind), Err(ErrorKind::Limit));
    assert_eq!(web.disk("vda").unwrap().resize(151 * BLOCK).map_err(kind), Err(ErrorKind::Limit));
    web.create_disk("vdb", 50 * BLOCK).unwrap();
    let long = [("k".repeat(300), "v".repeat(300))].into();
    assert_eq!(
        kept.set_marks(SnapshotMarks { labels: long, ..kept.marks() }).map_err(kind),
        Err(ErrorKind::Invalid)
    );
    kept.set_marks(SnapshotMarks::default()).unwrap();
    store.delete_snapshot(kept.id()).unwrap();
}

#[test]
fn what_was_received_in_a_staging_server_appears_whole() {
    let dir = scratch();
    let path = dir.path().join("adopt.cow");
    let store = Store::create(&path, options()).unwrap();
    let web = store.create_server("web").unwrap();
    web.create_disk("vda", 600 * BLOCK).unwrap();
    filled(&web, "vda", 300, 1);
    let base = web.snapshot("base", "").unwrap();
    filled(&web, "vda", 4, 3);
    let staging = base.clone_staging_server("receiving-1").unwrap();
    assert_eq!((store.servers().len(), store.staging_servers().len()), (1, 1));
    filled(&staging, "vda", 10, 2);
    let spec = AdoptedSnapshot {
        name: "next".into(),
        description: "from afar".into(),
        created_at: 12,
        identity: [7; 16],
        origin: Some([8; 16]),
    };
    let next = store.adopt_snapshot(staging.id(), web.id(), spec.clone()).unwrap();
    let again = store.adopt_snapshot(staging.id(), web.id(), spec).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound);
    let (base, next) = {
        let ids = (base.id(), next.id());
        drop((web, base, staging, next));
        ids
    };
    store.close().unwrap();

    let store = Store::open(&path, options()).unwrap();
    let web = store.server("web").unwrap();
    let next = store.snapshot(next).unwrap();
    assert_eq!((next.name(), next.created_at(), next.identity()), ("next".into(), 12, [7; 16]));
    assert_eq!((next.origin(), next.parent(), store.staging_servers().len()), (Some([8; 16]), Some(base), 0));
    assert_eq!(byte_at(&web, "vda", 0), 3);
    web.restore(next.id()).unwrap();
    assert_eq!((byte_at(&web, "vda", 9), byte_at(&web, "vda", 10), web.disks().len()), (2, 1, 1));
    web.undo_restore().unwrap();
    assert_eq!(byte_at(&web, "vda", 0), 3);
    web.undo_restore().unwrap();
    assert_eq!(byte_at(&web, "vda", 0), 2);
    empty(&store);
    drop((web, next));
    store.close().unwrap();
    assert_clean(&path, "after all");
}

/// Two deleted snapshots, one after the other, that each have two who descend from them. What the later one only inherited, and nobody
/// shows any more, is given back, whichever was deleted first; by the background thread, too.
#[test]
fn what_deleted_snapshots_hold_for_one_another_alone_is_given_back() {
    for (later_first, background) in [(true, false), (false, false), (true, true), (false, true)] {
        let device = Arc::new(MemoryDevice::new(0));
        let options = Options::default().zone_blocks(256).journal_bytes(256 << 10).background(background);
        let store = Store::create_on(device.clone(), options).unwrap();
        let server = store.create_server("web").unwrap();
        let disk = server.create_disk("vda", 1 << 20).unwrap();
        disk.write_at(&vec![1; 40 << 12], 0).unwrap();
        let early = server.snapshot("early", "").unwrap();
        let of_early = early.clone_server("of-early").unwrap();
        let late = server.snapshot("late", "").unwrap();
        let of_late = late.clone_server("of-late").unwrap();
        // Everybody lets go of everything; each writes something of its own.
        for (n, server) in (2..).zip([&server, &of_early, &of_late]) {
            let disk = server.disk("vda").unwrap();
            disk.discard(0, 1 << 20).unwrap();
            disk.write_at(&[n; 4096], 80 << 12).unwrap();
        }
        let order = if later_first { [late.id(), early.id()] } else { [early.id(), late.id()] };
        for id in order {
            store.delete_snapshot(id).unwrap();
            if !background {
                store.collect().unwrap();
            }
        }
        let mapped = || {
            store.checkpoint().unwrap();
            check_device(&MemoryDevice::from_bytes(device.to_bytes())).unwrap().data_blocks_mapped
        };
        while background && mapped() != 3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(mapped(), 3, "later first: {later_first}");
        store.close().unwrap();
        let report = check_device(&*device).unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
    }
}

/// Two deleted versions with two children each, one below the other: what the upper one owns and the lower one inherited goes when
/// nobody reads it any more.
#[test]
fn what_a_deleted_version_inherited_does_not_outlive_its_readers() {
    let dir = scratch();
    let store = Store::create(dir.path().join("inherited.cow"), options()).unwrap();
    let web = store.create_server("web").unwrap();
    web.create_disk("vda", 40 * BLOCK).unwrap();
    filled(&web, "vda", 10, 1);
    let first = web.snapshot("first", "").unwrap();
    let one = first.clone_server("one").unwrap();
    web.disk("vda").unwrap().write_at(&[2; 4096], 20 * BLOCK).unwrap();
    let second = web.snapshot("second", "").unwrap();
    let two = second.clone_server("two").unwrap();
    for server in [&web, &one, &two] {
        server.disk("vda").unwrap().discard(0, 9 * BLOCK).unwrap();
    }
    let freed = store.would_free(&[first.id(), second.id()]).unwrap().data_bytes;
    assert_eq!(freed, 9 * BLOCK);
    let held = || {
        store.collect().unwrap();
        store.check().unwrap().data_blocks_in_use
    };
    let before = held();
    for id in [first.id(), second.id()] {
        store.delete_snapshot(id).unwrap();
    }
    assert_eq!(before - held(), 9);
    for (server, block, byte) in [(&web, 20, 2), (&two, 20, 2), (&one, 9, 1), (&two, 9, 1)] {
        assert_eq!(byte_at(server, "vda", block), byte);
    }
    empty(&store);
    assert_eq!(store.check().unwrap().data_blocks_in_use, 0);
}
