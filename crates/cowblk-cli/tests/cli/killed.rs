//! Killed: `cowblk` gets SIGKILL at any moment of any command, over and over on one store. What it printed has happened;
//! what it was killed at has happened or has not, and an import or nothing is cut between two blocks.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "what was seen is part of the result")]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cowblk::{Options, Store};

use crate::harness::{Bench, noise};

const BLOCK: usize = 4096;

/// What can be seen of the server.
#[derive(Clone, PartialEq)]
struct State {
    disk: Vec<u8>,
    snapshots: BTreeMap<String, Vec<u8>>,
    before_restore: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Verb {
    Import(u64),
    Discard { offset: usize, len: usize },
    Snapshot(String),
    Restore(String),
    Delete(String),
    Collect,
}

impl Verb {
    /// A number for each kind of verb.
    fn kind(&self) -> usize {
        match self {
            Verb::Import(_) => 0,
            Verb::Discard { .. } => 1,
            Verb::Snapshot(_) => 2,
            Verb::Restore(_) => 3,
            Verb::Delete(_) => 4,
            Verb::Collect => 5,
        }
    }

    fn arguments(&self, bench: &Bench, disk_bytes: usize) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match self {
            Verb::Import(seed) => {
                let image = bench.file("image.raw", &noise(*seed, disk_bytes));
                words(&["disk", "import", "--no-verify", &image, "web/vda"])
            }
            Verb::Discard { offset, len } => words(&[
                "disk",
                "discard",
                "web/vda",
                "--offset",
                &offset.to_string(),
                "--length",
                &len.to_string(),
            ]),
            Verb::Snapshot(name) => words(&["snapshot", "create", "web", name]),
            Verb::Restore(name) => words(&["snapshot", "restore", "web", name]),
            Verb::Delete(name) => words(&["snapshot", "delete", "web", name]),
            Verb::Collect => words(&["collect"]),
        }
    }

    fn applied_to(&self, state: &State) -> State {
        let mut after = state.clone();
        match self {
            Verb::Import(seed) => after.disk = noise(*seed, state.disk.len()),
            Verb::Discard { offset, len } => after.disk[*offset..offset + len].fill(0),
            Verb::Snapshot(name) => drop(after.snapshots.insert(name.clone(), state.disk.clone())),
            Verb::Restore(name) => {
                after.disk.clone_from(&state.snapshots[name]);
                after.before_restore = Some(state.disk.clone());
            }
            Verb::Delete(name) => drop(after.snapshots.remove(name)),
            Verb::Collect => {}
        }
        after
    }
}

impl State {
    fn observe(bench: &Bench) -> State {
        let store = Store::open_read_only(bench.store(), Options::default()).unwrap();
        let server = store.server("web").unwrap();
        let disk = server.disk("vda").unwrap();
        let len = usize::try_from(disk.size_bytes()).unwrap();
        let of_snapshot = |snapshot: &cowblk::Snapshot| {
            let mut bytes = vec![0xAA; len];
            snapshot.disk("vda").unwrap().read_at(&mut bytes, 0).unwrap();
            bytes
        };
        let mut bytes = vec![0xAA; len];
        disk.read_at(&mut bytes, 0).unwrap();
        State {
            disk: bytes,
            snapshots: server.snapshots().iter().map(|s| (s.name(), of_snapshot(s))).collect(),
            before_restore: server.before_restore().as_ref().map(of_snapshot),
        }
    }

    /// Whether this is `older` in which an import has replaced some first blocks by those of `newer`.
    fn is_cut_between(&self, older: &State, newer: &State) -> bool {
        let differs = |other: &State| {
            let (ours, theirs) = (self.disk.chunks(BLOCK), other.disk.chunks(BLOCK));
            ours.zip(theirs).map(|(ours, theirs)| ours != theirs).collect::<Vec<_>>()
        };
        let cut = differs(newer).iter().position(|differs| *differs).unwrap_or(self.disk.len() / BLOCK);
        let rest_is_old = !differs(older)[cut..].contains(&true);
        rest_is_old && State { disk: older.disk.clone(), ..self.clone() } == *older
    }
}

/// A small generator (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }

    fn verb(&mut self, state: &State, number: usize) -> Verb {
        let one = self.below(state.snapshots.len().max(1));
        let name = state.snapshots.keys().nth(one).cloned();
        match (self.below(8), name) {
            (0..2, _) => Verb::Import(number as u64),
            (2, _) => {
                let blocks = state.disk.len() / BLOCK;
                let first = self.below(blocks);
                let count = 1 + self.below(blocks - first);
                Verb::Discard { offset: first * BLOCK, len: count * BLOCK }
            }
            (3, Some(name)) => Verb::Restore(name),
            (4..6, Some(name)) => Verb::Delete(name),
            (6, _) => Verb::Collect,
            _ => Verb::Snapshot(format!("s{number}")),
        }
    }
}

