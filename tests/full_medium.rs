//! Full medium: real file systems that fill up under an open store: while it grows, and while it takes back space that it gave back,
//! or lost by being copied with holes.
//!
//! Space of a store's file is allocated when the file grows, and before a hole in it is used, so only those can meet a full file system,
//! and that is no failure. (A store on a medium that is full where it promised not to be halts: `io_errors.rs`, `every_call.rs`.)

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "what was skipped is part of the result")]

mod fixture;
mod medium;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cowblk::{Disk, Error, ErrorKind, Options, Store};
use fixture::{SECTOR, assert_clean, scratch, stamp, stamps};
use medium::SmallFileSystem;
use parking_lot::Mutex;

const BLOCK: usize = 4096;
const DISK_BLOCKS: usize = 8192;
const JOURNAL_BYTES: u64 = 256 << 10;
const FILE_SYSTEM_BYTES: u64 = 24 << 20;

/// One test at a time: a process that is just being started holds a copy of every open file for a moment, locks included.
static ALONE: Mutex<()> = Mutex::new(());

fn options() -> Options {
    Options::default().zone_blocks(256).journal_bytes(JOURNAL_BYTES).background(false)
}

/// Writes to one disk, block by block, and knows what must be there.
struct Ledger {
    /// Of each block, the stamps that it may hold: what was promised, and what was tried since.
    may_hold: Vec<Vec<u64>>,
    last: u64,
}

impl Ledger {
    fn new() -> Ledger {
        Ledger { may_hold: vec![vec![0]; DISK_BLOCKS], last: 0 }
    }

    fn write(&mut self, disk: &Disk, block: usize) -> cowblk::Result<()> {
        self.last += 1;
        let mut bytes = [0; BLOCK];
        stamp(&mut bytes, (block * BLOCK / SECTOR) as u64, self.last);
        let written = disk.write_at(&bytes, (block * BLOCK) as u64);
        if written.is_ok() {
            self.may_hold[block].push(self.last);
        }
        written
    }

    fn write_all(&mut self, disk: &Disk, blocks: std::ops::Range<usize>) {
        blocks.into_iter().try_for_each(|block| self.write(disk, block)).unwrap();
    }

    fn flush(&mut self, disk: &Disk) -> cowblk::Result<()> {
        disk.flush().map(|()| self.promise())
    }

    /// What was written last is what must be there.
    fn promise(&mut self) {
        for may_hold in &mut self.may_hold {
            may_hold.drain(..may_hold.len() - 1);
        }
    }

    fn discard(&mut self, disk: &Disk, blocks: std::ops::Range<usize>) {
        disk.discard((blocks.start * BLOCK) as u64, (blocks.len() * BLOCK) as u64).unwrap();
        self.may_hold[blocks].fill(vec![0]);
    }

    /// Writes one block after another, with a flush after each few, until that fails. How many were written.
    fn write_until_it_fails(&mut self, disk: &Disk, first: usize, flush_every: usize) -> (usize, Error) {
        for block in first..DISK_BLOCKS {
            let is_flush_due = (block + 1).is_multiple_of(flush_every);
            if let Err(error) =
                self.write(disk, block).and_then(|()| if is_flush_due { self.flush(disk) } else { Ok(()) })
            {
                return (block - first, error);
            }
        }
        panic!("{DISK_BLOCKS} blocks went onto a medium that cannot hold them");
    }

    /// Every block holds one of the stamps that it may; the last one, where nothing was lost meanwhile.
    fn verify(&mut self, store: &Store, is_last: bool) {
        let disk = disk_of(store);
        for (block, may_hold) in self.may_hold.iter_mut().enumerate() {
            let mut bytes = [0xAA; BLOCK];
            disk.read_at(&mut bytes, (block * BLOCK) as u64).unwrap();
            let found = stamps(&bytes, (block * BLOCK / SECTOR) as u64).unwrap();
            assert!(found.iter().all(|stamp| *stamp == found[0]), "block {block} is torn");
            let last = *may_hold.last().unwrap();
            assert!(
                if is_last { found[0] == last } else { may_hold.contains(&found[0]) },
                "block {block} holds {}, and may hold {may_hold:?}",
                found[0]
            );
            *may_hold = vec![found[0]];
        }
    }
}

