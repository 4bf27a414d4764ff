//! Scrub: every flipped bit of data is found, named by who holds it, and nothing else is; on a closed store and on an
//! open one, in one go and in parts, at a rate.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod fixture;

use cowblk::device::{Device, MemoryDevice};
use cowblk::{Holding, Options, ScrubOptions, ScrubProgress, ScrubReport, Store, scrub_device};
use fixture::Dice;
use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;

fn options() -> Options {
    Options::default().background(false).journal_bytes(256 << 10).zone_blocks(600)
}

fn go_on(_: &ScrubProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn scrubbed(device: &dyn Device) -> ScrubReport {
    scrub_device(device, &ScrubOptions::default(), &mut go_on).unwrap()
}

/// A block behind the journal that holds nothing but this byte.
fn block_of(bytes: &[u8], fill: u8) -> usize {
    let is_wanted = |block: &[u8]| block.iter().all(|byte| *byte == fill);
    let journal_end = (384 << 10) / BLOCK;
    journal_end + bytes.chunks(BLOCK).skip(journal_end).position(is_wanted).unwrap()
}

fn names(held_by: &[Holding]) -> Vec<String> {
    let name = |holding: &Holding| {
        let snapshot = holding.snapshot.as_ref().map_or_else(String::new, |name| format!("@{name}"));
        format!("{}/{}{snapshot}+{}", holding.server, holding.disk, holding.offset)
    };
    let mut names: Vec<_> = held_by.iter().map(name).collect();
    names.sort();
    names
}

/// Blocks 0 to 99 hold 1 to 100; after the snapshot block 0 holds 200.
fn sound() -> (Arc<MemoryDevice>, Store) {
    let device = Arc::new(MemoryDevice::new(0));
    let store = Store::create_on(device.clone(), options()).unwrap();
    let server = store.create_server("web").unwrap();
    let disk = server.create_disk("vda", 700 * BLOCK as u64).unwrap();
    for fill in 1..=100u8 {
        disk.write_at(&[fill; BLOCK], (u64::from(fill) - 1) * BLOCK as u64).unwrap();
    }
    server.snapshot("first", "").unwrap();
    disk.write_at(&[200; BLOCK], 0).unwrap();
    store.checkpoint().unwrap();
    (device, store)
}

#[test]
fn each_block_of_data_is_read_once_and_a_bad_one_is_named_by_all_who_hold_it() {
    let (device, store) = sound();
    store.close().unwrap();
    let report = scrubbed(&*device);
    assert!(report.is_clean());
    assert_eq!((report.bytes_read, report.bytes_total), (101 * 4096, 101 * 4096));
    let cases = [
        (1, vec!["web/vda@first+0"]),
        (200, vec!["web/vda+0"]),
        (7, vec!["web/vda+24576", "web/vda@first+24576"]),
    ];
    for (fill, held_by) in cases {
        let mut bytes = device.to_bytes();
        let at = block_of(&bytes, fill);
        bytes[at * BLOCK + 99] ^= 1;
        let report = scrubbed(&MemoryDevice::from_bytes(bytes));
        assert!(report.findings.is_empty());
        let [bad] = &report.bad_blocks[..] else { panic!("{:?}", report.bad_blocks) };
        assert_eq!(
            (bad.block, names(&bad.held_by)),
            (at as u64, held_by.iter().map(ToString::to_string).collect())
        );
    }
}

#[test]
fn a_bad_node_is_a_finding_and_the_rest_is_read() {
    let (device, store) = sound();
    store.close().unwrap();
    let mut bytes = device.to_bytes();
    let seal = crc32fast::hash(&[200; BLOCK]).to_le_bytes();
    let leaf = (0..bytes.len() / BLOCK).find(|at| bytes[at * BLOCK + 12..at * BLOCK + 16] == seal).unwrap();
    bytes[leaf * BLOCK + 3000] ^= 1;
    let report = scrubbed(&MemoryDevice::from_bytes(bytes));
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.bytes_read, 100 * 4096, "what the snapshot holds");
}

