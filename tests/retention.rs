//! Retention: pruning by a policy, expiry, and a day of one snapshot every ten seconds at a cost that stays the same.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "the figures of each hour are part of the result")]

mod fixture;

use cowblk::device::MemoryDevice;
use cowblk::{ErrorKind, KeepReason, Notice, Options, Retention, Server, SnapshotMarks, Store};
use fixture::{assert_clean, scratch};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const BLOCK: u64 = 4096;
const DAY: u64 = 24 * 60 * 60;

fn options() -> Options {
    Options::default().zone_blocks(256).journal_bytes(1 << 20).background(false)
}

fn server(store: &Store) -> Server {
    let web = store.create_server("web").unwrap();
    web.create_disk("vda", 100 * BLOCK).unwrap();
    web
}

fn names(server: &Server) -> Vec<String> {
    server.snapshots().iter().map(cowblk::Snapshot::name).collect()
}

fn expiring(at: u64) -> SnapshotMarks {
    SnapshotMarks { expires_at: Some(at), ..SnapshotMarks::default() }
}

#[test]
fn snapshots_expire_unless_they_are_protected() {
    static NOW: AtomicU64 = AtomicU64::new(1000);
    let options = || options().clock(|| NOW.load(Ordering::Relaxed)).keep_replaced(Some(500));
    let dir = scratch();
    let path = dir.path().join("expiry.cow");
    let store = Store::create(&path, options()).unwrap();
    let web = server(&store);
    web.snapshot("forever", "").unwrap();
    web.snapshot_with("soon", "", expiring(1100)).unwrap();
    web.snapshot_with("later", "", expiring(1200)).unwrap();
    let kept = web.snapshot_with("kept", "", SnapshotMarks { protected: true, ..expiring(1100) }).unwrap();
    let moved = web.snapshot_with("moved", "", expiring(1100)).unwrap();
    moved.set_marks(expiring(5000)).unwrap();
    web.restore(kept.id()).unwrap();
    assert_eq!(store.expire_snapshots().unwrap(), []);
    NOW.store(1100, Ordering::Relaxed);
    let notices = store.notices();
    let expired = store.expire_snapshots().unwrap();
    assert_eq!(names(&web), ["moved", "kept", "later", "forever"]);
    let told = Notice::SnapshotExpired { server: web.id(), snapshot: expired[0] };
    assert_eq!((expired.len(), notices.next_now()), (1, Some(told)));
    // The times are found again when the store is opened.
    let kept = {
        let id = kept.id();
        drop((web, moved, kept));
        id
    };
    store.close().unwrap();
    NOW.store(1500, Ordering::Relaxed);
    let store = Store::open(&path, options()).unwrap();
    let web = store.server("web").unwrap();
    assert_eq!(store.expire_snapshots().unwrap().len(), 2, "one of them was kept by the restore");
    assert_eq!(names(&web), ["moved", "kept", "forever"]);
    assert!(web.before_restore().is_none());
    store.snapshot(kept).unwrap().set_marks(expiring(1100)).unwrap();
    store.expire_snapshots().unwrap();
    assert_eq!(names(&web), ["moved", "forever"]);
    store.collect().unwrap();
    drop(web);
    store.close().unwrap();
    assert_clean(&path, "after expiry");
    let store = Store::open_read_only(&path, options()).unwrap();
    assert_eq!(store.expire_snapshots().unwrap_err().kind(), ErrorKind::ReadOnly);
}

#[test]
fn the_background_thread_lets_snapshots_expire() {
    static NOW: AtomicU64 = AtomicU64::new(1000);
    let dir = scratch();
    let options = options().background(true).clock(|| NOW.load(Ordering::Relaxed));
    let store = Store::create(dir.path().join("unasked.cow"), options).unwrap();
    let web = server(&store);
    let soon = web.snapshot_with("soon", "", expiring(2000)).unwrap();
    let notices = store.notices();
    NOW.store(2000, Ordering::Relaxed);
    let notice = notices.next_within(Duration::from_mins(10));
    assert_eq!(notice, Some(Notice::SnapshotExpired { server: web.id(), snapshot: soon.id() }));
    assert_eq!(web.snapshots().len(), 0);
}