fn disk_of(store: &Store) -> Disk {
    store.server("web").unwrap().disk("vda").unwrap()
}

fn create(path: &Path) -> Store {
    let store = Store::create(path, options()).unwrap();
    let server = store.create_server("web").unwrap();
    server.create_disk("vda", (DISK_BLOCKS * BLOCK) as u64).unwrap();
    store
}

/// Both kinds of file system, as far as this user can make them.
fn on_each(test: impl Fn(&SmallFileSystem)) {
    for made in [SmallFileSystem::tmpfs, SmallFileSystem::ext4] {
        if let Some(file_system) = made(FILE_SYSTEM_BYTES) {
            test(&file_system);
        }
    }
}

/// A store that cannot grow is full, and nothing worse: it gives space back, and grows again when there is room.
fn grow_until_full(store: &Store, ledger: &mut Ledger) -> usize {
    let first = ledger.may_hold.iter().position(|may_hold| *may_hold == [0]).unwrap();
    let (written, error) = ledger.write_until_it_fails(&disk_of(store), first, 64);
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(!store.status().halted, "a full file system halted the store: {error}");
    ledger.flush(&disk_of(store)).unwrap();
    store.checkpoint().unwrap();
    ledger.verify(store, true);
    written
}

#[test]
fn a_store_that_cannot_grow_is_full_until_there_is_room() {
    let _alone = ALONE.lock();
    on_each(|file_system| {
        let path = file_system.path("pool.cow");
        let (store, mut ledger) = (create(&path), Ledger::new());
        ledger.write_all(&disk_of(&store), 0..600);
        ledger.flush(&disk_of(&store)).unwrap();
        let early = store.server("web").unwrap().snapshot("early", "").unwrap().id();

        file_system.fill_up("balloon");
        grow_until_full(&store, &mut ledger);
        ledger.discard(&disk_of(&store), 100..500);
        store.delete_snapshot(early).unwrap();
        store.collect().unwrap();
        ledger.write_all(&disk_of(&store), 100..200);
        ledger.flush(&disk_of(&store)).unwrap();

        fs::remove_file(file_system.path("balloon")).unwrap();
        let written = grow_until_full(&store, &mut ledger);
        assert!(written > 1000, "there is room again, and only {written} blocks were written");
        store.close().unwrap();
        assert_clean(&path, "when full");
        let store = Store::open(&path, options()).unwrap();
        ledger.verify(&store, true);
    });
}

/// A closed store with some content, copied with holes where it holds zeros.
fn sparse_copy(file_system: &SmallFileSystem) -> (PathBuf, Ledger) {
    let dir = scratch();
    let original = dir.path().join("pool.cow");
    let (store, mut ledger) = (create(&original), Ledger::new());
    ledger.write_all(&disk_of(&store), 0..300);
    store.close().unwrap();
    ledger.promise();
    let path = file_system.path("pool.cow");
    let copied = Command::new("cp").arg("--sparse=always").args([&original, &path]).status().unwrap();
    assert!(copied.success());
    (path, ledger)
}

