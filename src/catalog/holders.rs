//! Holders: who may hold the same references as a version or head, and whose counts are to be made anew.
//!
//! Floor 3. The holders of a reference are connected in the lineage. So whoever else holds it, one of those holds it that are
//! reached over hidden versions alone: the points *around*.
//!
//! C4  A version's `exclusive` and a head's `shared` are what a full recount gives, as of the last checkpoint, or `None`.

use super::lineage::Child;
use super::records::Catalog;
use crate::format::CatalogKey;
use crate::units::{DiskId, Epoch, SnapshotId, VersionId};
use std::collections::HashSet;

/// How a checkpoint takes account of what a head's or version's parent alone will hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) parent: VersionId,
    /// References that were born after this are the parent's own.
    pub(crate) inherited_after: Epoch,
}

/// What has a size of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SizeOf {
    Snapshot(SnapshotId),
    Disk(DiskId),
}

/// Who is around some points.
#[derive(Default)]
pub(crate) struct Around {
    pub(crate) found: Vec<Child>,
    /// Shown versions that were passed.
    pub(crate) passed: Vec<VersionId>,
}

impl Catalog {
    /// The shown versions and heads around some points, reached over versions that are hidden; and those shown ones
    /// that `passes` says are to be passed, too.
    pub(crate) fn around(&self, points: &[Child], passes: impl Fn(VersionId) -> bool) -> Around {
        let mut around = Around::default();
        let (mut seen, mut ways) = (points.iter().copied().collect::<HashSet<_>>(), points.to_vec());
        while let Some(at) = ways.pop() {
            for next in self.neighbours(at) {
                if !seen.insert(next) {
                    continue;
                }
                match next {
                    Child::Version(id) if self.is_hidden(id) => ways.push(next),
                    Child::Version(id) if passes(id) => {
                        around.passed.push(id);
                        ways.push(next);
                    }
                    _ => around.found.push(next),
                }
            }
        }
        around
    }

    /// Parent and children.
    pub(super) fn neighbours(&self, point: Child) -> Vec<Child> {
        let (parent, mut next) = match point {
            Child::Head(id) => (self.disks.get(&id).and_then(|disk| disk.parent), Vec::new()),
            Child::Version(id) => {
                (self.versions.get(&id).and_then(|version| version.parent), self.lineage.children(id))
            }
        };
        next.extend(parent.map(Child::Version));
        next
    }

    /// Whether a version was deleted, and waits for the collector or for its children.
    pub(crate) fn is_hidden(&self, id: VersionId) -> bool {
        self.versions.get(&id).is_some_and(|version| version.snapshot.is_none())
    }

    /// A version or head is to be counted anew; a version together with the others of its snapshot.
    pub(crate) fn forget_count(&mut self, point: Child) {
        self.forget_one(point);
        for other in self.others_of_snapshot(point) {
            self.forget_one(Child::Version(other));
        }
    }

    /// Somebody new holds all that a version does. Where another version of its snapshot was cloned from the same, what both hold may have
    /// counted for that one.
    pub(super) fn forget_shared_with(&mut self, version: VersionId) {
        let mut others = self.others_of_snapshot(Child::Version(version));
        others.push(version);
        if !self.lineage.has_kin(&others) {
            return;
        }
        for other in others {
            if self.versions.get(&other).is_some_and(|version| version.exclusive != Some(0)) {
                self.forget_one(Child::Version(other));
            }
        }
    }

    /// The other versions of a version's snapshot.
    pub(super) fn others_of_snapshot(&self, point: Child) -> Vec<VersionId> {
        let Child::Version(id) = point else { return Vec::new() };
        let snapshot = self.versions.get(&id).and_then(|version| version.snapshot);
        let versions = snapshot.and_then(|id| self.snapshots.get(&id)).map(|record| &record.versions);
        versions.into_iter().flatten().copied().filter(|other| *other != id).collect()
    }

    /// The record is written anew even where nothing is forgotten here: the last checkpoint may know a count that came too
    /// late for the catalog in memory.
    fn forget_one(&mut self, point: Child) {
        self.forget_blocks(point);
        let key = match point {
            Child::Version(id) => self.versions.get_mut(&id).map(|version| {
                version.exclusive = None;
                CatalogKey::Version(id)
            }),
            Child::Head(id) => self.disks.get_mut(&id).map(|disk| {
                disk.shared = None;
                CatalogKey::Disk(id)
            }),
        };
        if let Some(key) = key {
            self.touch(key);
        }
        self.await_count(point);
        self.stop_counting(point);
    }

    /// A count of a version or head that is under way is void.
    pub(super) fn stop_counting(&mut self, point: Child) {
        if self.counting == Some(point) {
            self.counting = None;
        }
    }

