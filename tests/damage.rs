//! Damage: a closed store, and one that was not closed, with something wrong in one place. Every read gives right data
//! or an error that names the defect; whatever is asked of the store, it never panics and never gives wrong data; and
//! the auditor finds the damage, unless it lies where nothing is.

#![allow(clippy::similar_names, reason = "a store has a story")]
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "the number of cases is part of the result")]

mod model;

use cowblk::device::sim::{Fault, Faults, SimDevice, Survival, When};
use cowblk::{Defect, Error, ErrorKind, Store, check_device};
use model::{BLOCK, Dice, Model, Shape, Story, Verb, damage_of, observe};
use std::sync::Arc;

const SHAPE: Shape = Shape { zone_blocks: 100, journal_bytes: 64 << 10, ..Shape::SMALL };
const BLOCK_BYTES: usize = 4096;

/// A store with a history, and what it was like earlier.
struct Patient {
    image: Vec<u8>,
    earlier: Vec<Vec<u8>>,
    story: Story,
}

impl Patient {
    /// A store after a random history of its own.
    fn new(seed: u64, is_closed: bool) -> Self {
        let device = SimDevice::new(0, seed);
        let store = Store::create_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
        let (mut dice, mut story, mut earlier) = (Dice::new(seed), Story::new(Model::default()), Vec::new());
        let mut stamp = 0;
        while stamp < 90 || story.last().servers.values().all(|server| server.snapshots.is_empty()) {
            stamp += 1;
            let verb = Verb::random(&mut dice, story.last(), stamp);
            if matches!(verb, Verb::DeleteServer(_)) {
                continue;
            }
            let expected = story.ask(&verb);
            assert_eq!(verb.run(&store).map_err(|error| error.kind()), expected, "{verb}");
            if stamp % 15 == 0 {
                earlier.push(device.image());
            }
        }
        store.flush().unwrap();
        if is_closed {
            store.close().unwrap();
        } else {
            device.cut_power();
        }
        let device = device.crash(&Survival::Everything);
        Self { image: device.image(), earlier, story }
    }

    /// The blocks in which something is.
    fn blocks(&self) -> Vec<usize> {
        let written = self.image.chunks(BLOCK_BYTES).enumerate();
        written.filter(|(_, block)| block.iter().any(|byte| *byte != 0)).map(|(at, _)| at).collect()
    }
}

fn block_of(image: &mut [u8], at: usize) -> &mut [u8] {
    &mut image[at * BLOCK_BYTES..(at + 1) * BLOCK_BYTES]
}

/// What an examination found.
#[derive(Default)]
struct Findings {
    cases: u64,
    refused: u64,
    unreadable: u64,
    harmless: u64,
}

/// Opens, reads, uses, checks.
fn examine(patient: &Patient, image: &[u8], what: &str, dice: &mut Dice, findings: &mut Findings) {
    findings.cases += 1;
    let device = SimDevice::from_image(image, 1);
    let report = check_device(&device);
    let is_found = report.as_ref().map_or(true, |report| !report.is_clean());
    let store = match Store::open_on(Arc::new(device.clone()), SHAPE.options()) {
        Ok(store) => store,
        Err(error) => {
            assert_defect(&error, what);
            assert!(is_found, "{what}: the auditor is content, but {error}");
            findings.refused += 1;
            return;
        }
    };
    match damage_of(&store, patient.story.last()) {
        Ok(unreadable) => {
            for error in &unreadable {
                assert_defect(error, what);
            }
            // The auditor does not read data: only what leads to it must be sound.
            let is_data = unreadable.iter().all(|error| error.defect() == Some(Defect::Data));
            assert!(is_found || is_data, "{what}: the auditor is content, but {unreadable:?}");
            if unreadable.is_empty() {
                findings.harmless += 1;
            } else {
                findings.unreadable += 1;
            }
            if unreadable.is_empty() && !is_found {
                use_whole(patient, &store, &device, what, dice);
            } else {
                use_damaged(&store, &patient.story, what, dice);
            }
        }
        Err(difference) => {
            panic!("{what}: wrong data\n    {difference}\n  {:?}", report.map(|report| report.findings))
        }
    }
    device.cut_power();
}

fn assert_defect(error: &Error, what: &str) {
    let is_told = error.defect().is_some() && error.kind() == ErrorKind::Corrupt;
    let is_foreign = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported);
    assert!(is_told || is_foreign, "{what}: {error:?} names no defect");
}

