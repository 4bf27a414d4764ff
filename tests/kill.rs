//! Kill: a writer is killed at random moments, and what is left must be a prefix of what it wrote.
//!
//! The writer is this test binary once more, told by the environment what to do. Its operations follow from a seed, so
//! that the parent can repeat them on a model, one block at a time, and look for the moment that the store has kept. That
//! moment must not lie before the last flush or snapshot that the writer reported.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod fixture;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cowblk::{Options, Server, Snapshot, Store};
use fixture::{Dice, ReplayOnPanic, SECTOR, assert_clean, scratch, seeds, stamp, stamps};

/// Kills in one run of the test, and how many of them each store lives through.
const KILLS: u64 = 120;
const KILLS_PER_STORE: u64 = 12;
/// Operations that a writer does at most, should nobody kill it.
const OPERATIONS_MAX: u64 = 4_000;
const SECTORS_PER_BLOCK: usize = 8;
const DISKS: [(&str, usize); 2] = [("vda", 2_051), ("vdb", 512)];

#[derive(Clone, Debug, PartialEq)]
enum Operation {
    Write { disk: usize, first: usize, count: usize },
    Discard { disk: usize, first: usize, count: usize },
    Snapshot,
    RestoreTo(usize),
    UndoRestore,
    Delete(usize),
    Flush,
    Checkpoint,
    Collect,
}

/// The next operation: it depends on the dice and on which snapshots there are, and on nothing else.
fn choose(dice: &mut Dice, snapshot_count: usize, can_undo: bool) -> Operation {
    let disk = dice.index(DISKS.len());
    let first = dice.index(DISKS[disk].1);
    let longest = *dice.pick(&[1, 8, 16, 16, 80, 600]);
    let mut count = (1 + dice.index(longest)).min(DISKS[disk].1 - first);
    let mut first = first;
    if dice.chance(50) {
        first -= first % SECTORS_PER_BLOCK;
        count = count.next_multiple_of(SECTORS_PER_BLOCK).min(DISKS[disk].1 - first);
    }
    let (roll, index) = (dice.below(200), dice.next());
    let index = |len: usize| usize::try_from(index % len as u64).unwrap();
    match roll {
        0..120 => Operation::Write { disk, first, count },
        120..135 => Operation::Discard { disk, first, count },
        135..145 if snapshot_count < 5 => Operation::Snapshot,
        145..152 if snapshot_count > 0 => Operation::RestoreTo(index(snapshot_count)),
        152..154 if can_undo => Operation::UndoRestore,
        154..164 if snapshot_count > 1 => Operation::Delete(index(snapshot_count)),
        164..168 => Operation::Checkpoint,
        168..171 => Operation::Collect,
        _ => Operation::Flush,
    }
}

fn options(dice: &mut Dice) -> Options {
    Options::default()
        .zone_blocks(*dice.pick(&[64, 256, 1024]))
        .journal_bytes(*dice.pick(&[64 << 10, 256 << 10, 1 << 20]))
        .dirty_bytes(*dice.pick(&[64 << 10, 1 << 20, 16 << 20]))
        .background(dice.chance(50))
}

/// User snapshots, oldest first.
fn snapshots(server: &Server) -> Vec<Snapshot> {
    server.snapshots().into_iter().rev().collect()
}

mod writer {
    //! The process that is killed.

    use super::*;

    /// Where the store is, the seed of its life, the seed of this round, the number of the first operation.
    pub(super) const STORE: &str = "COWBLK_KILL_STORE";
    pub(super) const LIFE: &str = "COWBLK_KILL_LIFE";
    pub(super) const ROUND: &str = "COWBLK_KILL_ROUND";
    pub(super) const FIRST: &str = "COWBLK_KILL_FIRST";

    fn number(name: &str) -> u64 {
        std::env::var(name).unwrap().parse().unwrap()
    }

    fn report(word: &str, operation: u64) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{word} {operation}").unwrap();
        out.flush().unwrap();
    }

    fn perform(store: &Store, server: &Server, operation: &Operation, number: u64) -> cowblk::Result<()> {
        match *operation {
            Operation::Write { disk, first, count } => {
                let mut bytes = vec![0; count * SECTOR];
                stamp(&mut bytes, first as u64, number);
                server.disk(DISKS[disk].0)?.write_at(&bytes, (first * SECTOR) as u64)
            }
            Operation::Discard { disk, first, count } => {
                server.disk(DISKS[disk].0)?.discard((first * SECTOR) as u64, (count * SECTOR) as u64)
            }
            Operation::Snapshot => server.snapshot(&format!("at-{number}"), "").map(drop),
            Operation::RestoreTo(index) => server.restore(snapshots(server)[index].id()),
            Operation::UndoRestore => server.restore(server.before_restore().unwrap().id()),
            Operation::Delete(index) => store.delete_snapshot(snapshots(server)[index].id()),
            Operation::Flush => store.flush(),
            Operation::Checkpoint => store.checkpoint(),
            Operation::Collect => store.collect(),
        }
    }

    pub(super) fn run() {
        let store =
            Store::open(std::env::var(STORE).unwrap(), options(&mut Dice::new(number(LIFE)))).unwrap();
        let server = store.server("web").unwrap();
        report("opened", 0);
        let mut dice = Dice::new(number(ROUND));
        for operation_number in number(FIRST)..number(FIRST) + OPERATIONS_MAX {
            let can_undo = server.before_restore().is_some();
            let operation = choose(&mut dice, server.snapshots().len(), can_undo);
            perform(&store, &server, &operation, operation_number)
                .unwrap_or_else(|e| panic!("{operation:?}: {e}"));
            if matches!(
                operation,
                Operation::Flush | Operation::Snapshot | Operation::Checkpoint | Operation::Collect
            ) {
                report("durable", operation_number);
            }
        }
    }
}