    /// How many blocks go with a version's snapshot, or with a head, is not known any more.
    fn forget_blocks(&mut self, point: Child) {
        let of = match point {
            Child::Head(id) => Some(SizeOf::Disk(id)),
            Child::Version(id) => {
                self.versions.get(&id).and_then(|version| version.snapshot).map(SizeOf::Snapshot)
            }
        };
        if let Some(of) = of {
            self.blocks_alone.remove(&of);
            if self.counting_blocks == Some(of) {
                self.counting_blocks = None;
            }
        }
    }

    /// Some block has more or fewer references than before, and has several: what anybody alone holds is not known any more.
    pub(crate) fn forget_all_blocks(&mut self) {
        self.blocks_alone.clear();
        self.counting_blocks = None;
    }

    /// Notes a count. One of the same point that is under way began before, and is void.
    pub(crate) fn set_count(&mut self, point: Child, count: u64) {
        self.forget_blocks(point);
        self.stop_waiting(point);
        self.stop_counting(point);
        match point {
            Child::Version(id) => {
                if let Some(version) = self.versions.get_mut(&id) {
                    version.exclusive = Some(count);
                    self.touch(CatalogKey::Version(id));
                }
            }
            Child::Head(id) => {
                if let Some(disk) = self.disks.get_mut(&id) {
                    disk.shared = Some(count);
                    self.touch(CatalogKey::Disk(id));
                }
            }
        }
    }

    /// A child of `parent` let go of references of it, or went.
    pub(super) fn let_go(&mut self, parent: VersionId) {
        if self.is_hidden(parent) {
            self.disturb(&[Child::Version(parent)]);
        } else {
            self.forget_count(Child::Version(parent));
        }
    }

    /// What a checkpoint that settles a child of `parent` can add up. Where it is more than adding, the counts
    /// around are forgotten, once for all children.
    pub(crate) fn watch(&mut self, parent: VersionId, disturbed: &mut HashSet<VersionId>) -> Option<Watch> {
        let version = self.versions.get(&parent)?;
        let above = version.parent;
        let is_shown = version.snapshot.is_some();
        let can_add = is_shown
            && self.lineage.child_count(parent) == 1
            && above.is_none_or(|above| !self.is_hidden(above));
        if can_add {
            let is_counted = version.exclusive.is_some() || self.counting == Some(Child::Version(parent));
            if is_counted {
                self.touch(CatalogKey::Version(parent));
            }
            return is_counted.then(|| Watch { parent, inherited_after: self.epoch_of(above) });
        }
        if disturbed.insert(parent) {
            self.let_go(parent);
        }
        None
    }

    /// Whether what a checkpoint added up for `parent` still tells all.
    pub(crate) fn still_adds(&self, parent: VersionId) -> bool {
        self.lineage.child_count(parent) == 1 && !self.is_hidden(parent)
    }

    /// A version alone holds so many more references than before.
    pub(crate) fn add_count(&mut self, point: Child, more: u64) {
        let Child::Version(id) = point else { return };
        if more > 0 {
            self.forget_blocks(point);
        }
        match self.versions.get_mut(&id).map(|version| &mut version.exclusive) {
            Some(Some(exclusive)) => *exclusive += more,
            _ if self.counting == Some(point) => self.counted_since += more,
            _ => {}
        }
    }

    /// A checkpoint settled a head that stamped `birth` then: how many of its references somebody else holds, and how many
    /// of those it let go of.
    pub(crate) fn note_shared(&mut self, id: DiskId, birth: Epoch, shared: Option<u64>, lost: Option<u64>) {
        let point = Child::Head(id);
        self.forget_blocks(point);
        let is_awaited = self.awaits_count(point);
        let Some(disk) = self.disks.get_mut(&id).filter(|disk| disk.birth == birth) else { return };
        if !is_awaited {
            disk.shared = shared;
            if shared.is_none() {
                self.uncounted.insert(point);
            }
        } else if self.counting == Some(point) {
            match lost {
                Some(lost) => self.counted_since += lost,
                None => self.counting = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clone that is made while its version is being counted holds all of it: what was counted before is void.
    #[test]
    fn a_count_that_is_known_meanwhile_ends_the_one_under_way() {
        let mut catalog = Catalog::default();
        let (version, other) = (Child::Version(VersionId(3)), Child::Head(DiskId(4)));
        catalog.uncounted.insert(version);
        catalog.counting = Some(version);
        catalog.set_count(other, 7);
        assert_eq!(catalog.counting, Some(version), "another point's count changes nothing");
        catalog.set_count(version, 0);
        assert_eq!((catalog.counting, catalog.uncounted.len()), (None, 0));
    }
}
