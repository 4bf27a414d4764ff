//! Apply: what each event changes in the catalog. The same code runs when a verb is called and when
//! the journal is replayed after a crash.
//!
//! Floor 3.

use super::lineage::Child;
use super::records::Catalog;
use crate::defect::Defect;
use crate::error::{Error, Result};
use crate::format::{
    CatalogKey, CatalogRecord, DiskRecord, Event, NewVersion, Root, ServerRecord, SnapshotKind,
    SnapshotRecord, VersionRecord,
};
use crate::limits::{COUNTER_MAX, DISK_BYTES_MAX, EPOCH_MAX};
use crate::units::{DiskId, Epoch, ServerId, SnapshotId, VersionId};

/// Name of the snapshot that a restore makes of what it replaces.
const BEFORE_RESTORE_NAME: &str = "before-restore";

impl Catalog {
    /// Applies an event. An error means that the journal holds an event that its own history forbids.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<()> {
        self.refuse_impossible(event)?;
        match event {
            Event::Grow { .. } => {}
            Event::CreateServer { id, name, created_at } => {
                self.next_id = self.next_id.max(id.0 + 1);
                let record = ServerRecord { id: *id, name: name.clone(), created_at: *created_at };
                self.put(CatalogRecord::Server(record));
            }
            Event::DeleteServer { id, epoch, versions } => {
                self.advance(*epoch, versions);
                for new in versions {
                    self.freeze(*new, *epoch, None)?;
                    self.drop_head(new.disk);
                }
                for snapshot in self.snapshots_of(*id) {
                    self.hide(snapshot)?;
                }
                self.remove(CatalogKey::Server(*id));
            }
            Event::CreateDisk { id, server, name, size_bytes, created_at, birth } => {
                self.next_id = self.next_id.max(id.0 + 1);
                self.epoch = self.epoch.max(*birth);
                self.put(CatalogRecord::Disk(DiskRecord {
                    id: *id,
                    server: *server,
                    name: name.clone(),
                    created_at: *created_at,
                    size_bytes: *size_bytes,
                    parent: None,
                    birth: *birth,
                    root: Root::default(),
                }));
            }
            Event::DeleteDisk { id, epoch, version } => {
                let new = NewVersion { disk: *id, version: *version };
                self.advance(*epoch, &[new]);
                self.freeze(new, *epoch, None)?;
                self.drop_head(*id);
            }
            Event::ResizeDisk { id, size_bytes } => {
                self.disk_mut(*id)?.size_bytes = *size_bytes;
            }
            Event::Snapshot { id, server, name, description, created_at, epoch, versions } => {
                self.next_id = self.next_id.max(id.0 + 1);
                self.advance(*epoch, versions);
                for new in versions {
                    self.freeze(*new, *epoch, Some(*id))?;
                }
                self.put(CatalogRecord::Snapshot(SnapshotRecord {
                    id: *id,
                    server: *server,
                    name: name.clone(),
                    description: description.clone(),
                    created_at: *created_at,
                    kind: SnapshotKind::User,
                    versions: versions.iter().map(|new| new.version).collect(),
                }));
            }
            Event::DeleteSnapshot { id } => self.hide(*id)?,
            Event::Restore { snapshot, replaced, created_at, epoch, versions } => {
                self.next_id = self.next_id.max(replaced.0 + 1);
                self.advance(*epoch, versions);
                self.restore(*snapshot, *replaced, *created_at, *epoch, versions)?;
            }
        }
        Ok(())
    }

    /// Refuses an event whose ids are taken or unknown, or whose numbers no store comes to: only a
    /// forged journal holds one.
    fn refuse_impossible(&self, event: &Event) -> Result<()> {
        let fresh = |id: u64| id >= self.next_id && id < COUNTER_MAX;
        let fits = |epoch: &Epoch, versions: &[NewVersion]| {
            let mut next = self.next_id;
            epoch.0 > self.epoch.0
                && epoch.0 < EPOCH_MAX
                && versions.iter().all(|new| {
                    let in_order = new.version.0 >= next && new.version.0 < COUNTER_MAX;
                    next = new.version.0.saturating_add(1);
                    in_order && self.disks.contains_key(&new.disk)
                })
        };
        let known = |server: &ServerId| self.servers.contains_key(server);
        let is_possible = match event {
            Event::Grow { .. } => true,
            Event::CreateServer { id, .. } => fresh(id.0),
            Event::DeleteServer { id, epoch, versions } => known(id) && fits(epoch, versions),
            Event::CreateDisk { id, server, size_bytes, birth, .. } => {
                fresh(id.0) && known(server) && *size_bytes <= DISK_BYTES_MAX && fits(birth, &[])
            }
            Event::DeleteDisk { id, epoch, version } => {
                fits(epoch, &[NewVersion { disk: *id, version: *version }])
            }
            Event::ResizeDisk { id, size_bytes } => {
                self.disks.contains_key(id) && *size_bytes <= DISK_BYTES_MAX
            }
            Event::Snapshot { id, server, epoch, versions, .. } => {
                fresh(id.0) && known(server) && fits(epoch, versions)
            }
            Event::DeleteSnapshot { id } => self.snapshots.contains_key(id),
            Event::Restore { snapshot, replaced, epoch, versions, .. } => {
                fresh(replaced.0) && self.snapshots.contains_key(snapshot) && fits(epoch, versions)
            }
        };
        if is_possible {
            return Ok(());
        }
        Err(Error::corrupt(Defect::JournalRecord, format!("the catalog forbids {event:?}")))
    }

    /// Ids and epochs up to those of an event are given out.
    fn advance(&mut self, epoch: Epoch, versions: &[NewVersion]) {
        self.epoch = self.epoch.max(Epoch(epoch.0 + 1));
        for new in versions {
            self.next_id = self.next_id.max(new.version.0 + 1);
        }
    }

    fn disk_mut(&mut self, id: DiskId) -> Result<&mut DiskRecord> {
        self.touch(CatalogKey::Disk(id));
        self.disks
            .get_mut(&id)
            .ok_or_else(|| Error::corrupt(Defect::JournalRecord, format!("event of unknown disk {id}")))
    }

    /// Freezes a head's content into a new version, which the head descends from then.
    fn freeze(&mut self, new: NewVersion, epoch: Epoch, snapshot: Option<SnapshotId>) -> Result<()> {
        let disk = self.disk_mut(new.disk)?;
        let record = VersionRecord {
            id: new.version,
            disk: new.disk,
            disk_name: disk.name.clone(),
            size_bytes: disk.size_bytes,
            parent: disk.parent,
            epoch,
            birth: disk.birth,
            snapshot,
            trimmed: false,
            root: disk.root,
        };
        let parent = disk.parent;
        disk.parent = Some(new.version);
        disk.birth = Epoch(epoch.0 + 1);
        self.lineage.orphan(parent, Child::Head(new.disk));
        self.lineage.adopt(parent, Child::Version(new.version));
        self.lineage.adopt(Some(new.version), Child::Head(new.disk));
        if snapshot.is_none() {
            self.lineage.queue.insert(new.version);
        }
        self.put(CatalogRecord::Version(record));
        Ok(())
    }

    fn drop_head(&mut self, id: DiskId) {
        let parent = self.disks.get(&id).and_then(|disk| disk.parent);
        self.lineage.orphan(parent, Child::Head(id));
        self.remove(CatalogKey::Disk(id));
    }

    /// Takes a snapshot out of all listings; its versions are the collector's from now on.
    fn hide(&mut self, id: SnapshotId) -> Result<()> {
        let Some(record) = self.snapshots.get(&id) else {
            return Err(Error::corrupt(Defect::JournalRecord, format!("event of unknown snapshot {id}")));
        };
        for version in record.versions.clone() {
            if let Some(version) = self.versions.get_mut(&version) {
                version.snapshot = None;
            }
            self.lineage.queue.insert(version);
            self.touch(CatalogKey::Version(version));
        }
        self.remove(CatalogKey::Snapshot(id));
        Ok(())
    }

    fn restore(
        &mut self,
        id: SnapshotId,
        replaced: SnapshotId,
        created_at: u64,
        epoch: Epoch,
        versions: &[NewVersion],
    ) -> Result<()> {
        let unknown = || Error::corrupt(Defect::JournalRecord, format!("event of unknown snapshot {id}"));
        let snapshot = self.snapshots.get(&id).cloned().ok_or_else(unknown)?;
        let before = self.before_restore(snapshot.server).map(|before| before.id);
        for new in versions {
            self.freeze(*new, epoch, Some(replaced))?;
        }
        for &version in &snapshot.versions {
            self.return_head_to(version, &snapshot, created_at, epoch)?;
        }
        if !versions.is_empty() {
            self.put(CatalogRecord::Snapshot(SnapshotRecord {
                id: replaced,
                server: snapshot.server,
                name: BEFORE_RESTORE_NAME.into(),
                description: format!("What restoring {} replaced", snapshot.name),
                created_at,
                kind: SnapshotKind::BeforeRestore,
                versions: versions.iter().map(|new| new.version).collect(),
            }));
        }
        match before {
            Some(before) => self.hide(before),
            None => Ok(()),
        }
    }

    /// Lets a disk descend from `version`; makes the disk anew if it was deleted since.
    fn return_head_to(
        &mut self,
        version: VersionId,
        snapshot: &SnapshotRecord,
        created_at: u64,
        epoch: Epoch,
    ) -> Result<()> {
        let unknown = || Error::corrupt(Defect::JournalRecord, format!("event of unknown version {version}"));
        let target = self.versions.get(&version).cloned().ok_or_else(unknown)?;
        let old = self.disks.get(&target.disk).cloned();
        if let Some(old) = &old {
            self.lineage.orphan(old.parent, Child::Head(old.id));
        }
        self.lineage.adopt(Some(version), Child::Head(target.disk));
        self.put(CatalogRecord::Disk(DiskRecord {
            id: target.disk,
            server: snapshot.server,
            name: old.as_ref().map_or(target.disk_name, |old| old.name.clone()),
            created_at: old.map_or(created_at, |old| old.created_at),
            size_bytes: target.size_bytes,
            parent: Some(version),
            birth: Epoch(epoch.0 + 1),
            root: target.root,
        }));
        Ok(())
    }
}
