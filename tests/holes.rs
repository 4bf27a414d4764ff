//! Holes: the space of free blocks goes back to a real file system, and comes back.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "what was skipped is part of the result")]

mod medium;

use cowblk::{ErrorKind, Options, Store, check};
use medium::{LoopDevice, make_sparse};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

const BLOCK: u64 = 4096;
const MIB: u64 = 1 << 20;

fn options() -> Options {
    Options::default().zone_blocks(1025).journal_bytes(1 << 20)
}

fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

fn fill(store: &Store, byte: u8) {
    let disk = store.server("web").unwrap().disk("vda").unwrap();
    for at in 0..64 {
        disk.write_at(&vec![byte; 1 << 20], at * MIB).unwrap();
    }
    store.flush().unwrap();
}

fn assert_holds(store: &Store, byte: u8) {
    let disk = store.server("web").unwrap().disk("vda").unwrap();
    let mut buf = vec![0; 1 << 20];
    for at in 0..64 {
        disk.read_at(&mut buf, at * MIB).unwrap();
        assert!(buf.iter().all(|got| *got == byte), "mebibyte {at}");
    }
}

/// By hand, then by a store that does it unasked, and by the collector.
#[test]
fn the_file_of_a_store_takes_less_space_and_takes_it_again_when_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool.cow");
    let store = Store::create(&path, options().background(false)).unwrap();
    store.create_server("web").unwrap().create_disk("vda", 64 * MIB).unwrap();
    let disk = |store: &Store| store.server("web").unwrap().disk("vda").unwrap();
    fill(&store, 1);
    let full = file_bytes(&path);
    disk(&store).discard(0, 64 * MIB).unwrap();
    store.collect().unwrap();
    assert_eq!(file_bytes(&path), full, "nobody asked for holes");
    let given = match store.trim() {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            eprintln!("SKIPPED: the file system of {} cannot punch holes", folder.path().display());
            return;
        }
        given => given.unwrap(),
    };
    assert!(given > 50 * MIB, "{given} bytes");
    assert!(file_bytes(&path) <= full - 50 * MIB, "{} of {full} bytes", file_bytes(&path));
    fill(&store, 2);
    assert!(file_bytes(&path) > full - 2 * MIB, "what is written has space");
    store.close().unwrap();

    let store = Store::open(&path, options().background(false).punch_holes(true)).unwrap();
    assert_holds(&store, 2);
    disk(&store).discard(MIB, 63 * MIB).unwrap();
    store.collect().unwrap();
    assert!(file_bytes(&path) <= full - 45 * MIB, "{} of {full} bytes", file_bytes(&path));
    store.close().unwrap();

    // Opened anew, the store does not know where it has holes, and finds out.
    let store = Store::open(&path, options().punch_holes(true)).unwrap();
    assert!(store.status().thin_blocks > 40 * MIB / BLOCK);
    fill(&store, 3);
    assert_holds(&store, 3);
    disk(&store).discard(0, 64 * MIB).unwrap();
    while file_bytes(&path) > full - 40 * MIB {
        sleep(Duration::from_millis(50)); // the background thread does it
    }
    fill(&store, 4);
    assert_holds(&store, 4);
    store.close().unwrap();
    let report = check(&path).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

/// On a block device free blocks are discarded: a loop device hands that on to the file below it.
#[test]
fn a_block_device_gets_discards() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("device.img");
    make_sparse(&image, 96 * MIB);
    let Some(device) = LoopDevice::over(&image) else { return };
    let options = || options().background(false);
    let store = Store::create(device.path(), options()).unwrap();
    store.create_server("web").unwrap().create_disk("vda", 64 * MIB).unwrap();
    let disk = |store: &Store| store.server("web").unwrap().disk("vda").unwrap();
    fill(&store, 1);
    assert_holds(&store, 1);
    disk(&store).discard(0, 32 * MIB).unwrap();
    store.collect().unwrap();
    let full = file_bytes(&image);
    assert!(full >= 64 * MIB, "{full} bytes: nobody asked for discards");
    let given = match store.trim() {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            eprintln!("SKIPPED: {} takes no discards", device.path().display());
            return;
        }
        given => given.unwrap(),
    };
    assert!(given > 24 * MIB && file_bytes(&image) <= full - 24 * MIB, "{given}, {}", file_bytes(&image));
    fill(&store, 2);
    assert_holds(&store, 2);
    store.close().unwrap();

    let store = Store::open(device.path(), options().punch_holes(true)).unwrap();
    assert_holds(&store, 2);
    let full = file_bytes(&image);
    disk(&store).discard(32 * MIB, 32 * MIB).unwrap();
    store.collect().unwrap();
    assert!(file_bytes(&image) <= full - 24 * MIB, "unasked: {} of {full}", file_bytes(&image));
    let mut buf = vec![0; 1 << 20];
    for at in 0..32 {
        disk(&store).read_at(&mut buf, at * MIB).unwrap();
        assert!(buf.iter().all(|got| *got == 2), "mebibyte {at}");
    }
    store.close().unwrap();
    let report = check(device.path()).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}
