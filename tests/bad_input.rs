//! Bad input: wrong files, wrong arguments, no space. Each is refused with the right kind of error and a message that
//! names the thing, and nothing is lost by the refusal.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod fixture;

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cowblk::{Disk, Error, ErrorKind, Options, Store};
use fixture::{Dice, assert_clean, scratch};
use parking_lot::RwLock;

/// The superblock's slots, and the fields of one that these tests forge (docs/format.md).
const SLOTS: [u64; 2] = [0, 64 << 10];
const SUPERBLOCK_BYTES: usize = 4096;
const VERSION_AT: usize = 8;
const SEAL_AT: usize = 12;
const READ_ONLY_COMPATIBLE_AT: usize = 24;
const INCOMPATIBLE_AT: usize = 32;

/// Whoever starts a process does so alone: at its start it holds a copy of every open file for a moment, locks included.
static FORKS: RwLock<()> = RwLock::new(());

fn options() -> Options {
    Options::default().zone_blocks(256).journal_bytes(256 << 10).background(false)
}

/// The error of a call that must not succeed, after checking its kind and that its message says each of `names`.
fn refused<T>(result: cowblk::Result<T>, kind: ErrorKind, names: &[&str]) -> Error {
    let Err(error) = result else { panic!("this should be refused as {kind:?}, naming {names:?}") };
    assert_eq!(error.kind(), kind, "{error}");
    let message = error.to_string();
    for name in names {
        assert!(message.contains(name), "the message does not say {name:?}: {message}");
    }
    assert!(message.len() > 15 && !message.contains("unwrap"), "this is no sentence: {message}");
    error
}

/// A closed store with one written disk, and what that disk holds.
fn store_with_data(dir: &Path) -> (PathBuf, Vec<u8>) {
    let path = dir.join("pool.cow");
    let store = Store::create(&path, options()).unwrap();
    let disk = store.create_server("web").unwrap().create_disk("vda", 1 << 20).unwrap();
    let bytes: Vec<u8> = (0_u32..1 << 20).map(|i| (i / 4096).to_le_bytes()[0] | 1).collect();
    disk.write_at(&bytes, 0).unwrap();
    store.close().unwrap();
    (path, bytes)
}

fn assert_intact(path: &Path, bytes: &[u8]) {
    let store = Store::open(path, options()).unwrap();
    let mut got = vec![0; bytes.len()];
    store.server("web").unwrap().disk("vda").unwrap().read_at(&mut got, 0).unwrap();
    assert!(got == bytes, "data was lost");
    store.close().unwrap();
    assert_clean(path, "after the refusal");
}

fn file_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Changes both superblock slots and seals them again, as another version of this library would.
fn forge(path: &Path, change: impl Fn(&mut [u8])) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    for slot in SLOTS {
        let mut bytes = vec![0; SUPERBLOCK_BYTES];
        file.read_exact_at(&mut bytes, slot).unwrap();
        change(&mut bytes);
        bytes[SEAL_AT..SEAL_AT + 4].fill(0);
        let seal = crc32fast::hash(&bytes);
        bytes[SEAL_AT..SEAL_AT + 4].copy_from_slice(&seal.to_le_bytes());
        file.write_all_at(&bytes, slot).unwrap();
    }
}

#[test]
fn a_file_of_another_kind_is_refused_and_left_alone() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let mut noise = vec![0; 300_000];
    let mut dice = Dice::new(1);
    noise.fill_with(|| dice.next().to_le_bytes()[0]);
    for (name, bytes) in
        [("text.txt", b"dear diary\n".to_vec()), ("zeroes.img", vec![0; 1 << 20]), ("noise.bin", noise)]
    {
        let path = dir.path().join(name);
        fs::write(&path, &bytes).unwrap();
        refused(Store::open(&path, options()), ErrorKind::Invalid, &[name]);
        refused(Store::open_read_only(&path, options()), ErrorKind::Invalid, &[name]);
        refused(Store::open_or_create(&path, options()), ErrorKind::Invalid, &[name]);
        refused(Store::create(&path, options()), ErrorKind::Exists, &[name]);
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name} was touched");
    }
}

#[test]
fn an_empty_file_is_no_store() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let path = dir.path().join("empty.cow");
    fs::write(&path, b"").unwrap();
    refused(Store::open(&path, options()), ErrorKind::Invalid, &["empty.cow"]);
}