#[test]
fn a_scrub_that_is_stopped_goes_on_where_it_was() {
    let (device, store) = sound();
    drop(store);
    let mut read = BTreeSet::new();
    let mut position = Some(0);
    let mut rounds = 0;
    let seen = Reads { inner: device.clone(), offsets: Mutex::default() };
    while let Some(block) = position {
        let scrub = ScrubOptions::default().position(block);
        let report = scrub_device(&seen, &scrub, &mut |_| ControlFlow::Break(())).unwrap();
        for (offset, len) in seen.offsets.lock().unwrap().drain(..) {
            if offset >= (400 << 10) {
                read.extend((offset..offset + len).step_by(BLOCK));
            }
        }
        position = report.position;
        rounds += 1;
    }
    let bytes = device.to_bytes();
    for fill in (1..=100).chain([200]) {
        assert!(read.contains(&((block_of(&bytes, fill) * BLOCK) as u64)), "{fill}");
    }
    assert!(rounds >= 1);
}

#[test]
fn a_rate_is_kept_and_told() {
    let (device, store) = sound();
    drop(store);
    let began = Instant::now();
    let mut told = Vec::new();
    let rate = ScrubOptions::default().bytes_per_second(2 * 101 * 4096);
    let mut tell = |progress: &ScrubProgress| {
        told.push(*progress);
        ControlFlow::Continue(())
    };
    scrub_device(&*device, &rate, &mut tell).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(490), "{:?}", began.elapsed());
    let last = told.last().unwrap();
    assert_eq!((last.bytes_done, last.bytes_total, last.bad_blocks), (101 * 4096, 101 * 4096, 0));
}

/// Notes what is read.
struct Reads {
    inner: Arc<MemoryDevice>,
    offsets: Mutex<Vec<(u64, u64)>>,
}

impl Device for Reads {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.offsets.lock().unwrap().push((offset, buf.len() as u64));
        self.inner.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn len_bytes(&self) -> io::Result<u64> {
        self.inner.len_bytes()
    }
    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.inner.grow(len_bytes)
    }
    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.inner.discard(offset, len_bytes)
    }
    fn can_grow(&self) -> bool {
        true
    }
    fn is_read_only(&self) -> bool {
        false
    }
}

#[test]
fn an_open_store_that_is_overwritten_meanwhile_has_no_bad_block_but_the_damaged_one() {
    for seed in fixture::seeds(2) {
        let _replay = fixture::ReplayOnPanic { test: "scrub", seed };
        let device = Arc::new(MemoryDevice::new(0));
        let store = Store::create_on(device.clone(), options()).unwrap();
        let server = store.create_server("web").unwrap();
        let still = server.create_disk("vdb", 1 << 20).unwrap();
        still.write_at(&[251; BLOCK], 8192).unwrap();
        let disk = server.create_disk("vda", 700 * BLOCK as u64).unwrap();
        store.checkpoint().unwrap();
        let bytes = device.to_bytes();
        let damaged = block_of(&bytes, 251);
        device.write_at(&[9], (damaged * BLOCK) as u64).unwrap();
        let (is_over, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut reports = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut dice = Dice::new(seed);
                while !is_over.load(Ordering::Relaxed) {
                    let fill = u8::try_from(1 + dice.below(250)).unwrap();
                    disk.write_at(&vec![fill; 30 * BLOCK], dice.below(600) * BLOCK as u64).unwrap();
                    store.checkpoint().unwrap();
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
            for _ in 0..5 {
                // Behind the first read the writer goes on, so that what was gathered is free, and used again, in part.
                let mut is_first = true;
                let mut wait = |_: &ScrubProgress| {
                    let until = rounds.load(Ordering::Relaxed) + 20;
                    while is_first && rounds.load(Ordering::Relaxed) < until {
                        thread::yield_now();
                    }
                    is_first = false;
                    ControlFlow::Continue(())
                };
                reports.push(store.scrub(&ScrubOptions::default(), &mut wait));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        for report in reports {
            match report {
                Ok(report) => {
                    assert!(report.findings.is_empty(), "{:?}", report.findings);
                    let found: Vec<_> = report.bad_blocks.iter().map(|bad| bad.block).collect();
                    assert_eq!(found, [damaged as u64], "{:?}", report.bad_blocks);
                    assert_eq!(names(&report.bad_blocks[0].held_by), ["web/vdb+8192"]);
                }
                Err(error) => assert_eq!(error.kind(), cowblk::ErrorKind::Busy),
            }
        }
        drop((still, disk, server));
        store.close().unwrap();
    }
}
