//! Regions: deleted versions that are neighbours, and what is known of a whole region, so that the next deletion beside it
//! need not walk through it again.
//!
//! Floor 3. In memory only: after opening nothing is known, and each region is walked once more.
//!
//! ```text
//! shown ◀── hidden ◀── hidden ◀── shown        a region of two; its neighbours are the two shown ones
//! ```
//!
//! C7  Whoever is around a *quiet* region is waiting to be counted, and no count of it, or of another version of its snapshot, is under way or
//!     was made since; or a child holds all that it holds. So when somebody of the region lets go of something, there is no count to forget.
//! C8  Below a *calm* version, as far as its region goes, no version is kept as trimmed that could be trimmed again.

use super::lineage::Child;
use super::records::Catalog;
use crate::format::CatalogKey;
use crate::units::{DiskId, VersionId};
use std::collections::HashSet;

/// What is known of regions, by the versions that they consist of.
#[derive(Default)]
pub(super) struct Regions {
    /// All versions of a region, or none.
    quiet: HashSet<VersionId>,
    /// With a version, all of its region above it.
    calm: HashSet<VersionId>,
    /// How many neighbours were looked at so far.
    #[cfg(test)]
    pub(super) looked_at: usize,
}

impl Regions {
    /// Whether all who are around the region of a version wait to be counted (C7).
    pub(super) fn is_quiet(&self, id: VersionId) -> bool {
        self.quiet.contains(&id)
    }

    #[cfg(test)]
    pub(super) fn is_calm(&self, id: VersionId) -> bool {
        self.calm.contains(&id)
    }

    pub(super) fn leave(&mut self, id: VersionId) {
        self.quiet.remove(&id);
        self.calm.remove(&id);
    }
}

impl Catalog {
    /// Somebody at these deleted versions let go of references: what others hold alone is to be counted anew.
    pub(super) fn disturb(&mut self, points: &[Child]) {
        let mut seen: HashSet<Child> = points.iter().copied().collect();
        let (mut ways, mut around) = (points.to_vec(), Vec::new());
        ways.retain(|point| !self.is_quiet(*point));
        while let Some(at) = ways.pop() {
            if let Child::Version(id) = at {
                self.regions.quiet.insert(id);
            }
            let neighbours = self.neighbours(at);
            #[cfg(test)]
            {
                self.regions.looked_at += neighbours.len();
            }
            for next in neighbours {
                match next {
                    _ if !seen.insert(next) || self.is_quiet(next) => {}
                    Child::Version(id) if self.is_hidden(id) => ways.push(next),
                    _ => around.push(next),
                }
            }
        }
        for other in around {
            self.forget_count(other);
        }
    }

    fn is_quiet(&self, point: Child) -> bool {
        matches!(point, Child::Version(id) if self.regions.is_quiet(id))
    }

    /// Somebody at `point` does not wait to be counted any more, or soon will not: the regions beside it are not quiet. The versions of a
    /// snapshot count as one, so neither are those beside the others.
    fn wake_around(&mut self, point: Child) {
        let mut ways = vec![point];
        ways.extend(self.others_of_snapshot(point).into_iter().map(Child::Version));
        while let Some(at) = ways.pop() {
            for next in self.neighbours(at) {
                if let Child::Version(id) = next
                    && self.regions.quiet.remove(&id)
                {
                    ways.push(next);
                }
            }
        }
    }

    /// A count of a version or head begins. Whoever disturbs a region beside it from now on makes it void.
    pub(crate) fn begin_count(&mut self, point: Child) {
        self.wake_around(point);
        self.counting = Some(point);
        self.counted_since = 0;
    }

    /// A version or head cannot be counted: its count stays unknown.
    pub(crate) fn give_up_count(&mut self, point: Child) {
        self.wake_around(point);
        self.stop_waiting(point);
    }

    /// Whether a version or head is to be counted, at once or when somebody asks.
    pub(crate) fn awaits_count(&self, point: Child) -> bool {
        self.uncounted.contains(&point) || matches!(point, Child::Head(id) if self.set_aside.contains(&id))
    }

    pub(super) fn await_count(&mut self, point: Child) {
        if !self.awaits_count(point) {
            self.uncounted.insert(point);
        }
    }

    pub(super) fn stop_waiting(&mut self, point: Child) {
        self.uncounted.remove(&point);
        if let Child::Head(id) = point {
            self.set_aside.remove(&id);
        }
    }

    /// `head` is one of many around a region: each of them makes the counts of all others doubtful whenever it is written to. They are
    /// counted when somebody asks.
    pub(crate) fn set_aside_with(&mut self, head: DiskId) {
        for point in self.around(&[Child::Head(head)], |_| false).found.into_iter().chain([Child::Head(head)])
        {
            if let Child::Head(id) = point
                && self.uncounted.remove(&point)
            {
                self.set_aside.insert(id);
            }
        }
    }

    /// A version was deleted. The deleted ones right below it may hold what it alone held besides.
    pub(super) fn trim_below(&mut self, id: VersionId) {
        let mut ways = vec![id];
        while let Some(at) = ways.pop() {
            if !self.regions.calm.insert(at) {
                continue;
            }
            let children = self.lineage.children(at);
            #[cfg(test)]
            {
                self.regions.looked_at += children.len();
            }
            for child in children {
                if let Child::Version(child) = child
                    && self.is_hidden(child)
                {
                    self.trim_again(child);
                    ways.push(child);
                }
            }
        }
    }

    /// The collector trimmed a deleted version, which is kept for its children.
    pub(crate) fn note_trimmed(&mut self, id: VersionId) {
        let Some(version) = self.versions.get_mut(&id) else { return };
        version.trimmed = true;
        let mut above = version.parent;
        self.lineage.keep(id);
        self.touch(CatalogKey::Version(id));
        while let Some(at) = above.filter(|at| self.regions.calm.remove(at)) {
            above = self.versions.get(&at).and_then(|version| version.parent);
        }
    }
}
