//! Lineage: which version each head and version descends from, and what that means for ownership.
//!
//! Floor 3. The rules are those of docs/architecture.md, "Lineage"; `tests/lineage_model.rs` runs them
//! on a model.

use super::records::Catalog;
use crate::format::{CatalogKey, CollectionMode};
use crate::limits::TRIMMED_CHILDREN_MAX;
use crate::units::{DiskBlock, DiskId, Epoch, VersionId};
use std::collections::{BTreeSet, HashMap};

/// Who descends directly from a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Child {
    Version(VersionId),
    Head(DiskId),
}

/// The lineage, from parents to children.
#[derive(Default)]
pub(crate) struct Lineage {
    children: HashMap<VersionId, BTreeSet<Child>>,
    /// A number for all that descend from one disk, by way of versions and clones.
    families: HashMap<Child, u64>,
    /// Hidden versions that the collector has still to walk.
    pub(crate) queue: BTreeSet<VersionId>,
    /// Hidden versions that it trimmed, and keeps for their children.
    pub(crate) kept: BTreeSet<VersionId>,
}

impl Lineage {
    /// `child` descends from `parent`.
    pub(crate) fn adopt(&mut self, parent: Option<VersionId>, child: Child) {
        if let Some(parent) = parent {
            self.children.entry(parent).or_default().insert(child);
        }
    }

    /// `child` does not descend from `parent` any more.
    pub(crate) fn orphan(&mut self, parent: Option<VersionId>, child: Child) {
        if let Some(parent) = parent
            && let Some(children) = self.children.get_mut(&parent)
        {
            children.remove(&child);
            if children.is_empty() {
                self.children.remove(&parent);
            }
        }
    }

    /// `point` is of the family of `kin`; of a new one without.
    pub(crate) fn join(&mut self, point: Child, kin: Option<Child>) {
        let own = match point {
            Child::Version(id) => id.0,
            Child::Head(id) => id.0,
        };
        let family = kin.and_then(|kin| self.families.get(&kin)).copied().unwrap_or(own);
        self.families.insert(point, family);
    }

    /// `point` is no more.
    pub(crate) fn leave(&mut self, point: Child) {
        self.families.remove(&point);
    }

    /// Whether any two of these versions may hold the same references.
    pub(crate) fn has_kin(&self, versions: &[VersionId]) -> bool {
        let mut seen = BTreeSet::new();
        let mut families = versions.iter().filter_map(|id| self.families.get(&Child::Version(*id)));
        versions.len() > 1 && families.any(|family| !seen.insert(*family))
    }

    /// Who descends directly from `version`.
    pub(crate) fn children(&self, version: VersionId) -> Vec<Child> {
        self.children.get(&version).map_or_else(Vec::new, |children| children.iter().copied().collect())
    }

    /// A hidden version was trimmed: it waits for its children, if it has several.
    pub(super) fn keep(&mut self, version: VersionId) {
        if self.child_count(version) > 1 && self.queue.remove(&version) {
            self.kept.insert(version);
        }
    }

    /// How many descend directly from `version`.
    pub(crate) fn child_count(&self, version: VersionId) -> usize {
        self.children.get(&version).map_or(0, BTreeSet::len)
    }
}

impl Catalog {
    /// The epoch of a version; that of "no version" is zero.
    pub(crate) fn epoch_of(&self, version: Option<VersionId>) -> Epoch {
        version.and_then(|id| self.versions.get(&id)).map_or(Epoch(0), |version| version.epoch)
    }

    /// What somebody who descends from `parent` owns: references born after these epochs, below and
    /// from the place that the collector has come to.
    pub(crate) fn limits_below(&self, parent: Option<VersionId>) -> (Epoch, Epoch, DiskBlock) {
        let above = self.epoch_of(parent);
        match (&self.collection, parent) {
            (Some(collection), Some(parent))
                if collection.victim == parent && collection.mode == CollectionMode::Merge =>
            {
                let grandparent = self.versions.get(&parent).and_then(|version| version.parent);
                (self.epoch_of(grandparent), above, collection.cursor)
            }
            _ => (above, above, DiskBlock(0)),
        }
    }

    /// The nearest ancestor that a snapshot shows, starting at `version` itself.
    pub(crate) fn nearest_shown(&self, mut version: Option<VersionId>) -> Option<VersionId> {
        while let Some(record) = version.and_then(|id| self.versions.get(&id)) {
            if record.snapshot.is_some() {
                return Some(record.id);
            }
            version = record.parent;
        }
        None
    }

