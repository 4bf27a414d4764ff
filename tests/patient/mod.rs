//! Patients: stores that are to be damaged, with what they showed while they were sound, and how to examine one.
//!
//! What a damaged store shows is compared block by block with what it showed before. So there are three outcomes for a
//! block: right, an error, and wrong data, which ends the test.

#![allow(dead_code, reason = "every test file compiles its own copy and uses only a part of it")]
#![allow(unreachable_pub, reason = "a test crate has no outside")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test stops where it is surprised")]
#![allow(clippy::similar_names, reason = "a store has a story")]

mod bench;
mod watch;

use crate::atlas::{Atlas, BLOCK};
pub use bench::{Bench, Outcome, Tally};
use cowblk::device::Device;
use cowblk::device::sim::{Random, SimDevice, Survival};
use cowblk::{Disk, Error, Options, Result, Server, SnapshotDisk, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
pub use watch::Watch;

const ZONE_BLOCKS: u32 = 64;
/// The size of the disk that has a tree of three levels.
const TALL_BLOCKS: u64 = 70_000;

/// Options with which every patient is made and opened: nothing happens behind the test's back.
pub fn options() -> Options {
    Options::default()
        .zone_blocks(ZONE_BLOCKS)
        .journal_bytes(64 << 10)
        .cache_bytes(1 << 20)
        .background(false)
        .clock(|| 1_700_000_000)
}

/// One block of one view: the path's number, and the block's.
pub type Place = (usize, u64);

/// All that is shown: each path's size, and the bytes of its stretches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown(pub BTreeMap<String, (u64, Vec<Stretch>)>);

/// Blocks of a disk in a row, and what they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub first: u64,
    pub bytes: Vec<u8>,
}

impl Stretch {
    pub fn offset(&self) -> u64 {
        self.first * BLOCK as u64
    }

    /// The blocks, by their numbers; the last one may be short.
    pub fn blocks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        (self.first..).zip(self.bytes.chunks(BLOCK))
    }
}

/// The parts of a disk in which patients have blocks, and holes beside them.
fn stretches(size_bytes: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    let blocks = size_bytes.div_ceil(BLOCK as u64);
    let all = [0..48, 250..260, 65_534..65_540, TALL_BLOCKS - 12..TALL_BLOCKS];
    all.into_iter().map(move |part| part.start..part.end.min(blocks)).filter(|part| !part.is_empty())
}

/// The blocks of those parts.
pub fn spots(size_bytes: u64) -> impl Iterator<Item = u64> {
    stretches(size_bytes).flatten()
}

/// A handle of a disk, live or frozen.
pub enum Handle {
    Live(Disk),
    Frozen(SnapshotDisk),
}

impl Handle {
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Live(disk) => disk.size_bytes(),
            Self::Frozen(disk) => disk.size_bytes(),
        }
    }

    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        match self {
            Self::Live(disk) => disk.read_at(buf, offset),
            Self::Frozen(disk) => disk.read_at(buf, offset),
        }
    }

    /// Reads one block. How many bytes it has on this disk.
    pub fn read_block(&self, block: u64, buf: &mut [u8; BLOCK]) -> Result<usize> {
        let at = block * BLOCK as u64;
        let len = usize::try_from((self.size_bytes() - at).min(BLOCK as u64)).unwrap();
        self.read_at(&mut buf[..len], at).map(|()| len)
    }
}

/// Handles of everything that a store shows, by path.
pub fn handles(store: &Store) -> BTreeMap<String, Handle> {
    let mut all = BTreeMap::new();
    for server in store.servers() {
        let name = server.name();
        for disk in server.disks() {
            all.insert(format!("{name}/{}", disk.name()), Handle::Live(disk));
        }
        let named = server.snapshots().into_iter().map(|held| (format!("{name}@{}", held.name()), held));
        let before = server.before_restore().map(|held| (format!("{name}!before"), held));
        for (path, snapshot) in named.chain(before) {
            for disk in snapshot.disks() {
                all.insert(format!("{path}/{}", disk.name()), Handle::Frozen(disk));
            }
        }
    }
    all
}

/// Reads everything of a sound store.
pub fn shown(store: &Store) -> Shown {
    let read = |handle: &Handle| {
        let size_bytes = handle.size_bytes();
        let stretches = stretches(size_bytes).map(|blocks| {
            let start = blocks.start * BLOCK as u64;
            let end = (blocks.end * BLOCK as u64).min(size_bytes);
            let mut bytes = vec![0xEE; usize::try_from(end - start).unwrap()];
            handle.read_at(&mut bytes, start).unwrap();
            Stretch { first: blocks.start, bytes }
        });
        (size_bytes, stretches.collect())
    };
    Shown(handles(store).iter().map(|(path, handle)| (path.clone(), read(handle))).collect())
}