/// Stamps of every sector of every disk.
type Content = Vec<Vec<u64>>;

/// What can be seen of a store, and what the model says should be seen.
#[derive(Clone, PartialEq)]
struct State {
    disks: Content,
    /// Name and content, oldest first.
    snapshots: Vec<(String, Content)>,
    before_restore: Option<Content>,
}

impl State {
    fn new() -> Self {
        let disks = DISKS.iter().map(|(_, sectors)| vec![0; *sectors]).collect();
        Self { disks, snapshots: Vec::new(), before_restore: None }
    }

    /// What the open store holds; panics on a sector that is torn or in a wrong place.
    fn observe(server: &Server) -> Self {
        let read = |len: u64, read_at: &dyn Fn(&mut [u8]) -> cowblk::Result<()>| {
            let mut bytes = vec![0xAA; usize::try_from(len).unwrap()];
            read_at(&mut bytes).unwrap();
            stamps(&bytes, 0).unwrap_or_else(|e| panic!("{e}"))
        };
        let of_snapshot = |snapshot: &Snapshot| -> Content {
            let disks = DISKS.iter().map(|(name, _)| snapshot.disk(name).unwrap());
            disks.map(|d| read(d.size_bytes(), &|buf| d.read_at(buf, 0))).collect()
        };
        let disks = DISKS.iter().map(|(name, _)| server.disk(name).unwrap());
        Self {
            disks: disks.map(|d| read(d.size_bytes(), &|buf| d.read_at(buf, 0))).collect(),
            snapshots: snapshots(server).iter().map(|s| (s.name(), of_snapshot(s))).collect(),
            before_restore: server.before_restore().as_ref().map(of_snapshot),
        }
    }

    /// Applies the operation in the steps at which a crash may cut it; `seen` is called after each and may stop it.
    fn apply(&mut self, operation: &Operation, number: u64, seen: &mut dyn FnMut(&Self) -> bool) -> bool {
        match *operation {
            Operation::Write { disk, first, count } => {
                return self.put(disk, first..first + count, number, seen);
            }
            Operation::Discard { disk, first, count } => {
                return self.put(disk, first..first + count, 0, seen);
            }
            Operation::Snapshot => self.snapshots.push((format!("at-{number}"), self.disks.clone())),
            Operation::RestoreTo(index) => self.swap(self.snapshots[index].1.clone()),
            Operation::UndoRestore => self.swap(self.before_restore.clone().unwrap()),
            Operation::Delete(index) => drop(self.snapshots.remove(index)),
            Operation::Flush | Operation::Checkpoint | Operation::Collect => {}
        }
        seen(self)
    }

    fn swap(&mut self, content: Content) {
        self.before_restore = Some(std::mem::replace(&mut self.disks, content));
    }

    fn put(
        &mut self,
        disk: usize,
        range: std::ops::Range<usize>,
        stamp: u64,
        seen: &mut dyn FnMut(&Self) -> bool,
    ) -> bool {
        let mut first = range.start;
        while first < range.end {
            let end = (first + 1).next_multiple_of(SECTORS_PER_BLOCK).min(range.end);
            self.disks[disk][first..end].fill(stamp);
            if seen(self) {
                return true;
            }
            first = end;
        }
        false
    }