#[test]
fn a_missing_file_and_a_directory_are_named() {
    let _quiet = FORKS.read();
    let dir = scratch();
    refused(Store::open(dir.path().join("gone.cow"), options()), ErrorKind::NotFound, &["gone.cow"]);
    refused(Store::open(dir.path(), options()), ErrorKind::Invalid, &[dir.path().to_str().unwrap()]);
    refused(
        Store::create(dir.path().join("no/such/pool.cow"), options()),
        ErrorKind::NotFound,
        &["pool.cow"],
    );
}

#[test]
fn a_wrong_magic_in_one_slot_costs_nothing_and_in_both_everything_but_the_file() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"notcowbl", SLOTS[1]).unwrap();
    assert_intact(&path, &bytes);
    file.write_all_at(b"notcowbl", SLOTS[0]).unwrap();
    assert_intact(&path, &bytes);
    for slot in SLOTS {
        file.write_all_at(b"notcowbl", slot).unwrap();
    }
    refused(Store::open(&path, options()), ErrorKind::Invalid, &[file_name(&path)]);
}

#[test]
fn a_newer_format_version_is_refused_by_number() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    let file = fs::read(&path).unwrap();
    forge(&path, |slot| slot[VERSION_AT] = 77);
    let names = [file_name(&path), "77"];
    refused(Store::open(&path, options()), ErrorKind::Unsupported, &names);
    refused(Store::open_read_only(&path, options()), ErrorKind::Unsupported, &names);
    refused(cowblk::check(&path), ErrorKind::Unsupported, &names);
    fs::write(&path, file).unwrap();
    assert_intact(&path, &bytes);
}

#[test]
fn an_unknown_incompatible_feature_is_refused() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    forge(&path, |slot| slot[INCOMPATIBLE_AT + 5] = 0x40);
    let names = [file_name(&path), "feature"];
    refused(Store::open(&path, options()), ErrorKind::Unsupported, &names);
    refused(Store::open_read_only(&path, options()), ErrorKind::Unsupported, &names);
    forge(&path, |slot| slot[INCOMPATIBLE_AT + 5] = 0);
    assert_intact(&path, &bytes);
}

#[test]
fn an_unknown_read_only_compatible_feature_still_allows_reading() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    forge(&path, |slot| slot[READ_ONLY_COMPATIBLE_AT] = 2);
    refused(Store::open(&path, options()), ErrorKind::Unsupported, &[file_name(&path), "read-only"]);
    let store = Store::open_read_only(&path, options()).unwrap();
    let mut got = vec![0; bytes.len()];
    store.server("web").unwrap().disk("vda").unwrap().read_at(&mut got, 0).unwrap();
    assert!(got == bytes);
    drop(store);
    forge(&path, |slot| slot[READ_ONLY_COMPATIBLE_AT] = 0);
    assert_intact(&path, &bytes);
}

/// Cuts the file at many lengths. Whatever is left is refused, or opens and never reads a wrong byte.
#[test]
fn a_truncated_file_is_refused() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    let whole = fs::read(&path).unwrap();
    let cut = dir.path().join("cut.cow");
    let len = whole.len();
    for keep in
        [0, 1, 511, 4095, 4096, 65_535, 70_000, 131_072, 200_000, len / 2, len - 4096, len - 512, len - 1]
    {
        fs::write(&cut, &whole[..keep]).unwrap();
        match Store::open(&cut, options()) {
            Err(error) => {
                assert!(
                    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid),
                    "{keep} bytes: {error}"
                );
                assert!(error.to_string().contains("cut.cow"), "the message does not name the file: {error}");
            }
            Ok(store) => {
                let mut got = vec![0; bytes.len()];
                match store.server("web").unwrap().disk("vda").unwrap().read_at(&mut got, 0) {
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{keep} bytes: {error}"),
                    Ok(()) => {
                        assert!(got == bytes, "{keep} bytes are kept, and the disk reads something else");
                    }
                }
            }
        }
    }
    assert_intact(&path, &bytes);
}

/// Any flipped bit is noticed, or changes nothing that can be read.
#[test]
fn a_flipped_bit_is_never_handed_out() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    let mut whole = fs::read(&path).unwrap();
    let rotten = dir.path().join("rotten.cow");
    let mut dice = Dice::new(3);
    for _ in 0..80 {
        let (at, bit) = (dice.index(whole.len()), 1 << dice.below(8));
        whole[at] ^= bit;
        fs::write(&rotten, &whole).unwrap();
        whole[at] ^= bit;
        let mut got = vec![0; bytes.len()];
        let read = Store::open_read_only(&rotten, options())
            .and_then(|store| store.server("web")?.disk("vda")?.read_at(&mut got, 0));
        match read {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit} of byte {at}: {error}"),
            Ok(()) => assert!(got == bytes, "bit {bit} of byte {at} was handed out"),
        }
    }
}

