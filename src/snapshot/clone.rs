//! Clone: new servers and disks from snapshots, and their way back.
//!
//! Floor 6.

use super::handle::{Snapshot, SnapshotDisk};
use crate::catalog::check_name;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Event, NewDisk, ServerKind};
use crate::store::{Disk, NextIds, Purpose, Server, refuse_disk, refuse_taken_server};
use crate::units::{DiskId, ServerId};

impl Snapshot {
    /// Makes a new server whose disks begin as this snapshot holds them, under the same names. It costs the same for
    /// disks of any size. The clone is independent: snapshot and clone can be deleted in any order. Durable when this returns.
    ///
    /// # Errors
    /// `Invalid` for the name, `Exists` if it is taken, `NotFound` if the snapshot was deleted.
    pub fn clone_server(&self, name: &str) -> Result<Server> {
        self.clone_server_as(name, ServerKind::User)
    }

    /// The same, as a server that no listing shows: what is received on top of this snapshot goes there.
    ///
    /// # Errors
    /// Those of [`clone_server`](Snapshot::clone_server).
    pub fn clone_staging_server(&self, name: &str) -> Result<Server> {
        self.clone_server_as(name, ServerKind::Staging)
    }

    fn clone_server_as(&self, name: &str, kind: ServerKind) -> Result<Server> {
        check_name("server", name)?;
        let event = self.shared.execute((Purpose::Catalog, 4), |state| {
            let snapshot = state.snapshot(self.id)?;
            refuse_taken_server(state, name)?;
            let mut next = NextIds::new(state)?;
            let id = ServerId(next.id());
            let disks = snapshot.versions.iter();
            let disks = disks.map(|version| NewDisk { version: *version, disk: DiskId(next.id()) }).collect();
            Ok(Event::CloneServer {
                snapshot: self.id,
                id,
                name: name.into(),
                kind,
                created_at: self.shared.now(),
                birth: next.epoch,
                disks,
            })
        })?;
        match event {
            Event::CloneServer { id, .. } => Ok(Server { shared: self.shared.clone(), id }),
            _ => unreachable!("the event that was planned"),
        }
    }
}

impl SnapshotDisk {
    /// Makes a new disk of `server` that begins as this one was. Durable when this returns.
    ///
    /// # Errors
    /// `Invalid` for the name, `Exists` if it is taken, `Limit`, `NotFound` if the snapshot was deleted.
    pub fn clone_disk(&self, server: &Server, name: &str) -> Result<Disk> {
        check_name("disk", name)?;
        self.shared.execute((Purpose::Catalog, 4), |state| {
            let version = state.shown(self.id)?;
            refuse_disk(state, server.id, name, version.size_bytes)?;
            let mut next = NextIds::new(state)?;
            Ok(Event::CloneDisk {
                new: NewDisk { version: self.id, disk: DiskId(next.id()) },
                server: server.id,
                name: name.into(),
                created_at: self.shared.now(),
                birth: next.epoch,
            })
        })?;
        server.disk(name)
    }
}

impl Server {
    /// Takes all disks that were cloned back to what they were cloned from. What they hold is not kept; disks that
    /// were made otherwise stay as they are. It costs the same whatever was written. Durable when this returns.
    ///
    /// # Errors
    /// `NotFound` if no disk is a clone, or if the snapshot of one was deleted.
    pub fn reset(&self) -> Result<()> {
        self.shared.execute((Purpose::Catalog, 4), |state| {
            let server = state.server(self.id)?;
            let disks = state.catalog.disks_of(self.id);
            let mut next = NextIds::new(state)?;
            let mut versions = Vec::new();
            for disk in disks.iter().filter_map(|id| state.catalog.disks.get(id)) {
                let Some(origin) = disk.origin else { continue };
                state.shown(origin).map_err(|error| {
                    error.while_doing(format_args!("reset disk {}/{}", server.name, disk.name))
                })?;
                versions.push(next.version(disk.id));
            }
            if versions.is_empty() {
                let message = format!("server {:?} has no disk that was cloned", server.name);
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            Ok(Event::Reset { epoch: next.epoch, versions })
        })?;
        self.shared.ask_for_collection();
        Ok(())
    }
}
