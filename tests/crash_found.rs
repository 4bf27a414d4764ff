//! Crash stories: what the sweeps and histories once found, each told again as a test of its own.

#![allow(clippy::similar_names, reason = "a server and its servers, a name and what is named")]
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod model;

use cowblk::check_device;
use cowblk::device::Device;
use cowblk::device::sim::{SimDevice, Survival};
use cowblk::{Disk, ErrorKind, Store};
use model::{BLOCK, Fill, Recorder, Shape};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

fn put(disk: &Disk, block: u64, stamp: u64) {
    let range = block * BLOCK..(block + 1) * BLOCK;
    disk.write_at(&Fill { stamp, zero_every: 0 }.bytes(range.clone()), range.start).unwrap();
}

/// Whether a block holds what [`put`] wrote with this stamp; 0 for a hole.
fn holds(disk: &Disk, block: u64, stamp: u64) -> bool {
    let range = block * BLOCK..(block + 1) * BLOCK;
    let mut found = vec![0xEE; 4096];
    disk.read_at(&mut found, range.start).unwrap();
    found == Fill { stamp, zero_every: u64::from(stamp == 0) }.bytes(range)
}

/// A checkpoint settles a snapshot and then, over the snapshot's fresh nodes, the disk that descends from it. Those
/// nodes must be where they can be read, even if the cache has no room for them.
#[test]
fn a_checkpoint_reads_back_nodes_that_it_has_just_made() {
    let shape = Shape::SMALL;
    let store = Store::create_on(Arc::new(SimDevice::new(0, 1)), shape.options()).unwrap();
    let server = store.create_server("s").unwrap();
    let disk = server.create_disk("d", 70_000 * BLOCK).unwrap();
    for leaf in 0..40 {
        put(&disk, leaf * 256, leaf + 1);
    }
    server.snapshot("n", "").unwrap();
    for leaf in 0..40 {
        put(&disk, leaf * 256, leaf + 1001);
    }
    store.checkpoint().unwrap();
    for leaf in 0..40 {
        assert!(holds(&disk, leaf * 256, leaf + 1001), "leaf {leaf}");
    }
}

type Action = Box<dyn FnMut() + Send>;

/// The first data block of a [`Shape::SMALL`] store: behind superblocks, journal, and the tables of the first zone.
const FIRST_DATA_BLOCK: u64 = 32 + 16 + 4;

/// A device that does something when a data block is first read.
struct Hooked {
    device: SimDevice,
    on_read: Mutex<Option<Action>>,
}

impl Device for Hooked {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let action = if offset < FIRST_DATA_BLOCK * BLOCK { None } else { self.on_read.lock().take() };
        if let Some(mut action) = action {
            action();
        }
        self.device.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.device.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.device.sync()
    }
    fn len_bytes(&self) -> io::Result<u64> {
        self.device.len_bytes()
    }
    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.device.grow(len_bytes)
    }
    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.device.discard(offset, len_bytes)
    }
    fn can_grow(&self) -> bool {
        self.device.can_grow()
    }
    fn is_read_only(&self) -> bool {
        self.device.is_read_only()
    }
}

