//! History: one store from its making through several crashes, with random verbs in between.

use super::judge::{Judge, Tally};
use super::plain::Model;
use super::recorder::{CrashPoint, Moment, Recorder};
use super::shape::Shape;
use super::story::Story;
use super::verb::{Dice, Verb};
use cowblk::device::sim::{SimDevice, Survival};
use cowblk::{ErrorKind, Store};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// A store, what was asked of it, and what comes next.
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
        let device = shape.device(seed);
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
        let is_greedy = self.shape.zones_max < 1000 && self.dice.below(4) > 0;
        let choose = if is_greedy { Verb::greedy } else { Verb::random };
        let verb = choose(&mut self.dice, self.story.last(), self.stamp);
        let before = self.story.moment().asked;
        let expected = self.story.ask(&verb);
        recorder.set_moment(self.story.moment());
        let ran = verb.run(store);
        match (&ran, &expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(kind)) if error.kind() == *kind => {}
            (Err(error), Ok(())) if error.kind() == ErrorKind::Full && verb.needs_space() => {
                assert!(!store.status().halted, "{verb}: a full store goes on: {error}");
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

/// Runs the history of a seed. One that fails is told, with the seed that replays it.
pub fn run_history(seed: u64, tally: &Tally) {
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
