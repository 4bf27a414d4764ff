//! Receive: a stream into a snapshot.
//!
//! It is put together on a staging server, which nobody sees, and appears in one event, whole: a receive that is cut off
//! leaves no snapshot, and what it got so far is there for the next one.

mod head;
mod note;
mod staging;

use std::io::Read;

use cowblk::{AdoptedSnapshot, Server, Snapshot, Store};

pub use head::HeadPolicy;

use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::header::{Header, Identity, Position};
use crate::reader::StreamReader;
use crate::send::{snapshot_with, uuid};
use crate::token::Token;
use note::Note;
use staging::Staging;

/// Bytes of frames between two notes, unless told otherwise.
const NOTE_EVERY_BYTES: u64 = 64 << 20;
/// What a hole counts for in that, whatever its length.
const HOLE_WEIGHT_BYTES: u64 = 4096;

/// How to receive. Nothing happens before [`read`](Receive::read).
pub struct Receive<'a> {
    store: &'a Store,
    server: Option<String>,
    policy: HeadPolicy,
    note_every_bytes: u64,
    progress: Box<dyn FnMut(u64, u64) + 'a>,
}

/// What was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// The server that has the snapshot now.
    pub server: Server,
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Bytes of data, those of earlier parts included.
    pub data_bytes: u64,
    /// Bytes of holes, in the same way.
    pub hole_bytes: u64,
    /// Whether the server's disks were taken to the snapshot.
    pub is_head_moved: bool,
}

/// A receive that was cut off.
#[derive(Clone, Debug)]
pub struct Partial {
    /// What the sender needs in order to go on.
    pub token: Token,
    /// Bytes of data that are here.
    pub data_bytes: u64,
}

impl<'a> Receive<'a> {
    /// Into `store`.
    pub fn new(store: &'a Store) -> Self {
        Self {
            store,
            server: None,
            policy: HeadPolicy::Follow,
            note_every_bytes: NOTE_EVERY_BYTES,
            progress: Box::new(|_, _| {}),
        }
    }

    /// Into this server, which is made if it is missing. Otherwise a whole snapshot goes into a new server with the name
    /// that it had, and one that builds on another goes to the server that has that one.
    #[must_use]
    pub fn server(self, name: &str) -> Self {
        Self { server: Some(name.to_owned()), ..self }
    }

    /// Whether the server's disks are taken to the snapshot.
    #[must_use]
    pub fn head(self, policy: HeadPolicy) -> Self {
        Self { policy, ..self }
    }

    /// How many bytes are received, at most, before what is there is made durable and noted; 64 MiB by default.
    #[must_use]
    pub fn note_every_bytes(self, bytes: u64) -> Self {
        Self { note_every_bytes: bytes, ..self }
    }

    /// Calls `progress` with the bytes of data that this stream brought so far, and about how many it will bring.
    #[must_use]
    pub fn progress(self, progress: impl FnMut(u64, u64) + 'a) -> Self {
        Self { progress: Box::new(progress), ..self }
    }

    /// Reads one stream, and not a byte more. The snapshot is durable when this returns.
    ///
    /// # Errors
    /// `NotAStream`, `Unsupported`, `Truncated`, `Damaged`, `Io` for the stream; `WrongBase`, `WrongPosition`, `Exists` if it
    /// does not fit this store; `Store`. Where a part was received, the error has a [token](Error::token).
    pub fn read(mut self, input: &mut impl Read) -> Result<Received> {
        let mut reader = StreamReader::new(input)?;
        let header = reader.header().clone();
        let plan = self.plan(&header)?;
        remove_stale_notes(self.store)?;
        let mut staging = Staging::open(self.store, &header, plan.base.as_ref())?;
        if header.start > staging.note.token.position {
            let Position { disk, offset } = staging.note.token.position;
            let message = format!(
                "the stream goes on at a place that this store has not come to (it has come to {offset} of disk {disk})"
            );
            return Err(Error::new(ErrorKind::WrongPosition, message).resumable(staging.note.token));
        }
        if let Err(error) = self.fill(&mut reader, &mut staging) {
            return Err(keep(staging, error));
        }
        self.appear(&header, plan, &staging).map_err(|error| keep(staging, error))
    }

    /// Finds the snapshot that the stream builds on, and the place for the new one.
    fn plan(&self, header: &Header) -> Result<Plan> {
        let identity = header.snapshot.identity;
        if let Some(here) = snapshot_with(self.store, identity) {
            let server = self.store.server_by_id(here.server())?.name();
            let message = format!("the snapshot is here already: {:?} of server {server:?}", here.name());
            return Err(Error::new(ErrorKind::Exists, message));
        }
        let base = match &header.base {
            None => None,
            Some(base) => Some(snapshot_with(self.store, base.identity).ok_or_else(|| {
                let message = format!(
                    "the stream builds on snapshot {:?} ({}), which is not here; receive that one first",
                    base.name, base.identity
                );
                Error::new(ErrorKind::WrongBase, message)
            })?),
        };
        let name = match (&self.server, &base) {
            (Some(name), _) => name.clone(),
            (None, Some(base)) => self.store.server_by_id(base.server())?.name(),
            (None, None) => header.server.clone(),
        };
        let server = self.store.servers().into_iter().find(|server| server.name() == name);
        if let Some(server) = &server {
            refuse_taken(server, header)?;
        }
        Ok(Plan { base, name, server })
    }

