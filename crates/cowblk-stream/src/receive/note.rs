//! Note: how far a receive got, durably.
//!
//! It stands on a disk of a staging server of its own. A store comes back from a crash as a prefix of its history, all
//! disks together, so a note that is there speaks of data that is there.
//!
//! ```text
//! 0   magic       cowblkRN
//! 8   token       the snapshot, its base and the place (44 bytes)
//! 52  data_bytes  received so far
//! 60  hole_bytes
//! 68  seal        BLAKE3 of the 68 bytes before
//! ```

use cowblk::{Disk, ErrorKind, Server, Store};

use crate::error::Result;
use crate::fields::{Cursor, Fields};
use crate::header::{Header, Identity, Position};
use crate::token::Token;

/// The staging server whose disks are the notes.
const SERVER: &str = "receiving-notes";
const MAGIC: [u8; 8] = *b"cowblkRN";
const NOTE_BYTES: usize = 512;
const SEALED_BYTES: usize = 68;
const TOKEN_BYTES: usize = 44;

/// What a note says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) token: Token,
    pub(super) data_bytes: u64,
    pub(super) hole_bytes: u64,
}

/// The first half of an identity: what names of staging servers and notes are made of.
pub(super) fn short(identity: Identity) -> String {
    identity.to_string().chars().take(16).collect()
}

impl Note {
    pub(super) fn first(header: &Header) -> Self {
        Self { token: Token::of(header, Position::default()), data_bytes: 0, hole_bytes: 0 }
    }

    fn encode(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        fields.bytes(&MAGIC).bytes(&self.token.fields()).u64(self.data_bytes).u64(self.hole_bytes);
        let seal = blake3::hash(&fields.0);
        fields.bytes(seal.as_bytes());
        fields.0.resize(NOTE_BYTES, 0);
        fields.0
    }

    /// The note in `bytes`; `None` where none was written.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (sealed, rest) = bytes.split_at_checked(SEALED_BYTES)?;
        if !sealed.starts_with(&MAGIC) || !rest.starts_with(blake3::hash(sealed).as_bytes()) {
            return None;
        }
        let (token, counts) = sealed.get(MAGIC.len()..)?.split_at_checked(TOKEN_BYTES)?;
        let mut cursor = Cursor(counts);
        Some(Self {
            token: Token::from_fields(token).ok()?,
            data_bytes: cursor.u64().ok()?,
            hole_bytes: cursor.u64().ok()?,
        })
    }
}

/// Where a receive keeps its note.
pub(super) struct NoteDisk(Disk);

impl NoteDisk {
    /// The disk for the note about a snapshot; made if it is missing.
    pub(super) fn open(store: &Store, identity: Identity) -> Result<Self> {
        let server = match server(store) {
            Some(server) => server,
            None => store.create_staging_server(SERVER)?,
        };
        match server.disk(&short(identity)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(Self(server.create_disk(&short(identity), NOTE_BYTES as u64)?))
            }
            disk => Ok(Self(disk?)),
        }
    }

    pub(super) fn read(&self) -> Result<Option<Note>> {
        let mut bytes = [0; NOTE_BYTES];
        self.0.read_at(&mut bytes, 0)?;
        Ok(Note::decode(&bytes))
    }

    /// Writes the note behind all that was written, and makes both durable.
    pub(super) fn write(&self, note: &Note) -> Result<()> {
        self.0.write_at(&note.encode(), 0)?;
        Ok(self.0.flush()?)
    }
}

fn server(store: &Store) -> Option<Server> {
    store.staging_servers().into_iter().find(|server| server.name() == SERVER)
}

/// All notes of a store.
pub(super) fn all(store: &Store) -> Result<Vec<Note>> {
    let disks = server(store).map_or_else(Vec::new, |server| server.disks());
    let notes = disks.into_iter().map(|disk| NoteDisk(disk).read()).collect::<Result<Vec<_>>>()?;
    Ok(notes.into_iter().flatten().collect())
}

/// Removes a note, and with the last one their server.
pub(super) fn remove(store: &Store, identity: Identity) -> Result<()> {
    let Some(server) = server(store) else { return Ok(()) };
    match server.delete_disk(&short(identity)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    if server.disks().is_empty() {
        store.delete_server(server.id())?;
    }
    Ok(())
}
