//! Send: a snapshot, or what changed since an earlier one, into a stream.
//!
//! A snapshot never changes, so a stream can be written again from any place on: that is all that resuming takes.

use std::io::Write;

use cowblk::{Change, Point, Snapshot, SnapshotDisk, Store};

use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::header::{DiskEntry, Header, Identity, Position, SnapshotEntry};
use crate::limits::FRAME_DATA_BYTES_MAX;
use crate::token::Token;
use crate::writer::StreamWriter;

/// What to send. Nothing happens before [`write`](Send::write).
pub struct Send<'a> {
    store: &'a Store,
    snapshot: Snapshot,
    base: Option<Snapshot>,
    start: Position,
    progress: Box<dyn FnMut(u64, u64) + 'a>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes of data.
    pub data_bytes: u64,
    /// Bytes of holes.
    pub hole_bytes: u64,
}

impl<'a> Send<'a> {
    /// The whole snapshot.
    pub fn new(store: &'a Store, snapshot: &Snapshot) -> Self {
        let start = Position::default();
        Self { store, snapshot: snapshot.clone(), base: None, start, progress: Box::new(|_, _| {}) }
    }

    /// Only what changed since `base`, which the receiver must hold.
    #[must_use]
    pub fn since(self, base: &Snapshot) -> Self {
        Self { base: Some(base.clone()), ..self }
    }

    /// The rest of a stream that a receiver got a part of.
    ///
    /// # Errors
    /// `NotFound` if the store does not hold the snapshots that the token means.
    pub fn resume(store: &'a Store, token: &Token) -> Result<Self> {
        let find = |identity: Identity| {
            snapshot_with(store, identity).ok_or_else(|| {
                let message =
                    format!("this store does not hold the snapshot that the token means ({identity})");
                Error::new(ErrorKind::NotFound, message)
            })
        };
        let sending = Self::new(store, &find(token.snapshot)?);
        let base = token.base.map(find).transpose()?;
        Ok(Self { base, start: token.position, ..sending })
    }

    /// What is sent.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What the receiver must hold.
    pub fn base(&self) -> Option<&Snapshot> {
        self.base.as_ref()
    }

    /// Calls `progress` with the bytes of data that were sent, and all that will be.
    #[must_use]
    pub fn progress(self, progress: impl FnMut(u64, u64) + 'a) -> Self {
        Self { progress: Box::new(progress), ..self }
    }

    /// Writes the stream. Neither snapshot may be deleted before this returns.
    ///
    /// # Errors
    /// `Store` for what the store answers, `Io` for what `out` does; `Damaged` for a token of another snapshot.
    pub fn write(mut self, out: &mut impl Write) -> Result<Sent> {
        let disks = self.disks()?;
        let header = self.header(&disks)?;
        let mut writer = StreamWriter::new(out, &header)?;
        let mut sent = Sent { data_bytes: 0, hole_bytes: 0 };
        let mut buffer = vec![0; FRAME_DATA_BYTES_MAX];
        for (index, disk, offset) in from(self.start, &disks) {
            for change in disk.changes(self.store, offset)? {
                let change = change?;
                if change.is_data() {
                    self.data(
                        &mut writer,
                        (index, disk),
                        change,
                        (&mut buffer, &mut sent, header.data_bytes),
                    )?;
                } else {
                    let at = Position { disk: index, offset: change.offset };
                    writer.frame(Frame::Hole { at, len: change.len })?;
                    sent.hole_bytes += change.len;
                }
            }
        }
        writer.finish()?;
        Ok(sent)
    }

    fn data(
        &mut self,
        writer: &mut StreamWriter<&mut impl Write>,
        (index, disk): (u32, &SentDisk),
        change: Change,
        (buffer, sent, total): (&mut [u8], &mut Sent, u64),
    ) -> Result<()> {
        let end = change.offset + change.len;
        let mut offset = change.offset;
        while offset < end {
            // Frames end at multiples of their length, so that a change is read in as few pieces as possible.
            let longest = FRAME_DATA_BYTES_MAX as u64 - offset % FRAME_DATA_BYTES_MAX as u64;
            let len = usize::try_from(longest.min(end - offset)).unwrap_or(FRAME_DATA_BYTES_MAX);
            let bytes = &mut buffer[..len];
            disk.newer.read_at(bytes, offset)?;
            writer.frame(Frame::Data { at: Position { disk: index, offset }, bytes })?;
            offset += len as u64;
            sent.data_bytes += len as u64;
            (self.progress)(sent.data_bytes, total);
        }
        Ok(())
    }

