//! Processes: several of them open, and make, one store at the same moment. One at a time has it; the others are told so,
//! and what to do about it; and a holder that is killed lets go.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "what was seen is part of the result")]

mod fixture;

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;

use cowblk::{Disk, Error, ErrorKind, Options, Store};
use fixture::{assert_clean, scratch};
use parking_lot::Mutex;

/// One test at a time: a process that is just being started holds a copy of every open file for a moment, locks included.
static ALONE: Mutex<()> = Mutex::new(());

fn options() -> Options {
    Options::default().zone_blocks(256).journal_bytes(256 << 10).background(false)
}

fn disk_of(store: &Store) -> Disk {
    store.server("web").unwrap().disk("vda").unwrap()
}

fn count(disk: &Disk) -> u64 {
    let mut bytes = [0; 8];
    disk.read_at(&mut bytes, 0).unwrap();
    u64::from_le_bytes(bytes)
}

fn create(path: &Path) {
    let store = Store::create(path, options()).unwrap();
    store.create_server("web").unwrap().create_disk("vda", 1 << 20).unwrap();
    store.close().unwrap();
}

mod rival {
    //! The processes that race. They start when their standard input is closed.

    use super::*;

    pub(super) const STORE: &str = "COWBLK_RACE_STORE";
    pub(super) const PART: &str = "COWBLK_RACE_PART";

    pub(super) fn say(word: &str) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{word}").unwrap();
        out.flush().unwrap();
    }

    /// What a loser of a race must be told.
    fn assert_busy(error: &Error) {
        let message = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Busy, "{message}");
        assert!(message.contains("pool.cow") && message.contains("another process"), "{message}");
        assert!(message.contains("stop it") || message.contains("wait for it"), "no advice: {message}");
    }

    fn open_in_the_end(path: &Path) -> (Store, u64) {
        let mut refused = 0;
        loop {
            match Store::open(path, options()) {
                Ok(store) => return (store, refused),
                Err(error) => assert_busy(&error),
            }
            refused += 1;
        }
    }

    /// Counts up in the store, which is no atomic operation, so that two who have it at once lose a count.
    fn count_up(path: &Path, rounds: u64) {
        let mut refused = 0;
        for _ in 0..rounds {
            let (store, times) = open_in_the_end(path);
            refused += times;
            let alone = path.with_extension("alone");
            drop(
                OpenOptions::new().write(true).create_new(true).open(&alone).expect("nobody else is inside"),
            );
            let disk = disk_of(&store);
            disk.write_at(&(count(&disk) + 1).to_le_bytes(), 0).unwrap();
            std::fs::remove_file(alone).unwrap();
            drop(disk);
            store.close().unwrap();
        }
        say(&format!("refused {refused}"));
    }

    /// Takes the store and never lets go.
    fn hold(path: &Path) {
        let (store, _) = open_in_the_end(path);
        let disk = disk_of(&store);
        for more in count(&disk) + 1.. {
            disk.write_at(&more.to_le_bytes(), 0).unwrap();
            disk.flush().unwrap();
            say(&format!("holds {more}"));
        }
    }

    fn make(path: &Path) {
        match Store::open_or_create(path, options()) {
            Ok(store) => {
                say("made");
                store.close().unwrap();
            }
            Err(error) => {
                assert_busy(&error);
                say("busy");
            }
        }
    }

    pub(super) fn run() {
        let path = std::env::var(STORE).unwrap();
        let path = Path::new(&path);
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        match std::env::var(PART).unwrap().as_str() {
            "count" => count_up(path, 40),
            "hold" => hold(path),
            _ => make(path),
        }
    }
}

/// Not a test by itself: the process that the others start.
#[test]
fn the_rival() {
    if std::env::var_os(rival::STORE).is_some() {
        rival::run();
    }
}

