//! Pace: how the background thread collects without being in anybody's way.
//!
//! Floor 5. Who is in need of space does not ask here: a write that finds none, and `Store::collect`, run the collector as fast as it goes.
//!
//! * It works in steps of a few thousand places, and lets the maintenance lock go between them.
//! * If reads, writes or flushes came in within the last tenth of a second, it rests three times as long as the step took.
//! * It drops no more references a second than [`Options::collect_rate`](super::Options::collect_rate) says.

use super::engine::Engine;
use super::statistics::Counters;
use crate::error::Result;
use crate::limits::{COLLECT_STEP_BLOCKS, COLLECT_STEP_BLOCKS_BUSY, DROPS_PER_CHECKPOINT};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// If nobody called for so long, nobody is at work.
const QUIET: Duration = Duration::from_millis(100);
/// While others are at work, the collector rests so many times as long as it works.
const RESTS_WHILE_BUSY: u32 = 3;
/// With a rate, it works in so many steps a second at least.
const STEPS_A_SECOND_MIN: u64 = 8;
/// It rests no longer than this at a time.
const REST_MAX: Duration = Duration::from_secs(1);

/// What the collector has come to, and what is left for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// There is nothing to do.
    Done,
    /// There is more to do.
    More,
}

/// When anybody called last, as far as was seen.
struct Calls {
    count: u64,
    at: Instant,
}

impl Calls {
    fn look(&mut self, count: u64) {
        if std::mem::replace(&mut self.count, count) != count {
            self.at = Instant::now();
        }
    }
}

impl Counters {
    /// How often anybody called.
    fn calls(&self) -> u64 {
        [&self.reads, &self.writes, &self.flushes].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// How many places a step looks at: with a rate no more than go in a part of a second, but a leaf at least.
fn places(is_busy: bool, rate: Option<u64>) -> u64 {
    let places = if is_busy { COLLECT_STEP_BLOCKS_BUSY } else { COLLECT_STEP_BLOCKS };
    rate.map_or(places, |rate| places.min(rate / STEPS_A_SECOND_MIN)).max(1)
}

/// How long the collector rests behind a step that took `spent` and dropped `dropped` references.
fn rest(spent: Duration, dropped: u64, is_busy: bool, rate: Option<u64>) -> Duration {
    let polite = if is_busy { spent * RESTS_WHILE_BUSY } else { Duration::ZERO };
    let bound = rate.map_or(Duration::ZERO, |rate| {
        let nanoseconds = u128::from(dropped) * 1_000_000_000 / u128::from(rate.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)).saturating_sub(spent)
    });
    polite.max(bound)
}

impl Engine {
    /// Collects for as long as `time`, or until a checkpoint is wanted. `before` is what the last call came to.
    pub(super) fn collect_politely(&self, time: Duration, before: Pace) -> Result<Pace> {
        let rate = self.options.collect_rate;
        let begun = Instant::now();
        let mut has_dropped = before == Pace::More;
        let mut calls = Calls { count: self.counters.calls(), at: begun };
        while begun.elapsed() < time && !self.signal.is_checkpoint_wanted() {
            let (drops, started) = (self.collected(), Instant::now());
            let is_busy = calls.at.elapsed() < QUIET;
            if self.collect_one(places(is_busy, rate), &mut has_dropped)? == Pace::Done {
                return Ok(Pace::Done);
            }
            let mut left = rest(started.elapsed(), self.collected() - drops, is_busy, rate);
            while !left.is_zero() && !self.signal.is_checkpoint_wanted() {
                let part = left.min(REST_MAX);
                self.signal.rest(part);
                left -= part;
            }
            calls.look(self.counters.calls());
        }
        Ok(Pace::More)
    }

    /// One step, and the checkpoint that is worth while behind it or behind the last one.
    fn collect_one(&self, places: u64, has_dropped: &mut bool) -> Result<Pace> {
        let mut checkpointer = self.maintenance.lock();
        let has_worked = self.collect_step(places)?;
        let is_much = self.owes_much() || self.dropped.lock().len() >= DROPS_PER_CHECKPOINT;
        if (has_worked && is_much) || (!has_worked && *has_dropped) {
            self.checkpoint_and_tell(&mut checkpointer)?;
            *has_dropped = false;
            return Ok(Pace::More); // a checkpoint may leave something to do
        }
        *has_dropped |= has_worked;
        Ok(if has_worked { Pace::More } else { Pace::Done })
    }

    fn collected(&self) -> u64 {
        self.counters.collected_blocks.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_the_way_rests_and_who_is_not_does_not() {
        let spent = Duration::from_millis(4);
        assert_eq!(rest(spent, 1000, false, None), Duration::ZERO);
        assert_eq!(rest(spent, 1000, true, None), Duration::from_millis(12));
    }

    #[test]
    fn a_rate_is_kept_whoever_is_in_the_way() {
        let spent = Duration::from_millis(4);
        assert_eq!(rest(spent, 1000, false, Some(10_000)), Duration::from_millis(96));
        assert_eq!(rest(spent, 1000, true, Some(10_000)), Duration::from_millis(96));
        assert_eq!(rest(spent, 1000, true, Some(1 << 40)), Duration::from_millis(12));
        assert_eq!(rest(spent, 0, false, Some(0)), Duration::ZERO);
    }
}
