//! Latencies: what a slow medium makes slow shows where it is said to, and so does what callers wait for.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk::device::{Device, MemoryDevice};
use cowblk::{Disk, Options, Server, Spent, Stats, Store, Waits};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const BLOCK: u64 = 4096;
const MS: u64 = 1_000_000;

/// A medium whose calls take as many nanoseconds as they are told to.
#[derive(Default)]
struct Slow {
    memory: MemoryDevice,
    read_ns: AtomicU64,
    write_ns: AtomicU64,
    sync_ns: AtomicU64,
}

fn take(ns: &AtomicU64) {
    match ns.load(Ordering::Relaxed) {
        0 => {}
        ns => thread::sleep(Duration::from_nanos(ns)),
    }
}

impl Device for Slow {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        take(&self.read_ns);
        self.memory.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        take(&self.write_ns);
        self.memory.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        take(&self.sync_ns);
        self.memory.sync()
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.memory.len_bytes()
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.memory.grow(len_bytes)
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.memory.discard(offset, len_bytes)
    }

    fn can_grow(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }
}

struct Scene {
    device: Arc<Slow>,
    store: Store,
    server: Server,
    disk: Disk,
}

impl Scene {
    fn new(options: Options) -> Scene {
        let device = Arc::new(Slow::default());
        let store = Store::create_on(device.clone(), options).unwrap();
        let server = store.create_server("web").unwrap();
        let disk = server.create_disk("vda", 64 << 20).unwrap();
        Scene { device, store, server, disk }
    }

    fn write(&self, block: u64) {
        let byte = u8::try_from(block % 255).unwrap() + 1;
        self.disk.write_at(&[byte; 4096], block * BLOCK).unwrap();
    }

    fn waits(&self) -> Waits {
        self.store.stats().waits
    }
}

fn small() -> Options {
    Options::default().zone_blocks(1024).journal_bytes(256 << 10).background(false)
}

#[test]
fn a_slow_sync_shows_in_its_histogram_and_in_that_of_flushes_and_nowhere_else() {
    let scene = Scene::new(small());
    let before = (scene.store.latencies(), scene.store.stats());
    scene.device.sync_ns.store(5 * MS, Ordering::Relaxed);
    for block in 0..10 {
        scene.write(block);
        scene.disk.flush().unwrap();
    }
    let (now, stats) = (scene.store.latencies(), scene.store.stats());
    let syncs = now.device_sync.since(&before.0.device_sync);
    assert_eq!((syncs.count(), stats.device_syncs - before.1.device_syncs), (10, 10));
    assert!(syncs.quantile_ns(0.0) >= 5 * MS && syncs.sum_ns() >= 50 * MS, "{syncs:?}");
    let flushes = now.flush.since(&before.0.flush);
    assert_eq!(flushes.count(), 10);
    assert!(flushes.quantile_ns(0.0) >= 5 * MS && flushes.sum_ns() >= syncs.sum_ns(), "{flushes:?}");
    let writes = now.device_write.since(&before.0.device_write);
    assert_eq!(writes.count(), stats.device_writes - before.1.device_writes);
    assert!(writes.quantile_ns(0.0) < 5 * MS, "{writes:?}");
    assert_eq!(now.device_read, before.0.device_read);
}

#[test]
fn one_read_in_sixteen_is_timed_and_takes_what_the_medium_takes() {
    let scene = Scene::new(small());
    (0..160).for_each(|block| scene.write(block));
    scene.store.checkpoint().unwrap();
    scene.device.read_ns.store(MS, Ordering::Relaxed);
    for block in 0..160 {
        scene.disk.read_at(&mut [0; 4096], block * BLOCK).unwrap();
    }
    let (latencies, stats) = (scene.store.latencies(), scene.store.stats());
    assert_eq!((stats.reads, stats.writes), (160, 160));
    for (timed, whose) in [(&latencies.read, "reads"), (&latencies.write, "writes")] {
        assert!((8..=12).contains(&timed.count()), "{whose}: {timed:?}");
    }
    assert!(latencies.read.quantile_ns(0.0) >= MS, "{:?}", latencies.read);
    assert!(latencies.device_read.quantile_ns(0.9) >= MS, "{:?}", latencies.device_read);
}