/// How often what was seen.
#[derive(Debug, Default)]
struct Seen {
    killed: usize,
    undone: usize,
    /// Imports of which some first blocks are there.
    cut: usize,
    done: usize,
}

/// A store, what it should hold, and how long each kind of verb takes when nobody kills it, as far as that is known.
struct Life {
    bench: Bench,
    dice: Dice,
    state: State,
    usual: [Duration; 6],
    seen: Seen,
}

impl Life {
    fn new(disk_bytes: usize, journal: &str) -> Life {
        let seed = std::env::var("COWBLK_SEED").map_or(7, |text| text.parse().unwrap());
        println!("the commands, but not the moments, follow from COWBLK_SEED={seed}");
        let bench = Bench::empty();
        bench.ok(["init", "--journal", journal]);
        bench.ok(["server", "create", "web"]);
        bench.ok(["disk", "create", "web/vda", &disk_bytes.to_string()]);
        let state = State::observe(&bench);
        let usual = [Duration::from_millis(10); 6];
        Life { bench, dice: Dice(seed), state, usual, seen: Seen::default() }
    }

    /// Runs a command and kills it, mostly before it ends. Whether it was killed.
    fn run_and_kill(&mut self, verb: &Verb) -> bool {
        let arguments = verb.arguments(&self.bench, self.state.disk.len());
        let mut command = self.bench.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let usual = &mut self.usual[verb.kind()];
        let percent = u32::try_from(self.dice.below(130)).unwrap();
        let started = Instant::now();
        let mut child = command.spawn().unwrap();
        sleep(*usual * percent / 100);
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let was_killed = status.signal().is_some();
        assert!(was_killed || status.success(), "{verb:?} failed by itself: {status}");
        if !was_killed {
            *usual = started.elapsed().min(*usual);
        } else if percent > 100 {
            *usual = *usual * 3 / 2;
        }
        was_killed
    }

    fn step(&mut self, number: usize, verb: &Verb) {
        let was_killed = self.run_and_kill(verb);
        let audit = self.bench.run(["check"]);
        assert_eq!(audit.code, 0, "after command {number}, {verb:?}: {audit:?}");
        let (found, after) = (State::observe(&self.bench), verb.applied_to(&self.state));
        let is_undone = found == self.state;
        let is_cut = matches!(verb, Verb::Import(_)) && found.is_cut_between(&self.state, &after);
        let seen = &mut self.seen;
        seen.killed += usize::from(was_killed);
        if found == after {
            seen.done += 1;
        } else {
            assert!(was_killed, "command {number}, {verb:?}, ended well and is not done");
            assert!(is_undone || is_cut, "command {number}, {verb:?}, is neither done nor undone");
            *(if is_undone { &mut seen.undone } else { &mut seen.cut }) += 1;
        }
        self.state = found;
    }
}

#[test]
fn a_command_that_is_killed_has_happened_or_not() {
    let mut life = Life::new(2 << 20, "1M");
    for number in 0.. {
        let verb = life.dice.verb(&life.state, number);
        life.step(number, &verb);
        if life.seen.killed == 90 {
            break;
        }
    }
    println!("{:?}", life.seen);
    assert!(life.seen.undone > 10 && life.seen.done > 10, "the moments are badly chosen: {:?}", life.seen);
}

/// Its journal is so small that an import takes many batches and checkpoints.
#[test]
fn an_import_that_is_killed_leaves_some_first_blocks() {
    let mut life = Life::new(24 << 20, "64K");
    let whole = Verb::Import(1_000);
    let started = Instant::now();
    life.bench.ok(whole.arguments(&life.bench, life.state.disk.len()));
    life.usual[whole.kind()] = started.elapsed();
    life.state = whole.applied_to(&life.state);
    for number in 0..150 {
        life.step(number, &Verb::Import(number as u64));
        if life.seen.killed >= 12 && life.seen.cut >= 3 {
            println!("{:?}", life.seen);
            return;
        }
    }
    panic!("the moments are badly chosen: {:?}", life.seen);
}

/// Several processes make a store at once: one makes it, the others are told that it is there, or being made.
#[test]
fn one_of_several_makes_the_store() {
    for round in 0..15 {
        let bench = Bench::empty();
        let start = || {
            let mut command = bench.command(["init", "--journal", "1M"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let children: Vec<Child> = (0..4).map(|_| start()).collect();
        let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        let codes: Vec<_> = outputs.iter().map(|output| output.status.code().unwrap()).collect();
        let said: Vec<_> = outputs.iter().map(|output| String::from_utf8_lossy(&output.stderr)).collect();
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "round {round}: {said:?}");
        assert!(codes.iter().all(|code| [0, 4, 5].contains(code)), "round {round}: {codes:?} {said:?}");
        assert_eq!(bench.run(["check"]).code, 0);
    }
}