#[test]
fn pruning_does_what_it_planned() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    let dir = scratch();
    let path = dir.path().join("prune.cow");
    let store = Store::create(&path, options().clock(|| NOW.load(Ordering::Relaxed))).unwrap();
    let web = server(&store);
    let disk = web.disk("vda").unwrap();
    let cron = |marks: SnapshotMarks| SnapshotMarks {
        labels: [("by".to_owned(), "cron".to_owned())].into(),
        ..marks
    };
    for hour in 0..72 {
        NOW.store(20_000 * DAY + hour * 3600, Ordering::Relaxed);
        disk.write_at(&hour.to_le_bytes().repeat(512), hour * BLOCK).unwrap();
        let marks = match hour {
            10 => SnapshotMarks::default(),
            11 => cron(SnapshotMarks { protected: true, ..SnapshotMarks::default() }),
            70 => cron(expiring(NOW.load(Ordering::Relaxed) + 60)),
            _ => cron(SnapshotMarks::default()),
        };
        web.snapshot_with(&format!("h{hour}"), "", marks).unwrap();
    }
    let policy = Retention {
        last: 2,
        daily: 2,
        only_labelled: Some(("by".into(), "cron".into())),
        ..Retention::default()
    };
    let plan = web.plan_prune(&policy).unwrap();
    assert_eq!((plan.len(), web.snapshots().len()), (72, 72), "planning deletes nothing");
    assert_eq!(web.prune(&policy).unwrap(), plan);
    assert_eq!(names(&web), ["h71", "h69", "h47", "h11", "h10"]);
    let reasons: Vec<_> = plan.iter().filter(|v| v.is_kept()).map(|v| v.reasons.clone()).collect();
    assert_eq!(
        reasons,
        [
            vec![KeepReason::Last, KeepReason::Daily],
            vec![KeepReason::Last],
            vec![KeepReason::Daily],
            vec![KeepReason::Protected],
            vec![KeepReason::OtherLabel],
        ]
    );
    assert_eq!(web.prune(&policy).unwrap().iter().filter(|v| !v.is_kept()).count(), 0);
    store.collect().unwrap();
    let held = web.snapshots().into_iter().find(|snapshot| snapshot.name() == "h47").unwrap();
    let mut buf = [0; 4096];
    for hour in 0..72 {
        held.disk("vda").unwrap().read_at(&mut buf, hour * BLOCK).unwrap();
        let expected = if hour <= 47 { hour } else { 0 };
        assert!(buf == *expected.to_le_bytes().repeat(512), "hour {hour}");
    }
    drop((web, disk, held));
    store.close().unwrap();
    assert_clean(&path, "after pruning");
}

/// What happened to the device in an hour.
#[derive(Debug, Default)]
struct Hour {
    reads: u64,
    writes: u64,
    bytes: u64,
    syncs: u64,
    /// Nodes of maps that were looked at, in memory or not: what the processor has to do.
    nodes: u64,
    used_blocks: u64,
}

/// One snapshot every ten seconds for a day, each behind some writes, pruned each time: hour by hour it costs the same.
#[test]
fn a_day_of_snapshots_costs_the_same_in_each_hour() {
    static NOW: AtomicU64 = AtomicU64::new(20_000 * DAY);
    const DISK_BLOCKS: u64 = 70_000;
    let options =
        Options::default().journal_bytes(4 << 20).background(false).clock(|| NOW.load(Ordering::Relaxed));
    let store = Store::create_on(Arc::new(MemoryDevice::new(0)), options).unwrap();
    let web = store.create_server("web").unwrap();
    let disk = web.create_disk("vda", DISK_BLOCKS * BLOCK).unwrap();
    for block in 0..2000 {
        disk.write_at(&[1; 4096], block * 35 * BLOCK).unwrap();
    }
    let policy = Retention { last: 60, hourly: 6, daily: 7, ..Retention::default() };
    let mut hours = Vec::new();
    for hour in 0..24 {
        let (before, begun) = (store.stats(), Instant::now());
        for nth in 0..360u64 {
            NOW.fetch_add(10, Ordering::Relaxed);
            for write in 0..4 {
                let at = (hour * 360 + nth) * 7919 + write * 17_389;
                disk.write_at(&[2; 4096], at % 2000 * 35 * BLOCK).unwrap();
            }
            web.snapshot(&format!("s{}", NOW.load(Ordering::Relaxed)), "").unwrap();
            web.prune(&policy).unwrap();
            if nth % 6 == 5 {
                store.collect().unwrap();
            }
        }
        let after = store.stats();
        // Not compared: a machine may be busy.
        let took = begun.elapsed();
        let cost = Hour {
            reads: after.device_reads - before.device_reads,
            writes: after.device_writes - before.device_writes,
            bytes: after.device_bytes_written - before.device_bytes_written,
            syncs: after.device_syncs - before.device_syncs,
            nodes: after.cache_hits + after.cache_misses - before.cache_hits - before.cache_misses,
            used_blocks: store.status().used_blocks,
        };
        println!("hour {hour}: {cost:?}, {took:?}");
        hours.push(cost);
    }
    // Six hours, of which the last sixty snapshots hold the newest two; the day that ended is among them, too.
    assert_eq!(web.snapshots().len(), 60 + 4);
    // In the first hours nothing is old enough to go, and so less is written.
    let (early, late) = (&hours[8], &hours[23]);
    let is_flat = |early: u64, late: u64| late <= early + early / 10;
    assert!(is_flat(early.reads, late.reads), "{early:?} became {late:?}");
    assert!(is_flat(early.writes, late.writes), "{early:?} became {late:?}");
    assert!(is_flat(early.bytes, late.bytes), "{early:?} became {late:?}");
    assert!(is_flat(early.syncs, late.syncs), "{early:?} became {late:?}");
    assert!(is_flat(early.nodes, late.nodes), "{early:?} became {late:?}");
    assert!(is_flat(early.used_blocks, late.used_blocks), "{early:?} became {late:?}");
}
