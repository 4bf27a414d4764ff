//! Latency: how long calls take, and how long somebody waits, counted all the time.
//!
//! Floor 0. A [`Histogram`] sorts times into buckets whose bounds are powers of two and seven steps between them, so that what it says
//! of a time is at most an eighth too much. Adding one is two relaxed additions. Looking at the clock twice costs
//! more than that, and more than a call of a microsecond can give: such calls are [sampled](Histogram::sample).

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Steps from one power of two to the next, as a power of two.
const STEP_BITS: u32 = 3;
const STEPS: u64 = 1 << STEP_BITS;
/// The last bucket ends at two to the power of this, in nanoseconds: 18 minutes. What takes longer is in it, too.
const LAST_BITS: u32 = 40;
const BUCKETS: usize = (((LAST_BITS - STEP_BITS) << STEP_BITS) + (1 << STEP_BITS)) as usize;
/// One call in so many is timed where calls are sampled, as a power of two.
const SAMPLE_BITS: u32 = 4;

/// Counts times.
pub(crate) struct Histogram {
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), sum_ns: AtomicU64::new(0) }
    }
}

/// The bucket of a time. Bounds belong to the bucket below them.
fn bucket(ns: u64) -> usize {
    let ns = ns.saturating_sub(1);
    let top = ns.checked_ilog2().unwrap_or(0);
    let at = match top.checked_sub(STEP_BITS) {
        None => ns,
        Some(shift) => ((u64::from(shift) + 1) << STEP_BITS) + ((ns >> shift) & (STEPS - 1)),
    };
    usize::try_from(at).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The longest time in a bucket, but for the last one.
fn at_most_ns(bucket: usize) -> u64 {
    let at = u64::try_from(bucket).unwrap_or(u64::MAX);
    match (at >> STEP_BITS).checked_sub(1) {
        None => at + 1,
        Some(shift) => (STEPS + (at & (STEPS - 1)) + 1) << shift,
    }
}

impl Histogram {
    /// Times what goes on until the answer is dropped.
    pub(crate) fn start(&self) -> Timed<'_> {
        Timed(Some((self, Instant::now())))
    }

    /// The same for one call in 16, of which `nth` is the number of this one. Those are spread so that no rhythm of calls evades them:
    /// a write in 256 that fills a run is as likely among them as any other.
    pub(crate) fn sample(&self, nth: u64) -> Timed<'_> {
        let golden_ratio: u64 = 0x9E37_79B9_7F4A_7C15;
        if nth.wrapping_mul(golden_ratio) >> (64 - SAMPLE_BITS) == 0 { self.start() } else { Timed(None) }
    }

    fn add(&self, time: Duration) {
        let ns = nanoseconds(time);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
        if let Some(count) = self.counts.get(bucket(ns)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All times together.
    pub(crate) fn sum_ns(&self) -> u64 {
        self.sum_ns.load(Ordering::Relaxed)
    }

    /// What was counted so far.
    pub(crate) fn snapshot(&self) -> LatencyHistogram {
        let of = |(bucket, count): (usize, &AtomicU64)| LatencyBucket {
            at_most_ns: at_most_ns(bucket),
            count: count.load(Ordering::Relaxed),
        };
        let buckets = self.counts.iter().enumerate().map(of).filter(|bucket| bucket.count > 0).collect();
        LatencyHistogram { buckets, sum_ns: self.sum_ns() }
    }
}

/// A call that is being timed, or one that is not; dropping it ends that.
#[must_use = "what is dropped at once took no time"]
pub(crate) struct Timed<'a>(Option<(&'a Histogram, Instant)>);

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        if let Some((histogram, begun)) = self.0 {
            histogram.add(begun.elapsed());
        }
    }
}

/// Counts what happens now and then, and adds up how long it takes.
#[derive(Default)]
pub(crate) struct Stopwatch {
    count: AtomicU64,
    total_ns: AtomicU64,
}

impl Stopwatch {
    /// Does something, and times it.
    pub(crate) fn time<T>(&self, act: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = act();
        self.count.fetch_add(1, Ordering::Relaxed);
        self.total_ns.fetch_add(nanoseconds(begun.elapsed()), Ordering::Relaxed);
        result
    }

    /// What was timed so far.
    pub(crate) fn spent(&self) -> Spent {
        Spent { count: self.count.load(Ordering::Relaxed), total_ns: self.total_ns.load(Ordering::Relaxed) }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How often something happened, and how long that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// How often. One call can wait several times.
    pub count: u64,
    /// All of it together, in nanoseconds. What several threads did at once counts for each of them.
    pub total_ns: u64,
}

/// Times of calls, sorted into buckets. Each bucket's bound is at most an eighth above its shortest time; what took more than
/// 18 minutes is in the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatencyHistogram {
    buckets: Vec<LatencyBucket>,
    sum_ns: u64,
}

/// Calls that took about the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LatencyBucket {
    /// They took no more nanoseconds than this, and more than any bucket below allows. All powers of two up to 2^40 are
    /// such bounds.
    pub at_most_ns: u64,
    /// How many calls.
    pub count: u64,
}

impl LatencyHistogram {
    /// How many calls were timed.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// All their times together, in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// What a call took on average, in nanoseconds; 0 if there was none.
    pub fn mean_ns(&self) -> u64 {
        self.sum_ns.checked_div(self.count()).unwrap_or(0)
    }

