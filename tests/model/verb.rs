//! Verb: everything that can be asked of a store, done to a store and to a model alike.

use super::content::{ALIKE, BLOCK, Fill};
use super::plain::{Model, Outcome};
use super::view::places;
use cowblk::device::sim::Random;
use cowblk::{DedupOptions, Disk, Error, ErrorKind, Result, SnapshotId, Store};
use std::fmt;
use std::ops::{ControlFlow, Range};

/// Random choices from a seed.
#[derive(Clone, Debug)]
pub struct Dice(Random);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed ^ 0x5851_F42D_4C95_7F2D))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.0.one_in(count)
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.0.index(items.len())]
    }
}

/// One call of the store. Names stand for servers, disks and snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    CreateServer(String),
    DeleteServer(String),
    CreateDisk {
        server: String,
        disk: String,
        size: u64,
    },
    DeleteDisk {
        server: String,
        disk: String,
    },
    Write {
        server: String,
        disk: String,
        range: Range<u64>,
        fill: Fill,
    },
    Discard {
        server: String,
        disk: String,
        range: Range<u64>,
    },
    WriteZeroes {
        server: String,
        disk: String,
        range: Range<u64>,
    },
    Resize {
        server: String,
        disk: String,
        size: u64,
    },
    Flush,
    Snapshot {
        server: String,
        snapshot: String,
    },
    Restore {
        server: String,
        snapshot: String,
    },
    Undo {
        server: String,
    },
    CloneServer {
        server: String,
        snapshot: String,
        clone: String,
    },
    CloneDisk {
        server: String,
        snapshot: String,
        disk: String,
        clone: String,
    },
    Reset {
        server: String,
    },
    DeleteSnapshot {
        server: String,
        snapshot: String,
    },
    Collect,
    Checkpoint,
    Dedup,
    /// New writes share with a snapshot, until the store is closed.
    Template {
        server: String,
        snapshot: String,
    },
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Verb {
    /// Whether everything before is durable when it returns.
    pub fn is_durable(&self) -> bool {
        !matches!(self, Self::Write { .. } | Self::Discard { .. } | Self::WriteZeroes { .. })
    }

    /// Whether a full store may refuse it. What makes space, or makes durable what was accepted, it may not.
    pub fn needs_space(&self) -> bool {
        !matches!(
            self,
            Self::Flush
                | Self::Collect
                | Self::Checkpoint
                | Self::DeleteServer(_)
                | Self::DeleteDisk { .. }
                | Self::DeleteSnapshot { .. }
        )
    }

    /// Does it to a store.
    pub fn run(&self, store: &Store) -> Result<()> {
        match self {
            Self::CreateServer(name) => store.create_server(name).map(drop),
            Self::DeleteServer(name) => store.delete_server(store.server(name)?.id()),
            Self::CreateDisk { server, disk, size } => {
                store.server(server)?.create_disk(disk, *size).map(drop)
            }
            Self::DeleteDisk { server, disk } => store.server(server)?.delete_disk(disk),
            Self::Write { server, disk, range, fill } => {
                find(store, server, disk)?.write_at(&fill.bytes(range.clone()), range.start)
            }
            Self::Discard { server, disk, range } => {
                find(store, server, disk)?.discard(range.start, range.end - range.start)
            }
            Self::WriteZeroes { server, disk, range } => {
                find(store, server, disk)?.write_zeroes(range.start, range.end - range.start)
            }
            Self::Resize { server, disk, size } => find(store, server, disk)?.resize(*size),
            Self::Flush => store.flush(),
            Self::Snapshot { server, snapshot } => store.server(server)?.snapshot(snapshot, "").map(drop),
            Self::Restore { server, snapshot } => {
                store.server(server)?.restore(snapshot_id(store, server, snapshot)?)
            }
            Self::Undo { server } => store.server(server)?.undo_restore(),
            Self::CloneServer { server, snapshot, clone } => {
                let id = snapshot_id(store, server, snapshot)?;
                store.snapshot(id)?.clone_server(clone).map(drop)
            }
            Self::CloneDisk { server, snapshot, disk, clone } => {
                let held = store.snapshot(snapshot_id(store, server, snapshot)?)?.disk(disk)?;
                held.clone_disk(&store.server(server)?, clone).map(drop)
            }
            Self::Reset { server } => store.server(server)?.reset(),
            Self::DeleteSnapshot { server, snapshot } => {
                store.delete_snapshot(snapshot_id(store, server, snapshot)?)
            }
            Self::Collect => store.collect(),
            Self::Checkpoint => store.checkpoint(),
            Self::Template { server, snapshot } => {
                let id = snapshot_id(store, server, snapshot)?;
                store.register_template(id, |_, _| ControlFlow::Continue(())).map(drop)
            }
            Self::Dedup => store
                .dedup(&DedupOptions::default().memory_bytes(64 << 10), |_| ControlFlow::Continue(()))
                .map(drop),
        }
    }

    /// The states that it takes a model through, one for each block or verb; or the error that it must end in.
    pub fn states(&self, model: &Model) -> Outcome<Vec<Model>> {
        let mut next = model.clone();
        match self {
            Self::CreateServer(name) => next.create_server(name)?,
            Self::DeleteServer(name) => {
                next.server(name)?;
                next.servers.remove(name);
            }
            Self::CreateDisk { server, disk, size } => next.create_disk(server, disk, *size)?,
            Self::DeleteDisk { server, disk } => {
                next.server(server)?.disks.remove(disk).ok_or(ErrorKind::NotFound)?;
            }
            Self::Write { server, disk, range, fill } => {
                let bytes = fill.bytes(range.clone());
                return block_by_block(next, (server, disk), range, |at, part| {
                    Some(bytes[at..at + part].to_vec())
                });
            }
            Self::Discard { server, disk, range } | Self::WriteZeroes { server, disk, range } => {
                return block_by_block(next, (server, disk), range, |_, _| None);
            }
            Self::Resize { server, disk, size } => next.resize(server, disk, *size)?,
            Self::Flush | Self::Collect | Self::Checkpoint | Self::Dedup => return Ok(Vec::new()),
            Self::Template { server, snapshot } => {
                let own = next.servers.get(server).ok_or(ErrorKind::NotFound)?;
                own.snapshots.get(snapshot).ok_or(ErrorKind::NotFound)?;
                return Ok(Vec::new());
            }
            Self::Snapshot { server, snapshot } => next.snapshot(server, snapshot)?,
            Self::Restore { server, snapshot } => next.restore(server, Some(snapshot))?,
            Self::Undo { server } => next.restore(server, None)?,
            Self::CloneServer { server, snapshot, clone } => next.clone_server(server, snapshot, clone)?,
            Self::CloneDisk { server, snapshot, disk, clone } => {
                next.clone_disk((server, snapshot, disk), clone)?;
            }
            Self::Reset { server } => next.reset(server)?,
            Self::DeleteSnapshot { server, snapshot } => {
                next.server(server)?.snapshots.remove(snapshot).ok_or(ErrorKind::NotFound)?;
            }
        }
        Ok(vec![next])
    }
}

