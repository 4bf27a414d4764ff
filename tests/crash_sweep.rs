//! Crash sweep: for every verb, in several situations, the power goes at each operation that it makes of the device,
//! and everything that the medium may hold then is opened: the store is as before the verb or as after it, holds all
//! that was promised, and goes on working.
//!
//! `COWBLK_CRASH_STATES=1000000` samples more of what cannot be gone through.

#![allow(clippy::similar_names, reason = "a store has a story")]
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "the number of crash states is part of the result")]

mod model;

use cowblk::device::sim::{Fate, SimDevice, Survival};
use cowblk::{ErrorKind, Store};
use model::{
    ALIKE, BLOCK, CrashPoint, Dice, Fill, Judge, Model, Recorder, Shape, Story, Tally, Verb, states_wanted,
};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

const SHAPE: Shape = Shape { zone_blocks: 128, journal_bytes: 64 << 10, ..Shape::SMALL };

/// All subsets of the unsynced changes are tried where there are at most this many.
const SUBSETS_MAX: usize = 10;

fn server() -> String {
    "s".into()
}

fn write(disk: &str, range: Range<u64>, stamp: u64) -> Verb {
    Verb::Write { server: server(), disk: disk.into(), range, fill: Fill { stamp, zero_every: 0 } }
}

/// Writes blocks that are alike, three kinds of them.
fn write_alike(disk: &str, range: Range<u64>) -> Verb {
    let fill = Fill { stamp: 0, zero_every: ALIKE };
    Verb::Write { server: server(), disk: disk.into(), range: blocks(range), fill }
}

fn blocks(range: Range<u64>) -> Range<u64> {
    range.start * BLOCK..range.end * BLOCK
}

fn discard(disk: &str, range: Range<u64>) -> Verb {
    Verb::Discard { server: server(), disk: disk.into(), range }
}

fn snapshot(name: &str) -> Verb {
    Verb::Snapshot { server: server(), snapshot: name.into() }
}

fn restore(name: &str) -> Verb {
    Verb::Restore { server: server(), snapshot: name.into() }
}

fn delete(name: &str) -> Verb {
    Verb::DeleteSnapshot { server: server(), snapshot: name.into() }
}

fn create_disk(name: &str, size: u64) -> Verb {
    Verb::CreateDisk { server: server(), disk: name.into(), size }
}

/// A store on which something happened, and that is open.
struct Stage {
    recorder: Arc<Recorder>,
    store: Store,
    story: Story,
    blocks_when_empty: u64,
}

impl Stage {
    fn new(seed: u64) -> Self {
        let device = SimDevice::new(0, seed);
        let store = Store::create_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
        store.collect().unwrap();
        let blocks_when_empty = store.status().used_blocks;
        store.close().unwrap();
        let (recorder, store) = open(device.crash(&Survival::Everything));
        Self { recorder, store, story: Story::new(Model::default()), blocks_when_empty }
    }

    fn run(&mut self, verbs: &[Verb]) {
        for verb in verbs {
            assert_eq!(self.story.ask(verb), Ok(()), "{verb}");
            self.recorder.set_moment(self.story.moment());
            verb.run(&self.store).unwrap_or_else(|error| panic!("{verb}: {error:?}"));
            if verb.is_durable() {
                self.story.promise();
            }
            self.recorder.set_moment(self.story.moment());
        }
    }

    /// The power goes, and the store is opened again.
    fn crash(mut self) -> Self {
        let device = self.recorder.device.crash(&Survival::Everything);
        self.recorder.device.cut_power();
        (self.recorder, self.store) = open(device);
        self.story.promise();
        self
    }

    /// Copies of this stage are as good as the stage: everything comes from the device.
    fn reopened(&self) -> Self {
        let (recorder, store) = open(self.recorder.device.crash(&Survival::Everything));
        let mut story = Story::new(self.story.last().clone());
        story.told.clone_from(&self.story.told);
        Self { recorder, store, story, blocks_when_empty: self.blocks_when_empty }
    }
}

