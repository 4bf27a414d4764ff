//! The auditor on stores that the engine made: clean after any history and at any moment of it, and no
//! damage that it lets pass without a word.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use cowblk::device::{Device, MemoryDevice};
use cowblk::{CheckReport, check, check_device};
use cowblk::{Defect, Disk, Error, ErrorKind, Options, Server, Store};
use std::io;
use std::sync::{Arc, Mutex};

const BLOCK: u64 = 4096;
/// Blocks of the disks: more than one leaf of their maps.
const DISK_BLOCKS: u64 = 700;

/// Splitmix64: one seed gives one history.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = usize::try_from(self.below(from.len().max(1) as u64)).ok()?;
        from.get(at)
    }
}

/// A device that keeps what it held at every so many writes: what a crash at that moment would leave.
struct Recorder {
    inner: MemoryDevice,
    state: Mutex<(u64, Vec<Vec<u8>>)>,
    every: u64,
}

impl Recorder {
    fn new(every: u64) -> Self {
        Self { inner: MemoryDevice::new(0), state: Mutex::default(), every }
    }

    fn take_images(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.state.lock().unwrap().1)
    }
}

impl Device for Recorder {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(buf, offset)?;
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        if state.0.is_multiple_of(self.every) {
            state.1.push(self.inner.to_bytes());
        }
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn len_bytes(&self) -> io::Result<u64> {
        self.inner.len_bytes()
    }
    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.inner.grow(len_bytes)
    }
    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.inner.discard(offset, len_bytes)
    }
    fn can_grow(&self) -> bool {
        true
    }
    fn is_read_only(&self) -> bool {
        false
    }
}

fn options() -> Options {
    Options::default().background(false).journal_bytes(256 << 10).zone_blocks(600)
}

#[track_caller]
fn assert_clean(device: &dyn Device, when: &str) -> CheckReport {
    let report = check_device(device).unwrap();
    assert!(report.is_clean(), "{when}: {:#?}", report.findings);
    report
}

/// One random change. Refusals that a random choice provokes are fine; damage is not.
fn change(random: &mut Random, store: &Store, server: &Server) {
    let disks = server.disks();
    let snapshots = server.snapshots();
    let result = match (random.below(100), random.pick(&disks), random.pick(&snapshots)) {
        (0..55, Some(disk), _) => write(random, disk),
        (55..62, Some(disk), _) => {
            let blocks = disk.size_bytes() / BLOCK;
            let first = random.below(blocks);
            disk.discard(first * BLOCK, (1 + random.below(blocks - first)) * BLOCK)
        }
        (62..64, Some(disk), _) => disk.discard(0, disk.size_bytes()),
        (64..74, ..) if snapshots.len() < 6 => server.snapshot(&format!("s{}", random.next()), "").map(drop),
        (74..80, _, Some(snapshot)) => server.restore(snapshot.id()),
        (80..82, ..) => server.before_restore().map_or(Ok(()), |before| server.restore(before.id())),
        (82..90, _, Some(snapshot)) => store.delete_snapshot(snapshot.id()),
        (90..92, ..) if disks.len() < 3 => {
            server.create_disk(&format!("d{}", random.next()), DISK_BLOCKS * BLOCK).map(drop)
        }
        (92..93, Some(disk), _) => server.delete_disk(&disk.name()),
        (93..95, Some(disk), _) => disk.resize((300 + random.below(DISK_BLOCKS)) * BLOCK),
        (95..98, ..) => store.checkpoint(),
        _ => store.collect(),
    };
    result.or_else(expected).unwrap();
}

fn expected(error: Error) -> Result<(), Error> {
    if matches!(error.kind(), ErrorKind::Exists | ErrorKind::Invalid) { Ok(()) } else { Err(error) }
}

fn write(random: &mut Random, disk: &Disk) -> cowblk::Result<()> {
    let blocks = disk.size_bytes() / BLOCK;
    let first = random.below(blocks);
    let count = 1 + random.below((blocks - first).min(40));
    let fill = u8::try_from(random.below(4) * 60).unwrap();
    let bytes = vec![fill; usize::try_from(count * BLOCK).unwrap()];
    disk.write_at(&bytes, first * BLOCK)
}

fn history(seed: u64, device: &Arc<Recorder>, steps: u64, mut after_each: impl FnMut(u64)) {
    let mut random = Random(seed);
    let mut store = Store::create_on(device.clone(), options()).unwrap();
    let mut server = store.create_server("web").unwrap();
    server.create_disk("vda", DISK_BLOCKS * BLOCK).unwrap();
    for step in 0..steps {
        change(&mut random, &store, &server);
        after_each(step);
        if random.below(40) == 0 {
            drop(server);
            store.close().unwrap();
            store = Store::open_on(device.clone(), options()).unwrap();
            server = store.server("web").unwrap();
        }
    }
    store.collect().unwrap();
    drop(server);
    store.close().unwrap();
}

