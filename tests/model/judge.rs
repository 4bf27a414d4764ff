//! Judge: looks at what a crash left, and decides whether the store kept its promises.

use super::recorder::{CrashPoint, Moment, Recorder};
use super::shape::Shape;
use super::story::Story;
use super::verb::{Dice, Verb};
use super::view::observe;
use cowblk::device::sim::{SimDevice, Survival};
use cowblk::{ErrorKind, Space, Store};
use cowblk::{check_device, recount_blocks, recount_sizes};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many crash states were looked at.
#[derive(Default)]
pub struct Tally(AtomicU64);

impl Tally {
    pub fn add(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many crash states are wanted: `COWBLK_CRASH_STATES`, or what a test asks for by itself.
pub fn states_wanted(by_default: u64) -> u64 {
    let asked = std::env::var("COWBLK_CRASH_STATES").ok();
    asked.map_or(by_default, |text| text.parse().expect("COWBLK_CRASH_STATES is a number"))
}

/// What a judge goes by.
pub struct Judge<'a> {
    pub shape: Shape,
    pub story: &'a Story,
    /// Blocks in use by a store without servers.
    pub blocks_when_empty: u64,
    pub tally: &'a Tally,
    /// One in so many crashes is followed by another one during the recovery, or right after it.
    pub again_one_in: u64,
    /// After one in so many the store is used, and then emptied.
    pub go_on_one_in: u64,
}

impl Judge<'_> {
    /// Crashes at `point` in this way, reopens, compares, and returns the state that was found, with the device.
    pub fn crash(&self, point: &CrashPoint, survival: &Survival, dice: &mut Dice) -> (usize, SimDevice) {
        let device = point.device.crash(survival);
        let nth = self.tally.add();
        if nth.is_multiple_of(8) {
            let report = check_device(&device).expect("a crashed store can be checked");
            assert!(report.is_clean(), "unopened after a crash: {:?}", report.findings);
            let sizes = recount_sizes(&device).expect("sizes can be recounted");
            assert!(sizes.is_clean(), "sizes after a crash: {:?}", sizes.findings);
        }
        let left = device.fork();
        let recorder = Recorder::new(device);
        let store = Store::open_on(recorder.clone(), self.shape.options()).expect("a crashed store opens");
        let found = self.locate(&store, point.moment);
        if dice.one_in(self.again_one_in) {
            self.crash_again(&recorder, point.moment, found, dice);
        }
        if dice.one_in(self.go_on_one_in) {
            self.go_on(&store, &recorder, found, dice);
        }
        recorder.device.cut_power();
        drop(store);
        (found, left)
    }

    /// The one state of the history that the store shows.
    pub fn locate(&self, store: &Store, moment: Moment) -> usize {
        let view = observe(store).expect("everything that is shown can be read");
        let print = view.fingerprint();
        let allowed = moment.promised..=moment.asked;
        let prints = &self.story.fingerprints;
        // The newest that fits: equal states are the same to everybody.
        if let Some(found) = allowed.clone().rev().find(|at| prints[*at] == print) {
            return found;
        }
        let elsewhere: Vec<usize> = (0..prints.len()).filter(|at| prints[*at] == print).collect();
        panic!(
            "the store shows none of the states {allowed:?}, but {elsewhere:?}\n  against the oldest:\n    {}\n  against the newest:\n    {}",
            view.difference(&self.story.states[moment.promised].view()),
            view.difference(&self.story.states[moment.asked].view()),
        );
    }

    /// A second crash during the recovery from the first one, or right after it.
    fn crash_again(&self, recorder: &Recorder, moment: Moment, found: usize, dice: &mut Dice) {
        let mut points = recorder.take();
        points.retain(|point| point.is_full);
        points.push(recorder.now());
        let last = points.len() - 1;
        for (at, point) in points.iter().enumerate() {
            let device = point.device.crash(&Survival::Random(dice.next()));
            self.tally.add();
            let store = Store::open_on(Arc::new(device.clone()), self.shape.options())
                .expect("a store opens after a crash while it was opened");
            let again = self.locate(&store, moment);
            if at == last {
                assert!(
                    self.story.alike(again, found),
                    "what an opening showed was lost by a crash after it"
                );
            }
            device.cut_power();
        }
    }