fn open(device: SimDevice) -> (Arc<Recorder>, Store) {
    let recorder = Recorder::new(device);
    let store = Store::open_on(recorder.clone(), SHAPE.options()).unwrap();
    recorder.take();
    (recorder, store)
}

/// Two disks with data, two snapshots, something to undo; everything settled.
fn furnish(stage: &mut Stage) {
    stage.run(&[
        Verb::CreateServer(server()),
        create_disk("a", 40 * BLOCK),
        create_disk("b", 300 * BLOCK),
        write("a", blocks(0..20), 1),
        write("b", blocks(250..260), 2),
        snapshot("n0"),
        write("a", blocks(5..12), 3),
        write("b", blocks(0..4), 4),
        snapshot("n1"),
        write("a", 5000..20_000, 5),
        restore("n0"),
        write("a", blocks(2..4), 6),
        write("b", blocks(255..258), 7),
        Verb::Checkpoint,
    ]);
}

/// The situations in which each verb is tried.
const SITUATIONS: [&str; 5] = [
    "settled",
    "with changes that wait",
    "after a crash",
    "with a queue for the collector",
    "with much unsettled",
];

fn situation(name: &str) -> Stage {
    let mut stage = Stage::new(7);
    furnish(&mut stage);
    match name {
        "settled" => {}
        "with changes that wait" => {
            stage.run(&[
                Verb::Flush,
                write("a", blocks(30..34), 10),
                discard("b", 251 * BLOCK..256 * BLOCK + 100),
            ]);
        }
        "after a crash" => {
            stage.run(&[
                write("a", blocks(8..10), 11),
                snapshot("n2"),
                write("b", blocks(1..3), 12),
                Verb::Flush,
            ]);
            stage = stage.crash();
        }
        "with a queue for the collector" => {
            // A deleted snapshot with two children, one of which is deleted, too, and has two children.
            stage.run(&[
                snapshot("n2"),
                write("a", blocks(0..3), 13),
                Verb::Flush,
                restore("n2"),
                write("a", blocks(3..6), 14),
                delete("n2"),
                delete("n0"),
                Verb::Checkpoint,
                write("a", blocks(5..7), 15),
            ]);
        }
        "with much unsettled" => {
            stage.run(&[
                write("a", blocks(10..16), 16),
                snapshot("n2"),
                write("a", blocks(12..18), 17),
                restore("n1"),
                write("b", blocks(250..253), 18),
                delete("n2"),
            ]);
        }
        _ => unreachable!("a situation that is listed"),
    }
    stage
}

