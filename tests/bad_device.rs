//! Bad device: a real block device that fails under an open store. It is a loop device over a file: over one on a full
//! file system, its write-back fails; over one that was cut, its reads do; and it can be told to refuse writes.
//!
//! What is under test is the way through the operating system's page cache: there a write succeeds, a sync fails once, and
//! the next one would succeed.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "what was skipped is part of the result")]

mod fixture;
mod medium;

use std::path::Path;

use cowblk::{Disk, Error, ErrorKind, Options, Store};
use fixture::{assert_clean, scratch};
use medium::{LoopDevice, SmallFileSystem, make_sparse};
use parking_lot::Mutex;

const BLOCK: usize = 4096;
const ZONE_BLOCKS: u32 = 256;
const JOURNAL_BYTES: u64 = 256 << 10;

/// One test at a time: a process that is just being started holds a copy of every open file for a moment, locks included.
static ALONE: Mutex<()> = Mutex::new(());

fn options() -> Options {
    Options::default().zone_blocks(ZONE_BLOCKS).journal_bytes(JOURNAL_BYTES).background(false)
}

/// Where a zone begins, in bytes (docs/format.md): behind superblocks, journal, and the summary of its group.
fn zone_offset(zone: u64) -> u64 {
    (128 << 10) + JOURNAL_BYTES + (2 + zone * u64::from(ZONE_BLOCKS)) * BLOCK as u64
}

fn create(path: &Path) -> Store {
    let store = Store::create(path, options()).unwrap();
    store.create_server("web").unwrap().create_disk("vda", 64 << 20).unwrap();
    store
}

fn disk_of(store: &Store) -> Disk {
    store.server("web").unwrap().disk("vda").unwrap()
}

/// What a round writes to a block.
fn content(block: usize, round: u64) -> Vec<u8> {
    let stamp = (block as u64) << 32 | round << 1 | 1;
    stamp.to_le_bytes().repeat(BLOCK / 8)
}

fn write(disk: &Disk, block: usize, round: u64) -> cowblk::Result<()> {
    disk.write_at(&content(block, round), (block * BLOCK) as u64)
}

fn read(disk: &Disk, block: usize) -> cowblk::Result<Vec<u8>> {
    let mut bytes = vec![0xAA; BLOCK];
    disk.read_at(&mut bytes, (block * BLOCK) as u64).map(|()| bytes)
}

fn assert_holds(disk: &Disk, blocks: std::ops::Range<usize>, round: u64) {
    for block in blocks {
        let got = read(disk, block).unwrap();
        assert!(got == content(block, round), "block {block} does not hold what was flushed");
    }
}

/// All changes are refused, by the first failure's name; none of them seems to work the second time.
fn assert_halted(store: &Store, first: &Error) {
    assert!(store.status().halted, "{first}");
    let disk = disk_of(store);
    for _ in 0..2 {
        for refused in [disk.flush(), write(&disk, 0, 99), store.checkpoint(), store.flush()] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Halted, "{refused}");
            assert!(refused.to_string().contains("reads go on"), "{refused}");
        }
    }
}

/// The file below the device finds no space when the operating system writes back what the store had written. It has space
/// up to the beginning of a zone, where no write of the store crosses: a loop device reports a write that was cut short
/// below it as done.
#[test]
fn a_write_back_that_fails_halts_the_store_and_no_flush_pretends() {
    let _alone = ALONE.lock();
    let Some(file_system) = SmallFileSystem::tmpfs(24 << 20) else { return };
    let below = file_system.path("device.img");
    std::fs::write(&below, vec![0; usize::try_from(zone_offset(8)).unwrap()]).unwrap();
    make_sparse(&below, 64 << 20);
    file_system.fill_up("balloon");
    let Some(device) = LoopDevice::over(&below) else { return };
    let store = create(device.path());
    let disk = disk_of(&store);
    let (mut flushed, mut failure) = (0, None);
    for block in 0..8192 {
        let done = write(&disk, block, 1).and_then(|()| {
            if (block + 1) % 200 > 0 {
                return Ok(());
            }
            disk.flush().inspect(|()| flushed = block + 1)
        });
        if let Err(error) = done {
            failure = Some(error);
            break;
        }
    }
    let failure = failure.expect("32 MiB do not fit into 8 zones of 1");
    assert!(matches!(failure.kind(), ErrorKind::Io | ErrorKind::Full), "{failure}");
    assert_halted(&store, &failure);
    println!("{flushed} blocks were flushed, then: {failure}");
    assert!(flushed >= 1000, "only {flushed} blocks were ever flushed");
    assert_holds(&disk, 0..flushed, 1);
    drop(disk);
    assert_eq!(store.close().unwrap_err().kind(), ErrorKind::Halted);

    std::fs::remove_file(file_system.path("balloon")).unwrap();
    file_system.enlarge(128 << 20);
    device.forget_pages();
    assert_clean(device.path(), "after the device was mended");
    let store = Store::open(device.path(), options()).unwrap();
    let disk = disk_of(&store);
    assert_holds(&disk, 0..flushed, 1);
    for block in flushed..8192 {
        let got = read(&disk, block).unwrap();
        assert!(got == content(block, 1) || got == [0; BLOCK], "block {block} holds what nobody wrote");
    }
    (0..8192).try_for_each(|block| write(&disk, block, 2)).unwrap();
    drop(disk);
    store.close().unwrap();
    device.forget_pages();
    assert_clean(device.path(), "at the end");
    assert_holds(&disk_of(&Store::open(device.path(), options()).unwrap()), 0..8192, 2);
}

