//! Records: the catalog in memory.
//!
//! Floor 3.

use super::lineage::{Child, Lineage};
use crate::defect::Defect;
use crate::error::{Error, Result};
use crate::format::{
    CatalogKey, CatalogRecord, Collection, DiskRecord, Garbage, Geometry, Root, ServerRecord, SnapshotKind,
    SnapshotRecord, VersionRecord,
};
use crate::limits::{BLOCK_NO_MAX, DISK_BYTES_MAX, EPOCH_MAX};
use crate::units::{DiskId, Epoch, ServerId, SnapshotId, VersionId};
use std::collections::{BTreeMap, BTreeSet};

/// All records, and what changed since the last checkpoint.
#[derive(Default)]
pub(crate) struct Catalog {
    pub(crate) servers: BTreeMap<ServerId, ServerRecord>,
    pub(crate) disks: BTreeMap<DiskId, DiskRecord>,
    pub(crate) snapshots: BTreeMap<SnapshotId, SnapshotRecord>,
    pub(crate) versions: BTreeMap<VersionId, VersionRecord>,
    pub(crate) garbage: BTreeMap<u64, Garbage>,
    pub(crate) collection: Option<Collection>,
    pub(crate) lineage: Lineage,
    by_server: BTreeMap<ServerId, Belongings>,
    dirty: BTreeSet<CatalogKey>,
    /// The last epoch given out.
    pub(crate) epoch: Epoch,
    /// The next id to give out.
    pub(crate) next_id: u64,
}

/// Whether a record's numbers are ones that a store can come to hold.
fn is_possible(record: &CatalogRecord, geometry: &Geometry) -> bool {
    let root = |root: &Root| {
        geometry.is_map_height(root.height)
            && root.mapped <= BLOCK_NO_MAX
            && root.reference.birth().0 <= EPOCH_MAX
    };
    match record {
        CatalogRecord::Server(_) | CatalogRecord::Snapshot(_) | CatalogRecord::Collection(_) => true,
        CatalogRecord::Disk(disk) => root(&disk.root) && disk.size_bytes <= DISK_BYTES_MAX,
        CatalogRecord::Version(version) => root(&version.root) && version.size_bytes <= DISK_BYTES_MAX,
        CatalogRecord::Garbage(garbage) => {
            geometry.is_map_height(garbage.height) && garbage.first.0 <= BLOCK_NO_MAX && garbage.id < u64::MAX
        }
    }
}

/// What one server has.
#[derive(Default)]
struct Belongings {
    disks: BTreeSet<DiskId>,
    snapshots: BTreeSet<SnapshotId>,
}

impl Catalog {
    /// The catalog with these records, as a checkpoint left them.
    pub(crate) fn load(
        records: Vec<CatalogRecord>,
        (epoch, next_id): (Epoch, u64),
        geometry: &Geometry,
    ) -> Result<Self> {
        let mut catalog = Self { epoch, next_id: next_id.max(1), ..Self::default() };
        for record in records {
            let key = record.key();
            if !is_possible(&record, geometry) {
                return Err(Error::corrupt(
                    Defect::CatalogRecord,
                    format!("{key:?} holds an impossible number"),
                ));
            }
            if catalog.put(record) {
                return Err(Error::corrupt(Defect::CatalogRecord, format!("{key:?} stands twice")));
            }
        }
        catalog.dirty.clear();
        catalog.verify()?;
        catalog.build_lineage();
        Ok(catalog)
    }

