//! Kill: a writer is killed at random moments, and what is left must be a prefix of what it wrote.
//!
//! The writer is this test binary once more, told by the environment what to do. Its operations follow from a seed, so
//! that the parent can repeat them on a model, one block at a time, and look for the moment that the store has kept. That
//! moment must not lie before the last flush or snapshot that the writer reported. Where it had a handover file, every
//! operation counts that it reported, flushed or not, even if those who open the store next are killed as well.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod fixture;
mod prefix;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cowblk::{Options, Store};
use fixture::{Dice, ReplayOnPanic, assert_clean, scratch, seeds};
use prefix::{State, choose, is_durable, options, perform, prepare, settle};

/// Kills in one run of the test, and how many of them each store lives through.
const KILLS: u64 = 120;
const KILLS_PER_STORE: u64 = 12;
/// Operations that a writer does at most, should nobody kill it.
const OPERATIONS_MAX: u64 = 4_000;

mod writer {
    //! The process that is killed.

    use super::*;

    /// Where the store is, the seed of its life, the seed of this round, the number of the first operation.
    pub(super) const STORE: &str = "COWBLK_KILL_STORE";
    pub(super) const LIFE: &str = "COWBLK_KILL_LIFE";
    pub(super) const ROUND: &str = "COWBLK_KILL_ROUND";
    pub(super) const FIRST: &str = "COWBLK_KILL_FIRST";
    /// How many operations at most.
    pub(super) const COUNT: &str = "COWBLK_KILL_COUNT";

    fn number(name: &str) -> u64 {
        std::env::var(name).unwrap().parse().unwrap()
    }

    fn report(word: &str, operation: u64) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{word} {operation}").unwrap();
        out.flush().unwrap();
    }

    pub(super) fn run() {
        let path = std::path::PathBuf::from(std::env::var(STORE).unwrap());
        let store = Store::open(&path, options_of(number(LIFE), &path)).unwrap();
        let server = store.server("web").unwrap();
        report("opened", 0);
        for operation_number in number(FIRST)..number(FIRST) + number(COUNT) {
            let can_undo = server.before_restore().is_some();
            let operation = choose(number(ROUND), operation_number, server.snapshots().len(), can_undo);
            perform(&store, &server, &operation, operation_number)
                .unwrap_or_else(|e| panic!("{operation:?}: {e}"));
            if is_durable(&operation) || hands_over(number(LIFE)) {
                report("durable", operation_number);
            }
        }
    }
}

/// Whether the writers of a life leave a handover file.
fn hands_over(life: u64) -> bool {
    !life.is_multiple_of(3)
}

fn options_of(life: u64, path: &Path) -> Options {
    let options = options(&mut Dice::new(life)).punch_holes(life.is_multiple_of(4));
    if hands_over(life) { options.handover(Some(Store::handover_path(path))) } else { options }
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
        let store = Store::create(&path, options_of(seed, &path)).unwrap();
        prepare(&store);
        store.close().unwrap();
        Self { seed, path, state: State::new(), next_operation: 1 }
    }

    fn spawn(&self, round: u64, count: u64) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_writer", "--nocapture"])
            .env(writer::STORE, &self.path)
            .env(writer::LIFE, self.seed.to_string())
            .env(writer::ROUND, round.to_string())
            .env(writer::FIRST, self.next_operation.to_string())
            .env(writer::COUNT, count.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Lets a writer run for a while and kills it: the last operation that it reported as durable.
    fn kill_a_writer(&self, round: u64) -> u64 {
        let mut dice = Dice::new(round ^ 0xDEAD);
        let mut child = self.spawn(round, OPERATIONS_MAX);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let wanted = dice.below(if hands_over(self.seed) { 400 } else { 40 });
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

    /// Kills processes that do no more than to open the store, most of them before they have.
    fn kill_openers(&self, round: u64) {
        let mut dice = Dice::new(round ^ 0x0BEE);
        for _ in 0..dice.below(3) {
            let mut child = self.spawn(round, 0);
            std::thread::sleep(Duration::from_micros(dice.below(12_000)));
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn round(&mut self, round: u64) {
        let durable = self.kill_a_writer(round);
        self.kill_openers(round);
        if round.is_multiple_of(2) {
            assert_clean(&self.path, "straight after the kill");
        }
        // Who opens it by its path takes over without being told.
        let options = if round.is_multiple_of(3) {
            options(&mut Dice::new(self.seed))
        } else {
            options_of(self.seed, &self.path)
        };
        let store = Store::open(&self.path, options).unwrap();
        let found = State::observe(&store.server("web").unwrap());
        let (first, start) = (self.next_operation, self.state.clone());
        let last = settle(round, start, first..first + OPERATIONS_MAX, durable, &found);
        self.next_operation =
            last.unwrap_or_else(|e| panic!("from operation {first} on: {e}")).max(first - 1) + 1;
        self.state = found;
        store.close().unwrap();
        assert!(!Store::handover_path(&self.path).exists(), "a store that was closed hands nothing over");
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
