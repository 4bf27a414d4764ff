//! Run set: disjoint runs of blocks, kept sorted and joined.
//!
//! Floor 2.

use crate::units::{BlockNo, BlockRun};
use std::collections::BTreeMap;

/// A set of blocks, as runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunSet(BTreeMap<u64, u64>);

impl RunSet {
    /// Adds a run that shares no block with the set.
    pub(crate) fn insert(&mut self, run: BlockRun) {
        if run.count == 0 {
            return;
        }
        let (mut first, mut count) = (run.first.0, run.count);
        if let Some((&before, &length)) = self.0.range(..first).next_back() {
            assert!(before + length <= first, "run {first}+{count} overlaps {before}+{length}");
            if before + length == first {
                first = before;
                count += length;
            }
        }
        if let Some(length) = self.0.remove(&(first + count)) {
            count += length;
        }
        self.0.insert(first, count);
    }

    /// Takes a run out, whose blocks are all in the set.
    pub(crate) fn remove(&mut self, run: BlockRun) {
        if run.count == 0 {
            return;
        }
        let found = self.0.range(..=run.first.0).next_back().map(|(&first, &count)| (first, count));
        let (first, count) = found.expect("the set holds the run");
        assert!(run.end().0 <= first + count, "run {run:?} is in the set");
        self.0.remove(&first);
        if first < run.first.0 {
            self.0.insert(first, run.first.0 - first);
        }
        if run.end().0 < first + count {
            self.0.insert(run.end().0, first + count - run.end().0);
        }
    }

    /// The runs, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = BlockRun> + '_ {
        self.0.iter().map(|(&first, &count)| BlockRun { first: BlockNo(first), count })
    }

    /// The parts of the set inside `window`.
    pub(crate) fn within(&self, window: BlockRun) -> impl Iterator<Item = BlockRun> + '_ {
        let start = self.0.range(..=window.first.0).next_back().map_or(window.first.0, |(&first, _)| first);
        self.0.range(start..window.end().0).filter_map(move |(&first, &count)| {
            let low = first.max(window.first.0);
            let high = (first + count).min(window.end().0);
            (low < high).then(|| BlockRun { first: BlockNo(low), count: high - low })
        })
    }

    /// How many blocks.
    pub(crate) fn block_count(&self) -> u64 {
        self.0.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, count: u64) -> BlockRun {
        BlockRun { first: BlockNo(first), count }
    }

    #[test]
    fn neighbours_join_and_a_middle_can_be_taken_out() {
        let mut set = RunSet::default();
        set.insert(run(10, 5));
        set.insert(run(20, 5));
        set.insert(run(15, 5));
        assert_eq!(set.iter().collect::<Vec<_>>(), [run(10, 15)]);
        set.remove(run(12, 3));
        assert_eq!(set.iter().collect::<Vec<_>>(), [run(10, 2), run(15, 10)]);
        assert_eq!(set.within(run(11, 6)).collect::<Vec<_>>(), [run(11, 1), run(15, 2)]);
        assert_eq!(set.block_count(), 12);
    }
}
