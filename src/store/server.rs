//! Server: a machine whose disks are snapshotted together.
//!
//! Floor 5. Snapshots and restores of servers are one floor up, in snapshot/.

use super::blocks::Purpose;
use super::disk::Disk;
use super::open::{Shared, Store};
use super::sizes::{Freed, Space};
use super::state::State;
use crate::catalog::{check_labels, check_name};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Event, NewVersion, ServerKind, ServerMarks};
use crate::limits::{
    DISK_BYTES_MAX, DISKS_PER_SERVER_MAX, EPOCH_MAX, EPOCHS_PER_EVENT_MAX, SECTOR_BYTES, WANTED_ID_MAX,
};
use crate::units::{DiskId, Epoch, ServerId, SnapshotId, VersionId, wide};
use std::sync::Arc;

/// A server. Clones are handles of the same server.
#[derive(Clone)]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: ServerId,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("id", &self.id).field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Store {
    /// Makes a server without disks. Its name is 1 to 64 letters, digits, hyphens and underscores.
    ///
    /// # Errors
    /// `Invalid` for the name, `Exists` if it is taken.
    pub fn create_server(&self, name: &str) -> Result<Server> {
        check_name("server", name)?;
        self.create_server_of(name, ServerKind::User, None)
    }

    /// Makes a server without disks that has the id `id`, for those whose clients know servers by the ids of another
    /// system. Ids only ever grow: it must be larger than all that the store gave out so far, and what is made
    /// afterwards has larger ones.
    ///
    /// # Errors
    /// `Invalid` for the name, or an id that is 0 or above 2^40; `Exists` if the name is taken, or if the id may have been given out.
    pub fn create_server_with_id(&self, id: ServerId, name: &str) -> Result<Server> {
        check_name("server", name)?;
        if id.0 == 0 || id.0 > WANTED_ID_MAX {
            let message = format!("a server cannot have the id {id}; choose one from 1 to {WANTED_ID_MAX}");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        self.create_server_of(name, ServerKind::User, Some(id))
    }

    /// Makes a server without disks that [`servers`](Store::servers) does not show: what is received goes there,
    /// until [`adopt_snapshot`](Store::adopt_snapshot) makes it a snapshot.
    ///
    /// # Errors
    /// Those of [`create_server`](Store::create_server).
    pub fn create_staging_server(&self, name: &str) -> Result<Server> {
        check_name("server", name)?;
        self.create_server_of(name, ServerKind::Staging, None)
    }

    fn create_server_of(&self, name: &str, kind: ServerKind, wanted: Option<ServerId>) -> Result<Server> {
        let event = self.shared.execute((Purpose::Catalog, 1), |state| {
            refuse_taken_server(state, name)?;
            let next = ServerId(state.catalog.next_id);
            let id = wanted.unwrap_or(next);
            if id < next {
                return Err(exists(format!(
                    "the id {id} may have been given out; the next free one is {next}"
                )));
            }
            Ok(Event::CreateServer { id, name: name.into(), created_at: self.shared.now(), kind })
        })?;
        match event {
            Event::CreateServer { id, .. } => Ok(Server { shared: self.shared.clone(), id }),
            _ => unreachable!("the event that was planned"),
        }
    }

    /// All servers that users made, by id.
    pub fn servers(&self) -> Vec<Server> {
        self.servers_of(ServerKind::User)
    }

    /// The servers that hold what is still being received, by id.
    pub fn staging_servers(&self) -> Vec<Server> {
        self.servers_of(ServerKind::Staging)
    }

    fn servers_of(&self, kind: ServerKind) -> Vec<Server> {
        let state = self.shared.state.read();
        let records = state.catalog.servers.values().filter(|record| record.kind == kind);
        records.map(|record| Server { shared: self.shared.clone(), id: record.id }).collect()
    }

    /// The server of that name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn server(&self, name: &str) -> Result<Server> {
        let state = self.shared.state.read();
        let found = state.catalog.server_named(name);
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no server {name:?}"));
        found.map(|record| Server { shared: self.shared.clone(), id: record.id }).ok_or_else(missing)
    }

    /// The server with that id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn server_by_id(&self, id: ServerId) -> Result<Server> {
        self.shared.state.read().server(id)?;
        Ok(Server { shared: self.shared.clone(), id })
    }

    /// The disk with that id.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn disk_by_id(&self, id: DiskId) -> Result<Disk> {
        Disk::find(&self.shared, id)
    }

    /// Deletes a server, its disks and its snapshots. The collector frees their space.
    ///
    /// # Errors
    /// `NotFound`, `Protected` if one of its snapshots is.
    pub fn delete_server(&self, id: ServerId) -> Result<()> {
        let records = self.shared.state.read().catalog.record_count_of(id);
        self.shared.execute((Purpose::Relief, records), |state| {
            state.server(id)?;
            refuse_protected(state, id)?;
            let mut next = NextIds::new(state)?;
            let versions = state.catalog.disks_of(id).into_iter().map(|disk| next.version(disk)).collect();
            Ok(Event::DeleteServer { id, epoch: next.epoch, versions })
        })?;
        self.shared.ask_for_collection();
        Ok(())
    }
}

