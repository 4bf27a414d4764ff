//! Repair: every kind of metadata block is damaged, one at a time. Afterwards nothing is wrong, what is still shown is
//! right or an error that the report foretold, and the store goes on: deleting everything leaves nothing behind.

#![allow(clippy::similar_names, reason = "a store has a story")]
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers are those of small images")]
#![allow(clippy::print_stdout, reason = "the number of cases is part of the result")]
#![allow(dead_code, missing_docs, unreachable_pub, reason = "some of the parts are for the fuzz targets")]

mod model;

#[path = "../fuzz/properties/format/mod.rs"]
mod format;

use cowblk::device::Device;
use cowblk::device::sim::{SimDevice, Survival};
use cowblk::{ErrorKind, LostRange, RepairOptions, RepairReport, Store, check_device, repair_device};
use format::{Image, Kind};
use model::{Dice, Model, Shape, Story, Verb, damage_of, observe};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const BLOCK_BYTES: usize = 4096;
const SHAPE: Shape = Shape { zone_blocks: 256, journal_bytes: 64 << 10, ..Shape::SMALL };

/// A store after a random history, closed or not.
fn patient(seed: u64, is_closed: bool) -> (Vec<u8>, Story) {
    let device = SimDevice::new(0, seed);
    let store = Store::create_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
    let (mut dice, mut story) = (Dice::new(seed), Story::new(Model::default()));
    let mut stamp = 0;
    while stamp < 90 || story.last().servers.values().all(|server| server.snapshots.is_empty()) {
        stamp += 1;
        let verb = Verb::random(&mut dice, story.last(), stamp);
        if matches!(verb, Verb::DeleteServer(_)) {
            continue;
        }
        let expected = story.ask(&verb);
        assert_eq!(verb.run(&store).map_err(|error| error.kind()), expected, "{verb}");
    }
    if is_closed {
        store.close().unwrap();
    } else {
        store.flush().unwrap();
        device.cut_power();
    }
    (device.crash(&Survival::Everything).image(), story)
}

fn shared(device: &SimDevice) -> Arc<dyn Device> {
    Arc::new(device.clone())
}

fn repaired(device: &SimDevice, zero_lost: bool) -> RepairReport {
    let options = RepairOptions::default().apply(true).zero_lost(zero_lost);
    let report = repair_device(&shared(device), options);
    report.unwrap_or_else(|error| panic!("repair: {error}"))
}

fn assert_clean(device: &SimDevice, what: &str) {
    let report = check_device(device).unwrap();
    assert!(report.is_clean(), "{what}: {:#?}", report.findings);
}

/// What is shown, is right, and reads fail only where the report names a loss at all ([`assert_lost_exactly`] says where). After
/// the loss of catalog pages it looks only at what is still shown, if all of that can be read.
fn assert_right(store: &Store, story: &Story, report: &RepairReport, is_catalog: bool, what: &str) {
    if is_catalog {
        let Ok(seen) = observe(store) else { return };
        let cut = report.actions.iter().any(|action| action.starts_with("end the journal"));
        let expected = story.last().view();
        for (path, disk) in seen.0.iter().filter(|_| !cut) {
            if let Some(expected) = expected.0.get(path) {
                assert_eq!(disk, expected, "{what}: {path}");
            }
        }
        return;
    }
    match damage_of(store, story.last()) {
        Ok(errors) => {
            assert!(
                errors.is_empty() || !report.lost.is_empty(),
                "{what}: {errors:?}, of which no word was said"
            );
        }
        Err(difference) => panic!("{what}: wrong data\n    {difference}\n{report:#?}"),
    }
}

/// A disk or a snapshot's disk: names as the report gives them, its size, and how to read it.
type Reader = (String, String, Option<String>, u64, Box<dyn Fn(&mut [u8], u64) -> cowblk::Result<()>>);

