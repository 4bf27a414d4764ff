//! Retention: which snapshots a policy keeps, and why. A plan from values alone; nothing is deleted here.
//!
//! Floor 6.

use super::calendar::{day_of, hour_of, month_of, week_of, year_of};
use crate::format::{SnapshotKind, SnapshotMarks};
use crate::units::SnapshotId;
use serde::Serialize;

/// How many snapshots of a server are kept. Each rule that is not zero keeps the newest snapshot of each of as many
/// hours, days, weeks, months or years as it says, from the newest that has one on; what no rule keeps can go. Times are UTC,
/// weeks begin on Monday. Protected snapshots, and those that a restore keeps, are never touched.
///
/// ```
/// let policy = cowblk::Retention { last: 10, hourly: 24, daily: 7, ..Default::default() };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest.
    pub last: u32,
    /// The newest of each of so many hours.
    pub hourly: u32,
    /// The newest of each of so many days.
    pub daily: u32,
    /// The newest of each of so many weeks.
    pub weekly: u32,
    /// The newest of each of so many months.
    pub monthly: u32,
    /// The newest of each of so many years.
    pub yearly: u32,
    /// Only snapshots with this label and value are looked at; the others stay.
    pub only_labelled: Option<(String, String)>,
}

/// What a plan has to know about a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: SnapshotId,
    /// In UTC seconds since 1970.
    pub created_at: u64,
    /// Who made it.
    pub kind: SnapshotKind,
    /// Protection, expiry and labels.
    pub marks: SnapshotMarks,
}

/// Why a snapshot stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeepReason {
    /// It is protected.
    Protected,
    /// A restore made it, and sees to it.
    BeforeRestore,
    /// It does not have the label that the policy is for.
    OtherLabel,
    /// The policy says nothing: only what has expired goes.
    NoRule,
    /// One of the newest.
    Last,
    /// The newest of its hour.
    Hourly,
    /// The newest of its day.
    Daily,
    /// The newest of its week.
    Weekly,
    /// The newest of its month.
    Monthly,
    /// The newest of its year.
    Yearly,
}

/// What becomes of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which one.
    pub id: SnapshotId,
    /// In UTC seconds since 1970.
    pub created_at: u64,
    /// Why it stays; nothing if it goes.
    pub reasons: Vec<KeepReason>,
    /// It goes because its time is over, whatever the policy says.
    pub expired: bool,
}

impl Verdict {
    /// Whether it stays.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// One rule of a policy, at work: it keeps the first snapshot of each stretch of time that it meets.
struct Rule {
    reason: KeepReason,
    left: u32,
    /// The number of the stretch that a time lies in; `None`: each snapshot is its own.
    stretch: Option<fn(u64) -> i64>,
    current: Option<i64>,
}

impl Rule {
    fn keeps(&mut self, created_at: u64) -> bool {
        let stretch = self.stretch.map(|stretch| stretch(created_at));
        if self.left == 0 || (stretch.is_some() && stretch == self.current) {
            return false;
        }
        self.current = stretch;
        self.left -= 1;
        true
    }
}

impl Retention {
    /// Whether no rule keeps anything. Such a policy deletes only what has expired.
    pub fn is_empty(&self) -> bool {
        [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly] == [0; 6]
    }

    /// What becomes of these snapshots of one server at the time `now` (UTC seconds), newest first. The order of
    /// `candidates` does not matter. What has expired goes, and no rule counts it.
    pub fn plan(&self, candidates: &[Candidate], now: u64) -> Vec<Verdict> {
        let mut ordered: Vec<&Candidate> = candidates.iter().collect();
        ordered.sort_by_key(|candidate| std::cmp::Reverse((candidate.created_at, candidate.id)));
        let mut rules = self.rules();
        ordered.into_iter().map(|candidate| self.judge(candidate, now, &mut rules)).collect()
    }

    fn rules(&self) -> [Rule; 6] {
        let rule = |reason, left, stretch| Rule { reason, left, stretch, current: None };
        [
            rule(KeepReason::Last, self.last, None),
            rule(KeepReason::Hourly, self.hourly, Some(hour_of)),
            rule(KeepReason::Daily, self.daily, Some(day_of)),
            rule(KeepReason::Weekly, self.weekly, Some(week_of)),
            rule(KeepReason::Monthly, self.monthly, Some(month_of)),
            rule(KeepReason::Yearly, self.yearly, Some(year_of)),
        ]
    }

    fn judge(&self, candidate: &Candidate, now: u64, rules: &mut [Rule; 6]) -> Verdict {
        let Candidate { id, created_at, kind, ref marks } = *candidate;
        let verdict = |reasons, expired| Verdict { id, created_at, reasons, expired };
        if marks.protected {
            return verdict(vec![KeepReason::Protected], false);
        }
        if marks.expires_at.is_some_and(|at| at <= now) {
            return verdict(Vec::new(), true);
        }
        if kind == SnapshotKind::BeforeRestore {
            return verdict(vec![KeepReason::BeforeRestore], false);
        }
        if !self.is_for(marks) {
            return verdict(vec![KeepReason::OtherLabel], false);
        }
        if self.is_empty() {
            return verdict(vec![KeepReason::NoRule], false);
        }
        let keeping = rules.iter_mut().filter_map(|rule| rule.keeps(created_at).then_some(rule.reason));
        verdict(keeping.collect(), false)
    }

