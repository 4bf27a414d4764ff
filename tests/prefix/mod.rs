//! Prefix: operations that follow from a seed, and a model that finds out how many of them a store has kept.
//!
//! A crash may cut a history at any block of a write. So the model repeats the history block by block, and compares after
//! each with what the store holds: a store is sound if it holds the state after some such step, at or after the last
//! operation that was reported as durable.

#![allow(dead_code, reason = "every test file compiles its own copy and uses only a part of it")]
#![allow(unreachable_pub, reason = "a test crate has no outside")]

use std::collections::BTreeMap;

use cowblk::{Options, Server, Snapshot, Store};

use crate::fixture::{Dice, SECTOR, stamp, stamps};

const SECTORS_PER_BLOCK: usize = 8;
/// Name and sectors of each disk.
pub const DISKS: [(&str, usize); 2] = [("vda", 2_051), ("vdb", 512)];

/// What a writer does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Write { disk: usize, first: usize, count: usize },
    Discard { disk: usize, first: usize, count: usize },
    Snapshot,
    RestoreTo(usize),
    UndoRestore,
    Delete(usize),
    Flush,
    Checkpoint,
    Collect,
}

/// The operation that `number` names in the history of `seed`: it depends on which snapshots there are, and on nothing else.
pub fn choose(seed: u64, number: u64, snapshot_count: usize, can_undo: bool) -> Operation {
    let dice = &mut Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(number));
    let disk = dice.index(DISKS.len());
    let first = dice.index(DISKS[disk].1);
    let longest = *dice.pick(&[1, 8, 16, 16, 80, 600]);
    let mut count = (1 + dice.index(longest)).min(DISKS[disk].1 - first);
    let mut first = first;
    if dice.chance(50) {
        first -= first % SECTORS_PER_BLOCK;
        count = count.next_multiple_of(SECTORS_PER_BLOCK).min(DISKS[disk].1 - first);
    }
    let (roll, index) = (dice.below(200), dice.next());
    let index = |len: usize| usize::try_from(index % len as u64).unwrap();
    match roll {
        0..120 => Operation::Write { disk, first, count },
        120..135 => Operation::Discard { disk, first, count },
        135..145 if snapshot_count < 5 => Operation::Snapshot,
        145..152 if snapshot_count > 0 => Operation::RestoreTo(index(snapshot_count)),
        152..154 if can_undo => Operation::UndoRestore,
        154..164 if snapshot_count > 1 => Operation::Delete(index(snapshot_count)),
        164..168 => Operation::Checkpoint,
        168..171 => Operation::Collect,
        _ => Operation::Flush,
    }
}

/// Options that meet many zones, journal laps and checkpoints.
pub fn options(dice: &mut Dice) -> Options {
    Options::default()
        .zone_blocks(*dice.pick(&[64, 256, 1024]))
        .journal_bytes(*dice.pick(&[64 << 10, 256 << 10, 1 << 20]))
        .dirty_bytes(*dice.pick(&[64 << 10, 1 << 20, 16 << 20]))
        .background(dice.chance(50))
}

/// User snapshots, oldest first.
pub fn snapshots(server: &Server) -> Vec<Snapshot> {
    server.snapshots().into_iter().rev().collect()
}

/// Whether everything up to the operation is durable when it returns.
pub fn is_durable(operation: &Operation) -> bool {
    matches!(operation, Operation::Flush | Operation::Snapshot | Operation::Checkpoint | Operation::Collect)
}

/// Makes the server and its disks in an empty store.
pub fn prepare(store: &Store) {
    let server = store.create_server("web").unwrap();
    for (name, sectors) in DISKS {
        server.create_disk(name, (sectors * SECTOR) as u64).unwrap();
    }
}

/// Does the operation that `number` names.
pub fn perform(store: &Store, server: &Server, operation: &Operation, number: u64) -> cowblk::Result<()> {
    match *operation {
        Operation::Write { disk, first, count } => {
            let mut bytes = vec![0; count * SECTOR];
            stamp(&mut bytes, first as u64, number);
            server.disk(DISKS[disk].0)?.write_at(&bytes, (first * SECTOR) as u64)
        }
        Operation::Discard { disk, first, count } => {
            server.disk(DISKS[disk].0)?.discard((first * SECTOR) as u64, (count * SECTOR) as u64)
        }
        Operation::Snapshot => server.snapshot(&format!("at-{number}"), "").map(drop),
        Operation::RestoreTo(index) => server.restore(snapshots(server)[index].id()),
        Operation::UndoRestore => server.restore(server.before_restore().unwrap().id()),
        Operation::Delete(index) => store.delete_snapshot(snapshots(server)[index].id()),
        Operation::Flush => store.flush(),
        Operation::Checkpoint => store.checkpoint(),
        Operation::Collect => store.collect(),
    }
}

/// Stamps of every sector of every disk.
pub type Content = Vec<Vec<u64>>;

/// What can be seen of a store, and what the model says should be seen.
#[derive(Clone, PartialEq)]
pub struct State {
    pub disks: Content,
    /// Name and content, oldest first.
    pub snapshots: Vec<(String, Content)>,
    pub before_restore: Option<Content>,
}

impl State {
    /// Disks that were never written.
    pub fn new() -> Self {
        let disks = DISKS.iter().map(|(_, sectors)| vec![0; *sectors]).collect();
        Self { disks, snapshots: Vec::new(), before_restore: None }
    }