const HOLD: &str = "COWBLK_HOLD_STORE";

/// Not a test by itself: the process that holds a store open for [`a_store_that_is_open_elsewhere_is_busy`].
#[test]
fn the_holder() {
    let Ok(path) = std::env::var(HOLD) else { return };
    let store = Store::open(path, options()).unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nheld").unwrap();
    out.flush().unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    store.close().unwrap();
}

fn hold(path: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_holder", "--nocapture"])
        .env(HOLD, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "held"), "the holder did not open the store");
    // The rest of its output is read, so that it never waits for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

#[test]
fn a_store_that_is_open_elsewhere_is_busy() {
    let _quiet = FORKS.write();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    let mut holder = hold(&path);
    refused(Store::open(&path, options()), ErrorKind::Busy, &[file_name(&path)]);
    refused(Store::open_or_create(&path, options()), ErrorKind::Busy, &[file_name(&path)]);
    refused(Store::create(&path, options().overwrite(true)), ErrorKind::Busy, &[file_name(&path)]);
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    assert_intact(&path, &bytes);
}

#[test]
fn a_lock_dies_with_its_process() {
    let _quiet = FORKS.write();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    let mut holder = hold(&path);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_intact(&path, &bytes);
}

#[test]
fn a_second_handle_in_one_process_is_busy_until_the_first_is_closed() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    let first = Store::open(&path, options()).unwrap();
    refused(Store::open(&path, options()), ErrorKind::Busy, &[file_name(&path)]);
    let clone = first.clone();
    drop(first);
    refused(Store::open(&path, options()), ErrorKind::Busy, &[file_name(&path)]);
    drop(clone);
    assert_intact(&path, &bytes);
}

#[test]
fn a_size_that_is_no_multiple_of_512_is_refused() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    let store = Store::open(&path, options()).unwrap();
    let server = store.server("web").unwrap();
    for size in [1_u64, 511, 513, 1_000_000] {
        refused(server.create_disk("vdb", size), ErrorKind::Invalid, &[&size.to_string(), "512"]);
    }
    refused(server.disk("vda").unwrap().resize((1 << 20) + 100), ErrorKind::Invalid, &["1048676", "512"]);
    refused(server.create_disk("vdb", u64::MAX / 512 * 512), ErrorKind::Invalid, &[]);
    assert_eq!(server.disks().len(), 1);
    server.disk("vda").unwrap().resize(2 << 20).unwrap();
    refused(server.disk("vda").unwrap().resize(512 << 10), ErrorKind::Invalid, &["vda"]);
    drop(server);
    store.close().unwrap();
    assert_intact(&path, &bytes);
}

#[test]
fn a_range_past_the_end_is_refused_and_writes_nothing() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    let store = Store::open(&path, options()).unwrap();
    let disk = store.server("web").unwrap().disk("vda").unwrap();
    let mut buf = vec![7; 4096];
    for offset in [(1 << 20) - 4095, 1 << 20, 1 << 40, u64::MAX - 4095, u64::MAX] {
        refused(disk.read_at(&mut buf, offset), ErrorKind::OutOfRange, &["vda"]);
        refused(disk.write_at(&buf, offset), ErrorKind::OutOfRange, &["vda"]);
        refused(disk.discard(offset, 4096), ErrorKind::OutOfRange, &["vda"]);
        refused(disk.write_zeroes(offset, 4096), ErrorKind::OutOfRange, &["vda"]);
    }
    refused(disk.discard(1, u64::MAX), ErrorKind::OutOfRange, &["vda"]);
    disk.read_at(&mut [], 1 << 20).unwrap();
    disk.write_at(&[], 1 << 20).unwrap();
    drop(disk);
    store.close().unwrap();
    assert_intact(&path, &bytes);
}

