//! Notice log: what a store says unasked, as lines on standard error.

use cowblk::{DiskId, Notice, Store};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// A guest that goes on writing to a full store is a line in that time.
const REPEAT_AFTER: Duration = Duration::from_mins(1);
/// Disks that are remembered, at most.
const DISKS_MAX: usize = 1024;

/// Writes notices to standard error, and those of one disk that wants space not again and again.
#[derive(Debug, Default)]
pub struct NoticeLog {
    /// When a disk was last written of, and whether its write waited.
    told: BTreeMap<(DiskId, bool), Instant>,
}

impl NoticeLog {
    /// Writes a line about a notice of the store, unless it was said a short while ago.
    pub fn write(&mut self, store: &Store, notice: &Notice) {
        if self.is_news(notice, Instant::now()) {
            // Nothing is left to do when even standard error is closed.
            let _ = writeln!(io::stderr(), "{}", store.describe(notice));
        }
    }

    fn is_news(&mut self, notice: &Notice, now: Instant) -> bool {
        let about = match *notice {
            Notice::WriteWaits { disk } => (disk, true),
            Notice::WriteRefused { disk } => (disk, false),
            _ => return true,
        };
        let last = self.told.get(&about).copied();
        if last.is_some_and(|last| now.saturating_duration_since(last) < REPEAT_AFTER) {
            return false;
        }
        if self.told.len() >= DISKS_MAX {
            self.told.clear();
        }
        self.told.insert(about, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_wants_space_is_a_line_a_minute_and_other_news_are_all_told() {
        let (mut log, start) = (NoticeLog::default(), Instant::now());
        let mut is_news =
            |notice: Notice, seconds: u64| log.is_news(&notice, start + Duration::from_secs(seconds));
        let refused = |disk| Notice::WriteRefused { disk: DiskId(disk) };
        assert!(is_news(refused(1), 0) && !is_news(refused(1), 59));
        assert!(is_news(refused(2), 1) && is_news(Notice::WriteWaits { disk: DiskId(1) }, 1));
        assert!(is_news(refused(1), 60) && !is_news(refused(1), 61));
        assert!(is_news(Notice::Missed { count: 1 }, 61) && is_news(Notice::Missed { count: 1 }, 61));
        for disk in 0..5000 {
            assert!(is_news(refused(10 + disk), 62));
        }
        assert!(log.told.len() <= DISKS_MAX);
    }
}