/// The collector clears from a deleted snapshot what none of its two children holds, and a guest writes to one of the
/// children before the next checkpoint. That checkpoint must not take the snapshot's tree for the child's.
#[test]
fn a_write_while_the_collector_trims_the_parent_keeps_the_disk() {
    let device = SimDevice::new(0, 1);
    let shape = Shape::SMALL;
    {
        let store = Store::create_on(Arc::new(device.clone()), shape.options()).unwrap();
        let server = store.create_server("s").unwrap();
        let disk = server.create_disk("d", 16 * BLOCK).unwrap();
        put(&disk, 1, 1);
        put(&disk, 2, 2);
        let snapshot = server.snapshot("n", "").unwrap();
        put(&disk, 2, 12);
        server.restore(snapshot.id()).unwrap();
        put(&disk, 1, 21);
        put(&disk, 2, 22);
        store.delete_snapshot(snapshot.id()).unwrap();
        store.close().unwrap();
    }
    let hooked = Arc::new(Hooked { device, on_read: Mutex::default() });
    let store = Store::open_on(hooked.clone(), shape.options()).unwrap();
    let disk = store.server("s").unwrap().disk("d").unwrap();
    let guest = disk.clone();
    *hooked.on_read.lock() = Some(Box::new(move || put(&guest, 3, 33)));
    store.collect().unwrap();
    assert!(hooked.on_read.lock().is_none(), "the guest wrote while the collector walked");
    for (block, stamp) in [(1, 21), (2, 22), (3, 33)] {
        assert!(holds(&disk, block, stamp), "block {block}");
    }
    drop(disk);
    store.close().unwrap();
    let report = check_device(&hooked.device).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

/// A crash leaves a sealed batch whose blocks are missing: recovery does not accept it. Its number is given again, to a
/// batch that does not fit where the first one lies. A later recovery must take the second one, not the first.
#[test]
fn a_batch_that_was_not_accepted_never_comes_back() {
    let shape = Shape::SMALL;
    let open = |device: &SimDevice| {
        let recorder = Recorder::new(device.clone());
        let store = Store::open_on(recorder.clone(), shape.options()).unwrap();
        let disk = store.server("s").unwrap().disk("d").unwrap();
        (recorder, store, disk)
    };
    for before in 0..16 {
        let device = SimDevice::new(0, 1);
        let store = Store::create_on(Arc::new(device.clone()), shape.options()).unwrap();
        store.create_server("s").unwrap().create_disk("d", 100 * BLOCK).unwrap();
        for number in 0..before {
            store.create_server(&format!("s{number}")).unwrap();
        }
        store.checkpoint().unwrap();
        device.cut_power();
        let device = device.crash(&Survival::Everything);

        // One write of many blocks: they go home, and the batch only names them.
        let (recorder, store, disk) = open(&device);
        recorder.take();
        disk.write_at(&Fill { stamp: 100, zero_every: 0 }.bytes(0..20 * BLOCK), 0).unwrap();
        disk.flush().unwrap();
        let point = recorder.take().into_iter().find(|point| point.is_full).unwrap();
        let device = point.device.crash(&Survival::Exactly(1 << (point.device.unsynced_count() - 1)));
        recorder.device.cut_power();
        drop((store, disk));

        let (recorder, store, disk) = open(&device);
        assert!(holds(&disk, 0, 0), "the blocks are missing, so the batch is not accepted");
        // One block, which travels inside the batch: the batch is longer than the one that was not accepted.
        put(&disk, 0, 200);
        disk.flush().unwrap();
        let device = recorder.now().device.crash(&Survival::Nothing);
        recorder.device.cut_power();
        drop((store, disk));

        let (recorder, store, disk) = open(&device);
        assert!(holds(&disk, 0, 200));
        let device = recorder.now().device.crash(&Survival::Everything);
        recorder.device.cut_power();
        drop((store, disk));

        let (recorder, _store, disk) = open(&device);
        for block in 0..20 {
            let stamp = if block == 0 { 200 } else { 0 };
            assert!(holds(&disk, block, stamp), "block {block}, with {before} batches before");
        }
        recorder.device.cut_power();
    }
}

/// While one flush waits for the medium, guests go on. What they do is sealed into batches that recovery believes.
#[test]
fn a_flood_of_records_during_a_slow_sync_is_not_lost() {
    struct Slow {
        device: SimDevice,
        on_sync: Mutex<Option<Action>>,
    }
    impl Device for Slow {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            self.device.read_at(buf, offset)
        }
        fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
            self.device.write_at(buf, offset)
        }
        fn sync(&self) -> io::Result<()> {
            let action = self.on_sync.lock().take();
            if let Some(mut action) = action {
                action();
            }
            self.device.sync()
        }
        fn len_bytes(&self) -> io::Result<u64> {
            self.device.len_bytes()
        }
        fn grow(&self, len_bytes: u64) -> io::Result<()> {
            self.device.grow(len_bytes)
        }
        fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
            self.device.discard(offset, len_bytes)
        }
        fn can_grow(&self) -> bool {
            true
        }
        fn is_read_only(&self) -> bool {
            false
        }
    }
    let slow = Arc::new(Slow { device: SimDevice::new(0, 1), on_sync: Mutex::default() });
    let shape = Shape { journal_bytes: 64 << 20, ..Shape::SMALL };
    let store = Store::create_on(slow.clone(), shape.options()).unwrap();
    let disk = store.create_server("s").unwrap().create_disk("d", 16 * BLOCK).unwrap();
    put(&disk, 1, 1);
    let guest = disk.clone();
    *slow.on_sync.lock() = Some(Box::new(move || {
        for _ in 0..540_000 {
            guest.discard(0, BLOCK).unwrap();
        }
        put(&guest, 2, 2);
    }));
    disk.flush().unwrap();
    disk.flush().unwrap();
    let after = slow.device.crash(&Survival::Nothing);
    slow.device.cut_power();
    let store = Store::open_on(Arc::new(after), shape.options()).unwrap();
    let disk = store.server("s").unwrap().disk("d").unwrap();
    assert!(holds(&disk, 1, 1));
    assert!(holds(&disk, 2, 2), "it was flushed");
}

/// A restore brings deleted disks back beside those that were made since. That must not take a server over the limit:
/// one journal record names all of its disks.
#[test]
fn restores_do_not_take_a_server_over_the_limit_of_disks() {
    let device = SimDevice::new(0, 1);
    let shape = Shape { journal_bytes: 1 << 20, ..Shape::SMALL };
    let store = Store::create_on(Arc::new(device), shape.options()).unwrap();
    let server = store.create_server("s").unwrap();
    for round in 0..12 {
        for number in 0..64 {
            match server.create_disk(&format!("d{round}-{number}"), BLOCK) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::Limit),
            }
        }
        let all = server.snapshot(&format!("n{round}"), "").unwrap();
        for disk in server.disks() {
            server.delete_disk(&disk.name()).unwrap();
        }
        for number in 0..64 {
            server.create_disk(&format!("e{round}-{number}"), BLOCK).unwrap();
        }
        match server.restore(all.id()) {
            Ok(()) => assert!(server.disk_count() <= 64, "{} disks", server.disk_count()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Limit);
                return;
            }
        }
    }
}