#[test]
fn checkpoints_and_the_collector_tell_their_time() {
    let scene = Scene::new(small());
    (0..512).for_each(|block| scene.write(block));
    let snapshot = scene.server.snapshot("full", "").unwrap();
    (0..512).for_each(|block| scene.write(block));
    scene.device.sync_ns.store(2 * MS, Ordering::Relaxed);
    let before: Stats = scene.store.stats();
    scene.store.checkpoint().unwrap();
    let stats = scene.store.stats();
    assert!(stats.checkpoint_ns - before.checkpoint_ns >= 4 * MS, "two syncs at least: {stats:?}");
    assert_eq!(stats.collector_ns, 0);
    scene.store.delete_snapshot(snapshot.id()).unwrap();
    scene.store.collect().unwrap();
    let stats = scene.store.stats();
    assert!(stats.collected_blocks >= 512 && stats.collector_ns > 0, "{stats:?}");
    let latencies = scene.store.latencies();
    assert_eq!(
        (latencies.checkpoint.count(), latencies.freeze.count()),
        (stats.checkpoints, stats.checkpoints)
    );
    assert_eq!(latencies.checkpoint.sum_ns(), stats.checkpoint_ns);
    assert!(latencies.freeze.sum_ns() <= stats.checkpoint_ns);
}

/// Writes until the wait that is looked for has come. How often, and how long.
fn until(scene: &Scene, name: &str, which: fn(&Waits) -> Spent) -> Spent {
    let before = which(&scene.waits());
    for block in 0..16384 {
        scene.write(block * 7 % 16384);
        let now = which(&scene.waits());
        if now != before {
            let (count, total_ns) = (now.count - before.count, now.total_ns - before.total_ns);
            return Spent { count, total_ns };
        }
    }
    panic!("{name}: no write waited");
}

#[test]
fn a_write_that_waits_says_for_what() {
    let waits = |name: &str, options: Options, which| {
        let scene = Scene::new(options);
        scene.device.write_ns.store(MS, Ordering::Relaxed);
        let spent = until(&scene, name, which);
        assert!(spent.count == 1 && spent.total_ns >= MS, "{name}: {spent:?}");
    };
    waits("journal", small(), |waits| waits.journal);
    waits("memory", small().dirty_bytes(64 << 10), |waits| waits.memory);
    waits("write-behind", small().journal_bytes(16 << 20), |waits| waits.write_behind);
}

/// A checkpoint syncs, and the writer does not.
#[test]
fn a_write_that_waits_for_a_checkpoint_of_another_thread_says_for_what() {
    let scene = Scene::new(small().dirty_bytes(64 << 10).background(true));
    scene.device.sync_ns.store(500 * MS, Ordering::Relaxed);
    let spent = until(&scene, "memory", |waits| waits.memory);
    scene.device.sync_ns.store(0, Ordering::Relaxed);
    assert!(spent.count > 0 && spent.total_ns > 0, "{spent:?}");
}

#[test]
fn a_flush_that_another_one_leads_has_waited() {
    let scene = Scene::new(small());
    scene.device.sync_ns.store(2 * MS, Ordering::Relaxed);
    let flush = |first: u64| {
        for block in first..first + 10 {
            scene.write(block);
            scene.disk.flush().unwrap();
        }
    };
    flush(0);
    assert_eq!(scene.waits().flush, Spent::default(), "there is nobody else");
    thread::scope(|scope| (1..4).for_each(|who| drop(scope.spawn(move || flush(who * 100)))));
    let waited = scene.waits().flush;
    assert!(waited.count > 0 && waited.total_ns > MS, "{waited:?}");
}

/// Growing is what a write without space tries first.
#[test]
fn a_write_that_found_no_free_block_has_waited() {
    let scene = Scene::new(small().journal_bytes(16 << 20));
    scene.write(0);
    assert_eq!(scene.waits().space, Spent::default());
    (0..2048).for_each(|block| scene.write(block));
    assert!(scene.waits().space.count > 0);
}