fn readers(store: &Store) -> Vec<Reader> {
    let mut readers: Vec<Reader> = Vec::new();
    for server in store.servers() {
        for disk in server.disks() {
            let (name, size) = (disk.name(), disk.size_bytes());
            readers.push((server.name(), name, None, size, Box::new(move |buf, at| disk.read_at(buf, at))));
        }
        for snapshot in server.snapshots().into_iter().chain(server.before_restore()) {
            for disk in snapshot.disks() {
                let (name, size, shown) = (disk.name(), disk.size_bytes(), Some(snapshot.name()));
                let read = Box::new(move |buf: &mut [u8], at| disk.read_at(buf, at));
                readers.push((server.name(), name, shown, size, read));
            }
        }
    }
    readers
}

/// What the report calls lost is an error to read, and nothing else is: looked at both ends of each lost range, in its midst,
/// right beside it, and at random.
fn assert_lost_exactly(store: &Store, report: &RepairReport, dice: &mut Dice, what: &str) {
    let mut looked = 0;
    for (server, disk, snapshot, size, read) in readers(store) {
        let is_its = |lost: &&LostRange| {
            (&lost.server, &lost.disk, &lost.snapshot) == (&server, &disk, &snapshot) && lost.len > 0
        };
        let ranges: Vec<_> = report.lost.iter().filter(is_its).map(|lost| (lost.offset, lost.len)).collect();
        looked += ranges.len();
        let blocks = size.div_ceil(4096);
        let around = ranges.iter().flat_map(|(start, len)| {
            let (first, last) = (start / 4096, (start + len - 1) / 4096);
            [first.saturating_sub(1), first, first.midpoint(last), last, last + 1]
        });
        let at_random: Vec<u64> = (0..20).map(|_| dice.below(blocks)).collect();
        for block in around.chain(at_random).filter(|block| *block < blocks) {
            let at = block * 4096;
            let mut buf = vec![0; (size - at).min(4096) as usize];
            let is_lost = ranges.iter().any(|(start, len)| (*start..start + len).contains(&at));
            let kind = read(&mut buf, at).map_err(|error| error.kind()).err();
            let expected = is_lost.then_some(ErrorKind::Corrupt);
            assert_eq!(kind, expected, "{what}: {server}/{disk}@{snapshot:?} block {block}: {report:#?}");
        }
    }
    assert_eq!(
        looked,
        report.lost.len(),
        "{what}: each lost range is one of a disk that is shown: {report:#?}"
    );
}

/// Whoever owns what, it is dropped once: an emptied store uses what a new one does.
fn assert_goes_on(store: Store, device: &SimDevice, dice: &mut Dice, what: &str) {
    let mut model = Model::default();
    for stamp in 1000..1012 {
        let verb = Verb::random(dice, &model, stamp);
        let names = verb.states(&model);
        if let (Ok(()), Ok(states)) = (verb.run(&store), names) {
            model = states.last().cloned().unwrap_or(model);
        }
    }
    for server in store.servers() {
        for disk in server.disks() {
            let _ = disk.write_at(&[9; 3 * 4096], 0);
            let _ = disk.write_at(&[9; 4096], 256 * 4096);
        }
    }
    store.checkpoint().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_clean(device, &format!("{what}, written to"));
    for snapshot in store.snapshots().into_iter().step_by(2) {
        store.delete_snapshot(snapshot.id()).unwrap();
    }
    store.collect().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_clean(device, &format!("{what}, half deleted"));
    for server in store.servers() {
        store.delete_server(server.id()).unwrap();
    }
    store.collect().unwrap();
    assert_clean(device, &format!("{what}, emptied"));
    let status = store.status();
    assert!(status.used_blocks < 8, "{what}: {} blocks are in use in an empty store", status.used_blocks);
    store.close().unwrap();
}

/// Whether the store has no free block for what a repair has to write: it is refused for that, and by that name.
fn is_full(image: &[u8]) -> bool {
    let device = SimDevice::from_image(image, 1);
    let repaired = repair_device(&shared(&device), RepairOptions::default());
    repaired.is_err_and(|error| error.kind() == ErrorKind::Full)
}

