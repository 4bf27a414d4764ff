//! Clean and opens: a store in which the auditor finds nothing opens, and every byte of it reads; after bytes and fields
//! were changed, and sealed again so that no seal gives them away. (Of a store with a journal only without forged seals: what
//! the journal's records mean to one another is for the engine to judge.)

#![allow(clippy::similar_names, reason = "a store has a story")]
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers are those of small images")]
#![allow(clippy::print_stdout, reason = "the number of cases is part of the result")]
#![allow(dead_code, missing_docs, unreachable_pub, reason = "some of the parts are for the fuzz targets")]

mod model;

#[path = "../fuzz/properties/format/mod.rs"]
mod format;

use cowblk::device::sim::{SimDevice, Survival};
use cowblk::{ErrorKind, ScrubOptions, Store, check_device, scrub_device};
use format::{Image, Kind, Sealing};
use model::{Dice, Model, Shape, Story, Verb, observe};
use std::ops::ControlFlow;
use std::sync::Arc;

const BLOCK_BYTES: usize = 4096;

fn patient(seed: u64, is_closed: bool) -> Vec<u8> {
    let device = SimDevice::new(0, seed);
    let store = Store::create_on(Arc::new(device.clone()), Shape::SMALL.options()).unwrap();
    let (mut dice, mut story) = (Dice::new(seed), Story::new(Model::default()));
    for stamp in 1..80 {
        let verb = Verb::random(&mut dice, story.last(), stamp);
        let expected = story.ask(&verb);
        assert_eq!(verb.run(&store).map_err(|error| error.kind()), expected, "{verb}");
    }
    if is_closed {
        store.close().unwrap();
    } else {
        store.flush().unwrap();
        device.cut_power();
    }
    device.crash(&Survival::Everything).image()
}

/// Changes a byte or a number somewhere, and seals it if it is told to.
fn mutate(image: &mut Image, dice: &mut Dice, must_seal: bool) {
    let kinds =
        [Kind::CatalogNode, Kind::CatalogPage, Kind::Node, Kind::Summary, Kind::Refcounts, Kind::Data];
    let choice = dice.below(8) as usize;
    let blocks = kinds.get(choice).map(|kind| image.blocks(*kind)).unwrap_or_default();
    let (start, length) = match choice {
        6 => (image.parts.checkpoint, image.parts.checkpoint_bytes),
        _ if blocks.is_empty() => (0, 140),
        _ => (dice.pick(&blocks) * BLOCK_BYTES, BLOCK_BYTES),
    };
    let used = image.bytes[start..start + length].iter().rposition(|byte| *byte != 0).map_or(8, |at| at + 8);
    let at = start + dice.below(used.min(length) as u64) as usize;
    match dice.below(4) {
        0 => image.bytes[at] ^= 1 << dice.below(8),
        1 => image.bytes[at] = dice.below(256) as u8,
        2 => image.put(at / 8 * 8, &(1u64 << dice.below(64)).to_le_bytes()),
        _ => image.put(at / 4 * 4, &(dice.below(300) as u32).to_le_bytes()),
    }
    match (must_seal, choice) {
        (false, _) => {}
        (true, 6) => image.seal_checkpoint(),
        (true, _) if start == 0 => image.seal_superblock(),
        (true, _) => image.seal_block(start / BLOCK_BYTES),
    }
}

#[test]
fn a_store_that_is_clean_opens_and_every_byte_reads() {
    let rounds = std::env::var("COWBLK_ROUNDS").map_or(1500, |rounds| rounds.parse().unwrap());
    let (mut clean, mut cases) = (0, 0);
    for seed in 0..6 {
        let is_closed = seed % 3 != 2;
        let base = Image::new(patient(seed, is_closed));
        let mut dice = Dice::new(seed + 77);
        for round in 0..rounds {
            let mut image = base.clone();
            for _ in 0..=dice.below(2) {
                mutate(&mut image, &mut dice, is_closed);
            }
            cases += 1;
            let device = SimDevice::from_image(&image.bytes, 1);
            if !check_device(&device).is_ok_and(|report| report.is_clean()) {
                continue;
            }
            clean += 1;
            let what = format!("seed {seed}, round {round}");
            let store = Store::open_on(Arc::new(device.clone()), Shape::SMALL.options());
            let store = match store {
                Ok(store) => store,
                // Features that an older version may only read: a check reads.
                Err(error) if error.kind() == ErrorKind::Unsupported => continue,
                Err(error) => panic!("{what}: clean, but {error}"),
            };
            let scrub = scrub_device(&device, &ScrubOptions::default(), &mut |_| ControlFlow::Continue(()));
            if scrub.unwrap().is_clean() {
                observe(&store).unwrap_or_else(|error| panic!("{what}: clean, but {error}"));
            }
            device.cut_power();
        }
    }
    println!("{cases} changed stores, {clean} of them clean");
    assert!(clean > 20);
}
