//! All cases, each under schedules by chance from a fixed seed, half of them with few preemptions at telling places;
//! the smallest ones under every schedule.
//!
//! `COWBLK_INTERLEAVINGS=1000000` tries that many of each, `COWBLK_SEED` begins elsewhere. A failure prints its schedule,
//! which `shuttle::replay` runs again.

use cowblk_interleavings::cases::{gate, journal, runs};
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

fn asked(name: &str, by_default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(by_default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn try_many(case: fn()) {
    let count = usize::try_from(asked("COWBLK_INTERLEAVINGS", 4000)).expect("a count");
    let seed = asked("COWBLK_SEED", 20_261_121);
    println!("seed {seed}, {count} schedules");
    Runner::new(RandomScheduler::new_from_seed(seed, count / 2), Config::new()).run(case);
    Runner::new(PctScheduler::new_from_seed(seed, 3, count / 2), Config::new()).run(case);
}

/// Every schedule, or as many as this: then it is no proof, and says so.
fn try_all(case: fn()) {
    const MOST: usize = 2_000_000;
    let count = Runner::new(DfsScheduler::new(Some(MOST), false), Config::new()).run(case);
    println!("{count} schedules");
    assert!(count < MOST, "there are more schedules than {MOST}");
}

#[test]
fn gate_readers_and_releasers() {
    try_many(gate::readers_and_releasers);
}

#[test]
fn gate_one_reader_and_one_block_in_every_order() {
    try_all(gate::one_reader_and_one_block);
}

#[test]
fn gate_one_reader_and_two_blocks() {
    try_many(gate::one_reader_and_two_blocks);
}

#[test]
fn runs_a_block_is_found_wherever_it_is() {
    try_many(runs::a_block_is_found_wherever_it_is);
}

#[test]
fn runs_a_place_that_is_used_again_is_left_alone() {
    try_many(runs::a_place_that_is_used_again_is_left_alone);
}

#[test]
fn runs_only_what_a_record_names_is_exposed() {
    try_many(runs::only_what_a_record_names_is_exposed);
}

#[test]
fn journal_every_flush_is_durable() {
    try_many(journal::every_flush_is_durable);
}

#[test]
fn journal_two_flushes() {
    try_many(journal::two_flushes);
}

#[test]
fn journal_a_failing_sync_reaches_all_who_wait() {
    try_many(journal::a_failing_sync_reaches_all_who_wait);
}