    /// Puts all frames in their places.
    fn fill(&mut self, reader: &mut StreamReader<&mut impl Read>, staging: &mut Staging) -> Result<()> {
        let total = reader.header().data_bytes;
        let known = staging.note.token.position;
        let (mut received, mut unnoted) = (0, 0);
        loop {
            let (at, len, weight) = match reader.next_frame()? {
                Frame::End { .. } => return Ok(()),
                Frame::Data { at, bytes } => {
                    disk(staging, at)?.write_at(bytes, at.offset)?;
                    let len = bytes.len() as u64;
                    received += len;
                    staging.note.data_bytes += if at >= known { len } else { 0 };
                    (self.progress)(received, total);
                    (at, len, len)
                }
                Frame::Hole { at, len } => {
                    disk(staging, at)?.discard(at.offset, len)?;
                    staging.note.hole_bytes += if at >= known { len } else { 0 };
                    (at, len, HOLE_WEIGHT_BYTES)
                }
            };
            unnoted += weight;
            let end = Position { offset: at.offset + len, ..at };
            staging.note.token.position = staging.note.token.position.max(end);
            if unnoted >= self.note_every_bytes {
                staging.note_disk.write(&staging.note)?;
                unnoted = 0;
            }
        }
    }

    /// Lets the snapshot appear, and cleans up.
    fn appear(&self, header: &Header, plan: Plan, staging: &Staging) -> Result<Received> {
        let server = match plan.server {
            Some(server) => server,
            None => self.store.create_server(&plan.name)?,
        };
        let moves = self.policy.moves(&server, plan.base.as_ref())?;
        let entry = &header.snapshot;
        let spec = AdoptedSnapshot {
            name: entry.name.clone(),
            description: entry.description.clone(),
            created_at: entry.created_at,
            identity: entry.identity.0,
            origin: (entry.origin != uuid(self.store)).then_some(entry.origin),
        };
        let snapshot = self.store.adopt_snapshot(staging.server.id(), server.id(), spec)?;
        note::remove(self.store, entry.identity)?;
        if moves {
            head::move_to(&server, &snapshot, plan.base.as_ref())?;
        }
        let Note { data_bytes, hole_bytes, .. } = staging.note;
        Ok(Received { server, snapshot, data_bytes, hole_bytes, is_head_moved: moves })
    }
}

/// Where a stream goes.
struct Plan {
    base: Option<Snapshot>,
    name: String,
    server: Option<Server>,
}

fn disk(staging: &Staging, at: Position) -> Result<&cowblk::Disk> {
    let index = usize::try_from(at.disk).ok();
    index
        .and_then(|index| staging.disks.get(index))
        .ok_or_else(|| Error::damaged("it names a disk that it does not have"))
}

/// Notes what is there, as far as the store still can, and says where to go on.
fn keep(staging: Staging, error: Error) -> Error {
    match staging.note_disk.write(&staging.note) {
        Ok(()) => error.resumable(staging.note.token),
        Err(_) => error, // the store failed: the first error says more
    }
}

/// Refuses a server in which the snapshot cannot appear.
fn refuse_taken(server: &Server, header: &Header) -> Result<()> {
    let exists = |message| Err(Error::new(ErrorKind::Exists, message));
    let name = server.name();
    if server.snapshots().iter().any(|snapshot| snapshot.name() == header.snapshot.name) {
        return exists(format!("server {name:?} has another snapshot {:?}", header.snapshot.name));
    }
    let is_empty = server.disk_count() == 0 && server.snapshots().is_empty();
    if header.base.is_none() && !is_empty {
        return exists(format!(
            "server {name:?} exists; name another one, or send what changed since one of its snapshots"
        ));
    }
    Ok(())
}

/// Removes notes whose staging server has become a snapshot, or was deleted.
fn remove_stale_notes(store: &Store) -> Result<()> {
    for note in note::all(store)? {
        if staging::server(store, note.token.snapshot).is_none() {
            note::remove(store, note.token.snapshot)?;
        }
    }
    Ok(())
}

/// The receives of this store that were cut off.
///
/// # Errors
/// `Store`.
pub fn partials(store: &Store) -> Result<Vec<Partial>> {
    let notes = note::all(store)?.into_iter();
    let live = notes.filter(|note| staging::server(store, note.token.snapshot).is_some());
    Ok(live.map(|note| Partial { token: note.token, data_bytes: note.data_bytes }).collect())
}

/// Gives up a receive that was cut off, and frees what it got. Whether there was one.
///
/// # Errors
/// `Store`.
pub fn abandon(store: &Store, snapshot: Identity) -> Result<bool> {
    let server = staging::server(store, snapshot);
    if let Some(server) = &server {
        store.delete_server(server.id())?;
    }
    note::remove(store, snapshot)?;
    Ok(server.is_some())
}