    /// What the open store holds; panics on a sector that is torn or in a wrong place.
    pub fn observe(server: &Server) -> Self {
        let read = |len: u64, read_at: &dyn Fn(&mut [u8]) -> cowblk::Result<()>| {
            let mut bytes = vec![0xAA; usize::try_from(len).unwrap()];
            read_at(&mut bytes).unwrap();
            stamps(&bytes, 0).unwrap_or_else(|e| panic!("{e}"))
        };
        let of_snapshot = |snapshot: &Snapshot| -> Content {
            let disks = DISKS.iter().map(|(name, _)| snapshot.disk(name).unwrap());
            disks.map(|d| read(d.size_bytes(), &|buf| d.read_at(buf, 0))).collect()
        };
        let disks = DISKS.iter().map(|(name, _)| server.disk(name).unwrap());
        Self {
            disks: disks.map(|d| read(d.size_bytes(), &|buf| d.read_at(buf, 0))).collect(),
            snapshots: snapshots(server).iter().map(|s| (s.name(), of_snapshot(s))).collect(),
            before_restore: server.before_restore().as_ref().map(of_snapshot),
        }
    }

    /// Applies the operation in the steps at which a crash may cut it; `seen` is called after each and may stop it.
    pub fn apply(&mut self, operation: &Operation, number: u64, seen: &mut dyn FnMut(&Self) -> bool) -> bool {
        match *operation {
            Operation::Write { disk, first, count } => {
                return self.put(disk, first..first + count, number, seen);
            }
            Operation::Discard { disk, first, count } => {
                return self.put(disk, first..first + count, 0, seen);
            }
            Operation::Snapshot => self.snapshots.push((format!("at-{number}"), self.disks.clone())),
            Operation::RestoreTo(index) => self.swap(self.snapshots[index].1.clone()),
            Operation::UndoRestore => self.swap(self.before_restore.clone().unwrap()),
            Operation::Delete(index) => drop(self.snapshots.remove(index)),
            Operation::Flush | Operation::Checkpoint | Operation::Collect => {}
        }
        seen(self)
    }

    fn swap(&mut self, content: Content) {
        self.before_restore = Some(std::mem::replace(&mut self.disks, content));
    }

    fn put(
        &mut self,
        disk: usize,
        range: std::ops::Range<usize>,
        stamp: u64,
        seen: &mut dyn FnMut(&Self) -> bool,
    ) -> bool {
        let mut first = range.start;
        while first < range.end {
            let end = (first + 1).next_multiple_of(SECTORS_PER_BLOCK).min(range.end);
            self.disks[disk][first..end].fill(stamp);
            if seen(self) {
                return true;
            }
            first = end;
        }
        false
    }

    /// In how many sectors and snapshots two states differ, and where the first few are.
    pub fn difference(&self, other: &Self) -> (usize, String) {
        let mut places = Vec::new();
        let mut compare = |what: &str, ours: &Content, theirs: &Content| {
            for (disk, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                let differ = (0..ours.len()).filter(|&i| ours[i] != theirs[i]);
                places
                    .extend(differ.map(|i| {
                        format!("{what} {} sector {i}: {} / {}", DISKS[disk].0, ours[i], theirs[i])
                    }));
            }
        };
        compare("live", &self.disks, &other.disks);
        let (ours, theirs): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (self.snapshots.iter().cloned().collect(), other.snapshots.iter().cloned().collect());
        for (name, content) in &ours {
            if let Some(theirs) = theirs.get(name) {
                compare(name, content, theirs);
            }
        }
        if let (Some(ours), Some(theirs)) = (&self.before_restore, &other.before_restore) {
            compare("before-restore", ours, theirs);
        }
        let names = |map: &BTreeMap<String, Content>| map.keys().cloned().collect::<Vec<_>>();
        if names(&ours) != names(&theirs) || self.before_restore.is_some() != other.before_restore.is_some() {
            places.push(format!("snapshots {:?} / {:?}", names(&ours), names(&theirs)));
        }
        (places.len(), places.into_iter().take(8).collect::<Vec<_>>().join("\n  "))
    }
}

/// Finds the moment that a store has kept: `found` must be `start` after some of the operations `numbers` of the history of
/// `seed`, in their order, at least up to operation `durable`, and the last of them may be cut off between two blocks.
/// Returns the number of that last operation; 0 for none.
///
/// # Errors
/// The nearest state and how it differs, where there is no such moment.
pub fn settle(
    seed: u64,
    start: State,
    numbers: impl IntoIterator<Item = u64>,
    durable: u64,
    found: &State,
) -> Result<u64, String> {
    let mut numbers = numbers.into_iter().peekable();
    let mut model = start;
    if numbers.peek().is_none_or(|first| durable < *first) && model == *found {
        return Ok(0);
    }
    let (mut nearest, mut tries) = ((usize::MAX, "no operation".to_owned()), 0);
    for number in numbers {
        let operation = choose(seed, number, model.snapshots.len(), model.before_restore.is_some());
        let cut = model.apply(&operation, number, &mut |state| number > durable && state == found);
        if cut || (number == durable && model == *found) {
            return Ok(number);
        }
        if number >= durable && tries < 200 {
            tries += 1;
            let (count, places) = model.difference(found);
            if count < nearest.0 {
                nearest = (count, format!("operation {number}, {operation:?} (model / store):\n  {places}"));
            }
        }
    }
    let (count, places) = nearest;
    Err(format!(
        "the store holds no prefix; durable up to {durable}, nearest with {count} differences: {places}"
    ))
}
