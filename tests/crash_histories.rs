//! Crash histories: random verbs on several servers and disks, with crashes at any moment, and the promise that what
//! is found afterwards is a prefix of the history that holds at least what was promised.
//!
//! `COWBLK_SEED=17` replays one seed; `COWBLK_CRASH_STATES=1000000` goes on until so many crashes were looked at.

#![allow(clippy::similar_names, reason = "a server and its servers, a name and what is named")]
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "the number of crash states is part of the result")]

mod model;

use cowblk::device::sim::{SimDevice, Survival};
use cowblk::{ErrorKind, Store};
use model::{
    BLOCK, CrashPoint, Dice, Fill, Judge, Model, Moment, Recorder, Shape, Story, Tally, Verb, states_wanted,
};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One store from its making through several crashes.
struct History {
    shape: Shape,
    dice: Dice,
    story: Story,
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
        (Self { shape, dice, story: Story::new(Model::default()), blocks_when_empty, stamp: 0 }, device)
    }

    fn judge<'a>(&'a self, tally: &'a Tally) -> Judge<'a> {
        Judge {
            shape: self.shape,
            story: &self.story,
            blocks_when_empty: self.blocks_when_empty,
            tally,
            again_one_in: 6,
            go_on_one_in: 12,
        }
    }

    /// Runs verbs on an open store. Returns a device that a crash left.
    fn term(&mut self, device: SimDevice, tally: &Tally) -> SimDevice {
        let recorder = Recorder::new(device);
        let store = Store::open_on(recorder.clone(), self.shape.options()).unwrap();
        recorder.take();
        for _ in 0..4 + self.dice.below(40) {
            self.step(&store, &recorder);
            if let Some((found, device)) = self.look(recorder.take(), tally) {
                recorder.device.cut_power();
                self.story.go_on_from(found);
                return device;
            }
            recorder.set_moment(self.story.moment());
        }
        let is_closed = self.dice.one_in(3);
        if is_closed {
            drop(store);
            self.story.told.push("closed".into());
            self.story.promise();
        } else {
            recorder.device.cut_power();
        }
        let point = CrashPoint { moment: self.story.moment(), ..recorder.now() };
        let (found, device) = self.crash(&point, tally);
        self.story.go_on_from(found);
        device
    }

    /// Runs a verb and compares how it ended. Sometimes, and where it failed half-way, the store is compared, too.
    fn step(&mut self, store: &Store, recorder: &Recorder) {
        self.stamp += 1;
        let verb = Verb::random(&mut self.dice, self.story.last(), self.stamp);
        let before = self.story.moment().asked;
        let expected = self.story.ask(&verb);
        recorder.set_moment(self.story.moment());
        let ran = verb.run(store);
        match (&ran, &expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(kind)) if error.kind() == *kind => {}
            (Err(error), Ok(())) if error.kind() == ErrorKind::Full => {
                self.story.told.push("  it was full".into());
            }
            _ => panic!("{verb}: {ran:?}, not {expected:?}"),
        }
        if ran.is_err() || self.dice.one_in(10) {
            let asked = self.story.moment().asked;
            let found = self.judge(&Tally::default()).locate(store, Moment { promised: before, asked });
            assert!(ran.is_err() || self.story.alike(found, asked), "a verb that returned is only half done");
            self.story.stop_at(found);
        }
        if ran.is_ok() && verb.is_durable() {
            self.story.promise();
        }
    }

    /// Crashes at points in several ways. Now and then the history goes on from one of them.
    fn look(&mut self, points: Vec<CrashPoint>, tally: &Tally) -> Option<(usize, SimDevice)> {
        let mut chosen = None;
        for point in points {
            // What a point promised was asked for since, or was found not to have happened.
            let moment = Moment { asked: point.moment.asked.min(self.story.moment().asked), ..point.moment };
            let point = CrashPoint { moment, ..point };
            let ways = if point.is_full { 4 } else { self.dice.below(4) / 3 };
            for _ in 0..ways {
                let found = self.crash(&point, tally);
                if self.dice.one_in(60) {
                    chosen = Some(found);
                }
            }
        }
        chosen
    }

    fn crash(&mut self, point: &CrashPoint, tally: &Tally) -> (usize, SimDevice) {
        let survival = Survival::Random(self.dice.next());
        let mut dice = Dice::new(self.dice.next());
        self.judge(tally).crash(point, &survival, &mut dice)
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
        println!("COWBLK_SEED={seed} fails, {:?}:\n  {}", history.shape, history.story.told.join("\n  "));
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
