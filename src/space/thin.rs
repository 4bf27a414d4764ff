//! Thin: the zones whose free blocks may have no space behind them on the medium.
//!
//! Floor 2. Their blocks are free, and nobody gets one: a write there could find the file system full, and nothing can be promised
//! after a write that failed. A zone that is *backed* again, which a full file system can refuse without harm, is as any other (S4).

use std::collections::HashSet;

/// Which zones are thin.
#[derive(Default)]
pub(super) struct ThinZones {
    /// Zones below this were thin when the store was opened.
    doubtful: u64,
    /// Those of them that were backed since.
    backed: HashSet<u64>,
    /// Other zones that became thin.
    thinned: HashSet<u64>,
}

impl ThinZones {
    /// Nobody knows anything of the first `zones` zones.
    pub(super) fn doubt(zones: u64) -> Self {
        Self { doubtful: zones, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.doubtful <= self.backed.len() as u64 && self.thinned.is_empty()
    }

    pub(super) fn contains(&self, zone: u64) -> bool {
        if zone < self.doubtful { !self.backed.contains(&zone) } else { self.thinned.contains(&zone) }
    }

    pub(super) fn add(&mut self, zone: u64) {
        if zone < self.doubtful {
            self.backed.remove(&zone);
        } else {
            self.thinned.insert(zone);
        }
    }

    pub(super) fn remove(&mut self, zone: u64) {
        if zone < self.doubtful {
            self.backed.insert(zone);
        } else {
            self.thinned.remove(&zone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_thin_until_it_is_backed_and_again_when_it_is_thinned() {
        let mut zones = ThinZones::doubt(2);
        zones.add(7);
        let thin = |zones: &ThinZones| (0..9).filter(|zone| zones.contains(*zone)).collect::<Vec<_>>();
        assert_eq!(thin(&zones), [0, 1, 7]);
        zones.remove(1);
        zones.remove(7);
        assert_eq!(thin(&zones), [0]);
        zones.add(1);
        zones.remove(0);
        assert_eq!((thin(&zones), zones.is_empty()), (vec![1], false));
        zones.remove(1);
        assert!(zones.is_empty() && ThinZones::default().is_empty());
    }
}