    /// In how many sectors and snapshots two states differ, and where the first few are.
    fn difference(&self, other: &Self) -> (usize, String) {
        let mut places = Vec::new();
        let mut compare = |what: &str, ours: &Content, theirs: &Content| {
            for (disk, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                let differ = (0..ours.len()).filter(|&i| ours[i] != theirs[i]);
                places
                    .extend(differ.map(|i| {
                        format!("{what} {} sector {i}: {} / {}", DISKS[disk].0, ours[i], theirs[i])
                    }));
            }
        };
        compare("live", &self.disks, &other.disks);
        let (ours, theirs): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (self.snapshots.iter().cloned().collect(), other.snapshots.iter().cloned().collect());
        for (name, content) in &ours {
            if let Some(theirs) = theirs.get(name) {
                compare(name, content, theirs);
            }
        }
        if let (Some(ours), Some(theirs)) = (&self.before_restore, &other.before_restore) {
            compare("before-restore", ours, theirs);
        }
        let names = |map: &BTreeMap<String, Content>| map.keys().cloned().collect::<Vec<_>>();
        if names(&ours) != names(&theirs) || self.before_restore.is_some() != other.before_restore.is_some() {
            places.push(format!("snapshots {:?} / {:?}", names(&ours), names(&theirs)));
        }
        (places.len(), places.into_iter().take(8).collect::<Vec<_>>().join("\n  "))
    }
}

struct Life {
    seed: u64,
    path: std::path::PathBuf,
    state: State,
    next_operation: u64,
}

impl Life {
    fn new(seed: u64, dir: &Path) -> Self {
        let path = dir.join(format!("life-{seed}.cow"));
        let store = Store::create(&path, options(&mut Dice::new(seed))).unwrap();
        let server = store.create_server("web").unwrap();
        for (name, sectors) in DISKS {
            server.create_disk(name, (sectors * SECTOR) as u64).unwrap();
        }
        store.close().unwrap();
        Self { seed, path, state: State::new(), next_operation: 1 }
    }

    fn spawn(&self, round: u64) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_writer", "--nocapture"])
            .env(writer::STORE, &self.path)
            .env(writer::LIFE, self.seed.to_string())
            .env(writer::ROUND, round.to_string())
            .env(writer::FIRST, self.next_operation.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Lets a writer run for a while and kills it: the last operation that it reported as durable.
    fn kill_a_writer(&self, round: u64) -> u64 {
        let mut dice = Dice::new(round ^ 0xDEAD);
        let mut child = self.spawn(round);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let wanted = dice.below(40);
        let mut durable = self.next_operation - 1;
        let mut note = |line: &str| {
            if let Some(number) = line.strip_prefix("durable ") {
                durable = number.parse().unwrap();
            }
            line.starts_with("durable ") || line.starts_with("opened ")
        };
        let mut reports = 0;
        while reports < wanted {
            let Some(line) = lines.next() else { break };
            reports += u64::from(note(&line));
        }
        std::thread::sleep(Duration::from_micros(dice.below(4_000)));
        child.kill().unwrap();
        for line in lines {
            note(&line);
        }
        let status = child.wait().unwrap();
        assert!(status.code().is_none_or(|code| code == 0), "the writer failed by itself: {status}");
        durable
    }

    /// Moves the model to the moment that the store has kept, at or after operation `durable`.
    fn settle(&mut self, round: u64, durable: u64, found: &State) {
        let mut dice = Dice::new(round);
        let mut nearest = (usize::MAX, String::new());
        let (first, mut model) = (self.next_operation, self.state.clone());
        let mut kept = durable < first && model == *found;
        let mut number = first;
        while !kept && number < first + OPERATIONS_MAX {
            let operation = choose(&mut dice, model.snapshots.len(), model.before_restore.is_some());
            kept = model.apply(&operation, number, &mut |state| number > durable && state == found);
            kept |= number == durable && model == *found;
            if !kept && number >= durable && number < durable + 200 {
                let (count, places) = model.difference(found);
                if count < nearest.0 {
                    nearest = (
                        count,
                        format!("after operation {number}, {operation:?} (model / store):\n  {places}"),
                    );
                }
            }
            number += 1;
        }
        assert!(
            kept,
            "the store holds no prefix of what was written after operation {first}, durable up to {durable}.\n\
             Nearest, with {} differences: {}",
            nearest.0, nearest.1
        );
        (self.state, self.next_operation) = (model, number);
    }

    fn round(&mut self, round: u64) {
        let durable = self.kill_a_writer(round);
        if round.is_multiple_of(2) {
            assert_clean(&self.path, "straight after the kill");
        }
        let store = Store::open(&self.path, options(&mut Dice::new(self.seed))).unwrap();
        let found = State::observe(&store.server("web").unwrap());
        self.settle(round, durable, &found);
        store.close().unwrap();
        assert_clean(&self.path, "after the recovery");
    }
}

/// Not a test by itself: the process that [`a_killed_writer_leaves_a_prefix`] starts and kills.
#[test]
fn the_writer() {
    if std::env::var_os(writer::STORE).is_some() {
        writer::run();
    }
}

#[test]
fn a_killed_writer_leaves_a_prefix() {
    let dir = scratch();
    for seed in seeds(KILLS / KILLS_PER_STORE) {
        let _replay = ReplayOnPanic { test: "--test kill", seed };
        let mut life = Life::new(seed, dir.path());
        for round in 0..KILLS_PER_STORE {
            life.round(seed * 1_000 + round);
        }
        std::fs::remove_file(&life.path).unwrap();
    }
}