/// What is swept: a verb, and what makes it durable.
fn deeds() -> Vec<(&'static str, Vec<Verb>)> {
    let resize = |size| Verb::Resize { server: server(), disk: "b".into(), size };
    vec![
        ("create a server", vec![Verb::CreateServer("t".into())]),
        ("create a disk", vec![create_disk("c", 20 * BLOCK)]),
        ("write whole blocks", vec![write("a", blocks(3..9), 20), Verb::Flush]),
        ("write parts of blocks", vec![write("a", 4000..17_000, 21), Verb::Flush]),
        (
            "write over what was just written",
            vec![write("a", blocks(3..9), 22), write("a", 20_000..30_000, 23), Verb::Flush],
        ),
        ("write a lot", vec![write("a", blocks(0..40), 24), Verb::Flush]),
        ("write without a flush", vec![write("a", blocks(0..4), 25)]),
        ("discard", vec![discard("a", 3 * BLOCK + 10..30 * BLOCK), Verb::Flush]),
        ("discard all", vec![discard("b", 0..300 * BLOCK), Verb::Flush, Verb::Checkpoint]),
        (
            "write zeroes",
            vec![
                Verb::WriteZeroes { server: server(), disk: "a".into(), range: 100..3 * BLOCK },
                Verb::Flush,
            ],
        ),
        ("flush", vec![Verb::Flush]),
        ("snapshot", vec![snapshot("n7")]),
        (
            "write and snapshot",
            vec![write("b", blocks(0..3), 26), write("a", blocks(0..3), 27), snapshot("n7")],
        ),
        ("restore", vec![restore("n1")]),
        ("undo a restore", vec![Verb::Undo { server: server() }]),
        (
            "restore and undo",
            vec![restore("n1"), write("a", blocks(0..2), 28), Verb::Undo { server: server() }],
        ),
        ("delete a snapshot", vec![delete("n1")]),
        ("delete a disk", vec![Verb::DeleteDisk { server: server(), disk: "a".into() }]),
        (
            "delete a disk and restore",
            vec![Verb::DeleteDisk { server: server(), disk: "a".into() }, restore("n1")],
        ),
        ("delete a server", vec![Verb::DeleteServer(server())]),
        ("delete a server and collect", vec![Verb::DeleteServer(server()), Verb::Collect]),
        (
            "make a disk larger",
            vec![resize(70_000 * BLOCK), write("b", blocks(65_535..65_537), 29), Verb::Checkpoint],
        ),
        ("make a disk smaller", vec![discard("b", 20 * BLOCK..300 * BLOCK), resize(20 * BLOCK + 512)]),
        ("collect", vec![Verb::Collect]),
        ("checkpoint", vec![Verb::Checkpoint]),
        ("write and checkpoint", vec![write("a", blocks(1..30), 30), Verb::Checkpoint]),
        (
            "grow by zones",
            vec![
                write("a", blocks(0..40), 31),
                write("b", blocks(0..40), 32),
                snapshot("n7"),
                write("a", blocks(0..40), 33),
                write("b", blocks(0..40), 34),
                Verb::Flush,
            ],
        ),
    ]
    .into_iter()
    .chain(sharing_deeds())
    .collect()
}

/// Deeds in which blocks come to be shared.
fn sharing_deeds() -> Vec<(&'static str, Vec<Verb>)> {
    vec![
        (
            "dedup",
            vec![write_alike("a", 3..9), write_alike("b", 1..6), Verb::Dedup, Verb::Flush, Verb::Checkpoint],
        ),
        (
            "dedup twice and let go",
            vec![
                write_alike("a", 0..9),
                Verb::Dedup,
                write_alike("b", 1..6),
                Verb::Dedup,
                write("a", blocks(0..2), 35),
                discard("b", 2 * BLOCK..4 * BLOCK),
                Verb::Flush,
                Verb::Checkpoint,
            ],
        ),
        (
            "write what a template holds",
            vec![
                write_alike("a", 0..4),
                snapshot("n7"),
                Verb::Template { server: server(), snapshot: "n7".into() },
                write_alike("b", 1..9),
                Verb::Flush,
                write_alike("a", 2..7),
                write("b", blocks(3..5), 36),
                delete("n7"),
                write_alike("a", 20..24),
                Verb::Collect,
            ],
        ),
        (
            "dedup and delete",
            vec![
                write_alike("a", 3..9),
                snapshot("n7"),
                write_alike("a", 6..12),
                Verb::Dedup,
                delete("n7"),
                Verb::Collect,
            ],
        ),
    ]
}

/// What may survive at a point: all subsets if there are few changes, each change torn, and samples.
fn survivals(point: &CrashPoint, samples: u64, dice: &mut Dice) -> Vec<Survival> {
    let count = point.device.unsynced_count();
    if !point.is_full {
        return vec![Survival::Random(dice.next())];
    }
    if count > SUBSETS_MAX {
        let sampled = (0..samples).map(|_| Survival::Random(dice.next()));
        return [Survival::Everything, Survival::Nothing].into_iter().chain(sampled).collect();
    }
    let mut all: Vec<Survival> = (0..1 << count).map(Survival::Exactly).collect();
    for torn in 0..count {
        for others in [Fate::Whole, Fate::Lost] {
            for fate in [Fate::Head(1), Fate::Tail(1), Fate::Head(9), Fate::Scattered(dice.next())] {
                let mut fates = vec![others; count];
                fates[torn] = fate;
                all.push(Survival::Fates(fates));
            }
        }
    }
    all.extend((0..samples / 4).map(|_| Survival::Random(dice.next())));
    all
}

