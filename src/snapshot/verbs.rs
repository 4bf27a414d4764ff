//! Verbs: create, list, restore, delete.
//!
//! Floor 6.

use super::handle::Snapshot;
use crate::catalog::{check_description, check_labels, check_name};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Event, SnapshotKind, SnapshotMarks, SnapshotRecord};
use crate::limits::DISKS_PER_SERVER_MAX;
use crate::store::{Freed, NextIds, Purpose, Server, State, Store, new_identity, plan_deletion};
use crate::units::{DiskId, ServerId, SnapshotId, index};

impl Store {
    /// The snapshots of all servers that users made, newest first.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let state = self.shared.state();
        let shown = state.catalog.snapshots.values().filter(|record| record.kind == SnapshotKind::User);
        shown.rev().map(|record| Snapshot::new(&self.shared, record.id)).collect()
    }

    /// The snapshot with that id, automatic ones included.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        self.shared.state().snapshot(id)?;
        Ok(Snapshot::new(&self.shared, id))
    }

    /// What deleting these snapshots would free, all together. It takes a checkpoint, and as long as what differs
    /// between them and their neighbours is.
    ///
    /// # Errors
    /// `NotFound`, `Protected`, `Busy` if the store is so full that counting is in the way, `Corrupt` if an extent node fails its seal, `Io`;
    /// `ReadOnly` if the store was opened so, and not closed before.
    pub fn would_free(&self, ids: &[SnapshotId]) -> Result<Freed> {
        self.shared.would_free(ids)
    }

    /// Deletes a snapshot. It is gone from all listings when this returns; the collector frees what
    /// nobody else holds, in the background. Snapshots can be deleted in any order.
    ///
    /// # Errors
    /// `NotFound`, `Protected`.
    pub fn delete_snapshot(&self, id: SnapshotId) -> Result<()> {
        self.shared.execute((Purpose::Relief, 2), |state| plan_deletion(state, id))?;
        self.shared.ask_for_collection();
        Ok(())
    }
}

impl Server {
    /// Freezes all disks of the server at one instant. Durable when this returns. The name is 1 to 64
    /// letters, digits, hyphens and underscores, and unique among the server's snapshots.
    ///
    /// # Errors
    /// `Invalid` for the name or the description (at most 1024 bytes), `Exists` if the name is taken, `Limit` where
    /// the server has as many snapshots as it may have.
    pub fn snapshot(&self, name: &str, description: &str) -> Result<Snapshot> {
        self.snapshot_with(name, description, SnapshotMarks::default())
    }

    /// The same, with protection, expiry and labels from the first moment on.
    ///
    /// # Errors
    /// Those of [`snapshot`](Server::snapshot), and `Invalid` for the labels.
    pub fn snapshot_with(&self, name: &str, description: &str, marks: SnapshotMarks) -> Result<Snapshot> {
        check_name("snapshot", name)?;
        check_description(description)?;
        check_labels(&marks.labels)?;
        let identity = new_identity()?;
        let event = self.shared.execute((Purpose::Catalog, 4), |state| {
            refuse_snapshot(state, self.id, name)?;
            let mut next = NextIds::new(state)?;
            let id = SnapshotId(next.id());
            let versions =
                state.catalog.disks_of(self.id).into_iter().map(|disk| next.version(disk)).collect();
            Ok(Event::Snapshot {
                id,
                server: self.id,
                name: name.into(),
                description: description.into(),
                created_at: self.shared.now(),
                identity,
                marks,
                epoch: next.epoch,
                versions,
            })
        })?;
        match event {
            Event::Snapshot { id, .. } => Ok(Snapshot::new(&self.shared, id)),
            _ => unreachable!("the event that was planned"),
        }
    }

