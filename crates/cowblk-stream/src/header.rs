//! Header: what a stream carries, from which store, on top of what, and from where on.

use std::collections::BTreeSet;
use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::fields::{Cursor, Fields};
use crate::limits::{DESCRIPTION_BYTES_MAX, DISK_BYTES_MAX, DISKS_MAX, NAME_BYTES_MAX, SECTOR_BYTES};

/// The stream builds on a base.
const FLAG_INCREMENTAL: u32 = 1;

/// What a snapshot is recognised by, in every store that holds it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub [u8; 16]);

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place in a snapshot: everything before it, disk after disk, is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Index of the disk in the header.
    pub disk: u32,
    /// The byte in it.
    pub offset: u64,
}

/// A snapshot, as a header names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// What it is recognised by.
    pub identity: Identity,
    /// The store that it was first made in.
    pub origin: [u8; 16],
    /// Its id in the sending store; of use to people only.
    pub id: u64,
    /// When it was made, in UTC seconds since 1970.
    pub created_at: u64,
    /// Its name.
    pub name: String,
    /// What it was made for.
    pub description: String,
}

/// A disk of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskEntry {
    /// Its name.
    pub name: String,
    /// Its size at the snapshot, in bytes.
    pub size_bytes: u64,
    /// Its size at the base, in bytes; `None` if the base does not hold a disk of that name.
    pub base_bytes: Option<u64>,
}

/// What stands before the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sending store.
    pub store: [u8; 16],
    /// The name of the server that the snapshot is of.
    pub server: String,
    /// What is sent.
    pub snapshot: SnapshotEntry,
    /// What the receiver must hold already.
    pub base: Option<SnapshotEntry>,
    /// The snapshot's disks, in the order of the frames.
    pub disks: Vec<DiskEntry>,
    /// Where the stream begins: not at the start if it goes on with one that was cut off.
    pub start: Position,
    /// About how many bytes of data follow; for progress bars.
    pub data_bytes: u64,
}

impl Header {
    /// The header's bytes, without the prologue.
    ///
    /// # Errors
    /// `Unsupported` for texts and lists that are longer than a stream can carry: no store has them.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut fields = Fields::default();
        let flags = if self.base.is_some() { FLAG_INCREMENTAL } else { 0 };
        fields.bytes(&self.store).u32(flags).u32(self.start.disk).u64(self.start.offset).u64(self.data_bytes);
        fields.text(&self.server, NAME_BYTES_MAX)?;
        encode_snapshot(&mut fields, &self.snapshot)?;
        if let Some(base) = &self.base {
            encode_snapshot(&mut fields, base)?;
        }
        let count = u32::try_from(self.disks.len()).ok().filter(|_| self.disks.len() <= DISKS_MAX);
        let too_many = || Error::new(ErrorKind::Unsupported, format!("{} disks", self.disks.len()));
        fields.u32(count.ok_or_else(too_many)?);
        for disk in &self.disks {
            fields.u64(disk.size_bytes).u64(disk.base_bytes.unwrap_or(0)).text(&disk.name, NAME_BYTES_MAX)?;
        }
        Ok(fields.0)
    }

    /// The header in `bytes`.
    ///
    /// # Errors
    /// `Damaged` where the bytes say something impossible, `Unsupported` for unknown flags.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut cursor = Cursor(bytes);
        let store = cursor.array()?;
        let flags = cursor.u32()?;
        if flags & !FLAG_INCREMENTAL != 0 {
            let message =
                format!("the stream uses features {flags:#x}, which need a newer version of cowblk");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let start = Position { disk: cursor.u32()?, offset: cursor.u64()? };
        let data_bytes = cursor.u64()?;
        let server = decode_name(&mut cursor)?;
        let snapshot = decode_snapshot(&mut cursor)?;
        let base = (flags & FLAG_INCREMENTAL != 0).then(|| decode_snapshot(&mut cursor)).transpose()?;
        let count = cursor.u32()?;
        if usize::try_from(count).is_ok_and(|count| count > DISKS_MAX) {
            return Err(Error::damaged(format!("{count} disks, where {DISKS_MAX} are possible")));
        }
        let is_incremental = base.is_some();
        let disks: Vec<_> =
            (0..count).map(|_| decode_disk(&mut cursor, is_incremental)).collect::<Result<_>>()?;
        if !cursor.0.is_empty() {
            return Err(Error::damaged("its header is too long"));
        }
        let header = Self { store, server, snapshot, base, disks, start, data_bytes };
        header.check()?;
        Ok(header)
    }

    /// The size of a disk, in bytes.
    pub(crate) fn size_of(&self, disk: u32) -> Option<u64> {
        let at = usize::try_from(disk).ok()?;
        self.disks.get(at).map(|disk| disk.size_bytes)
    }

    fn check(&self) -> Result<()> {
        let names: BTreeSet<&str> = self.disks.iter().map(|disk| disk.name.as_str()).collect();
        if names.len() != self.disks.len() {
            return Err(Error::damaged("two disks have one name"));
        }
        if self.base.as_ref().is_some_and(|base| base.identity == self.snapshot.identity) {
            return Err(Error::damaged("a snapshot that builds on itself"));
        }
        let Position { disk, offset } = self.start;
        let is_inside = match self.size_of(disk) {
            Some(size) => offset <= size && offset.is_multiple_of(SECTOR_BYTES),
            None => u64::from(disk) == self.disks.len() as u64 && offset == 0,
        };
        if is_inside { Ok(()) } else { Err(Error::damaged("it begins outside of its disks")) }
    }
}

fn encode_snapshot(fields: &mut Fields, entry: &SnapshotEntry) -> Result<()> {
    fields.bytes(&entry.identity.0).bytes(&entry.origin).u64(entry.id).u64(entry.created_at);
    fields.text(&entry.name, NAME_BYTES_MAX)?.text(&entry.description, DESCRIPTION_BYTES_MAX)?;
    Ok(())
}

fn decode_snapshot(cursor: &mut Cursor<'_>) -> Result<SnapshotEntry> {
    Ok(SnapshotEntry {
        identity: Identity(cursor.array()?),
        origin: cursor.array()?,
        id: cursor.u64()?,
        created_at: cursor.u64()?,
        name: decode_name(cursor)?,
        description: cursor.text(DESCRIPTION_BYTES_MAX)?,
    })
}

fn decode_disk(cursor: &mut Cursor<'_>, is_incremental: bool) -> Result<DiskEntry> {
    let (size_bytes, base_bytes) = (cursor.u64()?, cursor.u64()?);
    let name = decode_name(cursor)?;
    let is_size = |bytes: u64| bytes.is_multiple_of(SECTOR_BYTES) && bytes <= DISK_BYTES_MAX;
    if size_bytes == 0 || !is_size(size_bytes) || !is_size(base_bytes) || (base_bytes > 0 && !is_incremental)
    {
        return Err(Error::damaged(format!("disk {name:?} has an impossible size")));
    }
    Ok(DiskEntry { name, size_bytes, base_bytes: (base_bytes > 0).then_some(base_bytes) })
}

fn decode_name(cursor: &mut Cursor<'_>) -> Result<String> {
    let name = cursor.text(NAME_BYTES_MAX)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(Error::damaged(format!("{name:?} is no name")));
    }
    Ok(name)
}
