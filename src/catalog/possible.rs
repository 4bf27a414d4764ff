//! Possible: which events the catalog can have come to.
//!
//! Floor 3. A verb plans only events that are possible; a forged journal can hold any.

use super::records::Catalog;
use crate::defect::Defect;
use crate::error::{Error, Result};
use crate::format::{AdoptedDisk, Event, Labels, NewDisk, NewVersion};
use crate::limits::{
    COUNTER_MAX, DISK_BYTES_MAX, EPOCH_MAX, EPOCHS_PER_EVENT_MAX, LABEL_BYTES_MAX, LABELS_MAX,
};
use crate::units::{DiskId, Epoch, ServerId, SnapshotId};
use std::collections::BTreeSet;

/// Whether labels keep to their limits.
pub(crate) fn labels_fit(labels: &Labels) -> bool {
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    labels.len() <= LABELS_MAX && bytes <= LABEL_BYTES_MAX
}

impl Catalog {
    /// Refuses an event whose ids are taken or unknown, or whose numbers no store comes to: only a
    /// forged journal holds one.
    pub(super) fn refuse_impossible(&self, event: &Event) -> Result<()> {
        if self.is_possible(event) {
            return Ok(());
        }
        Err(Error::corrupt(Defect::JournalRecord, format!("the catalog forbids {event:?}")))
    }

    pub(super) fn is_possible(&self, event: &Event) -> bool {
        let known = |server: &ServerId| self.servers.contains_key(server);
        match event {
            Event::Grow { .. } => true,
            Event::CreateServer { id, .. } => self.is_fresh(id.0),
            Event::DeleteServer { id, epoch, versions } => known(id) && self.fits_of(*id, *epoch, versions),
            Event::CreateDisk { id, server, size_bytes, birth, .. } => {
                self.is_fresh(id.0)
                    && known(server)
                    && *size_bytes <= DISK_BYTES_MAX
                    && self.is_next_epoch(*birth)
            }
            Event::DeleteDisk { id, epoch, version } => {
                self.fits(*epoch, &[NewVersion { disk: *id, version: *version }])
            }
            Event::ResizeDisk { id, size_bytes } => {
                self.disks.contains_key(id) && *size_bytes <= DISK_BYTES_MAX
            }
            Event::Snapshot { id, server, marks, epoch, versions, .. } => {
                self.is_fresh(id.0)
                    && known(server)
                    && labels_fit(&marks.labels)
                    && self.fits_of(*server, *epoch, versions)
            }
            Event::DeleteSnapshot { id } => self.snapshots.contains_key(id),
            Event::Restore { snapshot, replaced, epoch, versions, .. } => {
                let owner = self.snapshots.get(snapshot).map(|snapshot| snapshot.server);
                self.is_fresh(replaced.0)
                    && self.can_restore(*snapshot)
                    && owner.is_some_and(|server| self.fits_of(server, *epoch, versions))
            }
            Event::CloneServer { snapshot, id, birth, disks, .. } => {
                self.is_fresh(id.0) && self.is_next_epoch(*birth) && self.can_clone(*snapshot, id.0, disks)
            }
            Event::CloneDisk { new, server, birth, .. } => {
                let shown = self.versions.get(&new.version).is_some_and(|version| version.snapshot.is_some());
                shown && known(server) && self.is_fresh(new.disk.0) && self.is_next_epoch(*birth)
            }
            Event::Reset { epoch, versions } => {
                self.fits(*epoch, versions) && versions.iter().all(|new| self.can_reset(new))
            }
            Event::Adopt { staging, server, id, epoch, disks, .. } => {
                self.is_fresh(id.0)
                    && staging != server
                    && known(server)
                    && self.can_adopt((*staging, *server), *epoch, disks)
            }
            Event::MarkServer { id, marks } => known(id) && labels_fit(&marks.labels),
            Event::MarkSnapshot { id, marks } => self.snapshots.contains_key(id) && labels_fit(&marks.labels),
            Event::MarkDisk { id, .. } => self.disks.contains_key(id),
        }
    }

