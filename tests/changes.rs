//! Changes: between any two points of a disk, exactly the blocks that were written or discarded in between.
//!
//! Random histories run beside a plain model, which stamps each block with the write that made it. Then the ranges between
//! any two snapshots, the live disks and nothing must be those in which the stamps differ: no block more, none less.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(missing_docs, reason = "a test crate has no outside")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use cowblk::device::{Device, MemoryDevice};
use cowblk::{Change, ChangeKind, Disk, ErrorKind, Options, Point, SnapshotId, Store};

mod fixture;

use fixture::{Dice, ReplayOnPanic, seeds};

const BLOCK: u64 = 4096;
/// Three levels of nodes: the third covers more than 256 MiB.
const SIZES: [u64; 4] = [1 << 20, (2 << 20) + 512, 200 << 20, 700 << 20];

fn options() -> Options {
    Options::default().journal_bytes(4 << 20).zone_blocks(2050).background(false)
}

/// What is done in the midst of the next sync.
type Interruption = Box<dyn FnOnce() + Send>;

/// Memory that lets something happen while a checkpoint is under way.
#[derive(Default)]
struct Interrupted {
    memory: MemoryDevice,
    at_sync: Mutex<Option<Interruption>>,
}

impl Device for Interrupted {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.memory.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.memory.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let interruption = self.at_sync.lock().unwrap().take();
        if let Some(interruption) = interruption {
            interruption();
        }
        self.memory.sync()
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.memory.len_bytes()
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.memory.grow(len_bytes)
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.memory.discard(offset, len_bytes)
    }

    fn can_grow(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }
}

/// A disk as the model has it: what blocks hold that are not zero, and the stamps of the writes that made them.
#[derive(Clone, Default)]
struct Content {
    size: u64,
    blocks: BTreeMap<u64, (u64, Vec<u8>)>,
}

impl Content {
    fn write(&mut self, offset: u64, bytes: &[u8], stamp: u64) {
        let mut at = 0;
        while at < bytes.len() {
            let place = offset + at as u64;
            let within = usize::try_from(place % BLOCK).unwrap();
            let count = (4096 - within).min(bytes.len() - at);
            let mut block =
                self.blocks.remove(&(place / BLOCK)).map_or_else(|| vec![0; 4096], |(_, block)| block);
            block[within..within + count].copy_from_slice(&bytes[at..at + count]);
            if block.iter().any(|byte| *byte != 0) {
                self.blocks.insert(place / BLOCK, (stamp, block));
            }
            at += count;
        }
    }

    /// As docs/architecture.md has it: whole blocks become holes, parts of blocks are written with zeros.
    fn discard(&mut self, offset: u64, len: u64, stamp: u64) {
        let end = offset + len;
        let first = offset.div_ceil(BLOCK);
        let last = if end == self.size { end.div_ceil(BLOCK) } else { end / BLOCK };
        if first >= last {
            self.write(offset, &vec![0; usize::try_from(len).unwrap()], stamp);
            return;
        }
        let head = (first * BLOCK - offset).min(len);
        self.write(offset, &vec![0; usize::try_from(head).unwrap()], stamp);
        let gone: Vec<u64> = self.blocks.range(first..last).map(|(block, _)| *block).collect();
        for block in gone {
            self.blocks.remove(&block);
        }
        let tail = end.saturating_sub(last * BLOCK);
        self.write(last * BLOCK, &vec![0; usize::try_from(tail).unwrap()], stamp);
    }

    fn stamp(&self, block: u64) -> u64 {
        self.blocks.get(&block).map_or(0, |(stamp, _)| *stamp)
    }
}

/// The ranges in which the stamps differ.
fn expected(older: &Content, newer: &Content) -> Vec<Change> {
    let both: BTreeSet<u64> = older.blocks.keys().chain(newer.blocks.keys()).copied().collect();
    let mut found: Vec<Change> = Vec::new();
    for block in both.into_iter().filter(|block| block * BLOCK < newer.size) {
        if older.stamp(block) == newer.stamp(block) {
            continue;
        }
        let kind = if newer.stamp(block) == 0 { ChangeKind::Hole } else { ChangeKind::Data };
        let offset = block * BLOCK;
        let len = BLOCK.min(newer.size - offset);
        match found.last_mut() {
            Some(last) if last.kind == kind && last.offset + last.len == offset => last.len += len,
            _ => found.push(Change { offset, len, kind }),
        }
    }
    found
}