#[test]
fn a_store_is_clean_after_each_change_of_a_random_history() {
    for seed in 0..12 {
        let device = Arc::new(Recorder::new(u64::MAX));
        history(seed, &device, 250, |step| {
            assert_clean(&device.inner, &format!("seed {seed}, step {step}"));
        });
        assert_clean(&device.inner, &format!("seed {seed}, closed"));
    }
}

#[test]
fn a_store_is_clean_at_any_write_of_a_random_history() {
    for seed in 100..106 {
        let device = Arc::new(Recorder::new(7));
        history(seed, &device, 120, |step| {
            for image in device.take_images() {
                assert_clean(&MemoryDevice::from_bytes(image), &format!("seed {seed}, step {step}"));
            }
        });
    }
}

/// A closed store with a snapshot, and a disk that went on from it.
fn sound() -> Vec<u8> {
    let device = Arc::new(MemoryDevice::new(0));
    let store = Store::create_on(device.clone(), options()).unwrap();
    let server = store.create_server("web").unwrap();
    let disk = server.create_disk("vda", DISK_BLOCKS * BLOCK).unwrap();
    disk.write_at(&vec![7; 60 * 4096], 0).unwrap();
    server.snapshot("before", "").unwrap();
    disk.write_at(&vec![8; 30 * 4096], 20 * BLOCK).unwrap();
    drop((disk, server));
    store.close().unwrap();
    device.to_bytes()
}

#[test]
fn any_flipped_bit_is_found_or_changes_no_metadata() {
    let clean = sound();
    let mut found = 0;
    // A bit in every 4 KiB of the journal and of the blocks behind it, and many in the superblocks.
    let places = (0..4096).step_by(31).chain((65536..65536 + 4096).step_by(31));
    let places = places.chain((128 << 10..clean.len()).step_by(4096).map(|at| at + 77));
    for place in places {
        let mut bytes = clean.clone();
        bytes[place] ^= 8;
        match check_device(&MemoryDevice::from_bytes(bytes)) {
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Invalid)),
            Ok(report) if !report.is_clean() || !report.notes.is_empty() => found += 1,
            Ok(_) => assert!(place >= 128 << 10, "byte {place} of a superblock"),
        }
    }
    // The superblocks, the summary, the refcount page, the nodes, the page and the record.
    assert!(found > 260 + 8, "found {found}");
}

#[test]
fn a_lost_write_of_each_block_of_a_checkpoint_is_found() {
    let device = Arc::new(MemoryDevice::new(0));
    let store = Store::create_on(device.clone(), options()).unwrap();
    let server = store.create_server("web").unwrap();
    let disk = server.create_disk("vda", DISK_BLOCKS * BLOCK).unwrap();
    store.checkpoint().unwrap();
    let older = device.to_bytes();
    disk.write_at(&[7; 4096], 0).unwrap();
    store.checkpoint().unwrap();
    let newer = device.to_bytes();
    let journal_end = (128 << 10) + (256 << 10);
    let mut lost = 0;
    for at in (journal_end..newer.len()).step_by(4096) {
        let block = at..at + 4096;
        let is_data = newer[block.clone()].iter().all(|&byte| byte == 7);
        if is_data || newer[block.clone()] == older[block.clone()] {
            continue;
        }
        let mut bytes = newer.clone();
        bytes[block.clone()].copy_from_slice(&older[block]);
        let report = check_device(&MemoryDevice::from_bytes(bytes)).unwrap();
        assert!(!report.is_clean(), "the write of block {} was lost", at / 4096);
        lost += 1;
    }
    assert!(lost >= 7, "summary, refcounts, leaf, root, catalog page, catalog node, record: {lost}");
}

#[test]
fn a_file_is_checked_alone_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool.cow");
    let store = Store::create(&path, options()).unwrap();
    assert_eq!(check(&path).unwrap_err().kind(), ErrorKind::Busy);
    store.close().unwrap();
    assert!(check(&path).unwrap().is_clean());
    let mut bytes = sound();
    bytes.truncate(bytes.len() - 5000);
    std::fs::write(&path, &bytes).unwrap();
    let report = check(&path).unwrap();
    let defects: Vec<_> = report.findings.iter().map(|finding| finding.defect).collect();
    assert_eq!(defects, [Defect::Truncated]);
    assert!(report.findings[0].to_string().starts_with("D003 store is cut short: "));
    assert_eq!(check(folder.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
}