/// Damages, repairs, and uses.
fn treat(image: &[u8], story: &Story, is_catalog: bool, dice: &mut Dice, what: &str) -> RepairReport {
    let zero_lost = dice.one_in(3);
    let device = SimDevice::from_image(image, 1);
    let dry = repair_device(&shared(&device), RepairOptions::default().zero_lost(zero_lost));
    let dry = dry.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(!dry.applied && device.image() == image, "{what}: only looked");
    let report = repaired(&device, zero_lost);
    assert_eq!((&report.lost, &report.actions), (&dry.lost, &dry.actions), "{what}");
    assert_clean(&device, what);
    let store = Store::open_on(Arc::new(device.clone()), SHAPE.options());
    let store = store.unwrap_or_else(|error| panic!("{what}: {error}"));
    if zero_lost && !report.lost.is_empty() {
        observe(&store).unwrap_or_else(|error| panic!("{what}: {error}"));
    } else {
        assert_right(&store, story, &report, is_catalog, what);
        assert_lost_exactly(&store, &report, dice, what);
    }
    assert_goes_on(store, &device, dice, what);
    report
}

#[test]
fn every_block_of_metadata_can_be_lost() {
    let mut cases: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut full = 0;
    for seed in 0..4 {
        let (bytes, story) = patient(seed, true);
        let mut dice = Dice::new(seed + 1000);
        let parts = Image::new(bytes.clone());
        let kinds = [
            ("node", Kind::Node),
            ("catalog node", Kind::CatalogNode),
            ("catalog page", Kind::CatalogPage),
            ("summary", Kind::Summary),
            ("refcounts", Kind::Refcounts),
        ];
        for (name, kind) in kinds {
            for block in parts.blocks(kind) {
                let what = format!("seed {seed}, {name} at block {block}");
                let mut image = bytes.clone();
                let place = &mut image[block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES];
                if dice.one_in(2) {
                    place.fill(0);
                } else {
                    place[dice.below(4096) as usize] ^= 16;
                }
                let is_catalog = matches!(kind, Kind::CatalogPage | Kind::CatalogNode);
                let (count, lost) = cases.entry(name).or_default();
                *count += 1;
                if is_full(&image) {
                    full += 1;
                    continue;
                }
                let report = treat(&image, &story, is_catalog, &mut dice, &what);
                *lost += u64::from(!report.lost.is_empty());
                if matches!(kind, Kind::Summary | Kind::Refcounts) {
                    assert!(report.lost.is_empty() && report.lost_records.is_empty(), "{what}: {report:#?}");
                }
            }
        }
    }
    let all: u64 = cases.values().map(|(count, _)| count).sum();
    assert!(full * 4 < all, "{full} of {all} stores have no free block for a repair");
    println!("damaged blocks by kind, and how many of them cost data: {cases:?}; {full} in stores too full");
}

