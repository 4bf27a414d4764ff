//! Adopt: how a snapshot that was received appears, whole and at once.
//!
//! Floor 6. A receiver writes to a staging server, which no listing shows; one event makes that a snapshot.

use super::handle::Snapshot;
use super::verbs::refuse_snapshot;
use crate::catalog::{check_description, check_name};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{AdoptedDisk, Event};
use crate::store::{NextIds, Purpose, State, Store};
use crate::units::{DiskId, ServerId, SnapshotId, VersionId};

/// What a received snapshot is called, and where it is from.
#[derive(Clone, Debug)]
pub struct AdoptedSnapshot {
    /// Its name: 1 to 64 letters, digits, hyphens and underscores.
    pub name: String,
    /// At most 1024 bytes.
    pub description: String,
    /// When it was first made, in UTC seconds since 1970.
    pub created_at: u64,
    /// What it is known by in every store.
    pub identity: [u8; 16],
    /// The uuid of the store that it was first made in, if that is another one.
    pub origin: Option<[u8; 16]>,
}

impl Store {
    /// Makes the disks of a staging server a snapshot of the server `into`; the staging server goes. A disk becomes a
    /// version of the disk of that name that `into` has. If it has none, a restore brings the disk to it. Durable when this returns.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for a name or if `staging` has snapshots, `Exists` if the name is taken, `Limit`.
    pub fn adopt_snapshot(
        &self,
        staging: ServerId,
        into: ServerId,
        adopted: AdoptedSnapshot,
    ) -> Result<Snapshot> {
        check_name("snapshot", &adopted.name)?;
        check_description(&adopted.description)?;
        let event = self.shared.execute((Purpose::Catalog, 4), |state| {
            state.server(staging)?;
            refuse_snapshot(state, into, &adopted.name)?;
            if staging == into || !state.catalog.snapshots_of(staging).is_empty() {
                let message = format!("server {staging} cannot become a snapshot of server {into}");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            let mut next = NextIds::new(state)?;
            let id = SnapshotId(next.id());
            let disks = state.catalog.disks_of(staging);
            let disks = disks.into_iter().map(|disk| AdoptedDisk {
                disk,
                version: VersionId(next.id()),
                as_disk: disk_to_become(state, disk, into),
            });
            let disks = disks.collect();
            let AdoptedSnapshot { name, description, created_at, identity, origin } = adopted;
            Ok(Event::Adopt {
                staging,
                server: into,
                id,
                name,
                description,
                created_at,
                identity,
                origin,
                epoch: next.epoch,
                disks,
            })
        })?;
        match event {
            Event::Adopt { id, .. } => Ok(Snapshot::new(&self.shared, id)),
            _ => unreachable!("the event that was planned"),
        }
    }
}

/// Whose version a staging disk becomes: that of the server's disk of the same name; of the disk that the version that it was
/// cloned from is of, if that disk was the server's and is gone; or its own.
fn disk_to_become(state: &State, disk: DiskId, into: ServerId) -> DiskId {
    let Some(record) = state.catalog.disks.get(&disk) else { return disk };
    if let Some(named) = state.catalog.disk_named(into, &record.name) {
        return named.id;
    }
    let base = record.origin.and_then(|origin| state.catalog.versions.get(&origin));
    let of_server = base.filter(|version| {
        let snapshot = version.snapshot.and_then(|id| state.catalog.snapshots.get(&id));
        let is_gone = !state.catalog.disks.contains_key(&version.disk);
        is_gone && snapshot.is_some_and(|snapshot| snapshot.server == into)
    });
    of_server.map_or(disk, |version| version.disk)
}