    fn is_for(&self, marks: &SnapshotMarks) -> bool {
        let wanted = self.only_labelled.as_ref();
        wanted.is_none_or(|(key, value)| marks.labels.get(key) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    fn at(id: u64, created_at: u64) -> Candidate {
        let marks = SnapshotMarks::default();
        Candidate { id: SnapshotId(id), created_at, kind: SnapshotKind::User, marks }
    }

    fn kept(verdicts: &[Verdict]) -> Vec<u64> {
        verdicts.iter().filter(|verdict| verdict.is_kept()).map(|verdict| verdict.id.0).collect()
    }

    #[test]
    fn the_newest_of_each_stretch_of_time_stays() {
        // Every twenty minutes for three days, from a midnight on.
        let start = 20_000 * DAY;
        let candidates: Vec<Candidate> = (0..216).map(|nth| at(nth, start + nth * 1200)).collect();
        let policy = Retention { last: 2, hourly: 3, daily: 2, ..Retention::default() };
        let verdicts = policy.plan(&candidates, u64::MAX);
        assert_eq!(kept(&verdicts), [215, 214, 212, 209, 143]);
        assert_eq!(verdicts[0].reasons, [KeepReason::Last, KeepReason::Hourly, KeepReason::Daily]);
        assert_eq!(verdicts[1].reasons, [KeepReason::Last]);
        let last_of_second_day = verdicts.iter().find(|verdict| verdict.id == SnapshotId(143)).unwrap();
        assert_eq!(last_of_second_day.reasons, [KeepReason::Daily]);
    }

    #[test]
    fn stretches_without_a_snapshot_are_not_counted() {
        let candidates = [at(1, DAY), at(2, 40 * DAY), at(3, 41 * DAY)];
        let policy = Retention { daily: 3, ..Retention::default() };
        assert_eq!(kept(&policy.plan(&candidates, 0)), [3, 2, 1]);
    }

    #[test]
    fn what_is_protected_automatic_or_labelled_otherwise_stays_and_what_expired_goes() {
        let marks = |protected, expires_at| SnapshotMarks { protected, expires_at, ..Default::default() };
        let labelled = SnapshotMarks { labels: [("by".into(), "cron".into())].into(), ..Default::default() };
        let candidates = [
            Candidate { marks: marks(true, Some(5)), ..at(1, 100) },
            Candidate { marks: marks(false, Some(1000)), ..at(2, 101) },
            Candidate { marks: marks(false, Some(1001)), ..at(3, 102) },
            Candidate { kind: SnapshotKind::BeforeRestore, ..at(4, 103) },
            Candidate { kind: SnapshotKind::BeforeRestore, marks: marks(false, Some(7)), ..at(5, 104) },
            Candidate { marks: labelled.clone(), ..at(6, 105) },
            Candidate { marks: labelled, ..at(7, 106) },
        ];
        let policy =
            Retention { last: 1, only_labelled: Some(("by".into(), "cron".into())), ..Retention::default() };
        let verdicts = policy.plan(&candidates, 1000);
        let reasons: Vec<_> = verdicts.iter().map(|verdict| (verdict.id.0, &verdict.reasons[..])).collect();
        assert_eq!(
            reasons,
            [
                (7, &[KeepReason::Last][..]),
                (6, &[]),
                (5, &[]),
                (4, &[KeepReason::BeforeRestore]),
                (3, &[KeepReason::OtherLabel]),
                (2, &[]),
                (1, &[KeepReason::Protected]),
            ]
        );
        let expired: Vec<u64> = verdicts.iter().filter(|v| v.expired).map(|v| v.id.0).collect();
        assert_eq!(expired, [5, 2]);
        assert_eq!(
            kept(&Retention::default().plan(&candidates, 0)),
            [7, 6, 5, 4, 3, 2, 1],
            "no rule, no loss"
        );
    }

    /// Pruning after each snapshot keeps what pruning once in the end keeps: nothing that is needed later goes early.
    #[test]
    fn pruning_often_keeps_what_pruning_once_keeps() {
        let policy =
            Retention { last: 3, hourly: 5, daily: 4, weekly: 2, monthly: 2, ..Retention::default() };
        let mut all = Vec::new();
        let mut often: Vec<Candidate> = Vec::new();
        for nth in 0..4000 {
            // An uneven step, about every 37 minutes: crosses hours, days, weeks and months.
            let next = at(nth, 1_700_000_000 + nth * 2_203 + nth % 7 * 311);
            all.push(next.clone());
            often.push(next);
            let staying = kept(&policy.plan(&often, 0));
            often.retain(|candidate| staying.contains(&candidate.id.0));
            assert!(often.len() <= 3 + 5 + 4 + 2 + 2, "{} stay", often.len());
        }
        let ids: Vec<u64> = often.iter().rev().map(|candidate| candidate.id.0).collect();
        assert_eq!(ids, kept(&policy.plan(&all, 0)));
    }
}