    fn is_fresh(&self, id: u64) -> bool {
        id >= self.next_id && id < COUNTER_MAX
    }

    fn is_next_epoch(&self, epoch: Epoch) -> bool {
        epoch.0 > self.epoch.0 && epoch.0 < EPOCH_MAX - EPOCHS_PER_EVENT_MAX
    }

    /// Whether the versions are new ones of disks that exist, each disk once.
    fn fits(&self, epoch: Epoch, versions: &[NewVersion]) -> bool {
        let mut next = self.next_id;
        let mut frozen = BTreeSet::new();
        self.is_next_epoch(epoch)
            && versions.iter().all(|new| {
                let in_order = new.version.0 >= next && new.version.0 < COUNTER_MAX;
                next = new.version.0.saturating_add(1);
                in_order && self.disks.contains_key(&new.disk) && frozen.insert(new.disk)
            })
    }

    /// As [`fits`](Self::fits), and the disks are all of one server.
    fn fits_of(&self, server: ServerId, epoch: Epoch, versions: &[NewVersion]) -> bool {
        let is_its = |new: &NewVersion| self.disks.get(&new.disk).is_some_and(|disk| disk.server == server);
        self.fits(epoch, versions) && versions.iter().all(is_its)
    }

    /// Whether the disks are new ones, of versions of that snapshot.
    fn can_clone(&self, snapshot: SnapshotId, server: u64, disks: &[NewDisk]) -> bool {
        let Some(snapshot) = self.snapshots.get(&snapshot) else { return false };
        let mut next = server + 1;
        disks.iter().all(|new| {
            let in_order = new.disk.0 >= next && new.disk.0 < COUNTER_MAX;
            next = new.disk.0.saturating_add(1);
            in_order && snapshot.versions.contains(&new.version)
        })
    }

    /// Whether the disks that come back are the server's own.
    fn can_restore(&self, id: SnapshotId) -> bool {
        let Some(snapshot) = self.snapshots.get(&id) else { return false };
        let versions = snapshot.versions.iter().filter_map(|id| self.versions.get(id));
        let mut live = versions.filter_map(|version| self.disks.get(&version.disk));
        live.all(|disk| disk.server == snapshot.server)
    }

    /// Whether one snapshot of that server may hold these disks: each once, and none that another server has.
    pub(super) fn can_hold(&self, server: ServerId, mut disks: impl Iterator<Item = DiskId>) -> bool {
        let mut held = BTreeSet::new();
        disks.all(|id| held.insert(id) && self.disks.get(&id).is_none_or(|disk| disk.server == server))
    }

    fn can_reset(&self, new: &NewVersion) -> bool {
        let origin = self.disks.get(&new.disk).and_then(|disk| disk.origin);
        origin.and_then(|origin| self.versions.get(&origin)).is_some_and(|version| version.snapshot.is_some())
    }