fn find(store: &Store, server: &str, disk: &str) -> Result<Disk> {
    store.server(server)?.disk(disk)
}

fn snapshot_id(store: &Store, server: &str, snapshot: &str) -> Result<SnapshotId> {
    let found = store.server(server)?.snapshots().into_iter().find(|held| held.name() == snapshot);
    found.map(|held| held.id()).ok_or_else(|| Error::new(ErrorKind::NotFound, "no such snapshot"))
}

/// The states of a write, or of a discard where `bytes` gives none, from the first block to the last.
fn block_by_block(
    mut model: Model,
    (server, disk): (&str, &str),
    range: &Range<u64>,
    bytes: impl Fn(usize, usize) -> Option<Vec<u8>>,
) -> Outcome<Vec<Model>> {
    let content = model.disk(server, disk)?;
    if range.end > content.size {
        return Err(ErrorKind::OutOfRange);
    }
    let held: Vec<u64> =
        content.blocks.range(range.start / BLOCK..range.end.div_ceil(BLOCK)).map(|(at, _)| *at).collect();
    let all: Vec<u64> =
        if bytes(0, 0).is_some() { (range.start / BLOCK..range.end.div_ceil(BLOCK)).collect() } else { held };
    let mut states = Vec::with_capacity(all.len());
    for block in all {
        let start = range.start.max(block * BLOCK);
        let len = usize::try_from(range.end.min((block + 1) * BLOCK) - start).unwrap();
        let part = bytes(usize::try_from(start - range.start).unwrap(), len).unwrap_or_else(|| vec![0; len]);
        model.disk(server, disk)?.write_within(start, &part);
        states.push(model.clone());
    }
    Ok(states)
}

/// Sizes of disks: within one leaf, several leaves, several levels; with and without a short last block.
const SIZES: [u64; 6] = [20 * BLOCK, 33 * BLOCK + 512, 300 * BLOCK, 70_000 * BLOCK, 255 * BLOCK + 3584, 512];

