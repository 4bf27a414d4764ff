//! Histories: random operations on a whole store, compared with plain byte vectors after each step that reads.
//!
//! Zones, journal and caches are tiny, so that one history meets many zones, many journal laps and many evictions. After
//! each history the auditor must find nothing, and an emptied store must use what a fresh one uses.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod fixture;
mod plain;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cowblk::{
    Disk, ErrorKind, Extent, ExtentKind, Notice, Notices, Options, Server, SnapshotDisk, SnapshotId,
    SnapshotKind, SnapshotStatus, Store,
};
use fixture::{Dice, assert_clean, empty, scratch, seeds};
use plain::{Contents, PlainServer, PlainSnapshot};
use proptest::prelude::*;

type Log = Rc<RefCell<Vec<String>>>;

/// Anything with bytes that can be compared with a vector.
trait Readable {
    fn read(&self, buf: &mut [u8], offset: u64) -> cowblk::Result<()>;
    fn ranges(&self, end: u64) -> Vec<Extent>;
    fn len(&self) -> u64;
}

macro_rules! readable {
    ($($disk:ty),*) => { $(
        impl Readable for $disk {
            fn read(&self, buf: &mut [u8], offset: u64) -> cowblk::Result<()> {
                self.read_at(buf, offset)
            }
            fn ranges(&self, end: u64) -> Vec<Extent> {
                self.extents(0..end).map(Result::unwrap).collect()
            }
            fn len(&self) -> u64 {
                self.size_bytes()
            }
        }
    )* };
}

readable!(Disk, SnapshotDisk);

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

/// Compares every byte, first position of a difference in the message.
fn assert_reads(what: &str, disk: &impl Readable, expected: &[u8]) {
    assert_eq!(disk.len(), expected.len() as u64, "{what}: size in bytes");
    let mut got = vec![0xAA; expected.len()];
    disk.read(&mut got, 0).unwrap_or_else(|e| panic!("{what}: {e}"));
    if let Some(first) = (0..got.len()).find(|&i| got[i] != expected[i]) {
        let count = (0..got.len()).filter(|&i| got[i] != expected[i]).count();
        panic!(
            "{what}: {count} bytes differ, the first at {first}: read {}, expected {}",
            got[first], expected[first]
        );
    }
}

/// Extents cover the disk without gap or overlap, neighbours differ in kind, and a hole reads as zero.
fn assert_extents(what: &str, disk: &impl Readable, expected: &[u8]) {
    let (mut end, mut previous) = (0, None);
    for extent in disk.ranges(disk.len()) {
        assert_eq!(extent.offset, end, "{what}: a gap or an overlap before {extent:?}");
        assert!(extent.len > 0, "{what}: an empty {extent:?}");
        assert_ne!(previous, Some(extent.kind), "{what}: {extent:?} should be merged with its neighbour");
        end += extent.len;
        if matches!(extent.kind, ExtentKind::Hole) {
            let bytes = &expected[at(extent.offset)..at(end)];
            assert!(bytes.iter().all(|byte| *byte == 0), "{what}: data under {extent:?}");
        }
        previous = Some(extent.kind);
    }
    assert_eq!(end, disk.len(), "{what}: the extents end early");
}

struct History {
    dice: Dice,
    /// What was done, for the report of a failure.
    log: Log,
    options: Options,
    path: PathBuf,
    store: Option<Store>,
    notices: Notices,
    model: BTreeMap<String, PlainServer>,
    names: u64,
}

