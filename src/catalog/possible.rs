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
use crate::units::{Epoch, ServerId, SnapshotId};

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

    fn is_possible(&self, event: &Event) -> bool {
        let known = |server: &ServerId| self.servers.contains_key(server);
        match event {
            Event::Grow { .. } => true,
            Event::CreateServer { id, .. } => self.is_fresh(id.0),
            Event::DeleteServer { id, epoch, versions } => known(id) && self.fits(*epoch, versions),
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
                    && self.fits(*epoch, versions)
            }
            Event::DeleteSnapshot { id } => self.snapshots.contains_key(id),
            Event::Restore { snapshot, replaced, epoch, versions, .. } => {
                self.is_fresh(replaced.0) && self.can_restore(*snapshot) && self.fits(*epoch, versions)
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
                    && self.can_adopt(*staging, *epoch, disks)
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
        let mut frozen = std::collections::BTreeSet::new();
        self.is_next_epoch(epoch)
            && versions.iter().all(|new| {
                let in_order = new.version.0 >= next && new.version.0 < COUNTER_MAX;
                next = new.version.0.saturating_add(1);
                in_order && self.disks.contains_key(&new.disk) && frozen.insert(new.disk)
            })
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

    fn can_reset(&self, new: &NewVersion) -> bool {
        let origin = self.disks.get(&new.disk).and_then(|disk| disk.origin);
        origin.and_then(|origin| self.versions.get(&origin)).is_some_and(|version| version.snapshot.is_some())
    }

    /// Whether the disks are all that a staging server has, and it has no snapshots.
    fn can_adopt(&self, staging: ServerId, epoch: Epoch, disks: &[AdoptedDisk]) -> bool {
        let versions: Vec<NewVersion> = disks.iter().map(AdoptedDisk::new_version).collect();
        let all = self.disks_of(staging);
        self.servers.contains_key(&staging)
            && self.snapshots_of(staging).is_empty()
            && self.fits(epoch, &versions)
            && disks.len() == all.len()
            && disks.iter().all(|new| all.contains(&new.disk) && new.as_disk.0 < self.next_id)
    }
}
