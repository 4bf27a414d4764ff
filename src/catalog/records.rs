//! Records: the catalog in memory.
//!
//! Floor 3.

use super::holders::SizeOf;
use super::lineage::{Child, Lineage};
use super::regions::Regions;
use crate::defect::Defect;
use crate::error::{Error, Result};
use crate::format::{
    CatalogKey, CatalogRecord, Collection, DiskRecord, Garbage, Geometry, Root, ServerRecord, SnapshotKind,
    SnapshotRecord, VersionRecord,
};
use crate::limits::{BLOCK_NO_MAX, COUNTER_MAX, DISK_BYTES_MAX, EPOCH_MAX};
use crate::units::{DiskId, Epoch, ServerId, SnapshotId, VersionId, wide};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// All records, and what changed since the last checkpoint.
#[derive(Default)]
pub(crate) struct Catalog {
    pub(crate) servers: BTreeMap<ServerId, ServerRecord>,
    pub(crate) disks: BTreeMap<DiskId, DiskRecord>,
    pub(crate) snapshots: BTreeMap<SnapshotId, SnapshotRecord>,
    pub(crate) versions: BTreeMap<VersionId, VersionRecord>,
    pub(crate) garbage: BTreeMap<u64, Garbage>,
    /// How many blocks garbage held when it was cut off, where that was since the store was opened.
    pub(crate) cut_blocks: HashMap<u64, u64>,
    pub(crate) collection: Option<Collection>,
    pub(crate) lineage: Lineage,
    pub(super) regions: Regions,
    /// Versions and heads whose `exclusive` or `shared` is to be counted.
    pub(crate) uncounted: BTreeSet<Child>,
    /// Heads that are to be counted once somebody asks.
    pub(super) set_aside: BTreeSet<DiskId>,
    /// The one that is being counted.
    pub(crate) counting: Option<Child>,
    /// References that the one that is being counted gained (a version, as its own) or let go of (a head) since.
    pub(crate) counted_since: u64,
    /// Blocks that go with a snapshot or disk, where blocks have several references and somebody asked.
    pub(crate) blocks_alone: HashMap<SizeOf, u64>,
    /// What is being counted so; `None` also where something happened to it since.
    pub(crate) counting_blocks: Option<SizeOf>,
    /// Blocks that a snapshot refers to, each counted once.
    pub(crate) distinct_blocks: HashMap<SnapshotId, u64>,
    by_server: BTreeMap<ServerId, Belongings>,
    /// When snapshots are deleted by themselves, the earliest first; protected ones are not.
    expiring: BTreeSet<(u64, SnapshotId)>,
    server_names: HashMap<String, ServerId>,
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
            && (root.height > 0 || root.reference.is_hole())
            && root.mapped <= BLOCK_NO_MAX
            && root.reference.birth().0 <= EPOCH_MAX
    };
    match record {
        CatalogRecord::Server(_) | CatalogRecord::Snapshot(_) | CatalogRecord::Collection(_) => true,
        CatalogRecord::Disk(disk) => root(&disk.root) && disk.size_bytes <= DISK_BYTES_MAX,
        CatalogRecord::Version(version) => root(&version.root) && version.size_bytes <= DISK_BYTES_MAX,
        CatalogRecord::Garbage(garbage) => {
            geometry.is_map_height(garbage.height)
                && garbage.first.0 <= BLOCK_NO_MAX
                && garbage.id < COUNTER_MAX
        }
    }
}

/// When a snapshot is deleted by itself, as the index of those times has it.
fn expiry_of(record: &SnapshotRecord) -> Option<(u64, SnapshotId)> {
    record.marks.expires_at.filter(|_| !record.marks.protected).map(|at| (at, record.id))
}

/// What one server has, and by which names: no verb looks through all of it.
#[derive(Default)]
struct Belongings {
    disks: BTreeSet<DiskId>,
    disk_names: HashMap<String, DiskId>,
    snapshots: BTreeSet<SnapshotId>,
    /// Of snapshots that users made.
    snapshot_names: HashMap<String, SnapshotId>,
    before_restore: Option<SnapshotId>,
}