impl History {
    fn new(seed: u64, dir: &Path, log: &Log) -> Self {
        let mut dice = Dice::new(seed);
        let zone_blocks = *dice.pick(&[64, 96, 128, 256]);
        let block_size = *dice.pick(&[4096, 4096, 4096, 8192, 65_536]);
        let journal_bytes = *dice.pick(&[64 << 10, 128 << 10, 256 << 10]);
        let cache_bytes = *dice.pick(&[0, 64 << 10, 1 << 20]);
        let dirty_bytes = *dice.pick(&[32 << 10, 256 << 10, 4 << 20]);
        let mut options = Options::default()
            .zone_blocks(zone_blocks)
            .block_size(block_size)
            .journal_bytes(journal_bytes)
            .cache_bytes(cache_bytes)
            .dirty_bytes(dirty_bytes)
            .direct_writes(!seed.is_multiple_of(3))
            .mapped_reads(seed.is_multiple_of(2))
            .background(false);
        let zone_bytes = u64::from(zone_blocks) * u64::from(block_size);
        let max_bytes = (256 << 10) + journal_bytes + zone_bytes * (2 + dice.below(12));
        if dice.chance(25) {
            options = options.max_bytes(max_bytes);
        }
        log.borrow_mut().push(format!("make a store with {options:?}"));
        let path = dir.join(format!("history-{seed}.cow"));
        let store = Store::create(&path, options.clone()).unwrap();
        let notices = store.notices();
        let (store, log) = (Some(store), Rc::clone(log));
        let mut history = Self { dice, log, options, path, store, notices, model: BTreeMap::new(), names: 0 };
        history.create_server();
        history
    }

