//! Bases: small valid stores, the same in every run, and what may be seen of them after a crash.

use std::sync::{Arc, OnceLock};

use cowblk::device::MemoryDevice;
use cowblk::{Disk, Options, Server, Store};

use super::content::{BLOCK, Content, SECTOR, observe, stamp};
use super::image::{Image, Parts};

/// A store's image, and the states that recovery may find in it: all since the last checkpoint.
pub(crate) struct Base {
    bytes: &'static [u8],
    parts: &'static Parts,
    pub(crate) states: Vec<Content>,
}

impl Base {
    /// Takes a store's image over, and gives the store another uuid: the one that it was made with is random.
    fn new(bytes: Vec<u8>, uuid: u8, mut states: Vec<Content>) -> Self {
        states.dedup();
        let parts: &Parts = Box::leak(Box::new(Parts::find(&bytes)));
        let mut image = Image::new(bytes.leak(), parts);
        image.name([uuid; 16]);
        let bytes = image.pages.get(0, image.pages.len()).unwrap().leak();
        Self { bytes, parts, states }
    }

    /// Its image, to be changed.
    pub(crate) fn image(&self) -> Image {
        Image::new(self.bytes, self.parts)
    }
}

/// How all fuzz targets open stores.
pub(crate) fn options() -> Options {
    Options::default()
        .zone_blocks(64)
        .journal_bytes(64 << 10)
        .cache_bytes(256 << 10)
        .dirty_bytes(1 << 20)
        .background(false)
        .clock(|| 1_700_000_000)
}

/// The images.
pub(crate) fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| vec![closed(), crashed(), collecting(), fresh()])
}

struct Maker {
    device: Arc<MemoryDevice>,
    store: Store,
    states: Vec<Content>,
    writes: u64,
}

impl Maker {
    fn new() -> Self {
        let device = Arc::new(MemoryDevice::new(0));
        let store = Store::create_on(device.clone(), options()).unwrap();
        Self { device, store, states: Vec::new(), writes: 0 }
    }

    fn write(&mut self, disk: &Disk, first: u64, blocks: usize) {
        let mut bytes = vec![0; blocks * BLOCK];
        self.writes += 1;
        stamp(&mut bytes, first * (BLOCK / SECTOR) as u64, self.writes);
        disk.write_at(&bytes, first * BLOCK as u64).unwrap();
        self.flush();
    }

    fn flush(&mut self) {
        self.store.flush().unwrap();
        self.states.push(observe(&self.store, true));
    }

    /// Two servers with three disks, of which one has a tree of three levels, and three snapshots.
    fn populate(&mut self) -> Server {
        let web = self.store.create_server("web").unwrap();
        let database = self.store.create_server("db").unwrap();
        let (vda, vdb) =
            (web.create_disk("vda", 12 << 12).unwrap(), web.create_disk("vdb", 70_000 << 12).unwrap());
        let data = database.create_disk("data", (8 << 12) + 512).unwrap();
        self.write(&vda, 0, 9);
        self.write(&vdb, 3, 4);
        self.write(&vdb, 69_992, 5);
        self.write(&data, 2, 3);
        web.snapshot("first", "The first").unwrap();
        self.write(&vda, 4, 7);
        self.write(&vdb, 69_993, 2);
        web.snapshot("second", "").unwrap();
        self.write(&vda, 1, 2);
        database.snapshot("only", "x").unwrap();
        self.write(&data, 0, 4);
        vdb.discard(0, 5 << 12).unwrap();
        self.flush();
        web
    }

    fn close(self, uuid: u8) -> Base {
        let states = vec![observe(&self.store, true)];
        self.store.close().unwrap();
        Base::new(self.device.to_bytes(), uuid, states)
    }
}

/// Closed, with everything settled.
fn closed() -> Base {
    let mut maker = Maker::new();
    let web = maker.populate();
    web.restore(web.snapshots()[1].id()).unwrap();
    maker.store.collect().unwrap();
    maker.close(1)
}

/// With a journal that waits for recovery: writes, a snapshot, a discard, a new disk.
fn crashed() -> Base {
    let mut maker = Maker::new();
    let web = maker.populate();
    maker.store.checkpoint().unwrap();
    maker.states.clear();
    maker.flush();
    let disk = web.disk("vda").unwrap();
    maker.write(&disk, 6, 1);
    web.snapshot("third", "").unwrap();
    maker.flush();
    web.create_disk("vdc", 4 << 12).unwrap();
    maker.flush();
    disk.discard(2 << 12, 3 << 12).unwrap();
    maker.flush();
    let base = Base::new(maker.device.to_bytes(), 2, maker.states);
    assert!(base.parts.batches.len() >= 4, "the image has a journal");
    base
}

/// Closed while deleted snapshots, a deleted disk and garbage wait for the collector.
fn collecting() -> Base {
    let mut maker = Maker::new();
    let web = maker.populate();
    maker.store.checkpoint().unwrap();
    web.disk("vdb").unwrap().discard(0, 70_000 << 12).unwrap();
    web.restore(web.snapshots()[0].id()).unwrap();
    let first = web.snapshots().pop().unwrap();
    maker.store.delete_snapshot(first.id()).unwrap();
    maker.store.server("db").unwrap().delete_disk("data").unwrap();
    maker.close(3)
}

/// An empty one.
fn fresh() -> Base {
    Maker::new().close(4)
}
