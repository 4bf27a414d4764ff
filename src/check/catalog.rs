//! Catalog: reads its pages, and compares its records with one another.
//!
//! Floor 5.

use super::medium::Unreadable;
use super::report::CheckReport;
use super::walk::{Scope, Tree, Walk};
use crate::defect::Defect;
use crate::format::{
    CatalogRecord, CheckpointRecord, Collection, CollectionMode, DiskRecord, Garbage, ServerRecord,
    SnapshotRecord, VersionRecord, decode_page,
};
use crate::limits::{BLOCK_NO_MAX, COUNTER_MAX, DISK_BYTES_MAX, SECTOR_BYTES};
use crate::units::{DiskId, Epoch, ServerId, SnapshotId, VersionId};
use std::collections::{BTreeMap, BTreeSet};

/// All records that could be read.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) servers: BTreeMap<ServerId, ServerRecord>,
    pub(crate) disks: BTreeMap<DiskId, DiskRecord>,
    pub(crate) snapshots: BTreeMap<SnapshotId, SnapshotRecord>,
    pub(crate) versions: BTreeMap<VersionId, VersionRecord>,
    pub(crate) garbage: BTreeMap<u64, Garbage>,
    pub(crate) collection: Option<Collection>,
    /// Whether no page is missing. If one is, nothing is said of records that others speak of.
    pub(crate) complete: bool,
}

impl Records {
    /// The epoch of a version; that of "no version" is zero.
    pub(crate) fn epoch_of(&self, version: Option<VersionId>) -> Epoch {
        version.and_then(|id| self.versions.get(&id)).map_or(Epoch(0), |version| version.epoch)
    }

    /// The version that the collector is dropping, and how far it has come.
    pub(crate) fn dropping(&self) -> Option<(VersionId, u64)> {
        self.collection
            .filter(|collection| collection.mode != CollectionMode::Trim)
            .map(|collection| (collection.victim, collection.cursor.0))
    }

    /// Whether the record was there already.
    fn put(&mut self, record: CatalogRecord) -> bool {
        match record {
            CatalogRecord::Server(record) => self.servers.insert(record.id, record).is_some(),
            CatalogRecord::Disk(record) => self.disks.insert(record.id, record).is_some(),
            CatalogRecord::Snapshot(record) => self.snapshots.insert(record.id, record).is_some(),
            CatalogRecord::Version(record) => self.versions.insert(record.id, record).is_some(),
            CatalogRecord::Garbage(record) => self.garbage.insert(record.id, record).is_some(),
            CatalogRecord::Collection(record) => self.collection.replace(record).is_some(),
        }
    }
}

/// Reads all records.
pub(crate) fn read(walk: &mut Walk<'_>, checkpoint: &CheckpointRecord) -> Records {
    let tree = Tree { name: "the catalog".into(), lineage: None, scope: Scope::Whole };
    let found = walk.tree(&tree, (checkpoint.catalog_root, checkpoint.catalog_height), 0);
    let mut records = Records { complete: found.whole, ..Records::default() };
    if found.end > checkpoint.catalog_pages {
        let what =
            format!("{} pages, and there is one with number {}", checkpoint.catalog_pages, found.end - 1);
        walk.report().find(Defect::CatalogPage, what);
    }
    for (number, reference) in walk.take_pages() {
        let block = reference.block();
        let page = walk.medium().sealed(block, reference.crc());
        match page.and_then(|bytes| decode_page(&bytes).ok_or(Unreadable::Senseless)) {
            Ok(page) => put_page(&mut records, number, page, walk.report()),
            Err(why) => {
                walk.report().find(Defect::CatalogPage, format!("page {number} at block {block}: {why}"));
                records.complete = false;
            }
        }
    }
    walk.report().versions = crate::units::wide(records.versions.len());
    records
}

fn put_page(records: &mut Records, number: u64, page: Vec<CatalogRecord>, report: &mut CheckReport) {
    for record in page {
        let key = record.key();
        if records.put(record) {
            report.find(
                Defect::CatalogRecord,
                format!("{key:?} stands twice, the second time in page {number}"),
            );
        }
    }
}

/// Compares the records with one another and with the checkpoint record.
pub(crate) fn verify(records: &Records, checkpoint: &CheckpointRecord, report: &mut CheckReport) {
    let mut verifier = Verifier { records, checkpoint, report };
    verifier.servers();
    for disk in records.disks.values() {
        verifier.disk(disk);
    }
    for version in records.versions.values() {
        verifier.version(version);
    }
    for snapshot in records.snapshots.values() {
        verifier.snapshot(snapshot);
    }
    for garbage in records.garbage.values() {
        verifier.garbage(garbage);
    }
    if let Some(collection) = &records.collection {
        verifier.collection(collection);
    }
}

struct Verifier<'a> {
    records: &'a Records,
    checkpoint: &'a CheckpointRecord,
    report: &'a mut CheckReport,
}