/// A catalog of several pages: each of them lost costs the records in it, and the rest reads as before.
#[test]
fn a_lost_page_of_a_large_catalog_costs_its_records_and_no_others() {
    const SERVERS: u64 = 100;
    let device = SimDevice::new(0, 1);
    let store = Store::create_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
    for nth in 0..SERVERS {
        let server = store.create_server(&format!("server-{nth:03}")).unwrap();
        let disk = server.create_disk("vda", 1 << 20).unwrap();
        disk.write_at(&[nth as u8 + 1; 4096], nth * 4096).unwrap();
        server
            .snapshot("first", "A description that takes some room in the catalog, as those of people do")
            .unwrap();
        disk.write_at(&[nth as u8 + 101; 4096], nth * 4096).unwrap();
    }
    store.close().unwrap();
    let bytes = device.image();
    let parts = Image::new(bytes.clone());
    let pages = parts.blocks(Kind::CatalogPage);
    assert!(pages.len() > 4, "{} pages", pages.len());
    let mut shown = 0;
    for &page in &pages {
        let what = format!("catalog page at block {page}");
        let mut image = bytes.clone();
        image[page * BLOCK_BYTES + 9] ^= 4;
        let device = SimDevice::from_image(&image, 1);
        let report = repaired(&device, false);
        assert_clean(&device, &what);
        let store = Store::open_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
        let mut whole = 0;
        for server in store.servers() {
            let Ok(nth) = server.name().trim_start_matches("server-").parse::<u64>() else { continue };
            let expect = |read: cowblk::Result<()>, buf: [u8; 4096], byte: u64| {
                read.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(buf == [byte as u8; 4096], "{what}: server {nth} holds {}", buf[0]);
            };
            let mut buf = [0; 4096];
            let Ok(disk) = server.disk("vda") else { continue };
            expect(disk.read_at(&mut buf, nth * 4096), buf, nth + 101);
            let Some(snapshot) = server.snapshots().pop() else { continue };
            let Ok(disk) = snapshot.disk("vda") else { continue };
            expect(disk.read_at(&mut buf, nth * 4096), buf, nth + 1);
            whole += 1;
        }
        assert!(whole < SERVERS && !report.lost_records.is_empty(), "{what}: {whole} whole, {report:#?}");
        shown += whole;
        assert_goes_on(store, &device, &mut Dice::new(page as u64), &what);
    }
    println!("{shown} of {} servers whole, over {} lost pages", SERVERS * pages.len() as u64, pages.len());
    assert!(shown * 2 > SERVERS * pages.len() as u64, "{shown} servers are whole");
}

#[test]
fn damaged_superblocks_and_records_are_mended_without_loss() {
    for seed in 0..4 {
        let (bytes, story) = patient(seed, seed % 2 == 0);
        let mut dice = Dice::new(seed);
        let record = Image::new(bytes.clone()).parts.checkpoint;
        let places: [(&str, &[usize]); 6] = [
            ("slot A", &[3]),
            ("slot B", &[65_536 + 70]),
            ("reserved bytes of slot B", &[65_536 + 3000]),
            ("both slots", &[100, 65_536 + 47]),
            ("the same byte of both slots and nothing else", &[2000]),
            ("the record", &[record + 50]),
        ];
        for (name, at) in places {
            let mut image = bytes.clone();
            for at in at {
                image[*at] ^= 2;
            }
            let what = format!("seed {seed}, {name}");
            if check_device(&SimDevice::from_image(&image, 1)).unwrap().is_clean() {
                continue; // as a crash may leave it: nothing to repair
            }
            let report = treat(&image, &story, false, &mut dice, &what);
            assert!(report.lost.is_empty() && report.lost_records.is_empty(), "{what}: {report:#?}");
        }
    }
}

#[test]
fn the_older_superblock_serves_where_the_newer_leads_nowhere() {
    let device = SimDevice::new(0, 1);
    let store = Store::create_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
    let disk = store.create_server("web").unwrap().create_disk("vda", 1 << 20).unwrap();
    disk.write_at(&[1; 4096], 0).unwrap();
    store.checkpoint().unwrap();
    let older = device.image()[..4096].to_vec();
    disk.write_at(&[2; 4096], 4096).unwrap();
    store.checkpoint().unwrap();
    device.cut_power();
    let mut image = device.crash(&Survival::Everything).image();
    image[65_536..65_536 + 4096].copy_from_slice(&older);
    let record = Image::new(image.clone()).parts.checkpoint;
    image[record..record + 80].fill(0);
    let device = SimDevice::from_image(&image, 1);
    let report = repaired(&device, false);
    assert!(report.actions.iter().any(|action| action.contains("older superblock")), "{report:#?}");
    assert_clean(&device, "older superblock");
    let store = Store::open_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
    let disk = store.server("web").unwrap().disk("vda").unwrap();
    let mut bytes = [0; 8192];
    disk.read_at(&mut bytes, 0).unwrap();
    assert_eq!((bytes[0], bytes[4096]), (1, 2), "the journal behind it was still there");
    device.cut_power();
}