    /// Whether the disks are all that a staging server has, and it has no snapshots.
    fn can_adopt(
        &self,
        (staging, server): (ServerId, ServerId),
        epoch: Epoch,
        disks: &[AdoptedDisk],
    ) -> bool {
        let versions: Vec<NewVersion> = disks.iter().map(AdoptedDisk::new_version).collect();
        let all = self.disks_of(staging);
        self.servers.contains_key(&staging)
            && self.snapshots_of(staging).is_empty()
            && self.fits(epoch, &versions)
            && disks.len() == all.len()
            && disks.iter().all(|new| all.contains(&new.disk) && new.as_disk.0 < self.next_id)
            && self.can_hold(server, disks.iter().map(|new| new.as_disk).filter(|id| !all.contains(id)))
            && disks.iter().map(|new| new.as_disk).collect::<BTreeSet<_>>().len() == disks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{
        CatalogRecord, DiskRecord, Geometry, Root, ServerKind, ServerMarks, ServerRecord, SnapshotKind,
        SnapshotMarks, SnapshotRecord, VersionRecord, WhenFull,
    };
    use crate::units::VersionId;

    fn server(id: u64) -> CatalogRecord {
        CatalogRecord::Server(ServerRecord {
            id: ServerId(id),
            name: format!("s{id}"),
            created_at: 0,
            kind: ServerKind::User,
            origin: None,
            marks: ServerMarks::default(),
        })
    }

    fn disk(id: u64, server: u64) -> CatalogRecord {
        CatalogRecord::Disk(DiskRecord {
            id: DiskId(id),
            server: ServerId(server),
            name: format!("d{id}"),
            created_at: 0,
            size_bytes: 4096,
            parent: None,
            birth: Epoch(1),
            origin: None,
            when_full: WhenFull::Fail,
            shared: Some(0),
            root: Root::default(),
        })
    }

    fn version(id: u64, disk: u64) -> CatalogRecord {
        CatalogRecord::Version(VersionRecord {
            id: VersionId(id),
            disk: DiskId(disk),
            disk_name: format!("d{disk}"),
            size_bytes: 4096,
            parent: None,
            epoch: Epoch(2),
            birth: Epoch(1),
            snapshot: Some(SnapshotId(5)),
            trimmed: false,
            exclusive: None,
            root: Root::default(),
        })
    }

    /// Servers 1 and 2 have disks 3 and 4; snapshot 5 of server 1 holds two disks.
    fn load(held: [u64; 2]) -> Result<Catalog> {
        let snapshot = CatalogRecord::Snapshot(SnapshotRecord {
            id: SnapshotId(5),
            server: ServerId(1),
            name: "n".into(),
            description: String::new(),
            created_at: 0,
            kind: SnapshotKind::User,
            identity: [0; 16],
            origin: None,
            marks: SnapshotMarks::default(),
            versions: vec![VersionId(6), VersionId(7)],
        });
        let versions = [version(6, held[0]), version(7, held[1])];
        let records = [server(1), server(2), disk(3, 1), disk(4, 2), snapshot].into_iter().chain(versions);
        Catalog::load(
            records.collect(),
            (Epoch(5), 20),
            &Geometry::new(4096, 16_400, 16).expect("a geometry"),
        )
    }

    #[test]
    fn a_snapshot_holds_each_disk_once_and_none_of_another_server() {
        assert!(load([3, 9]).is_ok(), "a disk that is gone");
        for held in [[3, 3], [3, 4], [9, 9]] {
            let refused = load(held).map(drop).expect_err("what no store comes to");
            assert_eq!(refused.defect(), Some(Defect::CatalogRecord), "{held:?}");
        }
        let catalog = load([3, 9]).expect("a possible catalog");
        let snapshot = |server, disk| Event::Snapshot {
            id: SnapshotId(20),
            server: ServerId(server),
            name: "late".into(),
            description: String::new(),
            created_at: 0,
            identity: [0; 16],
            marks: SnapshotMarks::default(),
            epoch: Epoch(6),
            versions: vec![NewVersion { disk: DiskId(disk), version: VersionId(21) }],
        };
        assert!(catalog.is_possible(&snapshot(1, 3)));
        assert!(!catalog.is_possible(&snapshot(1, 4)));
        let adopt = |disks: &[u64]| {
            let disks = disks.iter().zip(21..).map(|(&as_disk, version)| AdoptedDisk {
                disk: DiskId(4),
                version: VersionId(version),
                as_disk: DiskId(as_disk),
            });
            catalog.can_adopt((ServerId(2), ServerId(1)), Epoch(6), &disks.collect::<Vec<_>>())
        };
        assert!(adopt(&[3]) && adopt(&[9]));
        assert!(adopt(&[4]), "as the disk that was received, which is gone then");
        let other = disk(8, 9);
        let CatalogRecord::Disk(other) = other else { unreachable!("a disk") };
        let mut catalog = load([3, 9]).expect("a possible catalog");
        catalog.disks.insert(other.id, other);
        assert!(!catalog.can_hold(ServerId(1), [DiskId(8)].into_iter()), "a disk of a third server");
    }
}
