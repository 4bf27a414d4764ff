//! Parked: blocks that were dropped, and that the gate still holds, by zone.
//!
//! Floor 2. What was parked first leaves first, or nearly so: two who release at once may pass one another.

use crate::units::BlockRun;
use std::collections::{HashMap, VecDeque};

/// Runs of parked blocks.
#[derive(Default)]
pub(super) struct Parked(HashMap<u64, VecDeque<BlockRun>>);

impl Parked {
    /// A run of a zone waits.
    pub(super) fn insert(&mut self, zone: u64, run: BlockRun) {
        self.0.entry(zone).or_default().push_back(run);
    }

    /// A run of a zone, as it was inserted, waits no longer.
    pub(super) fn remove(&mut self, zone: u64, run: BlockRun) {
        let runs = self.0.get_mut(&zone).expect("what leaves has waited");
        let at = runs.iter().position(|waiting| *waiting == run).expect("what leaves has waited");
        runs.remove(at);
        if runs.is_empty() {
            self.0.remove(&zone);
        }
    }

    /// The runs of a zone.
    pub(super) fn of_zone(&self, zone: u64) -> impl Iterator<Item = BlockRun> + '_ {
        self.0.get(&zone).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::BlockNo;

    #[test]
    fn runs_leave_in_any_order() {
        let run = |first| BlockRun { first: BlockNo(first), count: 2 };
        let mut parked = Parked::default();
        (0..4).for_each(|nth| parked.insert(nth % 2, run(nth * 10)));
        parked.remove(0, run(20));
        assert_eq!(parked.of_zone(0).collect::<Vec<_>>(), [run(0)]);
        assert_eq!(parked.of_zone(1).collect::<Vec<_>>(), [run(10), run(30)]);
        parked.remove(0, run(0));
        assert_eq!((parked.of_zone(0).count(), parked.of_zone(7).count()), (0, 0));
    }
}