impl Belongings {
    fn add_snapshot(&mut self, record: &SnapshotRecord) {
        self.snapshots.insert(record.id);
        match record.kind {
            SnapshotKind::User => {
                self.snapshot_names.insert(record.name.clone(), record.id);
            }
            SnapshotKind::BeforeRestore => self.before_restore = Some(record.id),
        }
    }

    fn remove_snapshot(&mut self, record: &SnapshotRecord) {
        self.snapshots.remove(&record.id);
        if self.before_restore == Some(record.id) {
            self.before_restore = None;
        }
        if self.snapshot_names.get(&record.name) == Some(&record.id) {
            self.snapshot_names.remove(&record.name);
        }
    }

    fn remove_disk(&mut self, record: &DiskRecord) {
        self.disks.remove(&record.id);
        if self.disk_names.get(&record.name) == Some(&record.id) {
            self.disk_names.remove(&record.name);
        }
    }
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
        if self.next_id > COUNTER_MAX {
            return wrong(format!("the next id is {}", self.next_id));
        }
        if let Some(id) = self.last_id().filter(|id| *id >= self.next_id) {
            return wrong(format!("id {id} is given out, and the next one to give out is {}", self.next_id));
        }
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
            let disks = snapshot.versions.iter().filter_map(|id| Some(self.versions.get(id)?.disk));
            let fits = self.servers.contains_key(&snapshot.server) && self.can_hold(snapshot.server, disks);
            if !fits || !snapshot.versions.iter().all(held) {
                return wrong(format!("snapshot {}", snapshot.id));
            }
        }
        let victim_known = self.collection.is_none_or(|collection| {
            self.versions.get(&collection.victim).is_some_and(|victim| victim.snapshot.is_none())
        });
        if victim_known { Ok(()) } else { wrong("collection".into()) }
    }

    /// The largest id in use. All but garbage draw on one counter.
    fn last_id(&self) -> Option<u64> {
        let servers = self.servers.last_key_value().map(|(id, _)| id.0);
        let disks = self.disks.last_key_value().map(|(id, _)| id.0);
        let snapshots = self.snapshots.last_key_value().map(|(id, _)| id.0);
        let versions = self.versions.last_key_value().map(|(id, _)| id.0);
        [servers, disks, snapshots, versions].into_iter().flatten().max()
    }

    fn build_lineage(&mut self) {
        for version in self.versions.values() {
            self.lineage.adopt(version.parent, Child::Version(version.id));
            self.lineage.join(Child::Version(version.id), version.parent.map(Child::Version)); // parents come first
            if version.snapshot.is_none() {
                self.lineage.queue.insert(version.id);
            } else if version.exclusive.is_none() {
                self.uncounted.insert(Child::Version(version.id));
            }
        }
        for disk in self.disks.values() {
            self.lineage.adopt(disk.parent, Child::Head(disk.id));
            self.lineage.join(Child::Head(disk.id), disk.parent.map(Child::Version));
            if disk.shared.is_none() {
                self.uncounted.insert(Child::Head(disk.id));
            }
        }
        for version in self.versions.values().filter(|version| version.trimmed) {
            self.lineage.keep(version.id);
        }
    }

    /// Puts a record in. Whether there was one already.
    pub(crate) fn put(&mut self, record: CatalogRecord) -> bool {
        self.dirty.insert(record.key());
        match record {
            CatalogRecord::Server(record) => {
                self.server_names.insert(record.name.clone(), record.id);
                self.servers.insert(record.id, record).is_some()
            }
            CatalogRecord::Disk(record) => {
                let belongings = self.by_server.entry(record.server).or_default();
                belongings.disks.insert(record.id);
                belongings.disk_names.insert(record.name.clone(), record.id);
                self.disks.insert(record.id, record).is_some()
            }
            CatalogRecord::Snapshot(record) => {
                self.by_server.entry(record.server).or_default().add_snapshot(&record);
                let due = expiry_of(&record);
                let old = self.snapshots.insert(record.id, record);
                if let Some(old_due) = old.as_ref().and_then(expiry_of) {
                    self.expiring.remove(&old_due);
                }
                self.expiring.extend(due);
                old.is_some()
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
                if let Some(record) = self.servers.remove(&id) {
                    self.server_names.remove(&record.name);
                }
                self.by_server.remove(&id);
            }
            CatalogKey::Disk(id) => {
                if let Some(record) = self.disks.remove(&id)
                    && let Some(belongings) = self.by_server.get_mut(&record.server)
                {
                    belongings.remove_disk(&record);
                }
                self.lineage.leave(Child::Head(id));
                self.stop_waiting(Child::Head(id));
                self.blocks_alone.remove(&SizeOf::Disk(id));
            }
            CatalogKey::Snapshot(id) => {
                self.blocks_alone.remove(&SizeOf::Snapshot(id));
                self.distinct_blocks.remove(&id);
                let Some(record) = self.snapshots.remove(&id) else { return };
                if let Some(due) = expiry_of(&record) {
                    self.expiring.remove(&due);
                }
                if let Some(belongings) = self.by_server.get_mut(&record.server) {
                    belongings.remove_snapshot(&record);
                }
            }
            CatalogKey::Version(id) => {
                self.versions.remove(&id);
                self.lineage.leave(Child::Version(id));
                self.stop_waiting(Child::Version(id));
            }
            CatalogKey::Garbage(id) => {
                self.cut_blocks.remove(&id);
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

    /// How many snapshots of a server users made.
    pub(crate) fn user_snapshot_count_of(&self, server: ServerId) -> usize {
        self.by_server.get(&server).map_or(0, |own| own.snapshot_names.len())
    }

    /// How many records deleting a server changes, at most: its own, and those of what it has.
    pub(crate) fn record_count_of(&self, server: ServerId) -> u64 {
        let snapshots = self.snapshots_of(server);
        let versions =
            snapshots.iter().filter_map(|id| self.snapshots.get(id)).map(|record| record.versions.len());
        let changed = 1 + 2 * self.disks_of(server).len() + snapshots.len() + versions.sum::<usize>();
        // At least eight records share a page, and no page is written twice.
        wide(changed.min((self.versions.len() + self.snapshots.len() + self.disks.len()) / 8 + 8))
    }

    /// The server of that name.
    pub(crate) fn server_named(&self, name: &str) -> Option<&ServerRecord> {
        self.servers.get(self.server_names.get(name)?)
    }

    /// The server's disk of that name.
    pub(crate) fn disk_named(&self, server: ServerId, name: &str) -> Option<&DiskRecord> {
        self.disks.get(self.by_server.get(&server)?.disk_names.get(name)?)
    }

    /// How many disks a server has.
    pub(crate) fn disk_count_of(&self, server: ServerId) -> usize {
        self.by_server.get(&server).map_or(0, |own| own.disks.len())
    }

    /// The server's snapshot of that name, among those that a user made.
    pub(crate) fn snapshot_named(&self, server: ServerId, name: &str) -> Option<&SnapshotRecord> {
        self.snapshots.get(self.by_server.get(&server)?.snapshot_names.get(name)?)
    }

    /// A snapshot whose time is over at `now` (UTC seconds), the longest over first. Protected ones are not deleted by themselves.
    pub(crate) fn first_expired(&self, now: u64) -> Option<SnapshotId> {
        self.expiring.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// The oldest of the automatic snapshots that restores left, but for protected ones.
    pub(crate) fn oldest_before_restore(&self) -> Option<SnapshotId> {
        let kept = self.by_server.values().filter_map(|own| own.before_restore);
        kept.filter(|id| self.snapshots.get(id).is_some_and(|record| !record.marks.protected)).min()
    }

    /// The automatic snapshot of what the server's last restore replaced.
    pub(crate) fn before_restore(&self, server: ServerId) -> Option<&SnapshotRecord> {
        self.snapshots.get(&self.by_server.get(&server)?.before_restore?)
    }
}