/// One server with one disk, its clones left out: the histories below add what they need.
struct History {
    device: Arc<Interrupted>,
    store: Store,
    disk: Disk,
    head: Content,
    snapshots: Vec<(SnapshotId, Content)>,
    stamp: u64,
}

impl History {
    fn new(size: u64) -> Self {
        let device = Arc::new(Interrupted::default());
        let store = Store::create_on(device.clone(), options()).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", size).unwrap();
        let head = Content { size, ..Content::default() };
        Self { device, store, disk, head, snapshots: Vec::new(), stamp: 0 }
    }

    fn place(&self, dice: &mut Dice) -> (u64, u64) {
        let range = dice.range(self.head.size.min(2 << 20));
        let shift = match dice.below(4) {
            0 => 0,
            1 => dice.below(self.head.size) / BLOCK * BLOCK,
            // Few places far from one another, so that later writes meet earlier ones.
            _ => dice.below(4) * (self.head.size / 4 / BLOCK * BLOCK),
        };
        let offset = (range.start + shift).min(self.head.size - 512);
        (offset, (range.end - range.start).min(self.head.size - offset))
    }

    fn step(&mut self, dice: &mut Dice) {
        self.stamp += 1;
        let server = self.store.server("web").unwrap();
        match dice.below(100) {
            0..45 => {
                let (offset, len) = self.place(dice);
                let byte = if dice.chance(10) { 0 } else { u8::try_from(1 + self.stamp % 250).unwrap() };
                let bytes = vec![byte; usize::try_from(len).unwrap()];
                self.disk.write_at(&bytes, offset).unwrap();
                self.head.write(offset, &bytes, self.stamp);
            }
            45..57 => {
                let (offset, len) = if dice.chance(10) { (0, self.head.size) } else { self.place(dice) };
                self.disk.discard(offset, len).unwrap();
                self.head.discard(offset, len, self.stamp);
            }
            57..70 => {
                let snapshot = server.snapshot(&format!("s{}", self.stamp), "").unwrap();
                self.snapshots.push((snapshot.id(), self.head.clone()));
            }
            70..76 if !self.snapshots.is_empty() => {
                let (id, content) = dice.pick(&self.snapshots).clone();
                server.restore(id).unwrap();
                self.head = content;
            }
            76..81 if self.snapshots.len() > 2 => {
                let (id, _) = self.snapshots.remove(dice.index(self.snapshots.len()));
                self.store.delete_snapshot(id).unwrap();
            }
            81..86 => self.resize(*dice.pick(&SIZES)),
            86..91 => self.store.checkpoint().unwrap(),
            91..97 => self.change_amid_checkpoint(dice),
            _ => self.store.collect().unwrap(),
        }
    }

    /// Writes and discards while a checkpoint settles what was written before, and compares there and then.
    fn change_amid_checkpoint(&mut self, dice: &mut Dice) {
        let (written, discarded) = (self.place(dice), self.place(dice));
        let bytes = vec![251; usize::try_from(written.1).unwrap()];
        self.head.write(written.0, &bytes, self.stamp);
        self.stamp += 1;
        self.head.discard(discarded.0, discarded.1, self.stamp);
        let pairs: Vec<_> = (0..self.snapshots.len() + 2)
            .flat_map(|at| [(at, 1), (1, at.max(1))])
            .map(|(older, newer)| (self.point(older), self.point(newer)))
            .collect();
        let (store, disk) = (self.store.clone(), self.disk.clone());
        *self.device.at_sync.lock().unwrap() = Some(Box::new(move || {
            disk.write_at(&bytes, written.0).unwrap();
            disk.discard(discarded.0, discarded.1).unwrap();
            for ((older, older_content), (newer, newer_content)) in pairs {
                let changes = store.changes(older.as_ref(), newer.as_ref().unwrap()).unwrap();
                let found: Vec<Change> = changes.map(|change| change.unwrap()).collect();
                assert_eq!(
                    found,
                    expected(&older_content, &newer_content),
                    "{older:?} to {newer:?}, amid a checkpoint"
                );
            }
        }));
        self.store.checkpoint().unwrap();
        assert!(self.device.at_sync.lock().unwrap().is_none(), "a checkpoint syncs");
    }

    fn resize(&mut self, size: u64) {
        if size < self.head.size {
            self.disk.discard(size, self.head.size - size).unwrap();
            self.head.discard(size, self.head.size - size, self.stamp);
            let end = size.next_multiple_of(BLOCK).min(self.head.size);
            self.head.discard(size, end - size, self.stamp);
        }
        self.disk.resize(size).unwrap();
        self.head.size = size;
    }