    fn disks(&self) -> Result<Vec<SentDisk>> {
        let entry = |newer: SnapshotDisk| SentDisk {
            older: self.base.as_ref().and_then(|base| base.disk(&newer.name()).ok()),
            newer,
        };
        let disks: Vec<_> = self.snapshot.disks().into_iter().map(entry).collect();
        // A snapshot that was deleted lists no disks: say so, instead of sending an empty one.
        self.store.snapshot(self.snapshot.id())?;
        if let Some(base) = &self.base {
            self.store.snapshot(base.id())?;
        }
        Ok(disks)
    }

    fn header(&self, disks: &[SentDisk]) -> Result<Header> {
        let store = uuid(self.store);
        let mut data_bytes = 0;
        for (_, disk, offset) in from(self.start, disks) {
            for change in disk.changes(self.store, offset)? {
                let change = change?;
                data_bytes += if change.is_data() { change.len } else { 0 };
            }
        }
        let header = Header {
            store,
            server: self.store.server_by_id(self.snapshot.server())?.name(),
            snapshot: entry(&self.snapshot, store),
            base: self.base.as_ref().map(|base| entry(base, store)),
            disks: disks.iter().map(SentDisk::entry).collect(),
            start: self.start,
            data_bytes,
        };
        // What a reader would refuse is not sent: a token whose place does not fit, a base that is the snapshot.
        Header::decode(&header.encode()?)
    }
}

/// The disks that are left from a place on: their indices, and where to begin in them.
fn from(start: Position, disks: &[SentDisk]) -> impl Iterator<Item = (u32, &SentDisk, u64)> {
    let offset = move |index| if index == start.disk { start.offset } else { 0 };
    let rest = (0..).zip(disks).skip_while(move |(index, _)| *index < start.disk);
    rest.map(move |(index, disk)| (index, disk, offset(index)))
}

/// One disk, and what the base holds of it.
struct SentDisk {
    older: Option<SnapshotDisk>,
    newer: SnapshotDisk,
}

impl SentDisk {
    /// What the receiver is to be told from `offset` on.
    fn changes(&self, store: &Store, offset: u64) -> Result<impl Iterator<Item = cowblk::Result<Change>>> {
        let older = self.older.as_ref().map(Point::from);
        let changes = store.changes(older.as_ref(), &Point::from(&self.newer))?.starting_at(offset);
        // The first one may begin before the place to go on from: that part is there already.
        Ok(changes.filter_map(move |change| match change {
            Ok(change) if change.offset < offset => {
                let end = (change.offset + change.len).max(offset);
                (end > offset).then_some(Ok(Change { offset, len: end - offset, ..change }))
            }
            other => Some(other),
        }))
    }

    fn entry(&self) -> DiskEntry {
        DiskEntry {
            name: self.newer.name(),
            size_bytes: self.newer.size_bytes(),
            base_bytes: self.older.as_ref().map(SnapshotDisk::size_bytes),
        }
    }
}

fn entry(snapshot: &Snapshot, store: [u8; 16]) -> SnapshotEntry {
    SnapshotEntry {
        identity: Identity(snapshot.identity()),
        origin: snapshot.origin().unwrap_or(store),
        id: snapshot.id().0,
        created_at: snapshot.created_at(),
        name: snapshot.name(),
        description: snapshot.description(),
    }
}

/// The store's id.
pub(crate) fn uuid(store: &Store) -> [u8; 16] {
    let text = store.status().uuid;
    let mut uuid = [0; 16];
    for (byte, digits) in uuid.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = std::str::from_utf8(digits).ok().and_then(|d| u8::from_str_radix(d, 16).ok()).unwrap_or(0);
    }
    uuid
}

/// The snapshot with this identity, automatic ones included.
pub(crate) fn snapshot_with(store: &Store, identity: Identity) -> Option<Snapshot> {
    let automatic = store.servers().into_iter().filter_map(|server| server.before_restore());
    store.snapshots().into_iter().chain(automatic).find(|snapshot| snapshot.identity() == identity.0)
}
