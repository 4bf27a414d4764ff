//! Checks of an open store, beside writers, snapshots, deletes, checkpoints and the collector: always clean, because
//! they look at one checkpoint; and damage is found there as it is in a closed store.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod fixture;

use cowblk::device::{Device, MemoryDevice};
use cowblk::{CheckReport, Defect, Disk, ErrorKind, Options, Result, Server, Store};
use fixture::Dice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const BLOCK: u64 = 4096;
const DISK_BYTES: u64 = 1500 * BLOCK;

fn options() -> Options {
    Options::default().journal_bytes(256 << 10).zone_blocks(2050).dirty_bytes(1 << 20)
}

fn write_some(dice: &mut Dice, disk: &Disk) -> Result<()> {
    let blocks = 1 + dice.below(40);
    let at = dice.below(DISK_BYTES / BLOCK - blocks);
    let fill = u8::try_from(1 + dice.below(255)).unwrap();
    match dice.below(8) {
        0 => disk.discard(at * BLOCK, blocks * BLOCK),
        _ => disk.write_at(&vec![fill; usize::try_from(blocks * BLOCK).unwrap()], at * BLOCK),
    }
}

/// Makes, restores and deletes snapshots, so that checkpoints and the collector have work to do.
fn churn(dice: &mut Dice, store: &Store, server: &Server, step: u64) -> Result<()> {
    match dice.below(6) {
        0 | 1 => server.snapshot(&format!("s{step}"), "").map(drop),
        2 => store.checkpoint(),
        3 => store.collect(),
        _ => match server.snapshots().pop() {
            Some(oldest) if dice.chance(70) => store.delete_snapshot(oldest.id()),
            Some(oldest) => server.restore(oldest.id()).map(drop),
            None => Ok(()),
        },
    }
}

/// A check may have to give way to writers, and says so.
fn checked(store: &Store) -> Option<CheckReport> {
    match store.check() {
        Ok(report) => Some(report),
        Err(error) if error.kind() == ErrorKind::Busy => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_check_beside_writers_and_the_collector_is_clean() {
    for seed in fixture::seeds(3) {
        let _replay = fixture::ReplayOnPanic { test: "check_open", seed };
        let store = Store::create_on(Arc::new(MemoryDevice::new(0)), options()).unwrap();
        let server = store.create_server("web").unwrap();
        let disks: Vec<_> =
            ["vda", "vdb"].iter().map(|name| server.create_disk(name, DISK_BYTES).unwrap()).collect();
        let (is_over, verbs) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut clean = 0;
        thread::scope(|scope| {
            for (nth, disk) in (0..).zip(&disks) {
                let (is_over, verbs) = (&is_over, &verbs);
                scope.spawn(move || {
                    let mut dice = Dice::new(seed * 10 + nth);
                    while !is_over.load(Ordering::Relaxed) {
                        write_some(&mut dice, disk).unwrap();
                        verbs.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(|| {
                let mut dice = Dice::new(seed * 10 + 9);
                for step in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    churn(&mut dice, &store, &server, step).unwrap();
                    verbs.fetch_add(1, Ordering::Relaxed);
                }
            });
            while clean < 25 || verbs.load(Ordering::Relaxed) < 400 {
                if let Some(report) = checked(&store) {
                    if !report.is_clean() {
                        is_over.store(true, Ordering::Relaxed);
                        panic!("seed {seed}: {:#?}", report.findings);
                    }
                    clean += 1;
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        store.close().unwrap();
    }
}

#[test]
fn a_check_covers_what_returned_before_it() {
    let store = Store::create_on(Arc::new(MemoryDevice::new(0)), options().background(false)).unwrap();
    let disk = store.create_server("web").unwrap().create_disk("vda", DISK_BYTES).unwrap();
    assert_eq!(store.check().unwrap().data_blocks_mapped, 0);
    disk.write_at(&vec![7; 9 * 4096], 0).unwrap();
    assert_eq!(store.check().unwrap().data_blocks_mapped, 9);
}

#[test]
fn a_check_of_a_read_only_store_reads_what_is_there() {
    let folder = fixture::scratch();
    let path = folder.path().join("pool.cow");
    let store = Store::create(&path, options()).unwrap();
    let disk = store.create_server("web").unwrap().create_disk("vda", DISK_BYTES).unwrap();
    disk.write_at(&[7; 4096], 0).unwrap();
    drop(disk);
    store.close().unwrap();
    let before = std::fs::read(&path).unwrap();
    let store = Store::open_read_only(&path, options()).unwrap();
    let report = store.check().unwrap();
    assert!(report.is_clean() && report.data_blocks_mapped == 1);
    drop(store);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn damage_below_an_open_store_is_found_without_its_cache() {
    let device = Arc::new(MemoryDevice::new(0));
    let store = Store::create_on(device.clone(), options().background(false)).unwrap();
    let disk = store.create_server("web").unwrap().create_disk("vda", DISK_BYTES).unwrap();
    disk.write_at(&[7; 4096], 0).unwrap();
    store.checkpoint().unwrap();
    // The leaf is the only block that begins with the reference of a block of sevens.
    let bytes = device.to_bytes();
    let seal = crc32fast::hash(&[7; 4096]).to_le_bytes();
    let leaf = (128 << 10..bytes.len()).step_by(4096).find(|at| bytes[at + 12..at + 16] == seal);
    device.write_at(&[0xff], leaf.unwrap() as u64 + 2000).unwrap();
    let report = store.check().unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| finding.defect).collect();
    assert_eq!(found, [Defect::Node], "{:#?}", report.findings);
}

#[test]
fn a_halted_store_is_checked_as_it_lies() {
    let device = Arc::new(MemoryDevice::new(0));
    let store = Store::create_on(device.clone(), options().background(false)).unwrap();
    let disk = store.create_server("web").unwrap().create_disk("vda", DISK_BYTES).unwrap();
    disk.write_at(&[7; 4096], 0).unwrap();
    store.clone().close().unwrap();
    assert_eq!(disk.write_at(&[8; 4096], 0).unwrap_err().kind(), ErrorKind::Halted);
    let report = store.check().unwrap();
    assert!(report.is_clean() && report.data_blocks_mapped == 1, "{:#?}", report.findings);
}