    /// A point and its content; none, any snapshot, or the live disk.
    fn point(&self, at: usize) -> (Option<Point>, Content) {
        match at {
            0 => (None, Content::default()),
            1 => (Some(Point::from(&self.disk)), self.head.clone()),
            _ => {
                let (id, content) = &self.snapshots[at - 2];
                let frozen = self.store.snapshot(*id).unwrap().disk("vda").unwrap();
                (Some(Point::from(&frozen)), content.clone())
            }
        }
    }

    fn compare(&self, dice: &mut Dice, when: &str) {
        for _ in 0..4 {
            let (older, newer) =
                (dice.index(self.snapshots.len() + 2), 1 + dice.index(self.snapshots.len() + 1));
            let (older_point, older_content) = self.point(older);
            let (newer_point, newer_content) = self.point(newer);
            let changes = self.store.changes(older_point.as_ref(), newer_point.as_ref().unwrap()).unwrap();
            assert_eq!(changes.older_size_bytes(), older_point.map(|_| older_content.size), "{when}");
            assert_eq!(changes.newer_size_bytes(), newer_content.size, "{when}");
            let found: Vec<Change> = changes.map(|change| change.unwrap()).collect();
            assert_eq!(found, expected(&older_content, &newer_content), "{when}: {older} to {newer}");
        }
    }
}

#[test]
fn the_changes_between_any_two_points_are_the_blocks_that_were_written() {
    for seed in seeds(120) {
        let _replay = ReplayOnPanic { test: "--test changes", seed };
        let mut dice = Dice::new(seed);
        let mut history = History::new(*dice.pick(&SIZES));
        for step in 0..60 {
            history.step(&mut dice);
            if dice.chance(25) {
                history.compare(&mut dice, &format!("seed {seed}, step {step}"));
            }
        }
        history.compare(&mut dice, &format!("seed {seed}, at the end"));
    }
}

#[test]
fn a_block_that_was_written_anew_with_the_same_bytes_is_reported() {
    let history = History::new(1 << 20);
    history.disk.write_at(&[7; 4096], 8192).unwrap();
    let server = history.store.server("web").unwrap();
    let snapshot = server.snapshot("s", "").unwrap();
    assert_eq!(history.disk.changes_since(snapshot.id()).unwrap().count(), 0);
    history.disk.write_at(&[7; 4096], 8192).unwrap();
    let change = Change { offset: 8192, len: 4096, kind: ChangeKind::Data };
    assert_eq!(history.disk.changes_since(snapshot.id()).unwrap().next().unwrap().unwrap(), change);
}

/// 256 MiB of data, three levels: reading all its leaves takes 256 node reads.
fn large_disk() -> (Arc<MemoryDevice>, SnapshotId) {
    let device = Arc::new(MemoryDevice::new(0));
    let store = Store::create_on(device.clone(), options()).unwrap();
    let server = store.create_server("web").unwrap();
    let disk = server.create_disk("vda", 1 << 40).unwrap();
    for at in 0..256 {
        disk.write_at(&vec![1; 1 << 20], at << 20).unwrap();
    }
    let snapshot = server.snapshot("before", "").unwrap();
    for block in [0, 30_000, 65_000] {
        disk.write_at(&[2; 4096], block * BLOCK).unwrap();
    }
    disk.write_at(&[3; 4096], 900 << 30).unwrap();
    drop(disk);
    store.close().unwrap();
    (device, snapshot.id())
}