fn spawn(path: &Path, part: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_rival", "--nocapture"])
        .env(rival::STORE, path)
        .env(rival::PART, part)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Several rivals that start together: their processes, which have begun.
fn race(path: &Path, part: &str, rivals: usize) -> Vec<Child> {
    let mut children: Vec<Child> = (0..rivals).map(|_| spawn(path, part)).collect();
    let starts: Vec<ChildStdin> = children.iter_mut().map(|child| child.stdin.take().unwrap()).collect();
    drop(starts);
    children
}

/// What they said, each; they must have ended well.
fn ended_well(children: Vec<Child>) -> Vec<String> {
    let outputs = children.into_iter().map(|child| child.wait_with_output().unwrap());
    outputs
        .map(|output| {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
        .collect()
}

fn numbers_after(said: &str, word: &str) -> Vec<u64> {
    said.lines().filter_map(|line| line.strip_prefix(word)?.trim().parse().ok()).collect()
}

#[test]
fn one_process_at_a_time_has_the_store() {
    let _alone = ALONE.lock();
    let dir = scratch();
    let path = dir.path().join("pool.cow");
    create(&path);
    let mut races = 0;
    loop {
        races += 1;
        let said = ended_well(race(&path, "count", 4));
        let refused: u64 = said.iter().flat_map(|said| numbers_after(said, "refused ")).sum();
        println!("160 openings, {refused} refusals");
        if refused > 0 {
            break; // else they never met
        }
    }
    let store = Store::open(&path, options()).unwrap();
    assert_eq!(count(&disk_of(&store)), races * 4 * 40, "a count was lost");
    store.close().unwrap();
    assert_clean(&path, "after the race");
}

/// What the holders say: who, and what; nothing, where one says nothing any more.
struct Heard {
    told: mpsc::Receiver<(usize, Option<u64>)>,
    /// What others than the one who was killed said meanwhile.
    early: VecDeque<(usize, Option<u64>)>,
}

impl Heard {
    fn listen(children: &mut [Child]) -> Heard {
        let (tell, told) = mpsc::channel();
        for (nth, child) in children.iter_mut().enumerate() {
            let (lines, tell) = (BufReader::new(child.stdout.take().unwrap()).lines(), tell.clone());
            std::thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    if let Some(more) = line.strip_prefix("holds ") {
                        let _ = tell.send((nth, Some(more.parse().unwrap())));
                    }
                }
                let _ = tell.send((nth, None));
            });
        }
        Heard { told, early: VecDeque::new() }
    }

    fn next(&mut self) -> (usize, Option<u64>) {
        self.early.pop_front().unwrap_or_else(|| self.told.recv().unwrap())
    }

    /// What this one still said before it died, at last; what others say is kept.
    fn last_of(&mut self, dead: usize) -> Option<u64> {
        assert!(self.early.iter().all(|(nth, _)| *nth == dead), "two have it at once");
        let mut last = self.early.drain(..).filter_map(|(_, more)| more).next_back();
        loop {
            match self.told.recv().unwrap() {
                (nth, Some(more)) if nth == dead => last = Some(more),
                (nth, None) if nth == dead => return last,
                other => self.early.push_back(other),
            }
        }
    }
}

/// Whoever has it is killed, and one of those who wait has it next, with everything that was flushed.
#[test]
fn a_holder_that_is_killed_lets_go() {
    let _alone = ALONE.lock();
    for _ in 0..5 {
        let dir = scratch();
        let path = dir.path().join("pool.cow");
        create(&path);
        let mut children = race(&path, "hold", 4);
        let mut heard = Heard::listen(&mut children);
        let mut last = 0;
        for _ in 0..children.len() {
            let (holder, Some(first)) = heard.next() else { panic!("a rival gave up") };
            // The one before may have flushed once more, and died before it could say so.
            assert!(first == last + 1 || first == last + 2, "after {last} comes {first}");
            last = first;
            for _ in 0..5 {
                assert_eq!(heard.next(), (holder, Some(last + 1)), "two have it at once");
                last += 1;
            }
            children[holder].kill().unwrap();
            children[holder].wait().unwrap();
            last = heard.last_of(holder).unwrap_or(last);
        }
        assert_clean(&path, "after the last was killed");
        assert!(count(&disk_of(&Store::open(&path, options()).unwrap())) >= last);
    }
}

/// Two who make one store at once: one makes it, the others are told that it is busy, and nobody finds half a store.
#[test]
fn one_of_several_makes_the_store_and_the_others_wait() {
    let _alone = ALONE.lock();
    for round in 0..20 {
        let dir = scratch();
        let path = dir.path().join("pool.cow");
        let said = ended_well(race(&path, "make", 4));
        let made = said.iter().filter(|said| said.contains("\nmade")).count();
        assert!(made > 0, "round {round}: nobody made it: {said:?}");
        assert_clean(&path, "after it was made");
    }
}

/// The same among threads, which meet more closely: between the making of the file and its lock, too.
#[test]
fn whoever_opens_or_makes_a_store_gets_it_or_is_told_to_wait() {
    let _alone = ALONE.lock();
    let dir = scratch();
    for round in 0..1000 {
        let path = dir.path().join("pool.cow");
        let start = std::sync::Barrier::new(4);
        let got: Vec<Result<(), Error>> = std::thread::scope(|scope| {
            let rivals: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        let small = options().zone_blocks(64).journal_bytes(64 << 10);
                        Store::open_or_create(&path, small).and_then(Store::close)
                    })
                })
                .collect();
            rivals.into_iter().map(|rival| rival.join().unwrap()).collect()
        });
        for refused in got.iter().filter_map(|got| got.as_ref().err()) {
            assert_eq!(refused.kind(), ErrorKind::Busy, "round {round}: {refused}");
        }
        if got.iter().any(Result::is_ok) {
            std::fs::remove_file(&path).unwrap();
        }
    }
}