impl Verifier<'_> {
    /// Notes a rule that does not hold.
    fn require(&mut self, holds: bool, broken: impl FnOnce() -> String) {
        if !holds {
            self.report.find(Defect::CatalogRecord, broken());
        }
    }

    /// As [`require`](Self::require), for rules that a lost page would break.
    fn require_whole(&mut self, holds: bool, broken: impl FnOnce() -> String) {
        self.require(holds || !self.records.complete, broken);
    }

    fn given_out(&mut self, id: u64, what: &str) {
        let next = self.checkpoint.next_id;
        self.require(id < next, || format!("{what} {id}, though the next id is {next}"));
    }

    fn servers(&mut self) {
        let records = self.records;
        let mut names = BTreeSet::new();
        for server in records.servers.values() {
            self.given_out(server.id.0, "server");
            self.require(names.insert(&server.name), || format!("two servers are called {:?}", server.name));
        }
        let mut names = BTreeSet::new();
        for disk in records.disks.values() {
            let fresh = names.insert((disk.server, &disk.name));
            self.require(fresh, || format!("two disks of server {} are called {:?}", disk.server, disk.name));
        }
    }

    fn size(&mut self, size_bytes: u64, what: &str) {
        let possible = size_bytes <= DISK_BYTES_MAX && size_bytes.is_multiple_of(SECTOR_BYTES);
        self.require(possible, || format!("{what} has {size_bytes} bytes"));
    }

    fn disk(&mut self, disk: &DiskRecord) {
        let name = format!("disk {}", disk.id);
        self.given_out(disk.id.0, "disk");
        self.size(disk.size_bytes, &name);
        let server_known = self.records.servers.contains_key(&disk.server);
        self.require_whole(server_known, || {
            format!("{name} belongs to server {}, which is not there", disk.server)
        });
        self.parent(disk.parent, &name);
        let (birth, epoch) = (disk.birth, self.checkpoint.epoch);
        self.require(birth <= epoch, || format!("{name} stamps {birth}, and the epoch is {epoch}"));
        let parent = self.records.epoch_of(disk.parent);
        self.require(birth > parent, || {
            format!("{name} stamps {birth}, and its parent was frozen in {parent}")
        });
    }

    fn parent(&mut self, parent: Option<VersionId>, name: &str) {
        let Some(id) = parent else { return };
        let is_there = self.records.versions.contains_key(&id);
        self.require_whole(is_there, || format!("{name} descends from version {id}, which is not there"));
    }

    fn version(&mut self, version: &VersionRecord) {
        let name = format!("version {}", version.id);
        self.given_out(version.id.0, "version");
        self.size(version.size_bytes, &name);
        self.parent(version.parent, &name);
        let (birth, epoch, now) = (version.birth, version.epoch, self.checkpoint.epoch);
        let parent = self.records.epoch_of(version.parent);
        self.require(parent < birth && birth <= epoch && epoch <= now, || {
            format!("{name}: parent's epoch {parent}, birth {birth}, own epoch {epoch}, store's epoch {now} are out of order")
        });
        let Some(id) = version.snapshot else { return };
        match self.records.snapshots.get(&id) {
            None => {
                self.require_whole(false, || format!("{name} is shown by snapshot {id}, which is not there"));
            }
            Some(snapshot) => self.require(snapshot.versions.contains(&version.id), || {
                format!("{name} is shown by snapshot {id}, which does not list it")
            }),
        }
    }

    fn snapshot(&mut self, snapshot: &SnapshotRecord) {
        let name = format!("snapshot {}", snapshot.id);
        self.given_out(snapshot.id.0, "snapshot");
        let server_known = self.records.servers.contains_key(&snapshot.server);
        self.require_whole(server_known, || {
            format!("{name} belongs to server {}, which is not there", snapshot.server)
        });
        self.disks_of(snapshot, &name);
        let mut listed = BTreeSet::new();
        for id in &snapshot.versions {
            self.require(listed.insert(*id), || format!("{name} lists version {id} twice"));
            match self.records.versions.get(id) {
                None => {
                    self.require_whole(false, || format!("{name} lists version {id}, which is not there"));
                }
                Some(version) => self.require(version.snapshot == Some(snapshot.id), || {
                    format!("{name} lists version {id}, which is shown by {:?}", version.snapshot)
                }),
            }
        }
    }

    /// A restore puts each version of a snapshot in the place of its disk.
    fn disks_of(&mut self, snapshot: &SnapshotRecord, name: &str) {
        let records = self.records;
        let mut disks = BTreeSet::new();
        for version in snapshot.versions.iter().filter_map(|id| records.versions.get(id)) {
            let id = version.disk;
            self.require(disks.insert(id), || format!("{name} holds disk {id} twice"));
            let owner = records.disks.get(&id).map(|disk| disk.server);
            let is_elsewhere =
                owner.is_some_and(|id| id != snapshot.server && records.servers.contains_key(&id));
            self.require(!is_elsewhere, || format!("{name} holds disk {id}, which another server has"));
        }
    }

    fn garbage(&mut self, garbage: &Garbage) {
        self.require(garbage.id < COUNTER_MAX && garbage.first.0 <= BLOCK_NO_MAX, || {
            format!("garbage {} at disk block {}", garbage.id, garbage.first)
        });
        let (now, Garbage { limit_below, limit_above, .. }) = (self.checkpoint.epoch, garbage);
        self.require(*limit_below <= now && *limit_above <= now, || {
            format!("garbage {}: limits {limit_below} and {limit_above}, and the epoch is {now}", garbage.id)
        });
    }

    fn collection(&mut self, collection: &Collection) {
        let victim = collection.victim;
        match self.records.versions.get(&victim) {
            None => self
                .require_whole(false, || format!("the collector drops version {victim}, which is not there")),
            Some(version) => self.require(version.snapshot.is_none(), || {
                format!("the collector drops version {victim}, which {:?} shows", version.snapshot)
            }),
        }
        let descends = |parent: Option<VersionId>| parent == Some(victim);
        let children = self.records.versions.values().filter(|version| descends(version.parent)).count()
            + self.records.disks.values().filter(|disk| descends(disk.parent)).count();
        let fits = match collection.mode {
            CollectionMode::Drop => children == 0,
            CollectionMode::Merge => children == 1,
            CollectionMode::Trim => true,
        };
        self.require_whole(fits, || {
            format!(
                "the collector is at {:?} with version {victim}, which has {children} children",
                collection.mode
            )
        });
    }
}