#[test]
fn damaged_journal_batches_cost_the_rest_of_the_journal_and_nothing_else() {
    let (mut cases, mut cut) = (0, 0);
    for seed in 0..8 {
        let (bytes, story) = patient(seed + 500, false);
        let mut dice = Dice::new(seed);
        for batch in Image::new(bytes.clone()).parts.batches.clone() {
            let what = format!("seed {seed}, batch at {}", batch.at);
            let mut image = bytes.clone();
            image[batch.at + dice.below(batch.bytes as u64) as usize] ^= 1;
            cases += 1;
            let device = SimDevice::from_image(&image, 1);
            if check_device(&device).unwrap().is_clean() {
                continue; // the last batch: as torn as a crash may leave it
            }
            let report = repaired(&device, false);
            assert!(report.lost.is_empty() && !report.lost_records.is_empty(), "{what}: {report:#?}");
            assert_clean(&device, &what);
            let store = Store::open_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
            let print = observe(&store).unwrap().fingerprint();
            assert!(story.fingerprints.contains(&print), "{what}: no state of the history");
            assert_goes_on(store, &device, &mut dice, &what);
            cut += 1;
        }
    }
    println!("{cases} batches, {cut} journals cut");
    assert!(cut > 10);
}

#[test]
fn a_store_with_nothing_wrong_stays_as_it_is() {
    for (seed, is_closed) in [(1, true), (2, false)] {
        let (bytes, _) = patient(seed, is_closed);
        let device = SimDevice::from_image(&bytes, 1);
        let report = repaired(&device, true);
        assert!(report.is_clean() && !report.applied);
        assert!(device.image() == bytes);
    }
    let empty = repair_device(&shared(&SimDevice::new(1 << 20, 1)), RepairOptions::default());
    assert_eq!(empty.unwrap_err().kind(), ErrorKind::Invalid);
}

/// The maps that changed and the node that is damaged stop every checkpoint; what was flushed is in the journal.
#[test]
fn a_store_that_a_damaged_node_halted_goes_on_with_all_that_was_flushed() {
    let device = SimDevice::new(0, 1);
    let store = Store::create_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
    let server = store.create_server("web").unwrap();
    let (one, two) =
        (server.create_disk("vda", 1 << 20).unwrap(), server.create_disk("vdb", 1 << 20).unwrap());
    one.write_at(&[1; 8192], 0).unwrap();
    two.write_at(&[2; 8192], 0).unwrap();
    drop((one, two, server));
    store.close().unwrap();
    let seal = crc32fast::hash(&[1; 4096]).to_le_bytes();
    let image = device.image();
    let leaf = (48..image.len() / 4096).find(|at| image[at * 4096 + 12..at * 4096 + 16] == seal).unwrap();
    device.flip_bit(leaf * 4096 + 3000, 1);

    let store = Store::open_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
    let server = store.server("web").unwrap();
    server.disk("vda").unwrap().write_at(&[3; 4096], 4096).unwrap();
    server.disk("vdb").unwrap().write_at(&[4; 4096], 4096).unwrap();
    store.flush().unwrap();
    assert_eq!(store.checkpoint().unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Halted);
    device.cut_power();
    let device = device.crash(&Survival::Everything);

    let report = repaired(&device, false);
    assert_eq!(report.lost.len(), 1);
    assert!(report.lost_records.is_empty(), "{report:#?}");
    let store = Store::open_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
    let server = store.server("web").unwrap();
    let mut bytes = [0; 4096];
    let lost = server.disk("vda").unwrap().read_at(&mut bytes, 0).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Corrupt, "lost, and not zeros");
    server.disk("vda").unwrap().read_at(&mut bytes, 4096).unwrap();
    assert_eq!(bytes, [3; 4096], "flushed before the store halted");
    server.disk("vdb").unwrap().read_at(&mut bytes, 4096).unwrap();
    assert_eq!(bytes, [4; 4096]);
    store.checkpoint().unwrap();
    assert_clean(&device, "after a checkpoint");
    device.cut_power();
}

