//! Watermarks: notices that a store fills up, and that it is less full again.
//!
//! Floor 5. What counts as full is what data can take: the limit, the medium's size or, once the file system has refused
//! to let the store grow, the size that it has; less the reserve of the data's purpose.

use super::notices::Notice;
use crate::units::index;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A store has to be so many percent less full than a watermark before that is said.
const HYSTERESIS_PERCENT: u64 = 2;

/// Which watermarks the store is above.
pub(super) struct Watermarks {
    /// In percent, from the lowest on.
    marks: Vec<u8>,
    passed: AtomicUsize,
    /// The most zones that the limit, or the medium, allows; `None`: nobody knows.
    zones_max: Option<u64>,
    /// The file system refused to let the store grow, the last time it was asked.
    is_stuck: AtomicBool,
    /// It refused to give back the space of free blocks, the last time it was asked.
    is_refused: AtomicBool,
}

/// How full a store is, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) used: u64,
    pub(super) capacity: u64,
    /// Blocks of the capacity that data never takes.
    pub(super) reserve: u64,
}

impl Level {
    fn percent(self) -> u64 {
        let usable = self.capacity.saturating_sub(self.reserve).max(1);
        self.used.saturating_mul(100) / usable
    }
}

impl Watermarks {
    pub(super) fn new(marks: &[u8], zones_max: Option<u64>) -> Self {
        let mut marks = marks.to_vec();
        marks.sort_unstable();
        marks.dedup();
        Self {
            marks,
            passed: AtomicUsize::new(0),
            zones_max,
            is_stuck: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
        }
    }

    /// The file system let the store grow, or did not.
    pub(super) fn grew(&self, did_grow: bool) {
        self.is_stuck.store(!did_grow, Ordering::Relaxed);
    }

    /// The file system gave the space of a zone back, or did not.
    pub(super) fn backed(&self, did_back: bool) {
        self.is_refused.store(!did_back, Ordering::Relaxed);
    }

    /// Whether free blocks that have no space count as used.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// The most zones that the store can have, which has `zones` now; `None`: nobody knows.
    pub(super) fn zones_max(&self, zones: u64) -> Option<u64> {
        if self.is_stuck.load(Ordering::Relaxed) {
            return Some(zones);
        }
        self.zones_max.map(|most| most.max(zones))
    }

    /// The level changed. What there is to say about it, one mark after the other. Calls exclude one another.
    pub(super) fn update(&self, level: Level) -> Vec<Notice> {
        let percent = level.percent();
        let mut passed = self.passed.load(Ordering::Relaxed);
        let mut notices = Vec::new();
        while let Some(&mark) = self.marks.get(passed).filter(|mark| percent >= u64::from(**mark)) {
            passed += 1;
            notices.push(above(mark, level));
        }
        while passed > 0 && percent + HYSTERESIS_PERCENT <= u64::from(self.marks[passed - 1]) {
            passed -= 1;
            notices.push(Notice::SpaceBelow {
                percent: self.marks[passed],
                used_blocks: level.used,
                capacity_blocks: level.capacity,
            });
        }
        self.passed.store(passed, Ordering::Relaxed);
        notices
    }

    /// The highest mark that the store is above.
    pub(super) fn standing(&self, level: Level) -> Option<Notice> {
        let passed = self.passed.load(Ordering::Relaxed).checked_sub(1)?;
        self.marks.get(index(crate::units::wide(passed))).map(|mark| above(*mark, level))
    }
}

fn above(percent: u8, level: Level) -> Notice {
    Notice::SpaceAbove { percent, used_blocks: level.used, capacity_blocks: level.capacity }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(watermarks: &Watermarks, used: u64) -> Vec<(bool, u8)> {
        let notices = watermarks.update(Level { used, capacity: 1100, reserve: 100 });
        let said = notices.into_iter().map(|notice| match notice {
            Notice::SpaceAbove { percent, .. } => (true, percent),
            Notice::SpaceBelow { percent, .. } => (false, percent),
            other => panic!("{other:?}"),
        });
        said.collect()
    }

    #[test]
    fn a_mark_is_said_once_going_up_and_once_well_below_it() {
        let watermarks = Watermarks::new(&[95, 80, 90, 80], Some(10));
        assert_eq!(said(&watermarks, 799), []);
        assert_eq!(said(&watermarks, 800), [(true, 80)]);
        assert_eq!(said(&watermarks, 805), []);
        assert_eq!(said(&watermarks, 1000), [(true, 90), (true, 95)]);
        let standing = watermarks.standing(Level { used: 1, capacity: 2, reserve: 0 });
        assert_eq!(standing, Some(Notice::SpaceAbove { percent: 95, used_blocks: 1, capacity_blocks: 2 }));
        assert_eq!(said(&watermarks, 949), []);
        assert_eq!(said(&watermarks, 935), [(false, 95)]);
        assert_eq!(said(&watermarks, 0), [(false, 90), (false, 80)]);
        assert_eq!(watermarks.standing(Level { used: 0, capacity: 1, reserve: 0 }), None);
    }

    #[test]
    fn a_file_system_that_refuses_is_the_limit_for_as_long_as_it_does() {
        let watermarks = Watermarks::new(&[80], None);
        assert_eq!(watermarks.zones_max(3), None);
        watermarks.grew(false);
        assert_eq!(watermarks.zones_max(3), Some(3));
        watermarks.grew(true);
        assert_eq!(watermarks.zones_max(4), None);
        assert_eq!(Watermarks::new(&[80], Some(2)).zones_max(4), Some(4), "the limit was lowered");
    }
}