#[test]
fn a_name_that_breaks_the_rule_is_refused_everywhere() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    let store = Store::open(&path, options()).unwrap();
    let server = store.server("web").unwrap();
    let long = "n".repeat(65);
    for name in ["", "a/b", "../web", "a b", "wëb", "снимок", "a\0b", "line\nbreak", long.as_str()] {
        let said =
            if name.is_ascii() && !name.contains(char::is_control) && name.len() <= 64 { name } else { "" };
        refused(store.create_server(name), ErrorKind::Invalid, &[said]);
        refused(server.create_disk(name, 4096), ErrorKind::Invalid, &[said]);
        refused(server.snapshot(name, ""), ErrorKind::Invalid, &[said]);
    }
    refused(server.snapshot("s", &"d".repeat(100_000)), ErrorKind::Invalid, &["description"]);
    let longest = "n".repeat(64);
    assert_eq!(server.snapshot(&longest, "fünf Äpfel, 苹果").unwrap().name(), longest);
    assert_eq!(server.snapshots()[0].description(), "fünf Äpfel, 苹果");
    assert_eq!((store.servers().len(), server.disks().len(), server.snapshots().len()), (1, 1, 1));
    drop(server);
    store.close().unwrap();
    assert_intact(&path, &bytes);
}

#[test]
fn what_is_there_twice_or_not_at_all_is_named() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let (path, _) = store_with_data(dir.path());
    let store = Store::open(&path, options()).unwrap();
    let server = store.server("web").unwrap();
    let snapshot = server.snapshot("first", "").unwrap();
    refused(store.create_server("web"), ErrorKind::Exists, &["web"]);
    refused(server.create_disk("vda", 4096), ErrorKind::Exists, &["vda"]);
    refused(server.snapshot("first", ""), ErrorKind::Exists, &["first"]);
    refused(store.server("mail"), ErrorKind::NotFound, &["mail"]);
    refused(server.disk("vdz"), ErrorKind::NotFound, &["vdz"]);
    refused(server.delete_disk("vdz"), ErrorKind::NotFound, &["vdz"]);
    refused(store.server_by_id(cowblk::ServerId(4711)), ErrorKind::NotFound, &["4711"]);
    refused(store.delete_server(cowblk::ServerId(4711)), ErrorKind::NotFound, &["4711"]);
    for id in [cowblk::SnapshotId(4711), cowblk::SnapshotId(0), cowblk::SnapshotId(u64::MAX)] {
        refused(store.snapshot(id), ErrorKind::NotFound, &[&id.to_string()]);
        refused(store.delete_snapshot(id), ErrorKind::NotFound, &[&id.to_string()]);
        refused(server.restore(id), ErrorKind::NotFound, &[&id.to_string()]);
    }
    let other = store.create_server("mail").unwrap();
    refused(other.restore(snapshot.id()), ErrorKind::NotFound, &[&snapshot.id().to_string()]);
    store.delete_snapshot(snapshot.id()).unwrap();
    refused(store.delete_snapshot(snapshot.id()), ErrorKind::NotFound, &[&snapshot.id().to_string()]);
    refused(server.restore(snapshot.id()), ErrorKind::NotFound, &[&snapshot.id().to_string()]);
}

#[test]
fn options_that_make_no_store_are_refused_before_a_file_is_made() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let path = dir.path().join("never.cow");
    for wrong in [
        options().block_size(0),
        options().block_size(512),
        options().block_size(5000),
        options().block_size(1 << 20),
        options().zone_blocks(0),
        options().zone_blocks(1),
        options().zone_blocks(u32::MAX),
        options().journal_bytes(0),
        options().journal_bytes(u64::MAX),
        options().max_bytes(0),
        options().max_bytes(200 << 10),
    ] {
        let Err(error) = Store::create(&path, wrong) else {
            panic!("a store of impossible options was made")
        };
        assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Full), "{error}");
        assert!(!path.exists(), "a file was left behind: {error}");
    }
    Store::create(&path, options()).unwrap().close().unwrap();
}

#[test]
fn a_read_only_store_refuses_every_change() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    let store = Store::open(&path, options()).unwrap();
    let id = store.server("web").unwrap().snapshot("kept", "").unwrap().id();
    store.close().unwrap();
    let before = fs::read(&path).unwrap();
    let store = Store::open_read_only(&path, options()).unwrap();
    assert!(store.status().read_only);
    let server = store.server("web").unwrap();
    let disk = server.disk("vda").unwrap();
    let mut got = vec![0; bytes.len()];
    disk.read_at(&mut got, 0).unwrap();
    assert!(got == bytes);
    let read_only = |result: cowblk::Result<()>| drop(refused(result, ErrorKind::ReadOnly, &["read-only"]));
    read_only(disk.write_at(&[1; 512], 0));
    read_only(disk.discard(0, 4096));
    read_only(disk.write_zeroes(0, 4096));
    read_only(disk.resize(2 << 20));
    read_only(store.create_server("mail").map(drop));
    read_only(store.delete_server(server.id()));
    read_only(store.delete_snapshot(id));
    read_only(server.create_disk("vdb", 4096).map(drop));
    read_only(server.delete_disk("vda"));
    read_only(server.snapshot("late", "").map(drop));
    read_only(server.restore(id));
    drop((disk, server, store));
    assert!(fs::read(&path).unwrap() == before, "a read-only opening changed the file");
    assert_intact(&path, &bytes);
}