/// Crashes at all points of a story in all ways.
fn judge_all(stage: &Stage, points: &[CrashPoint], samples: u64, tally: &Tally, dice: &mut Dice) {
    let judge = Judge {
        shape: SHAPE,
        story: &stage.story,
        blocks_when_empty: stage.blocks_when_empty,
        tally,
        again_one_in: 25,
        go_on_one_in: 40,
    };
    for point in points {
        for survival in survivals(point, samples, dice) {
            let outcome = catch_unwind(AssertUnwindSafe(|| judge.crash(point, &survival, &mut dice.clone())));
            if let Err(panic) = outcome {
                println!("  unsynced: {:#?}\n  survival: {survival:?}", point.device.unsynced());
                resume_unwind(panic);
            }
            dice.next();
        }
    }
}

/// Tells which case failed, and how its story went.
fn telling(what: &str, story: impl Fn() -> String, run: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        println!("{what} fails:\n  {}", story());
        resume_unwind(panic);
    }
}

fn sweep(name: &str) -> u64 {
    let tally = Tally::default();
    let samples = states_wanted(100_000) / 1000;
    for (deed, verbs) in deeds() {
        let mut stage = situation(name);
        let mut dice = Dice::new(1);
        let points = {
            let is_ready = verbs.iter().try_fold(stage.story.last().clone(), |model, verb| {
                verb.states(&model).map(|states| states.last().cloned().unwrap_or(model))
            });
            if is_ready.is_err() {
                continue; // there is nothing to undo, or no such snapshot, in this situation
            }
            stage.recorder.take();
            stage.run(&verbs);
            let mut points = stage.recorder.take();
            points.push(stage.recorder.now());
            points
        };
        let told = stage.story.told.join("\n  ");
        telling(
            &format!("{deed}, {name}"),
            || told.clone(),
            || judge_all(&stage, &points, samples, &tally, &mut dice),
        );
        stage.recorder.device.cut_power();
    }
    println!("{name}: {} crash states", tally.count());
    tally.count()
}

#[test]
fn every_verb_is_all_or_nothing_on_a_settled_store() {
    sweep(SITUATIONS[0]);
}

#[test]
fn every_verb_is_all_or_nothing_with_changes_that_wait() {
    sweep(SITUATIONS[1]);
}

#[test]
fn every_verb_is_all_or_nothing_after_a_crash() {
    sweep(SITUATIONS[2]);
}

#[test]
fn every_verb_is_all_or_nothing_with_a_queue_for_the_collector() {
    sweep(SITUATIONS[3]);
}

#[test]
fn every_verb_is_all_or_nothing_with_much_unsettled() {
    sweep(SITUATIONS[4]);
}

#[test]
fn opening_and_closing_are_all_or_nothing() {
    let tally = Tally::default();
    for name in SITUATIONS {
        let mut dice = Dice::new(2);
        // Opening after a crash: what was asked for is found, whole or not at all, and then stays.
        let stage = situation(name);
        let recorder = Recorder::new(stage.recorder.device.crash(&Survival::Everything));
        recorder.set_moment(stage.story.moment());
        let store = Store::open_on(recorder.clone(), SHAPE.options()).unwrap();
        let mut points = recorder.take();
        points.push(recorder.now());
        recorder.device.cut_power();
        drop(store);
        let told = stage.story.told.join("\n  ");
        telling(
            &format!("open, {name}"),
            || told.clone(),
            || judge_all(&stage, &points, 100, &tally, &mut dice),
        );
        stage.recorder.device.cut_power();

        let mut stage = situation(name);
        let Stage { recorder, store, story, .. } = &mut stage;
        recorder.take();
        recorder.set_moment(story.moment());
        store.clone().close().unwrap();
        story.promise();
        recorder.set_moment(story.moment());
        let mut points = recorder.take();
        points.push(recorder.now());
        let told = stage.story.told.join("\n  ");
        telling(
            &format!("close, {name}"),
            || told.clone(),
            || judge_all(&stage, &points, 100, &tally, &mut dice),
        );
    }
    println!("opening and closing: {} crash states", tally.count());
}

