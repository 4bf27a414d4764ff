//! Failed sync: a medium that fails once, and works again at once, beside threads that flush.
//!
//! An operating system tells of a failed write-back once, and forgets the pages: the next sync succeeds, whoever calls it, and
//! what it seems to make durable is gone. So a flush may succeed only if no write and no sync failed before it returned.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod fixture;

use cowblk::device::sim::{Fault, Faults, SimDevice, Survival, When};
use cowblk::device::{Device, MemoryDevice};
use cowblk::{ErrorKind, Options, Store, check_device};
use fixture::{ReplayOnPanic, seeds};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const BLOCK: usize = 4096;

fn options() -> Options {
    Options::default().zone_blocks(256).journal_bytes(256 << 10).background(false)
}

/// A medium of which one sync fails, and the sync beside it comes back well, after the store has halted.
struct OneFails {
    memory: MemoryDevice,
    scene: Mutex<Scene>,
    changed: Condvar,
}

#[derive(Default)]
struct Scene {
    /// So many syncs from now on is the one that fails; none, where this is `None`.
    fails_after: Option<u32>,
    stage: Stage,
    /// A sync came beside the failing one.
    is_beside: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Works,
    /// A sync is at work that is going to fail.
    Fails,
    Failed,
    /// The store knows of it, and the sync beside may return.
    IsKnown,
}

impl OneFails {
    fn change(&self, change: impl FnOnce(&mut Scene)) {
        change(&mut self.scene.lock());
        self.changed.notify_all();
    }

    fn wait_until(&self, is_there: impl Fn(&Scene) -> bool) {
        let mut scene = self.scene.lock();
        while !is_there(&scene) {
            self.changed.wait(&mut scene);
        }
    }
}

impl Device for OneFails {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.memory.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.memory.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let mut scene = self.scene.lock();
        match scene.fails_after {
            None => return Ok(()),
            Some(0) if scene.stage == Stage::Works => {
                scene.stage = Stage::Fails;
                self.changed.notify_all();
                // Long enough for another one to come, if the store lets it.
                self.changed.wait_while_for(&mut scene, |scene| !scene.is_beside, Duration::from_millis(300));
                scene.stage = Stage::Failed;
                self.changed.notify_all();
                return Err(io::Error::other("the medium failed"));
            }
            Some(0) => {}
            Some(rest) => {
                scene.fails_after = Some(rest - 1);
                return Ok(());
            }
        }
        scene.is_beside = true;
        self.changed.notify_all();
        drop(scene);
        self.wait_until(|scene| scene.stage == Stage::IsKnown);
        Ok(())
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

/// The checkpoint's sync fails and takes the news of the failure with it; the flush's sync, beside it, hears nothing.
#[test]
fn a_flush_beside_a_checkpoint_that_fails_does_not_succeed() {
    let memory = MemoryDevice::new(0);
    let medium = Arc::new(OneFails { memory, scene: Mutex::default(), changed: Condvar::new() });
    let store = Store::create_on(medium.clone(), options()).unwrap();
    let disk = store.create_server("web").unwrap().create_disk("vda", 1 << 20).unwrap();
    disk.write_at(&[1; BLOCK], 0).unwrap();
    medium.change(|scene| scene.fails_after = Some(1)); // the first one is the journal's
    thread::scope(|scope| {
        let checkpoint = scope.spawn(|| store.checkpoint());
        medium.wait_until(|scene| scene.stage >= Stage::Fails);
        let flush = scope.spawn(|| {
            disk.write_at(&[2; BLOCK], 4096)?;
            disk.flush()
        });
        let failed = checkpoint.join().unwrap().unwrap_err();
        assert!(failed.to_string().contains("the medium failed"), "{failed}");
        assert!(store.status().halted);
        medium.change(|scene| scene.stage = Stage::IsKnown);
        let pretended = flush.join().unwrap();
        assert!(pretended.is_err(), "a flush succeeded, though a sync that it may have needed failed");
    });
    let refused = disk.write_at(&[3; BLOCK], 0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Halted);
    assert!(refused.to_string().contains("the medium failed"), "the first failure is not named: {refused}");
    let mut bytes = [0; BLOCK];
    disk.read_at(&mut bytes, 4096).unwrap();
    assert_eq!(bytes, [2; BLOCK], "reads go on, and see what was written before");
}

const WRITERS: usize = 4;

/// What `WRITERS` threads were promised: each writes its own block over and over, and flushes.
fn write_until_it_fails(store: &Store) -> Vec<u64> {
    let promised: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let disk = store.server("web").unwrap().disk("vda").unwrap();
    thread::scope(|scope| {
        for (writer, promised) in promised.iter().enumerate() {
            let disk = &disk;
            scope.spawn(move || {
                for stamp in 1u64.. {
                    let bytes = stamp.to_le_bytes().repeat(BLOCK / 8);
                    let done = disk.write_at(&bytes, (writer * BLOCK) as u64).and_then(|()| disk.flush());
                    if done.is_err() {
                        return;
                    }
                    promised.store(stamp, Ordering::Relaxed);
                }
            });
        }
    });
    promised.into_iter().map(AtomicU64::into_inner).collect()
}

/// The medium fails once, at a call of any kind, and forgets what was not synced; from then on it works.
#[test]
fn what_was_promised_beside_a_failure_is_there_after_a_crash() {
    for seed in seeds(240) {
        let _replay = ReplayOnPanic { test: "--test failed_sync", seed };
        let device = SimDevice::new(0, seed);
        let store = Store::create_on(Arc::new(device.clone()), options()).unwrap();
        store.create_server("web").unwrap().create_disk("vda", 1 << 20).unwrap();
        let fault = [Fault::SyncDropsWrites, Fault::WriteError][usize::from(seed % 2 == 1)];
        device.set_faults(Faults::none().with(fault, When::Nth(1 + seed / 2 % 40)));
        let promised = write_until_it_fails(&store);
        assert!(store.status().halted, "seed {seed}: the medium failed, and the store goes on");
        device.cut_power();
        for survival in [Survival::Nothing, Survival::Random(seed)] {
            let after = device.crash(&survival);
            let report = check_device(&after).unwrap();
            assert!(report.is_clean(), "seed {seed}, {fault}: {:?}", report.findings);
            let store = Store::open_on(Arc::new(after), options()).unwrap();
            let disk = store.server("web").unwrap().disk("vda").unwrap();
            for (writer, promised) in promised.iter().enumerate() {
                let mut bytes = [0; 8];
                disk.read_at(&mut bytes, (writer * BLOCK) as u64).unwrap();
                let found = u64::from_le_bytes(bytes);
                assert!(
                    found >= *promised,
                    "seed {seed}, {fault}: writer {writer} was promised {promised} and finds {found}"
                );
            }
        }
    }
}
