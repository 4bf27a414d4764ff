//! Clones: heads that begin as a version, go back to it, or become a version of another server.
//!
//! Floor 3. No tree is touched: a clone is a second child of its version (docs/architecture.md, "The life of a clone").

use super::lineage::Child;
use super::records::Catalog;
use crate::defect::Defect;
use crate::error::{Error, Result};
use crate::format::{
    AdoptedDisk, CatalogKey, CatalogRecord, DiskRecord, NewDisk, NewVersion, ServerKind, ServerMarks,
    ServerRecord, SnapshotKind, SnapshotMarks, SnapshotRecord, VersionRecord, WhenFull,
};
use crate::units::{DiskId, Epoch, ServerId, SnapshotId, VersionId};

/// Where a head is put: its server, its name there, and when it was made.
pub(super) struct Place {
    pub(super) server: ServerId,
    pub(super) name: String,
    pub(super) created_at: u64,
}

impl Catalog {
    pub(super) fn known_version(&self, id: VersionId) -> Result<VersionRecord> {
        let unknown = || Error::corrupt(Defect::JournalRecord, format!("event of unknown version {id}"));
        self.versions.get(&id).cloned().ok_or_else(unknown)
    }

    /// Makes a new server with a disk for each of these versions.
    pub(super) fn clone_server(
        &mut self,
        (id, snapshot, kind): (ServerId, SnapshotId, ServerKind),
        (name, created_at): (&str, u64),
        birth: Epoch,
        disks: &[NewDisk],
    ) -> Result<()> {
        self.next_id = self.next_id.max(id.0 + 1);
        self.put(CatalogRecord::Server(ServerRecord {
            id,
            name: name.into(),
            created_at,
            kind,
            origin: Some(snapshot),
            marks: ServerMarks::default(),
        }));
        for (new, birth) in disks.iter().zip(birth.0..) {
            let name = self.known_version(new.version)?.disk_name;
            self.clone_disk(*new, Place { server: id, name, created_at }, Epoch(birth))?;
        }
        Ok(())
    }

    /// Makes a new disk that begins as a version.
    pub(super) fn clone_disk(&mut self, new: NewDisk, place: Place, birth: Epoch) -> Result<()> {
        self.next_id = self.next_id.max(new.disk.0 + 1);
        self.epoch = self.epoch.max(birth);
        self.put_head(new.disk, new.version, Some(place), birth)?;
        if let Some(disk) = self.disks.get_mut(&new.disk) {
            disk.origin = Some(new.version);
        }
        Ok(())
    }

    /// Lets a disk descend from `version`, and begin as it; makes the disk if there is none, at `place`.
    pub(super) fn put_head(
        &mut self,
        id: DiskId,
        version: VersionId,
        place: Option<Place>,
        birth: Epoch,
    ) -> Result<()> {
        let target = self.known_version(version)?;
        let old = self.disks.get(&id).cloned();
        if let Some(old) = &old {
            self.lineage.orphan(old.parent, Child::Head(id));
            if let Some(parent) = old.parent {
                self.let_go(parent);
            }
        }
        let missing = || Error::corrupt(Defect::JournalRecord, format!("event of unknown disk {id}"));
        let place = match &old {
            Some(old) => Place { server: old.server, name: old.name.clone(), created_at: old.created_at },
            None => place.ok_or_else(missing)?,
        };
        self.lineage.adopt(Some(version), Child::Head(id));
        self.lineage.join(Child::Head(id), Some(Child::Version(version)));
        self.set_count(Child::Version(version), 0); // the head holds all of it, too
        self.forget_shared_with(version);
        self.put(CatalogRecord::Disk(DiskRecord {
            id,
            server: place.server,
            name: place.name,
            created_at: place.created_at,
            size_bytes: target.size_bytes,
            parent: Some(version),
            birth,
            origin: old.as_ref().and_then(|old| old.origin),
            when_full: old.map_or(WhenFull::Fail, |old| old.when_full),
            shared: None,
            root: target.root,
        }));
        Ok(())
    }

    /// Lets clones go back to the versions that they were cloned from; what they held is the collector's.
    pub(super) fn reset(&mut self, epoch: Epoch, versions: &[NewVersion]) -> Result<()> {
        self.advance(epoch, versions);
        for new in versions {
            let origin = self.disks.get(&new.disk).and_then(|disk| disk.origin);
            let unknown = || Error::corrupt(Defect::JournalRecord, format!("disk {} is no clone", new.disk));
            let origin = origin.ok_or_else(unknown)?;
            self.freeze(*new, epoch, None)?;
            self.disturb(&[Child::Version(new.version)]);
            let birth = self.next_birth();
            self.put_head(new.disk, origin, None, birth)?;
        }
        Ok(())
    }

    /// Makes the disks of a staging server a snapshot of another one.
    pub(super) fn adopt(
        &mut self,
        staging: ServerId,
        snapshot: SnapshotRecord,
        epoch: Epoch,
        disks: &[AdoptedDisk],
    ) -> Result<()> {
        self.next_id = self.next_id.max(snapshot.id.0 + 1);
        let versions: Vec<NewVersion> = disks.iter().map(AdoptedDisk::new_version).collect();
        self.advance(epoch, &versions);
        for (new, adopted) in versions.iter().zip(disks) {
            self.freeze(*new, epoch, Some(snapshot.id))?;
            self.drop_head(new.disk);
            self.forget_count(Child::Version(new.version));
            if let Some(version) = self.versions.get_mut(&new.version) {
                version.disk = adopted.as_disk;
            }
        }
        self.put(CatalogRecord::Snapshot(snapshot));
        self.remove(CatalogKey::Server(staging));
        Ok(())
    }
}

impl AdoptedDisk {
    /// The version that the disk becomes.
    pub(crate) fn new_version(&self) -> NewVersion {
        NewVersion { disk: self.disk, version: self.version }
    }
}

/// A snapshot that a user asked for, or that was received.
pub(super) fn user_snapshot(
    (id, server): (SnapshotId, ServerId),
    (name, description): (&str, &str),
    created_at: u64,
    identity: [u8; 16],
    versions: Vec<VersionId>,
) -> SnapshotRecord {
    SnapshotRecord {
        id,
        server,
        name: name.into(),
        description: description.into(),
        created_at,
        kind: SnapshotKind::User,
        identity,
        origin: None,
        marks: SnapshotMarks::default(),
        versions,
    }
}
