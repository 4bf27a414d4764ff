//! Lineage: which versions and heads are related, and so may hold the same reference.
//!
//! Floor 5. Related is who is connected by parents. Found by joining sets, so that parents in a circle
//! (which only damage makes) are a finding elsewhere and no endless loop here.

use super::catalog::Records;
use crate::units::{DiskId, VersionId, index, wide};
use std::collections::HashMap;

/// Numbers for families of versions and heads.
pub(crate) struct Lineages {
    /// The next one on the way to the number that stands for all.
    next: Vec<u64>,
    versions: HashMap<VersionId, u64>,
    disks: HashMap<DiskId, u64>,
}

impl Lineages {
    pub(crate) fn new(records: &Records) -> Self {
        let versions: HashMap<_, _> = records.versions.keys().copied().zip(0..).collect();
        let disks: HashMap<_, _> = records.disks.keys().copied().zip(wide(versions.len())..).collect();
        let next = (0..wide(versions.len() + disks.len())).collect();
        let mut lineages = Self { next, versions, disks };
        for version in records.versions.values() {
            lineages.join(lineages.of_version(version.id), version.parent);
        }
        for disk in records.disks.values() {
            lineages.join(lineages.of_disk(disk.id), disk.parent);
        }
        lineages
    }

    fn join(&mut self, member: u64, parent: Option<VersionId>) {
        let Some(&parent) = parent.and_then(|parent| self.versions.get(&parent)) else { return };
        let (member, parent) = (self.shortened(member), self.shortened(parent));
        if let Some(next) = self.next.get_mut(index(member)) {
            *next = parent;
        }
    }

    fn last(&self, mut at: u64) -> u64 {
        while let Some(&next) = self.next.get(index(at)) {
            if next == at {
                break;
            }
            at = next;
        }
        at
    }

    /// As [`last`](Self::last), and the way there becomes one step long.
    fn shortened(&mut self, mut at: u64) -> u64 {
        let last = self.last(at);
        while let Some(next) = self.next.get_mut(index(at)).filter(|next| **next != last) {
            at = std::mem::replace(next, last);
        }
        last
    }

    pub(crate) fn of_version(&self, id: VersionId) -> u64 {
        self.versions.get(&id).map_or(u64::MAX, |&at| self.last(at))
    }

    pub(crate) fn of_disk(&self, id: DiskId) -> u64 {
        self.disks.get(&id).map_or(u64::MAX, |&at| self.last(at))
    }

    /// A number that is nobody's: the `nth` tree without a family.
    pub(crate) fn beyond(&self, nth: u64) -> u64 {
        wide(self.next.len()) + nth
    }
}