/// What a snapshot lost, and the disk that goes on from it still has, comes back.
#[test]
fn a_lost_node_of_a_snapshot_is_put_together_from_what_the_disk_inherited() {
    let device = SimDevice::new(0, 1);
    let store = Store::create_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
    let server = store.create_server("web").unwrap();
    let disk = server.create_disk("vda", 1 << 20).unwrap();
    for block in 0..10u8 {
        disk.write_at(&[1 + block; 4096], u64::from(block) * 4096).unwrap();
    }
    server.snapshot("first", "").unwrap();
    store.checkpoint().unwrap();
    let seal = crc32fast::hash(&[1; 4096]).to_le_bytes();
    let image = device.image();
    let leaf = (48..image.len() / 4096).find(|at| image[at * 4096 + 12..at * 4096 + 16] == seal).unwrap();
    disk.write_at(&[99; 4096], 0).unwrap();
    drop((disk, server));
    store.close().unwrap();
    device.flip_bit(leaf * 4096 + 3000, 1);
    let device = SimDevice::from_image(&device.image(), 1);
    let report = repaired(&device, false);
    let store = Store::open_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
    let snapshot = store.snapshots()[0].disk("vda").unwrap();
    let mut bytes = vec![0; 9 * 4096];
    snapshot.read_at(&mut bytes, 4096).unwrap();
    assert!(
        (0..9).all(|nth| bytes[nth * 4096] == nth as u8 + 2),
        "what the disk still has is the snapshot's, too"
    );
    assert_eq!(snapshot.read_at(&mut bytes[..1], 0).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(report.lost[0].offset, 0);
    assert!(report.lost.iter().all(|lost| lost.snapshot.as_deref() == Some("first")), "{report:#?}");
}

/// Loses power after so many calls.
struct Fuse {
    device: SimDevice,
    left: AtomicU64,
}

impl Fuse {
    fn burn(&self) -> io::Result<()> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| {
            self.device.cut_power();
            io::Error::other("no power")
        })
    }
}

impl Device for Fuse {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.device.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.burn()?;
        self.device.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.burn()?;
        self.device.sync()
    }
    fn len_bytes(&self) -> io::Result<u64> {
        self.device.len_bytes()
    }
    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.burn()?;
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

#[test]
fn a_crash_at_any_moment_of_a_repair_leaves_a_store_that_can_be_repaired() {
    let mut crashes = 0;
    for seed in 0..3 {
        let (bytes, story) = patient(seed + 40, seed != 1);
        let parts = Image::new(bytes.clone());
        let damaged = [Kind::Node, Kind::Summary, Kind::Refcounts].map(|kind| parts.blocks(kind)[0]);
        let mut image = bytes;
        for block in damaged {
            image[block * BLOCK_BYTES + 2000] ^= 1;
        }
        let whole = repaired(&SimDevice::from_image(&image, 1), false);
        for calls in 0.. {
            let device = SimDevice::from_image(&image, seed);
            let fuse: Arc<dyn Device> =
                Arc::new(Fuse { device: device.clone(), left: AtomicU64::new(calls) });
            if repair_device(&fuse, RepairOptions::default().apply(true)).is_ok() {
                break;
            }
            for survival in [Survival::Nothing, Survival::Everything, Survival::Random(calls)] {
                crashes += 1;
                let what = format!("seed {seed}, {calls} calls, {survival:?}");
                let device = SimDevice::from_image(&device.crash(&survival).image(), 1);
                let report = repaired(&device, false);
                assert!(report.lost.len() <= whole.lost.len(), "{what}: {report:#?}");
                assert_clean(&device, &what);
                let store = Store::open_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
                assert_right(&store, &story, &whole, false, &what);
                device.cut_power();
            }
        }
    }
    println!("{crashes} crashes in the midst of a repair");
    assert!(crashes > 50);
}
