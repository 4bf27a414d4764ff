//! Scratch: a writable copy of a snapshot for one connection.
//!
//! It is a clone on a server of its own that no listing shows. A process that is killed leaves such servers behind;
//! the next one clears them away.

use cowblk::{Disk, ErrorKind, Result, ServerId, SnapshotDisk, Store};

/// What the names of these servers begin with.
const PREFIX: &str = "nbd-scratch-";

/// Throws a scratch disk away when it is dropped.
pub(crate) struct Scratch {
    store: Store,
    server: ServerId,
}

impl Scratch {
    /// Makes a disk that begins as the snapshot holds it.
    pub(crate) fn new(store: &Store, frozen: &SnapshotDisk) -> Result<(Self, Disk)> {
        let mut number = 1;
        let server = loop {
            match store.create_staging_server(&format!("{PREFIX}{number}")) {
                Err(error) if error.kind() == ErrorKind::Exists => number += 1,
                made => break made?,
            }
        };
        let scratch = Self { store: store.clone(), server: server.id() };
        let disk = frozen.clone_disk(&server, &frozen.name())?;
        Ok((scratch, disk))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A store that has halted, or is closed, keeps it until it is cleared away.
        let _ = self.store.delete_server(self.server);
    }
}

/// Throws away the scratch disks that a process which was killed left behind. To be called before anybody serves
/// the store.
///
/// # Errors
/// Those of deleting a server.
pub fn clear_scratch(store: &Store) -> Result<()> {
    for server in store.staging_servers() {
        if server.name().starts_with(PREFIX) {
            store.delete_server(server.id())?;
        }
    }
    Ok(())
}