#[test]
fn comparing_reads_the_nodes_that_differ_and_no_others() {
    let (device, snapshot) = large_disk();
    let nodes_read = |act: &dyn Fn(&Store, &Disk)| {
        let store = Store::open_on(device.clone(), options()).unwrap();
        let disk = store.server("web").unwrap().disk("vda").unwrap();
        let before = store.stats();
        act(&store, &disk);
        let after = store.stats();
        assert_eq!(
            after.device_reads - before.device_reads,
            after.cache_misses - before.cache_misses,
            "comparing reads nodes, and no data"
        );
        after.cache_misses - before.cache_misses
    };
    let bytes_changed = |store: &Store, older: Option<&Point>, newer: &Point| {
        let changes = store.changes(older, newer).unwrap();
        changes.map(|change| change.unwrap().len).sum::<u64>()
    };
    let since = nodes_read(&|_, disk| {
        let changes = disk.changes_since(snapshot).unwrap();
        assert_eq!(changes.map(|change| change.unwrap().len).sum::<u64>(), 4 * BLOCK);
    });
    // 1 TiB takes four levels. Three leaves of 256 MiB changed: the paths to them in both trees, and the path to 900 GiB.
    assert!(since <= 2 * (3 + 3) + 4, "{since} nodes were read to find 4 blocks");
    let nothing = nodes_read(&|store, _| {
        let frozen = store.snapshot(snapshot).unwrap().disk("vda").unwrap();
        assert_eq!(bytes_changed(store, Some(&Point::from(&frozen)), &Point::from(&frozen)), 0);
    });
    assert_eq!(nothing, 0, "a content does not differ from itself");
    let everything = nodes_read(&|store, disk| {
        assert_eq!(bytes_changed(store, None, &Point::from(disk)), (256 << 20) + BLOCK);
    });
    assert!((256..270).contains(&everything), "{everything} nodes were read to list 256 leaves");
}

#[test]
fn unsettled_changes_are_found_without_reading_anything() {
    let (device, snapshot) = large_disk();
    let store = Store::open_on(device, options()).unwrap();
    let server = store.server("web").unwrap();
    let disk = server.disk("vda").unwrap();
    let newer = server.snapshot("newer", "").unwrap();
    disk.write_at(&[5; 4096], 77 * BLOCK).unwrap();
    disk.discard(0, BLOCK).unwrap();
    let before = store.stats().cache_misses;
    let found: Vec<Change> = disk.changes_since(newer.id()).unwrap().map(|change| change.unwrap()).collect();
    let hole = Change { offset: 0, len: BLOCK, kind: ChangeKind::Hole };
    assert_eq!(found, [hole, Change { offset: 77 * BLOCK, len: BLOCK, kind: ChangeKind::Data }]);
    let read = store.stats().cache_misses - before;
    assert!(read <= 4, "{read} nodes: only the one leaf that both share, and the path to it");
    assert_eq!(disk.changes_since(snapshot).unwrap().count(), 5);
}

#[test]
fn what_lies_behind_the_end_is_not_reported_and_a_new_end_is() {
    let mut history = History::new((1 << 20) + 512);
    let end = (1 << 20) + 512;
    history.disk.write_at(&[1; 512], end - 512).unwrap();
    let server = history.store.server("web").unwrap();
    let snapshot = server.snapshot("long", "").unwrap();
    let found: Vec<Change> = history.disk.changes_since(None).unwrap().map(|c| c.unwrap()).collect();
    assert_eq!(found, [Change { offset: 1 << 20, len: 512, kind: ChangeKind::Data }]);
    history.head.size = end;
    history.resize(4096);
    let changes = history.disk.changes_since(snapshot.id()).unwrap();
    assert_eq!((changes.older_size_bytes(), changes.newer_size_bytes()), (Some(end), 4096));
    assert_eq!(changes.count(), 0);
}

#[test]
fn starting_in_the_middle_gives_the_rest() {
    let history = History::new(700 << 20);
    for at in [0, 3, 5, 70_000, 100_000] {
        history.disk.write_at(&[1; 4096], at * BLOCK).unwrap();
    }
    let all: Vec<Change> = history.disk.changes_since(None).unwrap().map(|c| c.unwrap()).collect();
    for from in [0, 1, 4096, 5 * BLOCK + 7, 5 * BLOCK + 4096, 90_000 * BLOCK, 700 << 20] {
        let rest = history.disk.changes_since(None).unwrap().starting_at(from);
        let rest: Vec<Change> = rest.map(|c| c.unwrap()).collect();
        let expected: Vec<Change> =
            all.iter().filter(|change| change.offset + change.len > from).copied().collect();
        assert_eq!(rest, expected, "from {from}");
    }
}

#[test]
fn ending_in_the_middle_cuts_what_goes_on() {
    let history = History::new(700 << 20);
    history.disk.write_at(&vec![1; 8 * 4096], 0).unwrap();
    history.disk.write_at(&[1; 4096], 100_000 * BLOCK).unwrap();
    let count = |from, until| {
        let changes = history.disk.changes_since(None).unwrap().starting_at(from).ending_at(until);
        changes.map(|change| change.unwrap()).map(|c| (c.offset / BLOCK, c.len / BLOCK)).collect::<Vec<_>>()
    };
    assert_eq!(count(0, 0), []);
    assert_eq!(count(0, 1), [(0, 1)]);
    assert_eq!(count(2 * BLOCK, 5 * BLOCK), [(2, 3)]);
    assert_eq!(count(0, 100_000 * BLOCK), [(0, 8)]);
    assert_eq!(count(0, u64::MAX), [(0, 8), (100_000, 1)]);
    assert_eq!(count(5 * BLOCK, 2 * BLOCK), []);
}

