//! Staging: where a snapshot is put together before anybody sees it.
//!
//! A staging server is in no listing of servers. It begins as a clone of the base, which costs nothing, or empty.

use cowblk::{Disk, ErrorKind, Server, Snapshot, Store};

use super::note::{Note, NoteDisk, short};
use crate::error::Result;
use crate::header::{DiskEntry, Header, Identity};

/// The staging server of one receive, and its note.
pub(super) struct Staging {
    pub(super) server: Server,
    pub(super) disks: Vec<Disk>,
    pub(super) note_disk: NoteDisk,
    pub(super) note: Note,
}

fn name(identity: Identity) -> String {
    format!("receiving-{}", short(identity))
}

/// The staging server for a snapshot, if there is one.
pub(super) fn server(store: &Store, identity: Identity) -> Option<Server> {
    let name = name(identity);
    store.staging_servers().into_iter().find(|server| server.name() == name)
}

impl Staging {
    /// Goes on with what an earlier receive of the same snapshot left, or begins anew.
    pub(super) fn open(store: &Store, header: &Header, base: Option<&Snapshot>) -> Result<Self> {
        let identity = header.snapshot.identity;
        let note_disk = NoteDisk::open(store, identity)?;
        let first = Note::first(header);
        if let (Some(server), Some(note)) = (server(store, identity), note_disk.read()?)
            && note.token.base == first.token.base
            && let Some(disks) = disks_of(&server, header)
        {
            return Ok(Self { server, disks, note_disk, note });
        }
        if let Some(stale) = server(store, identity) {
            store.delete_server(stale.id())?;
        }
        let server = match base {
            Some(base) => base.clone_staging_server(&name(identity))?,
            None => store.create_staging_server(&name(identity))?,
        };
        let disks = shape(&server, header)?;
        // Only now does the note say that the staging server is what the header wants.
        note_disk.write(&first)?;
        Ok(Self { server, disks, note_disk, note: first })
    }
}

/// The disks that a header names, if the server has them and no others, all as long as they must be.
fn disks_of(server: &Server, header: &Header) -> Option<Vec<Disk>> {
    let fits = |entry: &DiskEntry| {
        server.disk(&entry.name).ok().filter(|disk| disk.size_bytes() == entry.size_bytes)
    };
    let disks: Option<Vec<Disk>> = header.disks.iter().map(fits).collect();
    disks.filter(|disks| disks.len() == server.disks().len())
}

/// Gives a clone of the base the disks and sizes of the snapshot.
fn shape(server: &Server, header: &Header) -> Result<Vec<Disk>> {
    for disk in server.disks() {
        let is_kept =
            header.disks.iter().any(|entry| entry.name == disk.name() && entry.base_bytes.is_some());
        if !is_kept {
            server.delete_disk(&disk.name())?;
        }
    }
    header.disks.iter().map(|entry| shape_disk(server, entry)).collect()
}

fn shape_disk(server: &Server, entry: &DiskEntry) -> Result<Disk> {
    let disk = match server.disk(&entry.name) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            server.create_disk(&entry.name, entry.size_bytes)?
        }
        disk => disk?,
    };
    let size = disk.size_bytes();
    if size > entry.size_bytes {
        disk.discard(entry.size_bytes, size - entry.size_bytes)?;
    }
    if size != entry.size_bytes {
        disk.resize(entry.size_bytes)?;
    }
    Ok(disk)
}