    fn note(&self, what: impl FnOnce() -> String) {
        self.log.borrow_mut().push(what());
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}-{}", self.names)
    }

    /// The space ran out, which only a store with a bound may say.
    fn is_full<T>(result: &cowblk::Result<T>) -> bool {
        match result {
            Err(e) if e.kind() == ErrorKind::Full => true,
            Err(e) => panic!("{e}"),
            Ok(_) => false,
        }
    }

    fn create_server(&mut self) {
        let name = self.name("server");
        let created = self.store().create_server(&name);
        if Self::is_full(&created) {
            return;
        }
        self.model.insert(name.clone(), PlainServer::default());
        let server = created.unwrap();
        assert_eq!(server.name(), name);
        for disk in ["vda", "vdb", "vdc"].into_iter().take(1 + self.dice.index(3)) {
            let size = match self.dice.below(4) {
                0 => 512 * (1 + self.dice.below(40)),
                1 => 512 * (1 + self.dice.below(4000)),
                _ => 4096 * (1 + self.dice.below(300)),
            };
            self.note(|| format!("create {name} {disk} of {size} bytes"));
            let created = server.create_disk(disk, size);
            if !Self::is_full(&created) {
                self.model.get_mut(&name).unwrap().create_disk(disk, at(size));
            }
        }
    }

    fn any_server(&mut self) -> Option<(String, Server)> {
        let names: Vec<String> = self.model.keys().cloned().collect();
        if names.is_empty() {
            return None;
        }
        let name = self.dice.pick(&names).clone();
        let server = self.store().server(&name).unwrap();
        Some((name, server))
    }

    fn any_disk(&mut self) -> Option<(String, String, Disk)> {
        let (name, server) = self.any_server()?;
        let disks: Vec<String> = self.model[&name].disks.keys().cloned().collect();
        if disks.is_empty() {
            return None;
        }
        let disk = self.dice.pick(&disks).clone();
        let handle = server.disk(&disk).unwrap();
        Some((name, disk, handle))
    }

    /// After a write that met a full store: each sector is as before or as asked for, and nothing else changed.
    fn adopt(&mut self, server: &str, disk: &str, handle: &Disk, asked: &[u8], offset: u64) {
        let model = &mut self.model.get_mut(server).unwrap().disks.get_mut(disk).unwrap().bytes;
        let mut got = vec![0; asked.len()];
        handle.read_at(&mut got, offset).unwrap();
        for (i, byte) in got.iter().enumerate() {
            let before = model[at(offset) + i];
            assert!(
                *byte == before || *byte == asked[i],
                "a write that failed left a byte of neither at {i}"
            );
        }
        model[at(offset)..at(offset) + got.len()].copy_from_slice(&got);
    }

    fn put(&mut self, server: &str, disk: &str, offset: u64, bytes: &[u8]) {
        let model = &mut self.model.get_mut(server).unwrap().disks.get_mut(disk).unwrap().bytes;
        model[at(offset)..at(offset) + bytes.len()].copy_from_slice(bytes);
    }

    fn write(&mut self) {
        let Some((server, disk, handle)) = self.any_disk() else { return };
        let range = self.dice.range(handle.size_bytes());
        let mut bytes = vec![0_u8; at(range.end - range.start)];
        match self.dice.below(6) {
            0 => {}
            1 => bytes.fill(u8::try_from(self.dice.below(256)).unwrap()),
            _ => {
                for chunk in bytes.chunks_mut(8) {
                    chunk.copy_from_slice(&self.dice.next().to_le_bytes()[..chunk.len()]);
                }
                if self.dice.chance(30) {
                    let zero = self.dice.range(bytes.len() as u64);
                    bytes[at(zero.start)..at(zero.end)].fill(0);
                }
            }
        }
        self.note(|| {
            let zeroes = if bytes.iter().all(|byte| *byte == 0) { " zero" } else { "" };
            format!("write {}{zeroes} bytes at {} of {server} {disk}", bytes.len(), range.start)
        });
        let written = handle.write_at(&bytes, range.start);
        if Self::is_full(&written) {
            self.adopt(&server, &disk, &handle, &bytes, range.start);
            return;
        }
        self.put(&server, &disk, range.start, &bytes);
    }

    fn zero(&mut self) {
        let Some((server, disk, handle)) = self.any_disk() else { return };
        let range = self.dice.range(handle.size_bytes());
        let len = range.end - range.start;
        self.note(|| format!("discard {len} bytes at {} of {server} {disk}", range.start));
        let zeroed = if self.dice.chance(50) {
            handle.discard(range.start, len)
        } else {
            handle.write_zeroes(range.start, len)
        };
        let bytes = vec![0; at(len)];
        if Self::is_full(&zeroed) {
            let block = u64::from(self.store().status().block_size);
            let is_ragged = |byte: u64| !byte.is_multiple_of(block) && byte != handle.size_bytes();
            assert!(
                is_ragged(range.start) || is_ragged(range.end),
                "a full store refused to give blocks back"
            );
            self.adopt(&server, &disk, &handle, &bytes, range.start);
            return;
        }
        self.put(&server, &disk, range.start, &bytes);
    }

    fn grow(&mut self) {
        let Some((server, disk, handle)) = self.any_disk() else { return };
        let size = handle.size_bytes() + 512 * self.dice.below(3000);
        self.note(|| format!("grow {server} {disk} to {size} bytes"));
        if size > 4 << 20 || Self::is_full(&handle.resize(size)) {
            return;
        }
        self.model.get_mut(&server).unwrap().disks.get_mut(&disk).unwrap().bytes.resize(at(size), 0);
    }

    fn snapshot(&mut self) {
        let name = self.name("snapshot");
        let Some((server, handle)) = self.any_server() else { return };
        if self.model[&server].snapshots.len() >= 6 {
            return;
        }
        self.note(|| format!("take {name} of {server}"));
        let created = handle.snapshot(&name, "a moment of a random history");
        if Self::is_full(&created) {
            return;
        }
        let snapshot = created.unwrap();
        assert_eq!((snapshot.name(), snapshot.kind()), (name.clone(), SnapshotKind::User));
        let model = self.model.get_mut(&server).unwrap();
        model.snapshot(snapshot.id(), name);
    }

    fn restore(&mut self) {
        let Some((server, handle)) = self.any_server() else { return };
        let model = &self.model[&server];
        let undo = self.dice.chance(30);
        let target: PlainSnapshot = match &model.before_restore {
            Some(before) if undo => before.clone(),
            _ if model.snapshots.is_empty() => return,
            _ => self.dice.pick(&model.snapshots).clone(),
        };
        self.note(|| format!("restore {server} to snapshot {}", target.id));
        if Self::is_full(&handle.restore(target.id)) {
            return;
        }
        let kept = handle.before_restore();
        assert_eq!(kept.is_some(), model.replaces(&target), "a before-restore snapshot of what was replaced");
        assert!(kept.as_ref().is_none_or(|kept| kept.kind() == SnapshotKind::BeforeRestore));
        self.model.get_mut(&server).unwrap().restore(&target, kept.map(|kept| kept.id()));
    }

    fn create_disk(&mut self) {
        let name = self.name("disk");
        let Some((server, handle)) = self.any_server() else { return };
        let size = 512 * (1 + self.dice.below(2000));
        self.note(|| format!("create {server} {name} of {size} bytes"));
        if self.model[&server].disks.len() < 5 && !Self::is_full(&handle.create_disk(&name, size)) {
            self.model.get_mut(&server).unwrap().create_disk(&name, at(size));
        }
    }

    fn delete_disk(&mut self) {
        let Some((server, disk, handle)) = self.any_disk() else { return };
        self.note(|| format!("delete {server} {disk}"));
        self.store().server(&server).unwrap().delete_disk(&disk).unwrap();
        self.model.get_mut(&server).unwrap().disks.remove(&disk);
        let error = handle.read_at(&mut [0; 512], 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "a handle of a deleted disk: {error}");
    }

    fn shrink(&mut self) {
        let Some((server, disk, handle)) = self.any_disk() else { return };
        let size = 512 * (1 + self.dice.below(handle.size_bytes() / 512));
        self.note(|| format!("shrink {server} {disk} to {size} bytes"));
        let model = &mut self.model.get_mut(&server).unwrap().disks.get_mut(&disk).unwrap().bytes;
        let cuts = model[at(size)..].iter().any(|byte| *byte != 0);
        match handle.resize(size) {
            Err(error) if cuts => assert_eq!(error.kind(), ErrorKind::Invalid, "{error}"),
            result => {
                assert!(!cuts, "data was cut off");
                if !Self::is_full(&result) {
                    model.truncate(at(size));
                }
            }
        }
    }

    fn delete_snapshot(&mut self) {
        let Some((server, _)) = self.any_server() else { return };
        if self.model[&server].snapshots.is_empty() {
            return;
        }
        let index = self.dice.index(self.model[&server].snapshots.len());
        let id = self.model[&server].snapshots[index].id;
        self.note(|| format!("delete snapshot {id} of {server}"));
        self.store().delete_snapshot(id).unwrap();
        self.model.get_mut(&server).unwrap().delete_snapshot(index);
        assert_eq!(self.store().snapshot(id).map(|s| s.id()).unwrap_err().kind(), ErrorKind::NotFound);
    }

    fn delete_server(&mut self) {
        let Some((name, server)) = self.any_server() else { return };
        self.note(|| format!("delete {name}"));
        self.store().delete_server(server.id()).unwrap();
        self.model.remove(&name);
    }

    fn open(&mut self) {
        let store = Store::open(&self.path, self.options.clone()).unwrap();
        self.notices = store.notices();
        self.store = Some(store);
    }

    /// A store that was full has given up what restores replaced, and said so.
    fn hear(&mut self) {
        while let Some(notice) = self.notices.next_now() {
            if let Notice::UndoGivenUp { server, snapshot } = notice {
                let name = self.store().server_by_id(server).unwrap().name();
                let given_up = self.model.get_mut(&name).unwrap().before_restore.take();
                assert_eq!(given_up.map(|before| before.id), Some(snapshot), "{name}");
            }
        }
    }

    fn reopen(&mut self) {
        self.note(|| "reopen".to_owned());
        let store = self.store.take().unwrap();
        if self.dice.chance(70) {
            store.close().unwrap();
        } else {
            drop(store);
        }
        if self.dice.chance(20) {
            assert_clean(&self.path, "between two openings");
        }
        self.open();
    }

    /// The process ends after a flush: no checkpoint, no close. What the file held at that moment is opened.
    fn crash(&mut self) {
        self.note(|| "flush and crash".to_owned());
        self.store().flush().unwrap();
        let (left, lost) = (self.path.with_extension("left"), self.path.with_extension("lost"));
        std::fs::copy(&self.path, &left).unwrap();
        drop(self.store.take());
        std::fs::rename(&self.path, &lost).unwrap();
        std::fs::rename(&left, &self.path).unwrap();
        std::fs::remove_file(&lost).unwrap();
        if self.dice.chance(50) {
            assert_clean(&self.path, "after a crash");
        }
        self.open();
    }

    /// The step that `number` names: the same whichever steps came before, as far as the state allows.
    fn step(&mut self, seed: u64, number: u64) {
        self.dice = Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(number));
        match self.dice.below(100) {
            0..43 => self.write(),
            43..51 => self.zero(),
            51..53 => self.grow(),
            53..55 => self.shrink(),
            55..57 => self.create_disk(),
            57..58 => self.delete_disk(),
            58..65 => self.snapshot(),
            65..71 => self.restore(),
            71..76 => self.delete_snapshot(),
            76..80 => {
                self.note(|| "checkpoint".to_owned());
                self.store().checkpoint().unwrap();
            }
            80..84 => {
                self.note(|| "collect".to_owned());
                self.store().collect().unwrap();
            }
            84..88 => {
                self.note(|| "flush".to_owned());
                self.store().flush().unwrap();
            }
            88..90 => self.reopen(),
            90..92 => self.crash(),
            92..93 => self.delete_server(),
            93..95 if self.model.len() < 4 => self.create_server(),
            95..97 => self.compare_some(),
            _ => self.compare_a_range(),
        }
        self.hear();
    }

    fn compare_a_range(&mut self) {
        let Some((server, disk, handle)) = self.any_disk() else { return };
        let range = self.dice.range(handle.size_bytes());
        let mut got = vec![0xAA; at(range.end - range.start)];
        handle.read_at(&mut got, range.start).unwrap();
        let expected = &self.model[&server].disks[&disk].bytes[at(range.start)..at(range.end)];
        assert!(got == expected, "{server} {disk} {range:?} reads wrong");
    }

    fn compare_some(&mut self) {
        if let Some((name, _)) = self.any_server() {
            self.compare(&name);
        }
    }

    fn compare(&self, name: &str) {
        let (model, server) = (&self.model[name], self.store().server(name).unwrap());
        let disks: Vec<String> = server.disks().iter().map(Disk::name).collect();
        assert_eq!(disks.len(), model.disks.len(), "{name} has the disks {disks:?}");
        for (disk, expected) in &model.disks {
            let (what, handle) = (format!("{name} {disk}"), server.disk(disk).unwrap());
            assert_reads(&what, &handle, &expected.bytes);
            assert_extents(&what, &handle, &expected.bytes);
            assert_eq!(handle.parent(), expected.parent, "{what}: its parent");
        }
        let listed: Vec<SnapshotId> = server.snapshots().iter().map(cowblk::Snapshot::id).collect();
        let expected: Vec<SnapshotId> = model.snapshots.iter().rev().map(|snapshot| snapshot.id).collect();
        assert_eq!(listed, expected, "{name}: its snapshots, newest first");
        for snapshot in &model.snapshots {
            self.compare_snapshot(snapshot.id, &format!("{name} {}", snapshot.name), &snapshot.disks);
        }
        let kept = server.before_restore().map(|snapshot| snapshot.id());
        assert_eq!(kept, model.before_restore.as_ref().map(|s| s.id), "{name}: before restore");
        if let Some(snapshot) = &model.before_restore {
            self.compare_snapshot(snapshot.id, &format!("{name} before restore"), &snapshot.disks);
        }
    }

    fn compare_snapshot(&self, id: SnapshotId, what: &str, contents: &Contents) {
        let snapshot = self.store().snapshot(id).unwrap();
        assert_eq!(snapshot.disks().len(), contents.len(), "{what}: its disks");
        for (disk, expected) in contents {
            let (what, handle) = (format!("{what} {disk}"), snapshot.disk(disk).unwrap());
            assert_reads(&what, &handle, &expected.bytes);
            assert_extents(&what, &handle, &expected.bytes);
            assert_eq!(handle.parent(), expected.parent, "{what}: its parent");
        }
    }

    /// Once everything is settled, the counted blocks are the ones that the extents show.
    fn compare_counts(&self) {
        self.store().checkpoint().unwrap();
        let block = u64::from(self.store().status().block_size);
        let mapped = |what: &dyn Readable| -> u64 {
            let data =
                what.ranges(what.len()).into_iter().filter(|e| matches!(e.kind, ExtentKind::Data { .. }));
            data.map(|e| e.len.next_multiple_of(block)).sum()
        };
        for (name, model) in &self.model {
            let server = self.store().server(name).unwrap();
            for disk in server.disks() {
                assert_eq!(disk.mapped_bytes(), Some(mapped(&disk)), "{name} {}: mapped bytes", disk.name());
            }
            for snapshot in model.snapshots.iter().chain(&model.before_restore) {
                let handle = self.store().snapshot(snapshot.id).unwrap();
                assert_eq!(handle.status(), SnapshotStatus::Completed, "{}", snapshot.name);
                let sum = handle.disks().iter().map(|disk| mapped(disk)).sum();
                assert_eq!(handle.size_bytes(), Some(sum), "{name} {}: size in bytes", snapshot.name);
            }
        }
    }

    fn compare_all(&self) {
        for name in self.model.keys() {
            self.compare(name);
        }
        let status = self.store().status();
        let disks: usize = self.model.values().map(|s| s.disks.len()).sum();
        let snapshots: usize = self.model.values().map(|s| s.snapshots.len()).sum();
        assert_eq!(status.servers, self.model.len() as u64, "servers in the status");
        assert_eq!(status.disks, disks as u64, "disks in the status");
        assert!(status.snapshots >= snapshots as u64, "{} snapshots in the status", status.snapshots);
        assert!(!status.halted, "the store has halted");
    }

    /// What a store that never held anything uses, with the same options.
    fn used_when_fresh(&self) -> u64 {
        let path = self.path.with_extension("fresh");
        let store = Store::create(&path, self.options.clone()).unwrap();
        store.collect().unwrap();
        let used = store.status().used_blocks;
        store.close().unwrap();
        std::fs::remove_file(path).unwrap();
        used
    }

    fn finish(mut self) {
        self.compare_all();
        self.reopen();
        self.compare_all();
        self.compare_counts();
        self.store.take().unwrap().close().unwrap();
        assert_clean(&self.path, "after the history");
        let store = Store::open(&self.path, self.options.clone()).unwrap();
        empty(&store);
        assert_eq!(store.status().used_blocks, self.used_when_fresh(), "blocks used by an emptied store");
        store.close().unwrap();
        assert_clean(&self.path, "after everything is deleted");
        std::fs::remove_file(&self.path).unwrap();
    }
}

