//! Instructions: how many each hot path of the library takes, against a committed baseline.
//!
//! Time is noise on a shared machine; instructions are not. Each path runs under callgrind in a process of its own, on a device in memory, on
//! one thread, with the same numbers every time, and only what lies between [`measured`] counts. More than 10 % above
//! `benches/instructions.tsv` fails.
//!
//! ```sh
//! cargo bench --bench instructions               # counts and compares; needs valgrind, and says so where it is missing
//! cargo bench --bench instructions -- --accept   # what is counted now is the new baseline
//! cargo bench --bench instructions -- --test     # runs each path once and counts nothing
//! ```
//!
//! A copy counts an instruction for each byte where the C library makes it by `rep movsb`, and the CRC depends on what the processor offers: compare
//! counts of one kind of machine.
//!
//! Claims: a write, a verified read and the first write after a snapshot are a few thousand instructions, most of them checksum and copy; a
//! snapshot, a flush and a journal record at opening are as cheap on a large disk as on a small one.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]
#![allow(clippy::print_stdout, reason = "figures are what a benchmark is for")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use cowblk::device::MemoryDevice;
use cowblk::{Disk, Options, Server, Store};

const BLOCK: u64 = 4096;
const DISK_BYTES: u64 = 16 << 20;
/// A count may grow by so many percent.
const GROWTH_MAX: u64 = 10;

/// A path: its name, and a function that runs it and says how many operations that were.
type HotPath = (&'static str, fn() -> u64);

const PATHS: [HotPath; 6] = [
    ("write 4 KiB", writes),
    ("read 4 KiB, verified", reads),
    ("write 4 KiB after a snapshot", writes_after_a_snapshot),
    ("snapshot", snapshots),
    ("flush of eight blocks", flushes),
    ("journal record at opening", replay),
];

/// Everything that counts happens in here: callgrind looks for the name.
#[inline(never)]
fn measured(step: &mut dyn FnMut()) {
    step();
    black_box(());
}

struct Ground {
    device: Arc<MemoryDevice>,
    store: Store,
    server: Server,
    disk: Disk,
    buf: Vec<u8>,
}

fn options() -> Options {
    Options::default().background(false).clock(|| 0)
}

impl Ground {
    /// A disk full of data, all of it settled by a checkpoint.
    fn new() -> Self {
        let device = Arc::new(MemoryDevice::default());
        let store = Store::create_on(device.clone(), options()).unwrap();
        let server = store.create_server("web").unwrap();
        let disk = server.create_disk("vda", DISK_BYTES).unwrap();
        let mut seed: u64 = 0x5EED;
        let mut buf = vec![0; 4096];
        for chunk in buf.chunks_mut(8) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            chunk.copy_from_slice(&seed.to_le_bytes());
        }
        let mut ground = Self { device, store, server, disk, buf };
        for n in 0..DISK_BYTES / BLOCK {
            ground.write(n);
        }
        ground.store.checkpoint().unwrap();
        ground
    }

    /// The `n`th write of a scattered order.
    fn write(&mut self, n: u64) {
        self.buf[..8].copy_from_slice(&n.to_le_bytes());
        self.disk.write_at(black_box(&self.buf), place(n)).unwrap();
    }
}

fn place(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9) % (DISK_BYTES / BLOCK) * BLOCK
}

fn writes() -> u64 {
    let (mut ground, count) = (Ground::new(), 4096);
    measured(&mut || (0..count).for_each(|n| ground.write(n)));
    count
}

fn reads() -> u64 {
    let (mut ground, count) = (Ground::new(), 4096);
    let mut read = |n| ground.disk.read_at(black_box(&mut ground.buf), place(n)).unwrap();
    (0..count).for_each(&mut read);
    measured(&mut || (0..count).for_each(&mut read));
    count
}

fn writes_after_a_snapshot() -> u64 {
    let (mut ground, count) = (Ground::new(), 4096);
    ground.server.snapshot("before", "").unwrap();
    measured(&mut || (0..count).for_each(|n| ground.write(n)));
    count
}

