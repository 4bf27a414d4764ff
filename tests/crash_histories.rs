//! Crash histories: random verbs on several servers and disks, with crashes at any moment, and the promise that what
//! is found afterwards is a prefix of the history that holds at least what was promised.
//!
//! `COWBLK_SEED=17` replays one seed; `COWBLK_CRASH_STATES=1000000` goes on until so many crashes were looked at.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "the number of crash states is part of the result")]

mod model;

use cowblk::device::sim::{SimDevice, Survival};
use cowblk::{ErrorKind, Store};
use model::{
    BLOCK, CrashPoint, Dice, Fill, Judge, Model, Moment, Recorder, Shape, Tally, Verb, states_wanted,
};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One store from its making through several crashes.
struct History {
    shape: Shape,
    dice: Dice,
    states: Vec<Model>,
    fingerprints: Vec<u64>,
    verbs: Vec<String>,
    blocks_when_empty: u64,
    stamp: u64,
}

impl History {
    fn new(seed: u64) -> (Self, SimDevice) {
        let mut dice = Dice::new(seed);
        let shape = Shape::random(&mut dice);
        let device = SimDevice::new(0, seed);
        let store = Store::create_on(Arc::new(device.clone()), shape.options()).unwrap();
        store.collect().unwrap();
        let blocks_when_empty = store.status().used_blocks;
        store.close().unwrap();
        let model = Model::default();
        let fingerprints = vec![model.fingerprint()];
        let history = Self {
            shape,
            dice,
            states: vec![model],
            fingerprints,
            verbs: Vec::new(),
            blocks_when_empty,
            stamp: 0,
        };
        (history, device)
    }

    fn judge<'a>(&'a self, tally: &'a Tally) -> Judge<'a> {
        Judge {
            shape: self.shape,
            history: &self.states,
            fingerprints: &self.fingerprints,
            blocks_when_empty: self.blocks_when_empty,
            tally,
        }
    }

    fn forget_before(&mut self, state: usize) {
        self.states = vec![self.states[state].clone()];
        self.fingerprints = vec![self.fingerprints[state]];
    }

    /// Runs verbs on an open store. Returns a device that a crash left, and the state that is on it.
    fn term(&mut self, device: SimDevice, tally: &Tally) -> SimDevice {
        let recorder = Recorder::new(device);
        let store = Store::open_on(recorder.clone(), self.shape.options()).unwrap();
        recorder.take();
        let mut promised = 0;
        let mut chosen: Option<(usize, SimDevice)> = None;
        for _ in 0..4 + self.dice.below(40) {
            self.stamp += 1;
            let now = self.states.last().unwrap().clone();
            let verb = Verb::random(&mut self.dice, &now, self.stamp);
            self.verbs.push(verb.to_string());
            let expected = verb.states(&now);
            let base = self.states.len();
            for state in expected.iter().flatten() {
                self.fingerprints.push(state.fingerprint());
                self.states.push(state.clone());
            }
            recorder.set_moment(Moment { promised, asked: self.states.len() - 1 });
            let ran = verb.run(&store);
            match (&ran, &expected) {
                (Ok(()), Ok(_)) => {}
                (Err(error), Err(kind)) if error.kind() == *kind => {}
                (Err(error), Ok(_)) if error.kind() == ErrorKind::Full => {
                    self.verbs.push("  it was full".into());
                }
                _ => panic!("{verb}: {ran:?}, not {:?}", expected.as_ref().map(|_| ())),
            }
            for point in recorder.take() {
                if let Some(found) = self.look(&point, tally) {
                    chosen = Some(found);
                }
            }
            if ran.is_err() || self.dice.one_in(10) {
                let found = self
                    .judge(tally)
                    .locate(&store, Moment { promised: base - 1, asked: self.states.len() - 1 });
                assert!(
                    ran.is_err()
                        || found == self.states.len() - 1
                        || self.fingerprints[found] == *self.fingerprints.last().unwrap()
                );
                self.states.truncate(found + 1);
                self.fingerprints.truncate(found + 1);
            }
            if ran.is_ok() && verb.is_durable() {
                promised = self.states.len() - 1;
            }
            recorder.set_moment(Moment { promised, asked: self.states.len() - 1 });
            if chosen.is_some() {
                break;
            }
        }
        let (found, device) = match chosen {
            Some(chosen) => chosen,
            None if self.dice.one_in(3) => {
                recorder.set_moment(Moment { promised, asked: self.states.len() - 1 });
                drop(store);
                let point = recorder.now();
                recorder.device.cut_power();
                self.verbs.push("closed".into());
                let survival = Survival::Random(self.dice.next());
                let mut dice = self.dice.clone();
                let point = CrashPoint {
                    moment: Moment { promised: self.states.len() - 1, ..point.moment },
                    ..point
                };
                let (found, device) = self.judge(tally).crash(&point, &survival, &mut dice);
                self.forget_before(found);
                return device;
            }
            None => {
                let point = recorder.now();
                let survival = Survival::Random(self.dice.next());
                let mut dice = self.dice.clone();
                self.judge(tally).crash(&point, &survival, &mut dice)
            }
        };
        recorder.device.cut_power();
        self.verbs.push(format!("crashed, and went on from state {found} of {}", self.states.len() - 1));
        self.forget_before(found);
        device
    }