    /// Whether all references between records lead somewhere.
    fn verify(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::corrupt(Defect::CatalogRecord, what));
        for disk in self.disks.values() {
            let parent_known = disk.parent.is_none_or(|parent| self.versions.contains_key(&parent));
            if !self.servers.contains_key(&disk.server) || !parent_known || disk.birth > self.epoch {
                return wrong(format!("disk {}", disk.id));
            }
        }
        for version in self.versions.values() {
            let parent_older = version.parent.is_none_or(|parent| {
                self.versions.get(&parent).is_some_and(|parent| parent.epoch < version.epoch)
            });
            let shown = version.snapshot.is_none_or(|snapshot| self.snapshots.contains_key(&snapshot));
            if !parent_older || !shown || version.epoch > self.epoch || version.birth > version.epoch {
                return wrong(format!("version {}", version.id));
            }
        }
        for snapshot in self.snapshots.values() {
            let held = |id: &VersionId| {
                self.versions.get(id).is_some_and(|version| version.snapshot == Some(snapshot.id))
            };
            if !self.servers.contains_key(&snapshot.server) || !snapshot.versions.iter().all(held) {
                return wrong(format!("snapshot {}", snapshot.id));
            }
        }
        let victim_known = self.collection.is_none_or(|collection| {
            self.versions.get(&collection.victim).is_some_and(|victim| victim.snapshot.is_none())
        });
        if victim_known { Ok(()) } else { wrong("collection".into()) }
    }

    fn build_lineage(&mut self) {
        for version in self.versions.values() {
            self.lineage.adopt(version.parent, Child::Version(version.id));
            if version.snapshot.is_none() {
                self.lineage.queue.insert(version.id);
            }
        }
        for disk in self.disks.values() {
            self.lineage.adopt(disk.parent, Child::Head(disk.id));
        }
    }

    /// Puts a record in. Whether there was one already.
    pub(crate) fn put(&mut self, record: CatalogRecord) -> bool {
        self.dirty.insert(record.key());
        match record {
            CatalogRecord::Server(record) => self.servers.insert(record.id, record).is_some(),
            CatalogRecord::Disk(record) => {
                self.by_server.entry(record.server).or_default().disks.insert(record.id);
                self.disks.insert(record.id, record).is_some()
            }
            CatalogRecord::Snapshot(record) => {
                self.by_server.entry(record.server).or_default().snapshots.insert(record.id);
                self.snapshots.insert(record.id, record).is_some()
            }
            CatalogRecord::Version(record) => self.versions.insert(record.id, record).is_some(),
            CatalogRecord::Garbage(record) => self.garbage.insert(record.id, record).is_some(),
            CatalogRecord::Collection(record) => self.collection.replace(record).is_some(),
        }
    }

    /// Takes a record out.
    pub(crate) fn remove(&mut self, key: CatalogKey) {
        self.dirty.insert(key);
        match key {
            CatalogKey::Server(id) => {
                self.servers.remove(&id);
                self.by_server.remove(&id);
            }
            CatalogKey::Disk(id) => {
                if let Some(record) = self.disks.remove(&id)
                    && let Some(belongings) = self.by_server.get_mut(&record.server)
                {
                    belongings.disks.remove(&id);
                }
            }
            CatalogKey::Snapshot(id) => {
                if let Some(record) = self.snapshots.remove(&id)
                    && let Some(belongings) = self.by_server.get_mut(&record.server)
                {
                    belongings.snapshots.remove(&id);
                }
            }
            CatalogKey::Version(id) => {
                self.versions.remove(&id);
            }
            CatalogKey::Garbage(id) => {
                self.garbage.remove(&id);
            }
            CatalogKey::Collection => self.collection = None,
        }
    }

    /// Notes that a record changed.
    pub(crate) fn touch(&mut self, key: CatalogKey) {
        self.dirty.insert(key);
    }

    /// How many records changed since the last checkpoint.
    pub(crate) fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    /// The records that changed, as they are now; `None` for those that went.
    pub(crate) fn take_dirty(&mut self) -> Vec<(CatalogKey, Option<CatalogRecord>)> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|key| (key, self.get(key))).collect()
    }

    fn get(&self, key: CatalogKey) -> Option<CatalogRecord> {
        match key {
            CatalogKey::Server(id) => self.servers.get(&id).cloned().map(CatalogRecord::Server),
            CatalogKey::Disk(id) => self.disks.get(&id).cloned().map(CatalogRecord::Disk),
            CatalogKey::Snapshot(id) => self.snapshots.get(&id).cloned().map(CatalogRecord::Snapshot),
            CatalogKey::Version(id) => self.versions.get(&id).cloned().map(CatalogRecord::Version),
            CatalogKey::Garbage(id) => self.garbage.get(&id).cloned().map(CatalogRecord::Garbage),
            CatalogKey::Collection => self.collection.map(CatalogRecord::Collection),
        }
    }

    /// The ids of a server's disks.
    pub(crate) fn disks_of(&self, server: ServerId) -> Vec<DiskId> {
        self.by_server.get(&server).map_or_else(Vec::new, |own| own.disks.iter().copied().collect())
    }

    /// The ids of a server's snapshots, automatic ones included.
    pub(crate) fn snapshots_of(&self, server: ServerId) -> Vec<SnapshotId> {
        self.by_server.get(&server).map_or_else(Vec::new, |own| own.snapshots.iter().copied().collect())
    }

    /// The server of that name.
    pub(crate) fn server_named(&self, name: &str) -> Option<&ServerRecord> {
        self.servers.values().find(|server| server.name == name)
    }

    /// The server's disk of that name.
    pub(crate) fn disk_named(&self, server: ServerId, name: &str) -> Option<&DiskRecord> {
        let own = self.by_server.get(&server)?;
        own.disks.iter().filter_map(|id| self.disks.get(id)).find(|disk| disk.name == name)
    }

    /// The server's snapshot of that name, among those that a user made.
    pub(crate) fn snapshot_named(&self, server: ServerId, name: &str) -> Option<&SnapshotRecord> {
        let own = self.by_server.get(&server)?;
        own.snapshots
            .iter()
            .filter_map(|id| self.snapshots.get(id))
            .find(|snapshot| snapshot.kind == SnapshotKind::User && snapshot.name == name)
    }

    /// The automatic snapshot of what the server's last restore replaced.
    pub(crate) fn before_restore(&self, server: ServerId) -> Option<&SnapshotRecord> {
        let own = self.by_server.get(&server)?;
        own.snapshots
            .iter()
            .filter_map(|id| self.snapshots.get(id))
            .find(|snapshot| snapshot.kind == SnapshotKind::BeforeRestore)
    }
}