fn snapshots() -> u64 {
    let (mut ground, count) = (Ground::new(), 256);
    for n in 0..count {
        ground.write(n);
        let name = format!("snapshot-{n}");
        measured(&mut || drop(black_box(ground.server.snapshot(&name, "").unwrap())));
    }
    count
}

fn flushes() -> u64 {
    let (mut ground, count) = (Ground::new(), 512);
    for n in 0..count {
        (0..8).for_each(|k| ground.write(n * 8 + k));
        measured(&mut || ground.disk.flush().unwrap());
    }
    count
}

fn replay() -> u64 {
    let (mut ground, count) = (Ground::new(), 8192);
    for n in 0..count {
        ground.write(n);
        if n % 32 == 31 {
            ground.disk.flush().unwrap();
        }
    }
    let crashed = Arc::new(MemoryDevice::from_bytes(ground.device.to_bytes()));
    let mut opened = None;
    measured(&mut || opened = Some(Store::open_on(crashed.clone(), options()).unwrap()));
    assert!(opened.unwrap().status().journal_used_bytes > 0, "nothing was replayed");
    count
}

/// Instructions of one operation, by callgrind. `None` where there is none.
fn count(name: &str) -> Option<u64> {
    let run = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=*instructions*measured*",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--path", name])
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{name}: {said}");
    let total = said
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .unwrap()
        .1
        .trim()
        .parse::<u64>()
        .unwrap();
    let operations = String::from_utf8_lossy(&run.stdout).trim().parse::<u64>().unwrap();
    assert!(total > operations, "{name}: callgrind counted nothing, so it did not find `measured`: {said}");
    Some(total / operations)
}

fn baseline_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.tsv")
}

/// The committed counts, by the path's name.
fn baseline() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(baseline_path()).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect()
}

fn accept(counts: &[(&str, u64)]) {
    let version = Command::new("rustc").arg("--version").output().map(|out| out.stdout).unwrap_or_default();
    let mut text = format!(
        "# Instructions of one operation; written by `cargo bench --bench instructions -- --accept`, {}\n",
        String::from_utf8_lossy(&version).trim()
    );
    for (name, count) in counts {
        writeln!(text, "{name}\t{count}").unwrap();
    }
    std::fs::write(baseline_path(), text).unwrap();
}

/// Prints the table; whether nothing grew too much.
fn compare(counts: &[(&str, u64)]) -> bool {
    let baseline = baseline();
    let mut grown = Vec::new();
    println!("| path | instructions | baseline | |\n|---|--:|--:|--:|");
    for (name, count) in counts {
        let Some(before) = baseline.get(*name).copied() else {
            println!("| {name} | {count} | | new |");
            grown.push(*name);
            continue;
        };
        println!("| {name} | {count} | {before} | {}% |", count * 100 / before);
        if *count * 100 > before * (100 + GROWTH_MAX) {
            grown.push(*name);
        }
    }
    if !grown.is_empty() {
        println!(
            "\nMore than {GROWTH_MAX} % above the baseline, or not in it: {}.\nMend it, or, if that is what the change is worth, make \
             this the baseline and commit it:\n\n    cargo bench --bench instructions -- --accept\n",
            grown.join(", ")
        );
    }
    grown.is_empty()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    if let Some(at) = arguments.iter().position(|argument| argument == "--path") {
        let (_, run) = PATHS.into_iter().find(|(name, _)| *name == arguments[at + 1]).unwrap();
        println!("{}", run());
        return ExitCode::SUCCESS;
    }
    if has("--test") || !(has("--bench") || has("--accept")) {
        for (name, run) in PATHS {
            println!("{name}: {} operations", run());
        }
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIPPED: instructions are counted by callgrind, and valgrind is not installed");
        return ExitCode::SUCCESS;
    }
    let counts: Option<Vec<(&str, u64)>> =
        PATHS.into_iter().map(|(name, _)| Some((name, count(name)?))).collect();
    let counts = counts.unwrap();
    if has("--accept") {
        accept(&counts);
    }
    if compare(&counts) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