/// Runs the chosen steps of one history in a fresh directory: what went wrong, and what had been done by then.
fn run(seed: u64, steps: &[u64]) -> Result<(), (String, Vec<String>)> {
    let (dir, log) = (scratch(), Log::default());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut history = History::new(seed, dir.path(), &log);
        for step in steps {
            history.step(seed, *step);
        }
        history.finish();
    }));
    let done = log.borrow().clone();
    outcome.map_err(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        (said.unwrap_or_else(|| panic.downcast_ref::<&str>().map_or("a panic", |s| *s).to_owned()), done)
    })
}

/// Leaves out steps for as long as the history still fails: the report of a short history that does.
fn shrink(seed: u64, mut steps: Vec<u64>) -> String {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut part = steps.len().div_ceil(2).max(1);
    loop {
        let before = steps.len();
        let mut at = 0;
        while at < steps.len() {
            let fewer = [&steps[..at], &steps[(at + part).min(steps.len())..]].concat();
            if run(seed, &fewer).is_err() {
                steps = fewer;
            } else {
                at += part;
            }
        }
        if part == 1 && steps.len() == before {
            break;
        }
        part = part.div_ceil(2);
    }
    let report = run(seed, &steps);
    std::panic::set_hook(hook);
    match report {
        Ok(()) => "the shorter history does not fail every time".to_owned(),
        Err((said, done)) => format!("{said}\nafter\n  {}", done.join("\n  ")),
    }
}

