//! Exports: the disks and snapshots of a store, by name, with one set of verbs.

mod directory;
mod scratch;
mod status;

pub use directory::{DefaultExport, StoreDirectory};
pub(crate) use scratch::Scratch;
pub use scratch::clear_scratch;
pub(crate) use status::{ContextKind, statuses};

use crate::codec::NbdError;
use crate::negotiation::Exported;
use cowblk::{Changes, Disk, Server, ServerId, SnapshotDisk, SnapshotId, Store};

/// One export, ready to be used.
#[derive(Clone, Debug)]
pub struct Export {
    name: String,
    description: String,
    server: Server,
    size_bytes: u64,
    block_bytes: u32,
    is_read_only: bool,
    content: Content,
}

/// What stands behind an export.
#[derive(Clone, Debug)]
enum Content {
    Head(Disk),
    Frozen(SnapshotDisk),
    /// A disk that is cloned from a snapshot once it is used, and thrown away afterwards.
    Scratch(SnapshotDisk),
}

/// A request that the store refused: the protocol's number, and the store's sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) error: NbdError,
    pub(crate) message: String,
}

impl From<cowblk::Error> for Failed {
    fn from(error: cowblk::Error) -> Self {
        Self { error: number_of(error.kind().errno()), message: error.to_string() }
    }
}

/// The protocol's number for an error of the store, which maps each of its kinds to an `errno`.
fn number_of(errno: i32) -> NbdError {
    match errno {
        1 | 13 | 30 => NbdError::Permission, // EPERM, EACCES, EROFS
        12 => NbdError::Memory,
        22 | 95 => NbdError::Invalid, // EINVAL; EOPNOTSUPP, which the protocol keeps for FAST_ZERO
        27 | 28 | 122 => NbdError::NoSpace, // EFBIG, ENOSPC, EDQUOT
        _ => NbdError::Io,
    }
}

impl Export {
    /// The server whose disk it is.
    pub(crate) fn server(&self) -> ServerId {
        self.server.id()
    }

    /// Makes ready what is made only for whoever uses it. The guard throws it away again.
    pub(crate) fn begin(&mut self, store: &Store) -> cowblk::Result<Option<Scratch>> {
        let Content::Scratch(frozen) = &self.content else { return Ok(None) };
        let (scratch, disk) = Scratch::new(store, frozen)?;
        self.content = Content::Head(disk);
        Ok(Some(scratch))
    }

    /// What changed since a snapshot of this disk.
    fn changes_since(&self, snapshot: SnapshotId) -> cowblk::Result<Changes> {
        match &self.content {
            Content::Head(disk) => disk.changes_since(snapshot),
            Content::Frozen(disk) | Content::Scratch(disk) => disk.changes_since(snapshot),
        }
    }

    /// Fills `buf` from `offset`.
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> Result<(), Failed> {
        match &self.content {
            Content::Head(disk) => disk.read_at(buf, offset)?,
            Content::Frozen(disk) | Content::Scratch(disk) => disk.read_at(buf, offset)?,
        }
        Ok(())
    }

    /// Writes `buf` at `offset`.
    pub(crate) fn write(&self, buf: &[u8], offset: u64) -> Result<(), Failed> {
        Ok(self.head()?.write_at(buf, offset)?)
    }

    /// Makes a range read as zeros, and frees what it held.
    pub(crate) fn discard(&self, offset: u64, len: u64) -> Result<(), Failed> {
        Ok(self.head()?.discard(offset, len)?)
    }

    /// Makes a range read as zeros. No range of a copy-on-write store can be kept free for later writes,
    /// so that it makes no difference whether a client allows holes.
    pub(crate) fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), Failed> {
        Ok(self.head()?.write_zeroes(offset, len)?)
    }

    /// Makes durable whatever was written, through this export or another.
    pub(crate) fn flush(&self) -> Result<(), Failed> {
        match &self.content {
            Content::Head(disk) if !self.is_read_only => Ok(disk.flush()?),
            Content::Head(_) | Content::Frozen(_) | Content::Scratch(_) => Ok(()),
        }
    }

    fn head(&self) -> Result<&Disk, Failed> {
        match &self.content {
            Content::Head(disk) => Ok(disk),
            Content::Frozen(_) | Content::Scratch(_) => {
                Err(Failed { error: NbdError::Permission, message: "the export is read-only".into() })
            }
        }
    }

    fn extents(&self, range: std::ops::Range<u64>) -> cowblk::Extents {
        match &self.content {
            Content::Head(disk) => disk.extents(range),
            Content::Frozen(disk) | Content::Scratch(disk) => disk.extents(range),
        }
    }
}

impl Exported for Export {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    fn can_multi_conn(&self) -> bool {
        // All connections reach the same disk, and the store's flush covers what returned on any of them. But a
        // scratch disk is its connection's own.
        !matches!(self.content, Content::Scratch(_))
    }

    fn preferred_block_bytes(&self) -> u32 {
        self.block_bytes
    }

    fn contexts(&self) -> Vec<String> {
        ContextKind::names(self)
    }

    fn has_context(&self, name: &str) -> bool {
        ContextKind::named(name, self).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cowblk::ErrorKind;

    #[test]
    fn full_stays_full_and_read_only_stays_read_only() {
        let number = |kind: ErrorKind| number_of(kind.errno());
        assert_eq!(number(ErrorKind::Full), NbdError::NoSpace);
        assert_eq!(number(ErrorKind::ReadOnly), NbdError::Permission);
        assert_eq!(number(ErrorKind::OutOfRange), NbdError::Invalid);
        assert_eq!(number(ErrorKind::Invalid), NbdError::Invalid);
        assert_eq!(number(ErrorKind::Unsupported), NbdError::Invalid);
        for kind in [ErrorKind::Io, ErrorKind::Corrupt, ErrorKind::Halted, ErrorKind::NotFound] {
            assert_eq!(number(kind), NbdError::Io, "{kind:?}");
        }
    }
}