#[test]
fn a_clone_is_compared_with_what_it_was_cloned_from_and_with_its_siblings() {
    let history = History::new(1 << 20);
    let web = history.store.server("web").unwrap();
    history.disk.write_at(&vec![1; 8 * 4096], 0).unwrap();
    let origin = web.snapshot("origin", "").unwrap();
    let (one, two) = (origin.clone_server("one").unwrap(), origin.clone_server("two").unwrap());
    let disk = |server: &cowblk::Server| server.disk("vda").unwrap();
    disk(&one).write_at(&[2; 4096], 4096).unwrap();
    disk(&two).discard(8192, 4096).unwrap();
    history.disk.write_at(&[3; 4096], 0).unwrap();
    let found = |changes: cowblk::Changes| {
        changes
            .map(|change| change.unwrap())
            .map(|c| (c.offset / BLOCK, c.len / BLOCK, c.kind))
            .collect::<Vec<_>>()
    };
    let (data, hole) = (ChangeKind::Data, ChangeKind::Hole);
    let frozen = one.snapshot("frozen", "").unwrap();
    history.store.checkpoint().unwrap();
    assert_eq!(found(disk(&one).changes_since(origin.id()).unwrap()), [(1, 1, data)]);
    assert_eq!(found(disk(&two).changes_since(frozen.id()).unwrap()), [(1, 1, data), (2, 1, hole)]);
    assert_eq!(found(history.disk.changes_since(frozen.id()).unwrap()), [(0, 2, data)]);
    let frozen_disk = frozen.disk("vda").unwrap();
    let copy = origin.disk("vda").unwrap().clone_disk(&two, "copy").unwrap();
    for point in [Point::from(&copy), Point::from(&disk(&one)), Point::from(&frozen_disk)] {
        let behind = origin.disk_behind(&point).unwrap();
        assert_eq!(behind.id(), history.disk.id(), "whatever either is called");
    }
    assert_eq!(found(frozen_disk.changes_since(origin.id()).unwrap()), [(1, 1, data)]);
    // Nothing links them in the lineage any more; two points can be compared all the same.
    history.store.delete_snapshot(origin.id()).unwrap();
    history.store.collect().unwrap();
    let changes = history.store.changes(Some(&Point::from(&frozen_disk)), &Point::from(&disk(&two)));
    assert_eq!(found(changes.unwrap()), [(1, 1, data), (2, 1, hole)]);
}

#[test]
fn points_that_are_gone_or_strange_are_refused() {
    let history = History::new(1 << 20);
    let server = history.store.server("web").unwrap();
    let snapshot = server.snapshot("s", "").unwrap();
    let frozen = Point::from(&snapshot.disk("vda").unwrap());
    let younger = server.create_disk("vdb", 4096).unwrap();
    let refusal = younger.changes_since(snapshot.id()).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::NotFound, "{refusal}");
    let mut begun = history.store.changes(None, &frozen).unwrap();
    history.store.delete_snapshot(snapshot.id()).unwrap();
    assert_eq!(begun.next().unwrap().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(begun.next().is_none());
    assert_eq!(history.disk.changes_since(snapshot.id()).unwrap_err().kind(), ErrorKind::NotFound);
    let elsewhere = History::new(1 << 20);
    let refusal = history.store.changes(Some(&Point::from(&elsewhere.disk)), &Point::from(&history.disk));
    assert_eq!(refusal.unwrap_err().kind(), ErrorKind::Invalid);
    let last = server.snapshot("last", "").unwrap();
    let behind = |disk: &Disk| last.disk_behind(&Point::from(disk)).unwrap_err().kind();
    let new = server.create_disk("vdc", 4096).unwrap();
    assert_eq!((behind(&elsewhere.disk), behind(&new)), (ErrorKind::Invalid, ErrorKind::NotFound));
    let point = Point::from(&history.disk);
    server.delete_disk("vda").unwrap();
    assert_eq!(history.store.changes(None, &point).unwrap_err().kind(), ErrorKind::NotFound);
}
