//! Holes: the ranges of a simulated medium that were discarded and not written since.
//!
//! Floor 1. A file system gives such a range away, so the next write there may find no space.

use std::ops::Range;

/// Ranges that do not meet, in no order: there are few.
#[derive(Clone, Default)]
pub(super) struct Holes(Vec<Range<usize>>);

impl Holes {
    pub(super) fn add(&mut self, range: Range<usize>) {
        self.fill(range.clone());
        if !range.is_empty() {
            self.0.push(range);
        }
    }

    /// The range holds something again.
    pub(super) fn fill(&mut self, range: Range<usize>) {
        let left = |hole: Range<usize>| {
            let before = hole.start..hole.end.min(range.start);
            let behind = hole.start.max(range.end)..hole.end;
            [before, behind].into_iter().filter(|part| !part.is_empty())
        };
        self.0 = std::mem::take(&mut self.0).into_iter().flat_map(left).collect();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn meet(&self, range: &Range<usize>) -> bool {
        self.0.iter().any(|hole| hole.start < range.end && range.start < hole.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_what_was_discarded_without_what_was_written_since() {
        let mut holes = Holes::default();
        holes.add(10..40);
        holes.add(30..60);
        holes.fill(20..35);
        let inside: Vec<usize> = (0..70).filter(|byte| holes.meet(&(*byte..byte + 1))).collect();
        assert_eq!(inside, (10..20).chain(35..60).collect::<Vec<_>>());
        assert!(holes.meet(&(0..11)) && !holes.meet(&(20..35)) && !holes.meet(&(60..70)));
        holes.fill(0..100);
        assert!(!holes.meet(&(0..100)));
    }
}