    /// Crashes at a point in several ways. Now and then the history goes on from there.
    fn look(&mut self, point: &CrashPoint, tally: &Tally) -> Option<(usize, SimDevice)> {
        let ways = if point.is_full { 4 } else { self.dice.below(4) / 3 };
        let mut chosen = None;
        for _ in 0..ways {
            let survival = Survival::Random(self.dice.next());
            let mut dice = Dice::new(self.dice.next());
            let found = self.judge(tally).crash(point, &survival, &mut dice);
            if self.dice.one_in(60) {
                chosen = Some(found);
            }
        }
        chosen
    }
}

/// One history from one seed.
fn run(seed: u64, tally: &Tally) {
    let (mut history, mut device) = History::new(seed);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..6 {
            device = history.term(device.clone(), tally);
        }
    }));
    if let Err(panic) = outcome {
        println!("COWBLK_SEED={seed} fails, {:?}:\n  {}", history.shape, history.verbs.join("\n  "));
        resume_unwind(panic);
    }
}

#[test]
fn after_a_crash_a_store_is_a_prefix_of_its_history() {
    let tally = Tally::default();
    if let Ok(seed) = std::env::var("COWBLK_SEED") {
        run(seed.parse().unwrap(), &tally);
        return;
    }
    let wanted = states_wanted(40_000);
    let mut seed = 1;
    while tally.count() < wanted {
        run(seed, &tally);
        seed += 1;
    }
    println!("{} crash states of {} histories", tally.count(), seed - 1);
}

/// A flush takes the records that wait, and then looks for the blocks to carry along. A writer that comes in between
/// must not have its block carried without its record: after a crash the block would be free, and still in the journal.
#[test]
fn a_crash_while_one_thread_writes_and_another_flushes_leaves_a_store_that_works() {
    const BLOCKS: u64 = 24;
    let tally = Tally::default();
    for seed in 0..40 {
        let device = SimDevice::new(0, seed);
        let shape = Shape { zone_blocks: 256, journal_bytes: 256 << 10, zones_max: 1000 };
        let store = Store::create_on(Arc::new(device.clone()), shape.options()).unwrap();
        let disk = store.create_server("s").unwrap().create_disk("d", BLOCKS * BLOCK).unwrap();
        let stop = AtomicBool::new(false);
        let images: Vec<SimDevice> = std::thread::scope(|scope| {
            scope.spawn(|| {
                for stamp in 1.. {
                    let range = stamp % BLOCKS * BLOCK..(stamp % BLOCKS + 1) * BLOCK;
                    if stop.load(Ordering::Relaxed)
                        || disk
                            .write_at(&Fill { stamp, zero_every: 0 }.bytes(range.clone()), range.start)
                            .is_err()
                    {
                        return;
                    }
                }
            });
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && disk.flush().is_ok() {
                    std::hint::spin_loop();
                }
            });
            let images = (0..50).map(|_| {
                std::thread::sleep(Duration::from_micros(300));
                device.crash(&Survival::Nothing)
            });
            let images = images.collect();
            stop.store(true, Ordering::Relaxed);
            images
        });
        for image in images {
            let mut image = image;
            for round in 0..3 {
                tally.add();
                let store = Store::open_on(Arc::new(image.clone()), shape.options())
                    .unwrap_or_else(|error| panic!("seed {seed}, opening {round}: {error}"));
                let disk = store.server("s").unwrap().disk("d").unwrap();
                for stamp in 0..8 {
                    let range = stamp * BLOCK..(stamp + 1) * BLOCK;
                    let bytes =
                        Fill { stamp: stamp + (round + 1) * 1000, zero_every: 0 }.bytes(range.clone());
                    disk.write_at(&bytes, range.start).unwrap();
                    disk.flush().unwrap();
                }
                if round == 1 {
                    store.checkpoint().unwrap();
                }
                let mut all = vec![0; usize::try_from(BLOCKS * BLOCK).unwrap()];
                disk.read_at(&mut all, 0)
                    .unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
                let after = image.crash(&Survival::Nothing);
                image.cut_power();
                image = after;
            }
        }
    }
    println!("{} crash states between two threads", tally.count());
}