/// The damage lies where nothing is: everything must go on as if it were not there.
fn use_whole(patient: &Patient, store: &Store, device: &SimDevice, what: &str, dice: &mut Dice) {
    let mut model = patient.story.last().clone();
    for stamp in 1000..1004 {
        let verb = Verb::random(dice, &model, stamp);
        let expected = verb.states(&model);
        let ran = verb.run(store);
        match (ran, expected) {
            (Ok(()), Ok(states)) => model = states.last().cloned().unwrap_or(model),
            (Err(error), Err(kind)) if error.kind() == kind => {}
            (ran, _) => panic!("{what}: the auditor is content, but {verb} gives {ran:?}"),
        }
    }
    for server in store.servers() {
        store.delete_server(server.id()).unwrap();
    }
    store.collect().unwrap_or_else(|error| panic!("{what}: the auditor is content, but {error}"));
    let report = check_device(device).unwrap();
    assert!(report.is_clean(), "{what}: {:?}", report.findings);
}

/// Verbs may fail now, and the store may halt. What it still shows is right or an error.
fn use_damaged(store: &Store, story: &Story, what: &str, dice: &mut Dice) {
    let mut model = story.last().clone();
    for stamp in 1000..1006 {
        let verb = Verb::random(dice, &model, stamp);
        let Ok(states) = verb.states(&model) else { continue };
        match verb.run(store) {
            Ok(()) => model = states.last().cloned().unwrap_or(model),
            Err(error) if error.kind() == ErrorKind::Corrupt || error.kind() == ErrorKind::Halted => return,
            Err(error) => panic!("{what}: {verb}: {error:?}"),
        }
    }
    if let Err(difference) = damage_of(store, &model) {
        panic!("{what}: wrong data after more verbs\n    {difference}");
    }
    // The collector may meet the damage: an error, then, and no panic.
    for server in store.servers() {
        drop(store.delete_server(server.id()));
    }
    drop(store.collect());
}

/// All the ways in which one block of a closed store can be wrong.
fn damage_everywhere(seeds: std::ops::Range<u64>, flips: u64) {
    let mut findings = Findings::default();
    for seed in seeds {
        let patient = Patient::new(seed, true);
        let mut dice = Dice::new(seed + 1000);
        let blocks = patient.blocks();
        for &at in &blocks {
            for _ in 0..flips {
                let (byte, bit) = (usize::try_from(dice.below(BLOCK)).unwrap(), dice.below(8));
                let mut image = patient.image.clone();
                image[at * BLOCK_BYTES + byte] ^= 1 << bit;
                examine(
                    &patient,
                    &image,
                    &format!("seed {seed}, block {at}, byte {byte}, bit {bit}"),
                    &mut dice,
                    &mut findings,
                );
            }
            let mut image = patient.image.clone();
            block_of(&mut image, at).fill(0);
            examine(&patient, &image, &format!("seed {seed}, block {at} zeroed"), &mut dice, &mut findings);

            let other = *dice.pick(&blocks);
            let mut image = patient.image.clone();
            block_of(&mut image, at)
                .copy_from_slice(&patient.image[other * BLOCK_BYTES..(other + 1) * BLOCK_BYTES]);
            block_of(&mut image, other)
                .copy_from_slice(&patient.image[at * BLOCK_BYTES..(at + 1) * BLOCK_BYTES]);
            let what = format!("seed {seed}, blocks {at} and {other} swapped");
            examine(&patient, &image, &what, &mut dice, &mut findings);

            for (age, earlier) in patient.earlier.iter().enumerate() {
                let Some(stale) = earlier.get(at * BLOCK_BYTES..(at + 1) * BLOCK_BYTES) else { continue };
                if stale != &patient.image[at * BLOCK_BYTES..(at + 1) * BLOCK_BYTES] {
                    let mut image = patient.image.clone();
                    block_of(&mut image, at).copy_from_slice(stale);
                    let what = format!("seed {seed}, block {at} as it was at {age}");
                    examine(&patient, &image, &what, &mut dice, &mut findings);
                }
            }
        }
    }
    println!(
        "{} cases: {} not opened, {} with defects, {} without harm",
        findings.cases, findings.refused, findings.unreadable, findings.harmless
    );
}

#[test]
fn one_damaged_block_of_a_closed_store_is_never_wrong_data() {
    damage_everywhere(0..6, 2);
}