/// A store that is to be damaged.
pub struct Patient {
    pub name: &'static str,
    pub image: Vec<u8>,
    /// What it shows; and what it showed before each flush since the checkpoint, the newest first: damage can make the
    /// last one look torn.
    pub shown: Shown,
    pub before: Vec<Shown>,
    /// The image as it was before, at several times, oldest first.
    pub earlier: Vec<Vec<u8>>,
    pub atlas: Atlas,
    /// All places that are examined, by the blocks of the image that a read of them goes through.
    pub ways: BTreeMap<usize, BTreeSet<Place>>,
    /// The paths, by number.
    pub paths: Vec<String>,
}

/// A store in the making.
struct Maker {
    device: SimDevice,
    store: Store,
    random: Random,
    earlier: Vec<Vec<u8>>,
    /// What was shown after each flush since the checkpoint, and at the checkpoint.
    states: Vec<Shown>,
}

impl Maker {
    fn new(seed: u64) -> Self {
        let device = SimDevice::new(0, seed);
        let store = Store::create_on(Arc::new(device.clone()), options()).unwrap();
        Self { device, store, random: Random::new(seed), earlier: Vec::new(), states: Vec::new() }
    }

    /// Writes noise, so that no two blocks are alike.
    fn write(&mut self, disk: &Disk, first: u64, blocks: u64) {
        let len = (blocks * BLOCK as u64).min(disk.size_bytes() - first * BLOCK as u64);
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        self.random.fill(&mut bytes);
        disk.write_at(&bytes, first * BLOCK as u64).unwrap();
    }

    /// After a flush, or a verb that is one.
    fn keep(&mut self) {
        self.store.flush().unwrap();
        self.earlier.push(self.device.image());
        self.states.push(shown(&self.store));
    }

    fn checkpoint(&mut self) {
        self.keep();
        self.store.checkpoint().unwrap();
        self.earlier.push(self.device.image());
        self.states = vec![shown(&self.store)];
    }

    /// Two servers, three disks, three snapshots, several generations of everything, in several zones.
    fn populate(&mut self) -> Server {
        let web = self.store.create_server("web").unwrap();
        let base = self.store.create_server("db").unwrap();
        let vda = web.create_disk("vda", 48 * BLOCK as u64).unwrap();
        let vdb = web.create_disk("vdb", TALL_BLOCKS * BLOCK as u64).unwrap();
        let data = base.create_disk("data", 30 * BLOCK as u64 + 512).unwrap();
        self.write(&vda, 0, 30);
        self.write(&vdb, 2, 6);
        self.write(&vdb, TALL_BLOCKS - 8, 4);
        self.checkpoint();
        self.write(&data, 0, 31);
        self.write(&vda, 3, 2);
        web.snapshot("first", "The first").unwrap();
        self.checkpoint();
        self.write(&vda, 5, 9);
        self.write(&vdb, 252, 6);
        self.checkpoint();
        web.snapshot("second", "").unwrap();
        self.write(&vda, 1, 3);
        self.write(&vdb, 65_534, 5);
        base.snapshot("only", "x").unwrap();
        self.write(&data, 7, 4);
        data.discard(20 * BLOCK as u64, 3 * BLOCK as u64).unwrap();
        self.checkpoint();
        web
    }

    fn close(self, name: &'static str) -> Patient {
        self.store.clone().close().unwrap();
        Patient::new(name, self.device.image(), Vec::new(), self.earlier)
    }

    fn crash(mut self, name: &'static str) -> Patient {
        self.keep();
        let image = self.device.crash(&Survival::Nothing).image();
        self.device.cut_power();
        self.states.pop();
        self.states.reverse();
        Patient::new(name, image, self.states, self.earlier)
    }
}

impl Patient {
    /// Closed, with everything settled; what a restore replaced is there, too.
    pub fn closed() -> Self {
        let mut maker = Maker::new(1);
        let web = maker.populate();
        web.restore(web.snapshots().last().unwrap().id()).unwrap();
        let vda = web.disk("vda").unwrap();
        maker.write(&vda, 20, 4);
        maker.store.collect().unwrap();
        maker.close("closed")
    }