    /// The server's snapshots that users made, newest first.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let state = self.shared.state();
        let ids = state.catalog.snapshots_of(self.id);
        let records = ids.iter().rev().filter_map(|id| state.catalog.snapshots.get(id));
        let shown = records.filter(|record| record.kind == SnapshotKind::User);
        shown.map(|record| Snapshot::new(&self.shared, record.id)).collect()
    }

    /// What the last restore replaced. Restoring it undoes that restore.
    pub fn before_restore(&self) -> Option<Snapshot> {
        let state = self.shared.state();
        state.catalog.before_restore(self.id).map(|record| Snapshot::new(&self.shared, record.id))
    }

    /// Takes back the last restore: the disks hold again what it replaced, and what they hold now becomes the
    /// automatic snapshot, so that calling this again goes forth.
    ///
    /// # Errors
    /// `NotFound` where there is nothing to take back, and those of [`restore`](Server::restore).
    pub fn undo_restore(&self) -> Result<()> {
        match self.before_restore() {
            Some(before) => self.restore(before.id()),
            None => Err(Error::new(
                ErrorKind::NotFound,
                format!("server {:?} has no restore to take back", self.name()),
            )),
        }
    }

    /// Takes the server's disks back to a snapshot: content and size. No other snapshot is touched, and
    /// what the disks held becomes the automatic snapshot [`before_restore`](Server::before_restore).
    /// Disks made after the snapshot stay as they are; disks deleted since come back. Durable when this returns.
    ///
    /// Whoever writes to the disks at that moment writes before or after it: stop the guest first.
    ///
    /// # Errors
    /// `NotFound` if the server has no such snapshot, `Exists` if a disk to be brought back has a name
    /// that another disk took.
    pub fn restore(&self, id: SnapshotId) -> Result<()> {
        let identity = new_identity()?;
        self.shared.execute((Purpose::Catalog, 4), |state| {
            let snapshot = state.snapshot(id)?;
            if snapshot.server != self.id {
                let owner = state.server(self.id)?;
                let message = format!("server {:?} has no snapshot {id}", owner.name);
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            let disks = disks_to_replace(state, snapshot)?;
            let others = state.catalog.disk_count_of(self.id) - disks.len();
            if others + snapshot.versions.len() > DISKS_PER_SERVER_MAX {
                let message = format!(
                    "the server would have {} disks, and can have {DISKS_PER_SERVER_MAX}: delete some that were made since",
                    others + snapshot.versions.len()
                );
                return Err(Error::new(ErrorKind::Limit, message));
            }
            let mut next = NextIds::new(state)?;
            let replaced = SnapshotId(next.id());
            let versions = disks.into_iter().map(|disk| next.version(disk)).collect();
            let created_at = self.shared.now();
            let expires_at = self.shared.keep_replaced().map(|seconds| created_at.saturating_add(seconds));
            let epoch = next.epoch;
            Ok(Event::Restore { snapshot: id, replaced, created_at, identity, expires_at, epoch, versions })
        })?;
        self.shared.ask_for_collection();
        Ok(())
    }
}

/// Refuses one more snapshot where the server has that name, or as many as it may have.
pub(super) fn refuse_snapshot(state: &State, id: ServerId, name: &str) -> Result<()> {
    let server = state.server(id)?;
    if let Some(taken) = state.catalog.snapshot_named(id, name) {
        let message = format!("server {:?} has a snapshot {name:?}, with id {}", server.name, taken.id);
        return Err(Error::new(ErrorKind::Exists, message));
    }
    let count = state.catalog.user_snapshot_count_of(id);
    match server.marks.max_snapshots {
        Some(limit) if count >= index(limit.into()) => {
            let message = format!(
                "server {:?} has {count} snapshots, and may have {limit}; delete one first",
                server.name
            );
            Err(Error::new(ErrorKind::Limit, message))
        }
        _ => Ok(()),
    }
}

/// The live disks whose content a restore replaces.
fn disks_to_replace(state: &State, snapshot: &SnapshotRecord) -> Result<Vec<DiskId>> {
    let mut live = Vec::new();
    for version in snapshot.versions.iter().filter_map(|id| state.catalog.versions.get(id)) {
        if state.catalog.disks.contains_key(&version.disk) {
            live.push(version.disk);
        } else if state.catalog.disk_named(snapshot.server, &version.disk_name).is_some() {
            return Err(Error::new(
                ErrorKind::Exists,
                format!(
                    "the snapshot holds a deleted disk {:?}, and another disk has that name now; delete that one first",
                    version.disk_name
                ),
            ));
        }
    }
    Ok(live)
}