/// A store that was not closed has a journal. Damage there may look like the torn end of a crash, and then costs what
/// the last batch said; everything before is there, or an error says why not.
#[test]
fn one_damaged_block_of_a_journal_is_a_prefix_or_an_error() {
    let (mut cases, mut refused, mut shorter) = (0, 0, 0);
    for seed in 0..12 {
        let patient = Patient::new(seed + 500, false);
        let journal = (128 << 10) / BLOCK_BYTES..((128 << 10) + (64 << 10)) / BLOCK_BYTES;
        let mut dice = Dice::new(seed);
        for at in patient.blocks().into_iter().filter(|at| journal.contains(at)) {
            for way in 0..4 {
                let mut image = patient.image.clone();
                let what = format!("seed {seed}, journal block {at}, way {way}");
                if way == 0 {
                    block_of(&mut image, at).fill(0);
                } else {
                    let byte = if way == 1 { dice.below(64) } else { dice.below(BLOCK) };
                    block_of(&mut image, at)[usize::try_from(byte).unwrap()] ^= 1 << dice.below(8);
                }
                cases += 1;
                let device = SimDevice::from_image(&image, 1);
                let report = check_device(&device);
                match Store::open_on(Arc::new(device.clone()), SHAPE.options()) {
                    Err(error) => {
                        assert_defect(&error, &what);
                        assert!(
                            report.is_err() || !report.unwrap().is_clean(),
                            "{what}: the auditor is content, but {error}"
                        );
                        refused += 1;
                    }
                    Ok(store) => {
                        let print = observe(&store).unwrap().fingerprint();
                        let found = patient.story.fingerprints.iter().rposition(|state| *state == print);
                        let Some(found) = found else { panic!("{what}: no state of the history") };
                        shorter += u64::from(!patient.story.alike(found, patient.story.moment().asked));
                    }
                }
                device.cut_power();
            }
        }
    }
    println!("{cases} cases: {refused} not opened, {shorter} as if the last batch had been torn");
}

/// A device that lies: writes that get lost or go elsewhere, reads that are stale or flipped.
#[test]
fn a_device_that_lies_is_found_out_before_wrong_data_is_handed_out() {
    let faults = [
        Fault::LostWrite,
        Fault::MisdirectedWrite,
        Fault::StaleRead,
        Fault::FlippedOnRead,
        Fault::FlippedAtRest,
    ];
    let mut runs = 0;
    for fault in faults {
        for seed in 0..40 {
            runs += 1;
            let device = SimDevice::new(0, seed);
            Store::create_on(Arc::new(device.clone()), SHAPE.options()).unwrap().close().unwrap();
            let (mut dice, mut story) = (Dice::new(seed), Story::new(Model::default()));
            device.set_faults(Faults::none().with(fault, When::OneIn(40)));
            let Ok(store) = Store::open_on(Arc::new(device.clone()), SHAPE.options()) else { continue };
            for stamp in 1..60 {
                let verb = Verb::random(&mut dice, story.last(), stamp);
                let before = story.moment().asked;
                let expected = story.ask(&verb);
                match (verb.run(&store), expected) {
                    (Ok(()), Ok(())) => {}
                    (Err(error), Err(kind)) if error.kind() == kind => {}
                    (Err(error), _) if error.kind() == ErrorKind::Corrupt => {
                        let states = &story.states[before..];
                        assert!(
                            states.iter().any(|state| damage_of(&store, state).is_ok()),
                            "{fault}, seed {seed}, {verb} failed, and the store shows something else"
                        );
                        break;
                    }
                    (ran, expected) => panic!("{fault}, seed {seed}, {verb}: {ran:?}, not {expected:?}"),
                }
                if let Err(difference) = damage_of(&store, story.last()) {
                    panic!("{fault}, seed {seed}, after {verb}: wrong data\n    {difference}");
                }
            }
            device.set_faults(Faults::none());
            device.cut_power();
            drop(store);
            let device = device.crash(&Survival::Everything);
            drop(check_device(&device));
            if let Ok(store) = Store::open_on(Arc::new(device.clone()), SHAPE.options()) {
                let prefix = story.states.iter().rev().any(|state| damage_of(&store, state).is_ok());
                assert!(prefix, "{fault}, seed {seed}: reopened, the store shows no state of its history");
            }
            device.cut_power();
        }
    }
    println!("{runs} runs on a device that lies");
}

/// A store had grown, and the batch that said so was durable. Then the file lost its end: opening for writing made it
/// as long as before without a word, and opening for reading met the end of the file only where something was read.
#[test]
fn a_store_that_lost_a_zone_which_only_its_journal_knows_is_cut_short() {
    let device = SimDevice::new(0, 1);
    let store = Store::create_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
    let server = store.create_server("s").unwrap();
    let disk = server.create_disk("d", 300 * BLOCK).unwrap();
    store.checkpoint().unwrap();
    let before = device.image().len();
    while device.image().len() == before {
        disk.write_at(&vec![7; 16 << 12], store.stats().bytes_written % (280 * BLOCK)).unwrap();
        disk.flush().unwrap();
    }
    server.snapshot("later", "").unwrap(); // says that the growth was durable
    device.cut_power();
    let image = device.crash(&Survival::Everything).image();
    for device in
        [SimDevice::from_image(&image[..before], 1), SimDevice::from_image(&image[..before], 1).read_only()]
    {
        let report = check_device(&device).unwrap();
        assert!(
            report.findings.iter().any(|found| found.defect == Defect::Truncated),
            "{:?}",
            report.findings
        );
        let error = Store::open_on(Arc::new(device.clone()), SHAPE.options()).unwrap_err();
        assert_eq!(error.defect(), Some(Defect::Truncated), "{error}");
        assert_eq!(device.image().len(), before, "what is left stays as it is");
    }
}