    /// Not closed: a journal behind the last checkpoint, with batches that carry their blocks and one that does not,
    /// a snapshot, a new disk, a growth, a discard.
    pub fn crashed() -> Self {
        let mut maker = Maker::new(2);
        let web = maker.populate();
        let vda = web.disk("vda").unwrap();
        maker.write(&vda, 40, 1);
        maker.keep();
        maker.write(&vda, 8, 30); // too much to travel in the batch
        maker.keep();
        web.snapshot("third", "").unwrap();
        maker.keep();
        let extra = web.create_disk("extra", 48 * BLOCK as u64).unwrap();
        maker.keep();
        maker.write(&extra, 1, 26); // too much for the zones that there are
        maker.keep();
        vda.discard(2 * BLOCK as u64, 3 * BLOCK as u64).unwrap();
        maker.write(&vda, 30, 2);
        maker.keep();
        maker.write(&vda, 0, 2);
        maker.write(&extra, 30, 1);
        maker.crash("crashed")
    }

    /// Not closed, and the last flush was a large one: its blocks are at home, and nothing says yet that they are durable.
    pub fn crashed_wide() -> Self {
        let mut maker = Maker::new(4);
        let web = maker.populate();
        let vda = web.disk("vda").unwrap();
        maker.write(&vda, 40, 1);
        maker.keep();
        maker.write(&vda, 10, 28);
        maker.crash("crashed wide")
    }

    /// Closed while deleted snapshots, a deleted disk and a subtree that was cut off wait for the collector.
    pub fn collecting() -> Self {
        let mut maker = Maker::new(3);
        let web = maker.populate();
        web.disk("vdb").unwrap().discard(0, TALL_BLOCKS * BLOCK as u64).unwrap();
        let vdb = web.disk("vdb").unwrap();
        maker.write(&vdb, 3, 3);
        let first = web.snapshots().pop().unwrap();
        maker.store.delete_snapshot(first.id()).unwrap();
        maker.store.server("db").unwrap().delete_disk("data").unwrap();
        maker.close("collecting")
    }

    pub fn all() -> Vec<Self> {
        vec![Self::closed(), Self::crashed(), Self::crashed_wide(), Self::collecting()]
    }

    fn new(name: &'static str, image: Vec<u8>, before: Vec<Shown>, mut earlier: Vec<Vec<u8>>) -> Self {
        earlier.dedup();
        let device = SimDevice::from_image(&image, 1);
        let store = Store::open_on(Arc::new(device.read_only()), options()).unwrap();
        let shown = shown(&store);
        assert!(before.first().is_none_or(|before| *before != shown), "the last flush changed something");
        let atlas = Atlas::of(&image);
        let paths: Vec<String> = shown.0.keys().cloned().collect();
        let mut ways: BTreeMap<usize, BTreeSet<Place>> = BTreeMap::new();
        for view in atlas.views.iter().filter(|view| view.path.is_some()) {
            let path = paths.iter().position(|path| Some(path) == view.path.as_ref());
            let path = path.unwrap_or_else(|| panic!("{name}: nothing shows {:?}", view.path));
            assert_eq!(shown.0[&paths[path]].0, view.size_bytes, "{name}: the size of {}", paths[path]);
            for place in spots(view.size_bytes) {
                for block in atlas.way(&image, view, place) {
                    ways.entry(block).or_default().insert((path, place));
                }
            }
        }
        let patient = Self { name, image, shown, before, earlier, atlas, ways, paths };
        patient.assert_rich();
        patient
    }

    /// The patient is what the tests want it to be.
    fn assert_rich(&self) {
        let live = self.shown.0.iter().filter(|(path, _)| !path.contains(['@', '!']));
        let blocks = live.flat_map(|(_, (_, stretches))| stretches.iter().flat_map(Stretch::blocks));
        let content = blocks.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)).count();
        assert!(content * BLOCK >= 256 << 10 || self.name == "collecting", "{}: {content}", self.name);
        assert!(self.atlas.zones >= 3, "{}: {} zones", self.name, self.atlas.zones);
        assert_eq!(self.image.len(), self.atlas.len_bytes, "{}: where the store ends", self.name);
        assert_eq!(self.before.len(), self.atlas.batches, "{}: a batch for each flush", self.name);
        let views = self.atlas.views.iter().filter(|view| view.path.is_some()).count();
        assert_eq!(views, self.paths.len(), "{}: the atlas knows all that is shown", self.name);
        assert!(self.paths.iter().filter(|path| path.contains('@')).count() >= 2, "{}", self.name);
    }

    /// Blocks of the image in which something is.
    pub fn written(&self) -> Vec<usize> {
        let blocks = self.image.chunks(BLOCK).enumerate();
        blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0)).map(|(at, _)| at).collect()
    }

    /// Opens the store on a device.
    pub fn open(device: impl Device) -> std::result::Result<Store, Error> {
        Store::open_on(Arc::new(device), options())
    }
}
