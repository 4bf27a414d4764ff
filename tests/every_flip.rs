//! Every flip: each bit of a store's image is flipped, one at a time. Opening, a read or the auditor notices, or nothing
//! refers to it; whatever does not depend on it reads right; and nothing panics.
//!
//! `cargo test` flips a sample. `COWBLK_FLIPS=all cargo test --release --test every_flip -- --nocapture` flips all.

#![allow(clippy::print_stdout, reason = "the number of flips is part of the result")]

mod atlas;
mod patient;

use cowblk::device::sim::Random;
use patient::{Bench, Outcome, Patient, Tally};

/// Which flips are made: all, or one bit of one byte in so many.
fn one_in() -> u64 {
    match std::env::var("COWBLK_FLIPS").as_deref() {
        Ok("all") => 1,
        Ok(text) => text.parse().expect("COWBLK_FLIPS is `all`, or a number: one byte in so many"),
        Err(_) => 400,
    }
}

/// One bit in so many is looked at with everything: all reads, the auditor, and opened for writing.
const THOROUGH_ONE_IN: u64 = 256;

fn flip_every_bit(patient: &Patient) {
    let one_in = one_in();
    let bench = Bench::new(patient);
    bench.assert_ways();
    let mut random = Random::new(7);
    let (mut tally, mut flipped) = (Tally::default(), 0u64);
    for byte in 0..patient.image.len() {
        if !bench.is_looked_at(byte) {
            tally.add(bench.unseen(byte), 8);
            continue;
        }
        let bits = if one_in == 1 {
            0..8
        } else if random.one_in(one_in) {
            let bit = u8::try_from(random.below(8)).expect("below 8");
            bit..bit + 1
        } else {
            continue;
        };
        for bit in bits {
            flipped += 1;
            let is_thorough = random.one_in(THOROUGH_ONE_IN.min(one_in * 16));
            tally.add(bench.flip(byte, bit, is_thorough), 1);
        }
    }
    println!("{}: {flipped} bits flipped; with those that nobody looks at, {tally}", patient.name);
    assert!(tally.of(Outcome::Unreadable) > 0 && tally.of(Outcome::Refused) > 0, "{tally}");
}

#[test]
fn every_flip_of_a_closed_store_is_noticed() {
    flip_every_bit(&Patient::closed());
}

#[test]
fn every_flip_of_a_store_with_a_journal_is_noticed() {
    flip_every_bit(&Patient::crashed());
}

#[test]
fn every_flip_of_a_store_whose_last_flush_was_large_is_noticed() {
    flip_every_bit(&Patient::crashed_wide());
}

#[test]
fn every_flip_of_a_store_with_work_for_the_collector_is_noticed() {
    flip_every_bit(&Patient::collecting());
}
