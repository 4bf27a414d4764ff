//! Holes: a store that gave space back finds the file system full when it wants that again.

use super::stamped::{
    BLOCK, DISK_BLOCKS, Stamps, assert_disk, assert_snapshot, discard, fill, server, write,
};
use super::{LIMITS, options, small_store};
use crate::model::Limit;
use cowblk::device::sim::{Discarded, Fault, Faults, SimDevice, Survival, When};
use cowblk::{ErrorKind, Server, Store, check_device};
use std::sync::Arc;

const KINDS: [Discarded; 3] = [Discarded::Zeroes, Discarded::Noise, Discarded::Unchanged];

/// No range that was given back can be had again.
fn full() -> Faults {
    Faults::none().with(Fault::NoSpaceInHoles, When::From(1))
}

/// A store that was full, and gave the space of most of its blocks back.
struct Scene {
    device: SimDevice,
    store: Store,
    web: Server,
    live: Stamps,
    kept: Stamps,
    /// Blocks that fitted when it was full.
    fitted: u64,
}

impl Scene {
    fn new(limit: Limit, kind: Discarded) -> Self {
        let (device, store) = small_store(limit, |options| options);
        let device = device.with_discarded(kind);
        let web = server(&store, "web");
        let disk = web.disk("vda").unwrap();
        let mut live = Stamps::new();
        for at in 0..40 {
            write(&disk, &mut live, at * 699, 1 + at).unwrap();
        }
        web.snapshot("first", "").unwrap();
        let kept = live.clone();
        let fitted = fill(&disk, &mut live, 5000);
        discard(&disk, &mut live, 20, DISK_BLOCKS - 20);
        let given = store.trim().unwrap();
        let status = store.status();
        assert!(given >= 256 * BLOCK, "{given} bytes were given back: {status:?}");
        assert!(status.thin_blocks * BLOCK >= given, "{status:?}");
        let with_space = status.free_blocks - status.thin_blocks;
        assert!(with_space >= status.reserve_blocks + 256, "the reserve keeps its space: {status:?}");
        Self { device, store, web, live, kept, fitted }
    }

    fn assert_sound(&self, what: &str) {
        assert_disk(&self.web, &self.live, what);
        assert_snapshot(&self.web, "first", &self.kept, what);
    }

    /// Whatever the file system refuses, these work.
    fn relieve(&mut self) {
        let disk = self.web.disk("vda").unwrap();
        discard(&disk, &mut self.live, 0, 30_000);
        disk.flush().unwrap();
        self.store.checkpoint().unwrap();
        self.web.create_disk("vdb", 4096).unwrap();
        self.web.delete_disk("vdb").unwrap();
        self.store.collect().unwrap();
    }

    /// Closes the store and opens it again, on the medium as it is.
    fn reopen(mut self, limit: Limit) -> Self {
        drop(self.web);
        self.store.close().unwrap();
        let report = check_device(&self.device).unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
        self.store = Store::open_on(Arc::new(self.device.clone()), options(limit)).unwrap();
        self.web = self.store.server("web").unwrap();
        self
    }
}

#[test]
fn what_the_file_system_does_not_give_back_is_refused_as_in_a_full_store() {
    for (limit, kind) in LIMITS.into_iter().zip(KINDS) {
        let what = format!("{limit:?} {kind:?}");
        let mut scene = Scene::new(limit, kind);
        scene.device.set_faults(full());
        let disk = scene.web.disk("vda").unwrap();
        let less = fill(&disk, &mut scene.live, 9000);
        assert!(less < scene.fitted / 2, "{what}: {less} blocks fitted, of {} before", scene.fitted);
        scene.assert_sound(&what);
        scene.relieve();
        scene.assert_sound(&what);

        // The same in a store that was opened on such a file system, and does not know which of its blocks have space.
        let mut scene = scene.reopen(limit);
        let disk = scene.web.disk("vda").unwrap();
        fill(&disk, &mut scene.live, 10_000);
        scene.relieve();
        scene.assert_sound(&what);

        // There is space again.
        scene.device.set_faults(Faults::none());
        let mut scene = scene.reopen(limit);
        let disk = scene.web.disk("vda").unwrap();
        let again = fill(&disk, &mut scene.live, 11_000);
        assert!(again > scene.fitted - 100, "{what}: {again} blocks fitted, of {} before", scene.fitted);
        scene.assert_sound(&what);
        scene.reopen(limit).assert_sound(&what);
    }
}

/// The refusal is a notice as any other, and what is free again is said, too.
#[test]
fn what_is_given_back_counts_as_free_until_it_is_refused() {
    let mut scene = Scene::new(Limit::Fixed, Discarded::Zeroes);
    let disk = scene.web.disk("vda").unwrap();
    scene.device.set_faults(full());
    let late = scene.store.notices();
    assert!(late.next_now().is_none(), "the store is nearly empty");
    fill(&disk, &mut scene.live, 9000);
    assert!(late.next_now().is_some(), "the store is full");
}

/// At any moment while space is given back, and while it is had again.
#[test]
fn a_crash_beside_giving_back_loses_nothing() {
    for seed in 0..60 {
        let mut scene = Scene::new(Limit::Medium, KINDS[usize::try_from(seed % 3).unwrap()]);
        let disk = scene.web.disk("vda").unwrap();
        disk.flush().unwrap();
        let flushed = scene.live.clone();
        match seed % 4 {
            0 => {}
            1 => _ = scene.store.trim().unwrap(),
            2 => {
                scene.web.snapshot("second", "").unwrap();
                _ = scene.store.trim().unwrap();
            }
            _ => scene.store.checkpoint().unwrap(),
        }
        // Not flushed: blocks that were not there before, in space that was given back.
        for at in 0..seed * 5 {
            write(&disk, &mut scene.live, 40_000 + at, 7000 + at).unwrap();
        }
        let crashed = scene.device.crash(&Survival::Random(seed));
        let store = Store::open_on(Arc::new(crashed.clone()), options(Limit::Medium)).unwrap();
        let web = store.server("web").unwrap();
        let disk = web.disk("vda").unwrap();
        for (&at, &stamp) in &flushed {
            let mut got = [0; 8];
            disk.read_at(&mut got, at * BLOCK).unwrap();
            assert_eq!(u64::from_le_bytes(got), stamp, "seed {seed}: block {at}");
        }
        assert_snapshot(&web, "first", &scene.kept, &format!("seed {seed}"));
        let fitted = fill(&disk, &mut Stamps::new(), 9000);
        assert!(fitted > 100, "seed {seed}: {fitted}");
        store.close().unwrap();
        let report = check_device(&crashed).unwrap();
        assert!(report.is_clean(), "seed {seed}: {:?}", report.findings);
    }
}

#[test]
fn a_medium_that_takes_nothing_back_says_so_and_stays_as_it_was() {
    let (device, store) = small_store(Limit::Medium, |options| options.punch_holes(true));
    let _device = device.with_discarded(Discarded::Refused);
    let web = server(&store, "web");
    let disk = web.disk("vda").unwrap();
    let mut live = Stamps::new();
    let fitted = fill(&disk, &mut live, 5000);
    discard(&disk, &mut live, 0, DISK_BLOCKS);
    assert_eq!(store.trim().unwrap_err().kind(), ErrorKind::Unsupported);
    store.collect().unwrap();
    assert_eq!(store.status().thin_blocks, 0);
    let again = fill(&disk, &mut live, 6000);
    assert!(again + 20 > fitted, "{again} blocks fitted, and {fitted} before");
}