/// Root may write any file, so this one asks only where the permission counts.
#[test]
fn a_file_without_write_permission_is_refused_for_writing() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let (path, bytes) = store_with_data(dir.path());
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    if OpenOptions::new().write(true).open(&path).is_ok() {
        eprintln!("skipped: this user may write any file");
        return;
    }
    refused(Store::open(&path, options()), ErrorKind::ReadOnly, &[file_name(&path)]);
    let store = Store::open_read_only(&path, options()).unwrap();
    let mut got = vec![0; bytes.len()];
    store.server("web").unwrap().disk("vda").unwrap().read_at(&mut got, 0).unwrap();
    assert!(got == bytes);
}

/// Writes blocks of noise from the start of the disk until the store is full: how many bytes went in.
fn fill(disk: &Disk, limit: u64) -> u64 {
    let mut dice = Dice::new(5);
    let mut offset = 0;
    while offset < limit {
        let mut buf = vec![0; 64 << 10];
        buf.fill_with(|| dice.next().to_le_bytes()[0] | 1);
        if let Err(error) = disk.write_at(&buf, offset) {
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
            assert!(error.to_string().len() > 15, "this is no sentence: {error}");
            return offset;
        }
        offset += buf.len() as u64;
    }
    panic!("{limit} bytes went into a store that cannot hold them");
}

/// Compares what `fill` wrote.
fn assert_filled(disk: &Disk, end: u64) {
    let mut dice = Dice::new(5);
    for offset in (0..end).step_by(64 << 10) {
        let (mut expected, mut got) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        expected.fill_with(|| dice.next().to_le_bytes()[0] | 1);
        disk.read_at(&mut got, offset).unwrap();
        assert!(got == expected, "what was acknowledged at {offset} is lost");
    }
}

/// A full store still reads, flushes, discards, deletes, checkpoints, closes and opens; what a delete frees can be written.
fn survive_being_full(path: &Path, options: &Options, limit: u64) {
    let store = Store::create(path, options.clone()).unwrap();
    let server = store.create_server("web").unwrap();
    let disk = server.create_disk("vda", 1 << 30).unwrap();
    disk.write_at(&[9; 4096], (1 << 30) - 4096).unwrap();
    let snapshot = server.snapshot("early", "").unwrap();
    let end = fill(&disk, limit);
    assert!(end >= limit / 4, "only {end} bytes went into a store of {limit}");
    assert_filled(&disk, end);
    disk.flush().unwrap();
    store.checkpoint().unwrap();
    store.delete_snapshot(snapshot.id()).unwrap();
    drop((disk, server, snapshot));
    store.close().unwrap();
    assert_clean(path, "when full");

    let store = Store::open(path, options.clone()).unwrap();
    let disk = store.server("web").unwrap().disk("vda").unwrap();
    assert_filled(&disk, end);
    disk.discard(0, end / 2).unwrap();
    store.collect().unwrap();
    let mut half = vec![1; usize::try_from(end / 4).unwrap()];
    disk.write_at(&half, 0).unwrap();
    disk.flush().unwrap();
    disk.read_at(&mut half, 0).unwrap();
    assert!(half.iter().all(|byte| *byte == 1));
    drop(disk);
    store.close().unwrap();
    assert_clean(path, "when there is room again");
}

#[test]
fn a_store_at_its_largest_is_full_and_loses_nothing() {
    let _quiet = FORKS.read();
    let dir = scratch();
    let limit = 12 << 20;
    let path = dir.path().join("bounded.cow");
    survive_being_full(&path, &options().max_bytes(limit), limit);
    assert!(fs::metadata(&path).unwrap().len() <= limit, "the file grew beyond its bound");
}

#[test]
fn a_full_file_system_is_a_full_store_and_loses_nothing() {
    let _quiet = FORKS.write();
    let dir = scratch();
    let mount_point = dir.path().join("small");
    fs::create_dir(&mount_point).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"])
        .arg(&mount_point)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("skipped: this user cannot mount a small file system");
        return;
    }
    let _unmount = Unmount(mount_point.clone());
    survive_being_full(&mount_point.join("pool.cow"), &options(), 12 << 20);
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}