    /// A hidden version may hold what none of its children does any more: the collector is to look again, where that is
    /// not too much. Whether it is.
    pub(crate) fn trim_again(&mut self, id: VersionId) -> bool {
        let few = self.lineage.child_count(id) <= TRIMMED_CHILDREN_MAX;
        let Some(version) = self.versions.get_mut(&id).filter(|version| version.trimmed && few) else {
            return false;
        };
        version.trimmed = false;
        self.lineage.kept.remove(&id);
        self.lineage.queue.insert(id);
        self.touch(CatalogKey::Version(id));
        true
    }

    /// A version that was trimmed let go of references: a deleted one above it may have held them only for it.
    pub(crate) fn trim_above(&mut self, id: VersionId) {
        if let Some(parent) = self.versions.get(&id).and_then(|version| version.parent) {
            self.trim_again(parent);
        }
    }

    /// Takes a walked version out of the lineage: its children descend from its parent now.
    /// Returns the heads among them.
    pub(crate) fn splice_out(&mut self, victim: VersionId) -> Vec<DiskId> {
        let Some(record) = self.versions.get(&victim) else { return Vec::new() };
        let parent = record.parent;
        let mut heads = Vec::new();
        for child in self.lineage.children(victim) {
            self.lineage.orphan(Some(victim), child);
            self.lineage.adopt(parent, child);
            match child {
                Child::Version(id) => {
                    if let Some(version) = self.versions.get_mut(&id) {
                        version.parent = parent;
                        self.touch(CatalogKey::Version(id));
                    }
                }
                Child::Head(id) => {
                    if let Some(disk) = self.disks.get_mut(&id) {
                        disk.parent = parent;
                        if parent.is_none() {
                            disk.shared = Some(0);
                            self.stop_waiting(Child::Head(id));
                        }
                        self.touch(CatalogKey::Disk(id));
                        heads.push(id);
                    }
                }
            }
        }
        self.lineage.orphan(parent, Child::Version(victim));
        if let Some(parent) = parent {
            self.trim_again(parent);
        }
        self.lineage.queue.remove(&victim);
        self.lineage.kept.remove(&victim);
        self.regions.leave(victim);
        self.remove(CatalogKey::Version(victim));
        heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{CatalogRecord, Collection, Root, VersionRecord};

    fn version(id: u64, parent: Option<u64>, epoch: u64) -> CatalogRecord {
        CatalogRecord::Version(VersionRecord {
            id: VersionId(id),
            disk: DiskId(1),
            disk_name: "vda".into(),
            size_bytes: 4096,
            parent: parent.map(VersionId),
            epoch: Epoch(epoch),
            birth: Epoch(epoch - 1),
            snapshot: None,
            trimmed: false,
            exclusive: None,
            root: Root::default(),
        })
    }

    /// Version 2, epoch 20, descends from 1, epoch 10, and is being collected in this mode, as far as block 7.
    fn collecting(mode: CollectionMode) -> Catalog {
        let mut catalog = Catalog::default();
        catalog.put(version(1, None, 10));
        catalog.put(version(2, Some(1), 20));
        catalog.put(version(3, Some(2), 30));
        let cursor = DiskBlock(7);
        catalog.put(CatalogRecord::Collection(Collection { victim: VersionId(2), mode, cursor }));
        catalog
    }

    #[test]
    fn a_child_owns_what_its_parent_handed_to_it_and_nothing_more() {
        let merging = collecting(CollectionMode::Merge);
        assert_eq!(merging.limits_below(Some(VersionId(2))), (Epoch(10), Epoch(20), DiskBlock(7)));
        assert_eq!(merging.limits_below(Some(VersionId(1))), (Epoch(10), Epoch(10), DiskBlock(0)));
        assert_eq!(merging.limits_below(Some(VersionId(3))), (Epoch(30), Epoch(30), DiskBlock(0)));
        assert_eq!(merging.limits_below(None), (Epoch(0), Epoch(0), DiskBlock(0)));
        let trimming = collecting(CollectionMode::Trim);
        assert_eq!(trimming.limits_below(Some(VersionId(2))), (Epoch(20), Epoch(20), DiskBlock(0)));
    }
}