impl Verb {
    /// Any verb that makes sense in the state of `model`, most of the time.
    pub fn random(dice: &mut Dice, model: &Model, stamp: u64) -> Self {
        let servers: Vec<&String> = model.servers.keys().collect();
        if servers.is_empty() || dice.one_in(60) {
            return Self::CreateServer(format!("s{}", dice.below(2)));
        }
        let server = (*dice.pick(&servers)).clone();
        let own = &model.servers[&server];
        let disks: Vec<&String> = own.disks.keys().collect();
        let snapshots: Vec<&String> = own.snapshots.keys().collect();
        let choice = dice.below(100);
        if disks.is_empty() || choice < 3 {
            let disk = format!("d{}", dice.below(3));
            return Self::CreateDisk { server, disk, size: *dice.pick(&SIZES) };
        }
        let disk = (*dice.pick(&disks)).clone();
        let size = own.disks[&disk].content.size;
        let snapshot = match dice.below(8) {
            0 => format!("n{}", dice.below(4)),
            _ => snapshots
                .get(usize::try_from(dice.below(4)).unwrap())
                .map_or_else(|| "n0".into(), |name| (*name).clone()),
        };
        if dice.one_in(14) {
            return Self::random_clone(dice, server, disk, snapshot);
        }
        match choice {
            3..=44 => Self::Write { server, disk, range: any_range(dice, size), fill: any_fill(dice, stamp) },
            45..=52 => Self::Discard { server, disk, range: any_long_range(dice, size) },
            53..=54 => Self::WriteZeroes { server, disk, range: any_range(dice, size) },
            55..=66 => Self::Flush,
            67..=74 => Self::Snapshot { server, snapshot: format!("n{}", dice.below(4)) },
            75..=79 => Self::Restore { server, snapshot },
            80..=82 => Self::Undo { server },
            83..=87 => Self::DeleteSnapshot { server, snapshot },
            88..=89 => Self::DeleteDisk { server, disk },
            90 => Self::DeleteServer(server),
            91..=92 => Self::Resize { server, disk, size: *dice.pick(&SIZES) },
            93..=94 => Self::Collect,
            95..=97 => Self::Dedup,
            98 => Self::Template { server, snapshot },
            _ => Self::Checkpoint,
        }
    }
}

impl Verb {
    fn random_clone(dice: &mut Dice, server: String, disk: String, snapshot: String) -> Self {
        match dice.below(4) {
            0 => Self::CloneServer { server, snapshot, clone: format!("s{}", dice.below(4)) },
            1 => Self::CloneDisk { server, snapshot, disk, clone: format!("d{}", dice.below(4)) },
            _ => Self::Reset { server },
        }
    }

    /// A verb that takes space, or any other.
    pub fn greedy(dice: &mut Dice, model: &Model, stamp: u64) -> Self {
        let any = Self::random(dice, model, stamp);
        match any {
            Self::Write { server, disk, .. } => {
                let size = model.servers[&server].disks[&disk].content.size;
                let range = dice.pick(&places(size)).clone();
                let range = range.start * BLOCK..(range.end * BLOCK).min(size);
                Self::Write { server, disk, range, fill: Fill { stamp, zero_every: 0 } }
            }
            Self::Discard { server, .. } | Self::DeleteSnapshot { server, .. } if dice.one_in(2) => {
                Self::Snapshot { server, snapshot: format!("n{}", dice.below(9)) }
            }
            Self::DeleteServer(_) | Self::DeleteDisk { .. } => Self::Flush,
            any => any,
        }
    }
}

fn any_fill(dice: &mut Dice, stamp: u64) -> Fill {
    Fill { stamp, zero_every: *dice.pick(&[0, 0, ALIKE, 0, ALIKE, 2, 5, 1]) }
}

/// A range among the places that are looked at.
fn any_range(dice: &mut Dice, size: u64) -> Range<u64> {
    let places = places(size);
    let place = dice.pick(&places).clone();
    let (start, end) = (place.start * BLOCK, (place.end * BLOCK).min(size));
    let longest = *dice.pick(&[1, 2, 3, 8, 40]);
    let from = start + dice.below(end - start);
    let to = end.min(from + 1 + dice.below(longest * BLOCK));
    if dice.one_in(4) {
        return from..to;
    }
    let from = from / BLOCK * BLOCK;
    from..end.min(to.next_multiple_of(BLOCK))
}

/// A range that may reach from one place into another.
fn any_long_range(dice: &mut Dice, size: u64) -> Range<u64> {
    let one = any_range(dice, size);
    match dice.below(6) {
        0 => 0..size,
        1 => {
            let other = any_range(dice, size);
            one.start.min(other.start)..one.end.max(other.end)
        }
        _ => one,
    }
}