#[test]
fn random_histories_read_back_what_the_model_holds() {
    for seed in seeds(60) {
        let count = *Dice::new(seed).pick(&[40, 150, 400]);
        let steps: Vec<u64> = (0..count).collect();
        if let Err((said, _)) = run(seed, &steps) {
            panic!(
                "{said}\nShrunk: {}\nreplay: COWBLK_SEED={seed} cargo test --test history random",
                shrink(seed, steps)
            );
        }
    }
}

/// Nothing but the seed decides where bytes go.
#[test]
fn the_same_seed_does_the_same_work() {
    let counters = |seed| {
        let dir = scratch();
        let mut history = History::new(seed, dir.path(), &Log::default());
        for step in 0..120 {
            history.step(seed, step);
        }
        let status = history.store().status();
        (status.used_blocks, status.free_blocks, status.zones, status.journal_used_bytes, status.generation)
    };
    for seed in 900..905 {
        assert_eq!(counters(seed), counters(seed), "seed {seed}");
    }
}

/// One disk of any legal size, with one operation of any legal range between two patterns.
fn single_operation() -> impl Strategy<Value = (u64, u64, u64, u8)> {
    (1_u64..2048).prop_flat_map(|sectors| {
        let size = sectors * 512;
        (Just(size), 0..size)
            .prop_flat_map(|(size, start)| (Just(size), Just(start), 1..=size - start, 0_u8..4))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_single_operation_changes_exactly_its_range((size, start, len, kind) in single_operation()) {
        let dir = scratch();
        let store = Store::create(dir.path().join("one.cow"),
            Options::default().zone_blocks(128).journal_bytes(256 << 10).background(false)).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", size).unwrap();
        let mut expected = vec![0x5A; at(size)];
        disk.write_at(&expected, 0).unwrap();
        let (from, to) = (at(start), at(start + len));
        match kind {
            0 => disk.write_at(&vec![0xC3; at(len)], start).unwrap(),
            1 => disk.write_at(&vec![0; at(len)], start).unwrap(),
            2 => disk.discard(start, len).unwrap(),
            _ => disk.write_zeroes(start, len).unwrap(),
        }
        expected[from..to].fill(if kind == 0 { 0xC3 } else { 0 });
        assert_reads("at once", &disk, &expected);
        let mut part = vec![0xAA; at(len)];
        disk.read_at(&mut part, start).unwrap();
        prop_assert!(part == expected[from..to]);
        disk.flush().unwrap();
        store.checkpoint().unwrap();
        assert_reads("after a checkpoint", &disk, &expected);
        assert_extents("after a checkpoint", &disk, &expected);
    }

    #[test]
    fn nothing_past_the_end_is_touched(sectors in 1_u64..64, beyond in 0_u64..5000, len in 1_usize..5000) {
        let dir = scratch();
        let store = Store::create(dir.path().join("end.cow"),
            Options::default().zone_blocks(128).journal_bytes(256 << 10).background(false)).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", sectors * 512).unwrap();
        let offset = (sectors * 512 + 1 + beyond).saturating_sub(len as u64);
        let kind = |r: cowblk::Result<()>| r.unwrap_err().kind();
        prop_assert_eq!(kind(disk.write_at(&vec![1; len], offset)), ErrorKind::OutOfRange);
        prop_assert_eq!(kind(disk.read_at(&mut vec![1; len], offset)), ErrorKind::OutOfRange);
        prop_assert_eq!(kind(disk.discard(offset, len as u64)), ErrorKind::OutOfRange);
        prop_assert_eq!(kind(disk.write_zeroes(offset, len as u64)), ErrorKind::OutOfRange);
        assert_reads("after refusals", &disk, &vec![0; at(sectors * 512)]);
    }
}