/// A store that is being made is no store yet, or an empty one.
#[test]
fn making_a_store_is_all_or_nothing() {
    let tally = Tally::default();
    let recorder = Recorder::new(SimDevice::new(0, 3));
    let store = Store::create_on(recorder.clone(), SHAPE.options()).unwrap();
    let mut points = recorder.take();
    points.push(recorder.now());
    recorder.device.cut_power();
    drop(store);
    let last = points.len() - 1;
    let mut dice = Dice::new(3);
    for (at, point) in points.iter().enumerate() {
        for survival in survivals(point, 300, &mut dice) {
            tally.add();
            let device = point.device.crash(&survival);
            match Store::open_on(Arc::new(device.clone()), SHAPE.options()) {
                Ok(store) => assert!(store.servers().is_empty()),
                Err(error) => {
                    assert!(at < last, "a store that was made does not open: {error}");
                    assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Corrupt), "{error:?}");
                }
            }
            device.cut_power();
        }
    }
    println!("making a store: {} crash states", tally.count());
}

/// Every sequence of up to three verbs out of ten.
#[test]
fn every_short_sequence_of_verbs_survives_a_crash_at_any_moment() {
    const KINDS: usize = 10;
    let tally = Tally::default();
    let mut base = Stage::new(9);
    base.run(&[
        Verb::CreateServer(server()),
        create_disk("a", 40 * BLOCK),
        write("a", blocks(0..6), 1),
        snapshot("n0"),
        write("a", blocks(2..4), 2),
        Verb::Checkpoint,
    ]);
    let ways = states_wanted(100_000).div_ceil(50_000);
    let sequences = (1..=3u32).flat_map(|len| (0..KINDS.pow(len)).map(move |number| (len, number)));
    for (len, number) in sequences {
        let mut stage = base.reopened();
        let mut dice = Dice::new(number as u64);
        let mut rest = number;
        for at in 0..u64::from(len) {
            let verb = nth_verb(rest % KINDS, at, stage.story.last());
            rest /= KINDS;
            stage.run(&[verb]);
        }
        let mut points = stage.recorder.take();
        points.push(stage.recorder.now());
        let told = stage.story.told.join("\n  ");
        let judge = Judge {
            shape: SHAPE,
            story: &stage.story,
            blocks_when_empty: stage.blocks_when_empty,
            tally: &tally,
            again_one_in: 10,
            go_on_one_in: 12,
        };
        telling(
            "a short sequence",
            || told.clone(),
            || {
                for point in &points {
                    for _ in 0..if point.is_full { 2 * ways } else { dice.below(2) } {
                        let survival = Survival::Random(dice.next());
                        judge.crash(point, &survival, &mut dice.clone());
                    }
                }
            },
        );
        stage.recorder.device.cut_power();
    }
    println!("short sequences: {} crash states", tally.count());
}

fn nth_verb(kind: usize, at: u64, model: &Model) -> Verb {
    let snapshots = &model.servers[&server()].snapshots;
    let oldest = || snapshots.keys().next().cloned();
    let newest = || snapshots.keys().next_back().cloned();
    match kind {
        0 => write("a", blocks(1..4), 100 + at),
        1 => write("a", 3 * BLOCK + 100..6 * BLOCK + 700, 200 + at),
        2 => discard("a", blocks(0..5)),
        3 => Verb::WriteZeroes { server: server(), disk: "a".into(), range: 2 * BLOCK + 512..4 * BLOCK },
        4 => Verb::Flush,
        5 => snapshot(&format!("n{}", at + 1)),
        6 => newest().map_or(Verb::Flush, |name| restore(&name)),
        7 => oldest().map_or(Verb::Checkpoint, |name| delete(&name)),
        8 => Verb::Collect,
        _ => Verb::Checkpoint,
    }
}
