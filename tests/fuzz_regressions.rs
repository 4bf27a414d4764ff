//! Fuzz regressions: replays every input that a fuzz target once failed on, and the seeds of its corpus.
//!
//! The inputs are in fuzz/regressions/<target>/; a new one needs nothing but its file there. The properties are those of
//! the fuzz targets themselves. Stores that bugs were found with are made again: see fuzz/properties/found.rs.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers are those of small images, or forged anyway"
)]
#![allow(missing_docs, unreachable_pub, reason = "a test crate has no outside")]

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

#[path = "../fuzz/properties/mod.rs"]
mod properties;

/// Many times what the slowest input takes on a busy machine: whatever needs longer hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs the property on a thread of its own; an input that does not come back is a failure, too.
fn run(property: fn(&[u8]), data: Vec<u8>) -> Result<(), &'static str> {
    let (done, waiting) = mpsc::channel();
    let thread = thread::spawn(move || {
        property(&data);
        done.send(()).unwrap();
    });
    match waiting.recv_timeout(PATIENCE) {
        Ok(()) => thread.join().map_err(|_| "panics"),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err("panics"),
        Err(mpsc::RecvTimeoutError::Timeout) => Err("hangs"),
    }
}

#[test]
fn what_was_once_found_stays_fixed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    let mut failures = Vec::new();
    for (target, property) in properties::TARGETS {
        let Ok(entries) = fs::read_dir(folder.join(target)) else { continue };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            if let Err(what) = run(property, fs::read(&path).unwrap()) {
                failures.push(format!("{target}: {what} on {}", path.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Targets of other crates, whose own tests replay what was found: `crates/cowblk-nbd/tests/fuzzed.rs`,
/// `crates/cowblk-stream/tests/codec.rs`.
const REPLAYED_ELSEWHERE: [&str; 2] = ["nbd", "stream"];

#[test]
fn every_folder_of_inputs_belongs_to_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_ours = properties::TARGETS.iter().any(|(target, _)| *target == name);
        assert!(is_ours || REPLAYED_ELSEWHERE.contains(&name.as_str()), "{name} is no target");
    }
}

#[test]
fn the_seeds_of_every_target_hold() {
    let mut failures = Vec::new();
    for (target, property) in properties::TARGETS {
        let seeds = properties::seeds::seeds(target);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        for (nth, seed) in seeds.into_iter().enumerate() {
            if let Err(what) = run(property, seed) {
                failures.push(format!("{target}: {what} on seed {nth}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn stores_that_were_once_found_do_no_harm() {
    let fails = |found: &&properties::found::Found| thread::spawn(found.1).join().is_err();
    let failures: Vec<_> = properties::found::FOUND.iter().filter(fails).map(|(what, _)| what).collect();
    assert!(failures.is_empty(), "{failures:?}");
}