/// Gives out ids and an epoch for an event that is being planned.
pub(crate) struct NextIds {
    next: u64,
    pub(crate) epoch: Epoch,
}

impl NextIds {
    /// Starts behind what the catalog gave out.
    ///
    /// # Errors
    /// `Full` after 2^40 epochs.
    pub(crate) fn new(state: &State) -> Result<Self> {
        let epoch = Epoch(state.catalog.epoch.0 + 1);
        if epoch.0 >= EPOCH_MAX - EPOCHS_PER_EVENT_MAX {
            return Err(Error::new(
                ErrorKind::Full,
                "the store has used up its epochs; send its disks to a new one",
            ));
        }
        Ok(Self { next: state.catalog.next_id, epoch })
    }

    /// An id.
    pub(crate) fn id(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// A version of a disk.
    pub(crate) fn version(&mut self, disk: DiskId) -> NewVersion {
        NewVersion { disk, version: VersionId(self.id()) }
    }
}

/// Refuses the name of a server that exists.
pub(crate) fn refuse_taken_server(state: &State, name: &str) -> Result<()> {
    match state.catalog.server_named(name) {
        Some(taken) => Err(exists(format!("server {name:?} exists, with id {}", taken.id))),
        None => Ok(()),
    }
}

/// Refuses to delete a server with a protected snapshot.
fn refuse_protected(state: &State, id: ServerId) -> Result<()> {
    let ids = state.catalog.snapshots_of(id);
    let mut records = ids.iter().filter_map(|id| state.catalog.snapshots.get(id));
    match records.find(|record| record.marks.protected) {
        Some(record) => Err(protected(&record.name, record.id)),
        None => Ok(()),
    }
}

/// The error for a snapshot that cannot be deleted.
pub(super) fn protected(name: &str, id: SnapshotId) -> Error {
    let message =
        format!("snapshot {name:?} ({id}) is protected; take the protection back before deleting it");
    Error::new(ErrorKind::Protected, message)
}

fn exists(message: String) -> Error {
    Error::new(ErrorKind::Exists, message)
}

/// Refuses one more disk where the server has that name, or has no room for it.
pub(crate) fn refuse_disk(state: &State, id: ServerId, name: &str, size_bytes: u64) -> Result<()> {
    let server = state.server(id)?;
    if let Some(taken) = state.catalog.disk_named(id, name) {
        return Err(exists(format!("server {:?} has a disk {name:?}, with id {}", server.name, taken.id)));
    }
    if state.catalog.disk_count_of(id) >= DISKS_PER_SERVER_MAX {
        let message =
            format!("server {:?} has {DISKS_PER_SERVER_MAX} disks, the most it can have", server.name);
        return Err(Error::new(ErrorKind::Limit, message));
    }
    refuse_bytes(state, id, size_bytes)
}

/// Refuses so many more bytes of disks where the server's limit is below that.
pub(super) fn refuse_bytes(state: &State, id: ServerId, more: u64) -> Result<()> {
    let server = state.server(id)?;
    let Some(limit) = server.marks.max_disk_bytes else { return Ok(()) };
    let disks = state.catalog.disks_of(id);
    let sizes = disks.iter().filter_map(|id| state.catalog.disks.get(id)).map(|disk| disk.size_bytes);
    let total = sizes.fold(more, u64::saturating_add);
    if total <= limit {
        return Ok(());
    }
    let message = format!(
        "the disks of server {:?} would have {total} bytes, and may have {limit}; raise its limit or delete a disk",
        server.name
    );
    Err(Error::new(ErrorKind::Limit, message))
}

/// Refuses sizes that no disk can have.
pub(super) fn check_size(size_bytes: u64) -> Result<()> {
    let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, message));
    if size_bytes == 0 || !size_bytes.is_multiple_of(SECTOR_BYTES) {
        let next = (size_bytes / SECTOR_BYTES + 1) * SECTOR_BYTES;
        return invalid(format!(
            "a disk of {size_bytes} bytes is not a multiple of {SECTOR_BYTES} bytes; the next one is {next}"
        ));
    }
    if size_bytes > DISK_BYTES_MAX {
        return invalid(format!(
            "a disk of {size_bytes} bytes is larger than {DISK_BYTES_MAX} bytes (1 PiB)"
        ));
    }
    Ok(())
}

impl Server {
    /// Its id, never reused.
    pub fn id(&self) -> ServerId {
        self.id
    }

    /// Its name; empty once it was deleted.
    pub fn name(&self) -> String {
        self.shared.state.read().server(self.id).map_or_else(|_| String::new(), |record| record.name.clone())
    }