    /// Uses the store, then empties it: nothing may be left.
    fn go_on(&self, store: &Store, recorder: &Recorder, found: usize, dice: &mut Dice) {
        let mut model = self.story.states[found].clone();
        let mut is_known = true;
        let mut trace = vec![format!("from state {found}")];
        for round in 0..dice.below(6) {
            let stamp = (1 << 24) + dice.below(1 << 20) * 8 + round;
            let verb = Verb::random(dice, &model, stamp);
            trace.push(verb.to_string());
            match (verb.run(store), verb.states(&model)) {
                (Ok(()), Ok(states)) => model = states.last().cloned().unwrap_or(model),
                (Err(error), Err(kind)) if error.kind() == kind => {}
                (Err(error), Ok(_)) if error.kind() == ErrorKind::Full && verb.needs_space() => {
                    // How far it came is for the histories to see. Emptying must work all the same.
                    assert!(!store.status().halted, "{verb}: a full store goes on: {error}");
                    is_known = false;
                    break;
                }
                (ran, expected) => panic!("after a crash, {verb}: {ran:?}, not {:?}", expected.map(|_| ())),
            }
        }
        let view = observe(store).expect("everything that is shown can be read");
        assert!(
            !is_known || view.fingerprint() == model.fingerprint(),
            "going on after a crash:\n    {}",
            view.difference(&model.view())
        );
        compare_sizes(store, &recorder.device, dice);
        for server in store.servers() {
            store.delete_server(server.id()).expect("a server can be deleted after a crash");
        }
        store.collect().expect("everything can be collected after a crash");
        let report = check_device(&recorder.device).expect("a used store can be checked");
        assert!(report.is_clean(), "emptied after a crash and {trace:#?}: {:?}", report.findings);
        let status = store.status();
        assert_eq!(
            status.used_blocks, self.blocks_when_empty,
            "something is left of nothing: {status:?}, {report:?}"
        );
    }
}

/// Everything is counted once the collector is done, the counts are what a recount gives, and deleting any set of
/// snapshots frees the data that it was said to free.
fn compare_sizes(store: &Store, device: &SimDevice, dice: &mut Dice) {
    if store.collect().is_err() {
        return; // full: the histories see to that
    }
    let snapshots: Vec<_> = store.servers().iter().flat_map(cowblk::Server::snapshots).collect();
    let block_size = u64::from(store.status().block_size);
    for snapshot in &snapshots {
        let said = snapshot.exclusive_bytes().expect("everything is counted");
        let alone = store.would_free(&[snapshot.id()]).expect("a snapshot can be looked at");
        assert_eq!(said, alone.data_bytes, "what {} alone holds", snapshot.name());
    }
    let sizes: Vec<_> =
        snapshots.iter().map(|held| (held.id(), held.size_bytes(), held.exclusive_bytes())).collect();
    let disks: Vec<_> = store.servers().iter().flat_map(cowblk::Server::disks).collect();
    let spaces: Vec<_> = disks.iter().map(|disk| (disk.id(), disk.space())).collect();
    for server in store.servers() {
        assert_eq!(server.space(), sum(&server, &spaces), "what the disks of {} hold", server.name());
    }
    store.checkpoint().expect("a checkpoint");
    let (report, recounted) = recount_blocks(device).expect("sizes can be recounted");
    assert!(report.is_clean(), "sizes: {:?}", report.findings);
    for (id, size, alone) in sizes {
        let found = recounted.snapshots[&id];
        let said = (size.map(|bytes| bytes / block_size), alone.map(|bytes| bytes / block_size));
        assert_eq!(said, (Some(found.referenced), Some(found.exclusive)), "blocks of snapshot {id}");
    }
    for (id, space) in spaces {
        let alone = space.expect("the disk is there").exclusive_bytes.expect("everything is counted");
        assert_eq!(alone / block_size, recounted.disks[&id].exclusive, "blocks that disk {id} alone holds");
    }

    let set: Vec<_> = snapshots.iter().map(cowblk::Snapshot::id).filter(|_| dice.one_in(2)).collect();
    let said = store.would_free(&set).expect("a set of snapshots can be looked at").data_bytes / block_size;
    let blocks = |when: &str| {
        let report = check_device(device).expect("a store can be checked");
        assert!(report.is_clean(), "{when}: {:?}", report.findings);
        report.data_blocks_in_use
    };
    let before = blocks("before deleting a set");
    for id in set {
        store.delete_snapshot(id).expect("a snapshot can be deleted");
    }
    store.collect().expect("what was deleted can be collected");
    assert_eq!(before - blocks("after deleting a set"), said, "data blocks that deleting a set freed");

    let servers = store.servers();
    let Some(server) = servers.iter().find(|_| dice.one_in(2)) else { return };
    let said = server.would_free().expect("a server can be looked at").data_bytes / block_size;
    let before = blocks("before deleting a server");
    store.delete_server(server.id()).expect("a server can be deleted");
    store.collect().expect("what was deleted can be collected");
    assert_eq!(before - blocks("after deleting a server"), said, "data blocks that deleting a server freed");
}

/// What the disks of a server hold, added up.
fn sum(server: &cowblk::Server, spaces: &[(cowblk::DiskId, Option<Space>)]) -> Space {
    let own: Vec<_> = server.disks().iter().map(cowblk::Disk::id).collect();
    let spaces = spaces.iter().filter(|(id, _)| own.contains(id)).filter_map(|(_, space)| *space);
    let (referenced, alone): (Vec<u64>, Vec<Option<u64>>) =
        spaces.map(|space| (space.referenced_bytes, space.exclusive_bytes)).unzip();
    Space { referenced_bytes: referenced.iter().sum(), exclusive_bytes: alone.into_iter().sum() }
}