/// The device refuses writes from one moment to the next, at several moments of a store's life.
#[test]
fn a_device_that_turns_read_only_halts_the_store() {
    let _alone = ALONE.lock();
    let dir = scratch();
    let below = dir.path().join("device.img");
    make_sparse(&below, 32 << 20);
    let Some(device) = LoopDevice::over(&below) else { return };
    create(device.path()).close().unwrap();
    for (round, at_checkpoint) in [(1, false), (2, true), (3, false), (4, true)] {
        let store = Store::open(device.path(), options()).unwrap();
        let disk = disk_of(&store);
        (0..500).try_for_each(|block| write(&disk, block, round)).unwrap();
        disk.flush().unwrap();
        device.refuse_writes();
        write(&disk, 500, round).unwrap(); // in memory
        let failure = if at_checkpoint { store.checkpoint() } else { disk.flush() }.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Io, "{failure}");
        device.accept_writes();
        assert_halted(&store, &failure);
        assert_holds(&disk, 0..501, round);
        drop(disk);
        drop(store);
        device.forget_pages();
        assert_clean(device.path(), "after it refused writes");
        let store = Store::open(device.path(), options()).unwrap();
        assert_holds(&disk_of(&store), 0..500, round);
        store.close().unwrap();
    }
}

/// The far end of the device is gone: reads there fail, or find zeros once something was written there. Neither is data.
#[test]
fn a_device_that_lost_its_end_never_reads_wrong() {
    let _alone = ALONE.lock();
    let dir = scratch();
    let below = dir.path().join("device.img");
    make_sparse(&below, 32 << 20);
    let Some(device) = LoopDevice::over(&below) else { return };
    let store = create(device.path());
    let disk = disk_of(&store);
    for block in 0..5000 {
        write(&disk, block, 1).unwrap();
        if block % 500 == 499 {
            store.checkpoint().unwrap(); // nodes near their blocks
        }
    }
    disk.discard(0, (500 * BLOCK) as u64).unwrap();
    drop(disk);
    store.close().unwrap();
    let store = Store::open(device.path(), options()).unwrap();
    write(&disk_of(&store), 0, 1).unwrap(); // and the catalog at the beginning
    store.close().unwrap();
    device.forget_pages();
    make_sparse(&below, 16 << 20);

    let mut failed = [0; 2];
    for stretched in [false, true] {
        if stretched {
            // The hole between reads as zeros from now on.
            make_sparse(&below, 32 << 20);
        }
        device.forget_pages();
        let store = Store::open_read_only(device.path(), options()).unwrap();
        let disk = disk_of(&store);
        for block in 500..5000 {
            match read(&disk, block) {
                Ok(got) => assert!(got == content(block, 1), "block {block} reads wrong"),
                Err(error) => {
                    let expected = if stretched { ErrorKind::Corrupt } else { ErrorKind::Io };
                    assert_eq!(error.kind(), expected, "{error}");
                    failed[usize::from(stretched)] += 1;
                }
            }
        }
        assert!(!store.status().halted, "a read that fails halts nothing");
    }
    println!("{} and {} of 4500 blocks could not be read", failed[0], failed[1]);
    assert!(failed.iter().all(|failed| (500..4000).contains(failed)), "{failed:?}");
}
