//! Torture: random histories with crashes at any moment, for as long as you let it. Each history has a seed of its own;
//! the first one that fails is told, and its seed replays it.
//!
//! ```text
//! cargo run --release --features sim --example torture              # from a random seed on
//! cargo run --release --features sim --example torture 1000 5000    # seeds 1000 to 4999
//! COWBLK_SEED=1234 cargo test --test crash_histories                # one seed again
//! ```

#![allow(clippy::print_stdout, reason = "a program that talks")]

#[path = "../tests/model/mod.rs"]
mod model;

use model::{Tally, run_history};
use std::time::{Duration, Instant};

fn main() {
    let mut seeds = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a seed is a number"));
    let first = seeds.next().unwrap_or_else(|| u64::from(std::process::id()) << 32);
    let end = seeds.next().unwrap_or(u64::MAX);
    let (tally, started) = (Tally::default(), Instant::now());
    let mut told = Instant::now();
    for seed in first..end {
        run_history(seed, &tally);
        if told.elapsed() > Duration::from_secs(10) || seed + 1 == end {
            told = Instant::now();
            let (histories, seconds) = (seed + 1 - first, started.elapsed().as_secs().max(1));
            println!(
                "seeds {first}..{}: {histories} histories, {} a second; {} crash states, {} a second",
                seed + 1,
                histories / seconds,
                tally.count(),
                tally.count() / seconds
            );
        }
    }
}
