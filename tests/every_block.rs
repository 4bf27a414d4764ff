//! Every block: each block of a store's image is zeroed, swapped with others, and replaced by each version that it ever
//! had; the file is cut off at each block. Opening, a read or the auditor notices, or nothing refers to what changed;
//! whatever does not depend on it reads right; and nothing panics.
//!
//! An older version of a block is sealed and sound by itself: only a seal in what leads to it can tell.
//!
//! `cargo test` takes a sample. `COWBLK_FLIPS=all cargo test --release --test every_block -- --nocapture` takes all.

#![allow(clippy::print_stdout, reason = "the number of damages is part of the result")]

mod atlas;
mod patient;

use atlas::BLOCK;
use cowblk::device::Device;
use cowblk::device::sim::{Random, SimDevice};
use patient::{Bench, Outcome, Patient, Tally};
use std::collections::BTreeSet;

/// Whether a damage is made: all are, or one in so many.
fn is_taken(random: &mut Random, one_in: u64) -> bool {
    std::env::var("COWBLK_FLIPS").is_ok_and(|text| text == "all") || random.one_in(one_in)
}

fn block_of(image: &[u8], at: usize) -> &[u8] {
    image.get(at * BLOCK..(at + 1) * BLOCK).unwrap_or_default()
}

/// The sound device with other content in some blocks, and the bytes that differ by that.
fn put(bench: &Bench<'_>, blocks: &[(usize, &[u8])]) -> (SimDevice, Vec<std::ops::Range<usize>>) {
    let device = bench.device();
    let mut damaged = Vec::new();
    for (at, content) in blocks {
        device.write_at(content, (at * BLOCK) as u64).expect("a sound device takes writes");
        let sound = block_of(&bench.patient.image, *at);
        let differ = |byte: &usize| sound[*byte] != content[*byte];
        let bytes: Vec<usize> = (0..BLOCK).filter(differ).collect();
        damaged.extend(
            bytes
                .chunk_by(|a, b| a + 1 == *b)
                .map(|run| at * BLOCK + run[0]..at * BLOCK + run[run.len() - 1] + 1),
        );
    }
    device.sync().expect("a sound device syncs");
    (device, damaged)
}

fn damage_every_block(patient: &Patient) {
    let bench = Bench::new(patient);
    let mut random = Random::new(11);
    let (mut zeroed, mut swapped, mut replaced) = (Tally::default(), Tally::default(), Tally::default());
    let written = patient.written();
    for &at in &written {
        let own = block_of(&patient.image, at);
        if is_taken(&mut random, 3) {
            let (device, damaged) = put(&bench, &[(at, &[0; BLOCK])]);
            let what = format!("{}, block {at} zeroed", patient.name);
            zeroed.add(bench.examine(&device, &damaged, &what, true), 1);
        }
        for &other in written.iter().filter(|other| **other > at) {
            let foreign = block_of(&patient.image, other);
            if own == foreign || !is_taken(&mut random, 300) {
                continue;
            }
            let (device, damaged) = put(&bench, &[(at, foreign), (other, own)]);
            let what = format!("{}, blocks {at} and {other} swapped", patient.name);
            swapped.add(bench.examine(&device, &damaged, &what, random.one_in(16)), 1);
        }
        let versions: BTreeSet<&[u8]> = patient.earlier.iter().map(|image| block_of(image, at)).collect();
        for version in versions.into_iter().filter(|version| !version.is_empty() && *version != own) {
            let (device, damaged) = put(&bench, &[(at, version)]);
            let what = format!("{}, block {at} as it was", patient.name);
            replaced.add(bench.examine(&device, &damaged, &what, true), 1);
        }
    }
    println!("{}: zeroed {zeroed}\n  swapped {swapped}\n  as they were {replaced}", patient.name);
    assert!(replaced.count() > 20, "{}: too few blocks ever had another content", patient.name);
}

/// Cuts the file off at each block.
fn cut_everywhere(patient: &Patient) {
    let bench = Bench::new(patient);
    let mut tally = Tally::default();
    let len = patient.image.len();
    for end in (0..len).step_by(BLOCK) {
        let device = SimDevice::from_image(&patient.image[..end], 1);
        let what = format!("{}, cut off at byte {end} of {len}", patient.name);
        let outcome = bench.examine(&device, std::slice::from_ref(&(end..len)), &what, true);
        assert_ne!(outcome, Outcome::Nothing, "{what}: a store that is too short says so");
        tally.add(outcome, 1);
    }
    println!("{}: cut off {tally}", patient.name);
}

#[test]
fn every_damaged_block_of_a_closed_store_is_noticed() {
    damage_every_block(&Patient::closed());
}

#[test]
fn every_damaged_block_of_a_store_with_a_journal_is_noticed() {
    damage_every_block(&Patient::crashed());
}

#[test]
fn every_damaged_block_of_a_store_whose_last_flush_was_large_is_noticed() {
    damage_every_block(&Patient::crashed_wide());
}

#[test]
fn every_damaged_block_of_a_store_with_work_for_the_collector_is_noticed() {
    damage_every_block(&Patient::collecting());
}

#[test]
fn a_store_that_is_cut_off_anywhere_says_so() {
    Patient::all().iter().for_each(cut_everywhere);
}
