//! Apply: what each event changes in the catalog. The same code runs when a verb is called and when
//! the journal is replayed after a crash.
//!
//! Floor 3.

use super::clones::{Place, user_snapshot};
use super::lineage::Child;
use super::records::Catalog;
use crate::defect::Defect;
use crate::error::{Error, Result};
use crate::format::{
    CatalogKey, CatalogRecord, DiskRecord, Event, NewVersion, Root, ServerMarks, ServerRecord, SnapshotKind,
    SnapshotMarks, SnapshotRecord, VersionRecord, WhenFull,
};
use crate::units::{DiskId, Epoch, SnapshotId};

/// Name of the snapshot that a restore makes of what it replaces.
const BEFORE_RESTORE_NAME: &str = "before-restore";

impl Catalog {
    /// Applies an event. An error means that the journal holds an event that its own history forbids.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<()> {
        self.refuse_impossible(event)?;
        match event {
            Event::Grow { .. } => {}
            Event::CreateServer { id, name, created_at, kind } => {
                self.next_id = self.next_id.max(id.0 + 1);
                self.put(CatalogRecord::Server(ServerRecord {
                    id: *id,
                    name: name.clone(),
                    created_at: *created_at,
                    kind: *kind,
                    origin: None,
                    marks: ServerMarks::default(),
                }));
            }
            Event::DeleteServer { id, epoch, versions } => {
                self.advance(*epoch, versions);
                let mut hidden: Vec<Child> = Vec::new();
                for new in versions {
                    self.freeze(*new, *epoch, None)?;
                    self.drop_head(new.disk);
                    hidden.push(Child::Version(new.version));
                }
                for snapshot in self.snapshots_of(*id) {
                    hidden.extend(self.hide(snapshot)?);
                }
                self.disturb(&hidden);
                self.remove(CatalogKey::Server(*id));
            }
            Event::CreateDisk { id, server, name, size_bytes, created_at, birth } => {
                self.next_id = self.next_id.max(id.0 + 1);
                self.epoch = self.epoch.max(*birth);
                self.lineage.join(Child::Head(*id), None);
                self.put(CatalogRecord::Disk(DiskRecord {
                    id: *id,
                    server: *server,
                    name: name.clone(),
                    created_at: *created_at,
                    size_bytes: *size_bytes,
                    parent: None,
                    birth: *birth,
                    origin: None,
                    when_full: WhenFull::Fail,
                    shared: Some(0),
                    root: Root::default(),
                }));
            }
            Event::DeleteDisk { id, epoch, version } => {
                let new = NewVersion { disk: *id, version: *version };
                self.advance(*epoch, &[new]);
                self.freeze(new, *epoch, None)?;
                self.drop_head(*id);
                self.disturb(&[Child::Version(*version)]);
            }
            Event::ResizeDisk { id, size_bytes } => {
                self.disk_mut(*id)?.size_bytes = *size_bytes;
            }
            Event::MarkServer { id, marks } => {
                if let Some(server) = self.servers.get_mut(id) {
                    server.marks = marks.clone();
                }
                self.touch(CatalogKey::Server(*id));
            }
            Event::MarkDisk { id, when_full } => self.disk_mut(*id)?.when_full = *when_full,
            _ => self.apply_to_lineage(event)?,
        }
        Ok(())
    }

    /// Applies an event that makes, shows or hides versions.
    fn apply_to_lineage(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Snapshot {
                id,
                server,
                name,
                description,
                created_at,
                identity,
                marks,
                epoch,
                versions,
            } => {
                self.next_id = self.next_id.max(id.0 + 1);
                self.advance(*epoch, versions);
                for new in versions {
                    self.freeze(*new, *epoch, Some(*id))?;
                }
                let ids = versions.iter().map(|new| new.version).collect();
                let named = (name.as_str(), description.as_str());
                let record = user_snapshot((*id, *server), named, *created_at, *identity, ids);
                self.put(CatalogRecord::Snapshot(SnapshotRecord { marks: marks.clone(), ..record }));
            }
            Event::DeleteSnapshot { id } => {
                let hidden = self.hide(*id)?;
                self.disturb(&hidden);
            }
            Event::Restore { snapshot, replaced, created_at, identity, expires_at, epoch, versions } => {
                self.next_id = self.next_id.max(replaced.0 + 1);
                self.advance(*epoch, versions);
                let marks = SnapshotMarks { expires_at: *expires_at, ..SnapshotMarks::default() };
                self.restore(*snapshot, (*replaced, *identity, marks), *created_at, *epoch, versions)?;
            }
            Event::CloneServer { snapshot, id, name, kind, created_at, birth, disks } => {
                self.clone_server((*id, *snapshot, *kind), (name, *created_at), *birth, disks)?;
            }
            Event::CloneDisk { new, server, name, created_at, birth } => {
                let place = Place { server: *server, name: name.clone(), created_at: *created_at };
                self.clone_disk(*new, place, *birth)?;
            }
            Event::Reset { epoch, versions } => self.reset(*epoch, versions)?,
            Event::Adopt {
                staging,
                server,
                id,
                name,
                description,
                created_at,
                identity,
                origin,
                epoch,
                disks,
            } => {
                let ids = disks.iter().map(|new| new.version).collect();
                let named = (name.as_str(), description.as_str());
                let record = user_snapshot((*id, *server), named, *created_at, *identity, ids);
                self.adopt(*staging, SnapshotRecord { origin: *origin, ..record }, *epoch, disks)?;
            }
            Event::MarkSnapshot { id, marks } => {
                if let Some(record) = self.snapshots.get(id).cloned() {
                    self.put(CatalogRecord::Snapshot(SnapshotRecord { marks: marks.clone(), ..record }));
                }
            }
            _ => unreachable!("applied by the caller: {event:?}"),
        }
        Ok(())
    }

    /// Ids and epochs up to those of an event are given out.
    pub(super) fn advance(&mut self, epoch: Epoch, versions: &[NewVersion]) {
        self.epoch = self.epoch.max(epoch);
        for new in versions {
            self.next_id = self.next_id.max(new.version.0 + 1);
        }
    }

    /// An epoch that no other head stamps: who holds a reference is told by its birth (C5).
    pub(super) fn next_birth(&mut self) -> Epoch {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.epoch
    }

    fn disk_mut(&mut self, id: DiskId) -> Result<&mut DiskRecord> {
        self.touch(CatalogKey::Disk(id));
        self.disks
            .get_mut(&id)
            .ok_or_else(|| Error::corrupt(Defect::JournalRecord, format!("event of unknown disk {id}")))
    }

    /// Freezes a head's content into a new version, which the head descends from then.
    pub(super) fn freeze(
        &mut self,
        new: NewVersion,
        epoch: Epoch,
        snapshot: Option<SnapshotId>,
    ) -> Result<()> {
        let birth = self.next_birth();
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
            exclusive: Some(0),
            root: disk.root,
        };
        let parent = disk.parent;
        disk.parent = Some(new.version);
        disk.birth = birth;
        disk.shared = None; // the next checkpoint knows
        self.lineage.orphan(parent, Child::Head(new.disk));
        self.lineage.adopt(parent, Child::Version(new.version));
        self.lineage.join(Child::Version(new.version), Some(Child::Head(new.disk)));
        self.lineage.adopt(Some(new.version), Child::Head(new.disk));
        self.stop_counting(Child::Head(new.disk));
        if snapshot.is_none() {
            self.lineage.queue.insert(new.version);
        }
        self.put(CatalogRecord::Version(record));
        Ok(())
    }

    pub(super) fn drop_head(&mut self, id: DiskId) {
        let parent = self.disks.get(&id).and_then(|disk| disk.parent);
        self.lineage.orphan(parent, Child::Head(id));
        self.remove(CatalogKey::Disk(id));
    }

    /// Takes a snapshot out of all listings; its versions, which it returns, are the collector's from now on.
    fn hide(&mut self, id: SnapshotId) -> Result<Vec<Child>> {
        let Some(record) = self.snapshots.get(&id).cloned() else {
            return Err(Error::corrupt(Defect::JournalRecord, format!("event of unknown snapshot {id}")));
        };
        for version in record.versions.iter().copied() {
            if let Some(version) = self.versions.get_mut(&version) {
                version.snapshot = None;
            }
            self.stop_waiting(Child::Version(version));
            self.lineage.queue.insert(version);
            self.trim_below(version);
            self.touch(CatalogKey::Version(version));
        }
        let hidden = record.versions.iter().copied().map(Child::Version).collect();
        self.remove(CatalogKey::Snapshot(id));
        Ok(hidden)
    }

    fn restore(
        &mut self,
        id: SnapshotId,
        (replaced, identity, marks): (SnapshotId, [u8; 16], SnapshotMarks),
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
            let target = self.known_version(version)?;
            let place = Place { server: snapshot.server, name: target.disk_name, created_at };
            let birth = self.next_birth();
            self.put_head(target.disk, version, Some(place), birth)?;
        }
        if !versions.is_empty() {
            self.put(CatalogRecord::Snapshot(SnapshotRecord {
                id: replaced,
                server: snapshot.server,
                name: BEFORE_RESTORE_NAME.into(),
                description: format!("What restoring {} replaced", snapshot.name),
                created_at,
                kind: SnapshotKind::BeforeRestore,
                identity,
                origin: None,
                marks,
                versions: versions.iter().map(|new| new.version).collect(),
            }));
        }
        match before {
            Some(before) => {
                let hidden = self.hide(before)?;
                self.disturb(&hidden);
                Ok(())
            }
            None => Ok(()),
        }
    }
}