    /// So many nanoseconds, or up to an eighth less, took the slowest of the fastest `part` of all calls: 0.5 asks for the median, 0.99
    /// for what one call in a hundred exceeded, 1.0 for the slowest. 0 if there was no call.
    pub fn quantile_ns(&self, part: f64) -> u64 {
        let rank = rank(part, self.count());
        let mut below = 0;
        let reaches = |bucket: &&LatencyBucket| {
            below += bucket.count;
            below >= rank
        };
        self.buckets.iter().find(reaches).map_or(0, |bucket| bucket.at_most_ns)
    }

    /// The buckets with calls in them, the fastest first.
    pub fn buckets(&self) -> &[LatencyBucket] {
        &self.buckets
    }

    /// What came since an `earlier` one of the same store.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |at_most_ns| {
            let found = earlier.buckets.binary_search_by_key(&at_most_ns, |bucket| bucket.at_most_ns);
            found.map_or(0, |at| earlier.buckets[at].count)
        };
        let rest = |bucket: &LatencyBucket| LatencyBucket {
            count: bucket.count.saturating_sub(before(bucket.at_most_ns)),
            ..*bucket
        };
        let buckets = self.buckets.iter().map(rest).filter(|bucket| bucket.count > 0).collect();
        Self { buckets, sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns) }
    }
}

/// Which of `count` sorted calls, counted from 1, is the last of a part of them.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank that is one off among 2^52 calls is none; a part below 0 is taken for 0"
)]
fn rank(part: f64, count: u64) -> u64 {
    ((part.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(times: &[u64]) -> LatencyHistogram {
        let histogram = Histogram::default();
        for ns in times {
            histogram.add(Duration::from_nanos(*ns));
        }
        histogram.snapshot()
    }

    /// As long as calls take: nanoseconds to minutes.
    fn a_time() -> impl Strategy<Value = u64> {
        (0..LAST_BITS, any::<u64>()).prop_map(|(bits, any)| any & ((1 << bits) - 1))
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_list_or_up_to_an_eighth_more(
            mut times in prop::collection::vec(a_time(), 1..300),
            per_mille in 0_u32..=1000,
        ) {
            let histogram = of(&times);
            times.sort_unstable();
            let place = (times.len() * usize::try_from(per_mille).unwrap()).div_ceil(1000).max(1) - 1;
            let (exact, told) = (times[place], histogram.quantile_ns(f64::from(per_mille) / 1000.0));
            prop_assert!(exact <= told && told <= exact + exact / STEPS + 1, "{exact} is told as {told}");
            prop_assert_eq!(histogram.count(), u64::try_from(times.len()).unwrap());
            prop_assert_eq!(histogram.sum_ns(), times.iter().sum::<u64>());
        }

        #[test]
        fn what_came_since_is_what_was_added(
            early in prop::collection::vec(a_time(), 0..40),
            late in prop::collection::vec(a_time(), 0..40),
        ) {
            let both = of(&[early.clone(), late.clone()].concat());
            prop_assert_eq!(both.since(&of(&early)), of(&late));
        }

        #[test]
        fn a_power_of_two_bounds_its_bucket(bits in 0..=LAST_BITS) {
            let power = 1_u64 << bits;
            let found = of(&[power, power + 1]);
            prop_assert_eq!(found.buckets[0], LatencyBucket { at_most_ns: power, count: 1 + u64::from(bits == LAST_BITS) });
        }
    }

    #[test]
    fn buckets_follow_one_another_and_the_last_takes_what_is_longer() {
        let bounds: Vec<u64> = (0..BUCKETS).map(at_most_ns).collect();
        assert!(bounds.is_sorted_by(|one, next| one < next));
        assert_eq!((bounds[0], bounds[BUCKETS - 1]), (1, 1 << LAST_BITS));
        assert!(bounds.iter().enumerate().all(|(at, bound)| bucket(*bound) == at && bucket(bound + 1) >= at));
        assert_eq!(of(&[u64::MAX]).quantile_ns(1.0), 1 << LAST_BITS);
    }

    #[test]
    fn nothing_is_known_of_no_calls() {
        let none = of(&[]);
        assert_eq!((none.count(), none.mean_ns(), none.quantile_ns(0.5)), (0, 0, 0));
    }

    /// A store whose every 256th write goes to the medium has one slow call in 256, always with the same remainder.
    #[test]
    fn one_call_in_sixteen_is_timed_in_every_rhythm() {
        let histogram = Histogram::default();
        for period in [1, 2, 3, 16, 32, 255, 256, 1000] {
            for first in [0, 1, period - 1] {
                let timed =
                    (0..16_000).filter(|nth| histogram.sample(first + nth * period).0.is_some()).count();
                assert!((900..1100).contains(&timed), "{timed} of 16,000, from {first}, each {period}th");
            }
        }
    }

    #[test]
    fn a_stopwatch_adds_up() {
        let watch = Stopwatch::default();
        assert_eq!((watch.time(|| 7), watch.time(|| 8)), (7, 8));
        watch.time(|| std::thread::sleep(Duration::from_millis(2)));
        let spent = watch.spent();
        assert!(spent.count == 3 && spent.total_ns >= 2_000_000, "{spent:?}");
    }
}