/// Nothing can be written there: it is not opened for that, but can be read. With a little room it works, and is full where that ends.
#[test]
fn a_copy_with_holes_is_full_where_its_file_system_is_and_nothing_worse() {
    let _alone = ALONE.lock();
    on_each(|file_system| {
        let (path, mut ledger) = sparse_copy(file_system);
        file_system.fill_up("balloon");
        let error = Store::open(&path, options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert!(error.to_string().contains("make room"), "{error}");
        let reader = Store::open_read_only(&path, options()).unwrap();
        ledger.verify(&reader, true);
        reader.close().unwrap();

        fs::remove_file(file_system.path("balloon")).unwrap();
        let store = Store::open(&path, options()).unwrap();
        file_system.fill_up("balloon");
        let first = ledger.may_hold.iter().position(|may_hold| *may_hold == [0]).unwrap();
        let (_, error) = ledger.write_until_it_fails(&disk_of(&store), first, 3);
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert!(!store.status().halted, "{error}");
        relieve(&store, &mut ledger);
        fs::remove_file(file_system.path("balloon")).unwrap();
        let written = grow_until_full(&store, &mut ledger);
        assert!(written > 1000, "there is room again, and only {written} blocks were written");
        store.close().unwrap();
        assert_clean(&path, "at the end");
    });
}

/// Deletes, discards and settles, which a full file system does not keep from working.
fn relieve(store: &Store, ledger: &mut Ledger) {
    let web = store.server("web").unwrap();
    let id = web.snapshot("kept", "").unwrap().id();
    ledger.discard(&disk_of(store), 5..100);
    store.checkpoint().unwrap();
    store.delete_snapshot(id).unwrap();
    store.collect().unwrap();
    ledger.flush(&disk_of(store)).unwrap();
    ledger.verify(store, true);
}

/// What a store gave back somebody else took. It opens, frees, and goes on when it has space again.
#[test]
fn a_store_that_gave_space_back_is_full_until_there_is_room_again() {
    let _alone = ALONE.lock();
    on_each(|file_system| {
        let path = file_system.path("pool.cow");
        let (store, mut ledger) = (create(&path), Ledger::new());
        ledger.write_all(&disk_of(&store), 0..2000);
        ledger.discard(&disk_of(&store), 100..2000);
        ledger.flush(&disk_of(&store)).unwrap();
        let given = store.trim().unwrap();
        assert!(given > 1000 * BLOCK as u64, "{given} bytes were given back");
        file_system.fill_up("balloon");
        let (less, error) = ledger.write_until_it_fails(&disk_of(&store), 100, 3);
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert!(less < 1000, "{less} blocks were written where others took the space");
        relieve(&store, &mut ledger);
        store.close().unwrap();
        assert_clean(&path, "on a full file system");

        let store = Store::open(&path, options()).unwrap();
        ledger.verify(&store, true);
        relieve(&store, &mut ledger);
        fs::remove_file(file_system.path("balloon")).unwrap();
        ledger.write_all(&disk_of(&store), 100..2000);
        ledger.flush(&disk_of(&store)).unwrap();
        store.close().unwrap();
        assert_clean(&path, "at the end");
        let store = Store::open(&path, options()).unwrap();
        ledger.verify(&store, true);
    });
}

const LIMITED: &str = "COWBLK_LIMITED_STORE";
const LIMIT_BYTES: u64 = 8 << 20;

/// Not a test by itself: the process of [`a_limit_on_the_size_of_files_is_a_full_store`].
#[test]
fn the_limited_process() {
    let Ok(path) = std::env::var(LIMITED) else { return };
    let (store, mut ledger) = (create(Path::new(&path)), Ledger::new());
    let written = grow_until_full(&store, &mut ledger);
    assert!(written > 1000, "only {written} blocks were written");
    ledger.discard(&disk_of(&store), 0..400);
    store.checkpoint().unwrap();
    ledger.write_all(&disk_of(&store), 0..300);
    store.close().unwrap();
    assert!(fs::metadata(path).unwrap().len() <= LIMIT_BYTES);
}

/// What stands in for a full file system where nobody may mount one: this needs no rights.
#[test]
fn a_limit_on_the_size_of_files_is_a_full_store() {
    let _alone = ALONE.lock();
    let dir = scratch();
    let path = dir.path().join("pool.cow");
    let limited = format!("trap '' XFSZ; ulimit -f {} && exec \"$0\" \"$@\"", LIMIT_BYTES / 512);
    let output = Command::new("sh")
        .args(["-c", &limited])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_limited_process", "--nocapture"])
        .env(LIMITED, &path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_clean(&path, "after the limit");
    let store = Store::open(&path, options()).unwrap();
    Ledger::new().write_all(&disk_of(&store), 2000..5000);
    assert!(fs::metadata(&path).unwrap().len() > LIMIT_BYTES, "it grows where nothing limits it");
    store.close().unwrap();
    assert_clean(&path, "without the limit");
}