    /// What it is for; `User` once it was deleted.
    pub fn kind(&self) -> ServerKind {
        self.shared.state.read().server(self.id).map_or(ServerKind::User, |record| record.kind)
    }

    /// When it was made, in UTC seconds since 1970.
    pub fn created_at(&self) -> u64 {
        self.shared.state.read().server(self.id).map_or(0, |record| record.created_at)
    }

    /// Makes an empty disk. It takes no space until it is written.
    ///
    /// # Errors
    /// `Invalid` for the name or the size (a multiple of 512), `Exists` if the name is taken.
    pub fn create_disk(&self, name: &str, size_bytes: u64) -> Result<Disk> {
        check_name("disk", name)?;
        check_size(size_bytes).map_err(|error| error.while_doing(format_args!("create disk {name:?}")))?;
        let event = self.shared.execute((Purpose::Catalog, 1), |state| {
            refuse_disk(state, self.id, name, size_bytes)?;
            let next = NextIds::new(state)?;
            Ok(Event::CreateDisk {
                id: DiskId(state.catalog.next_id),
                server: self.id,
                name: name.into(),
                size_bytes,
                created_at: self.shared.now(),
                birth: next.epoch,
            })
        })?;
        match event {
            Event::CreateDisk { id, .. } => Disk::find(&self.shared, id),
            _ => unreachable!("the event that was planned"),
        }
    }

    /// Its disks, by id.
    pub fn disks(&self) -> Vec<Disk> {
        let ids = self.shared.state.read().catalog.disks_of(self.id);
        ids.into_iter().filter_map(|id| Disk::find(&self.shared, id).ok()).collect()
    }

    /// Its disk of that name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn disk(&self, name: &str) -> Result<Disk> {
        let id = {
            let state = self.shared.state.read();
            let server = state.server(self.id)?;
            let missing =
                || Error::new(ErrorKind::NotFound, format!("server {:?} has no disk {name:?}", server.name));
            state.catalog.disk_named(self.id, name).ok_or_else(missing)?.id
        };
        Disk::find(&self.shared, id)
    }

    /// Deletes a disk. Snapshots that hold it keep it, and restoring one brings it back.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn delete_disk(&self, name: &str) -> Result<()> {
        let id = self.disk(name)?.id();
        self.shared.execute((Purpose::Relief, 2), |state| {
            state.disk(id)?;
            let mut next = NextIds::new(state)?;
            let version = next.version(id).version;
            Ok(Event::DeleteDisk { id, epoch: next.epoch, version })
        })?;
        self.shared.ask_for_collection();
        Ok(())
    }

    /// The snapshot that it was cloned from, if it was and that still exists.
    pub fn origin(&self) -> Option<SnapshotId> {
        let state = self.shared.state.read();
        let origin = state.server(self.id).ok()?.origin?;
        state.catalog.snapshots.contains_key(&origin).then_some(origin)
    }

    /// Its limits and labels; none once it was deleted.
    pub fn marks(&self) -> ServerMarks {
        self.shared.state.read().server(self.id).map(|record| record.marks.clone()).unwrap_or_default()
    }

    /// Sets its limits and labels. Limits hold for what is made from now on. Durable when this returns.
    ///
    /// # Errors
    /// `Invalid` for too many or too long labels, `NotFound`.
    pub fn set_marks(&self, marks: ServerMarks) -> Result<()> {
        check_labels(&marks.labels)?;
        self.shared.execute((Purpose::Relief, 1), |state| {
            state.server(self.id)?;
            Ok(Event::MarkServer { id: self.id, marks })
        })?;
        Ok(())
    }

    /// What deleting the server would free, with its disks and snapshots: exactly for data, at most for the nodes of maps. Everything
    /// before this call is taken into account; no data is read, only what differs between them and their neighbours is.
    ///
    /// # Errors
    /// `NotFound` if the server was deleted, `Limit` if it has more than 1,024 disks and snapshots of disks, and those of
    /// [`Store::would_free`] but for `Protected`.
    pub fn would_free(&self) -> Result<Freed> {
        self.shared.engine.server_would_free(self.id)
    }

    /// What its disks refer to, and what they alone do, as of the last checkpoint: the sums over its disks. So what two of its
    /// disks share counts for both, and as shared. What its snapshots hold besides is not in it.
    pub fn space(&self) -> Space {
        let none = Space { exclusive_bytes: Some(0), ..Space::default() };
        self.disks().iter().filter_map(Disk::space).fold(none, |all, one| Space {
            referenced_bytes: all.referenced_bytes + one.referenced_bytes,
            exclusive_bytes: all.exclusive_bytes.zip(one.exclusive_bytes).map(|(all, one)| all + one),
        })
    }

    /// How many disks it has.
    pub fn disk_count(&self) -> u64 {
        wide(self.shared.state.read().catalog.disk_count_of(self.id))
    }
}
