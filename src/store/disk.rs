//! Disk: one writable block device of a server.
//!
//! Floor 5.

use super::blocks::Purpose;
use super::disk_io::DiskIo;
use super::extents::Extents;
use super::full::Terms;
use super::head::Head;
use super::open::Shared;
use super::read::Source;
use super::server::{check_size, refuse_bytes};
use super::sizes::Space;
use crate::catalog::SizeOf;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Event, WhenFull};
use crate::units::{DiskId, ServerId, SnapshotId, index};
use std::ops::Range;
use std::sync::Arc;

/// A live disk. Clones are handles of the same disk; all of its methods can be called from many threads
/// at once. Two writes that overlap and run at once leave each block as one of them.
#[derive(Clone)]
pub struct Disk {
    pub(super) shared: Arc<Shared>,
    pub(super) head: Arc<Head>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("id", &self.id()).field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Disk {
    pub(super) fn find(shared: &Arc<Shared>, id: DiskId) -> Result<Self> {
        let state = shared.state.read();
        state.disk(id)?;
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no disk {id}; it was deleted"));
        let head = state.heads.get(&id).cloned().ok_or_else(missing)?;
        Ok(Self { shared: shared.clone(), head })
    }

    /// The error, with the disk that it is about.
    pub(super) fn said(&self, doing: &str, error: Error) -> Error {
        let state = self.shared.state.read();
        let Ok(record) = state.disk(self.id()) else { return error };
        let server = state.server(record.server).map_or("", |server| &server.name);
        error.while_doing(format_args!("{doing} disk {server}/{}", record.name))
    }

    fn source(&self) -> Source {
        Source::Head(self.head.clone())
    }

    /// Its id, never reused.
    pub fn id(&self) -> DiskId {
        self.head.id
    }

    /// Its name; empty once it was deleted.
    pub fn name(&self) -> String {
        let state = self.shared.state.read();
        state.disk(self.id()).map_or_else(|_| String::new(), |record| record.name.clone())
    }

    /// The server that owns it; 0 once it was deleted.
    pub fn server(&self) -> ServerId {
        self.shared.state.read().disk(self.id()).map_or(ServerId(0), |record| record.server)
    }

    /// When it was made, in UTC seconds since 1970.
    pub fn created_at(&self) -> u64 {
        self.shared.state.read().disk(self.id()).map_or(0, |record| record.created_at)
    }

    /// Its size in bytes, a multiple of 512.
    pub fn size_bytes(&self) -> u64 {
        self.head.state.read().size_bytes
    }

    /// The snapshot that its content descends from: the nearest one that was not deleted.
    pub fn parent(&self) -> Option<SnapshotId> {
        let state = self.shared.state.read();
        let parent = state.disk(self.id()).ok()?.parent;
        let shown = state.catalog.nearest_shown(parent)?;
        state.catalog.versions.get(&shown)?.snapshot
    }

    /// Fills `buf` from `offset` (bytes). Holes read as zeros; every block is verified.
    ///
    /// # Errors
    /// `OutOfRange` past the end, `Corrupt` for a block that fails its checksum, `NotFound` once the disk
    /// was deleted, `Io`.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.shared.read(&self.source(), buf, offset).map_err(|error| self.said("read", error))
    }

    /// Writes `buf` at `offset` (bytes). It is durable after the next [`flush`](Disk::flush). Blocks of
    /// zeros take no space. In a full store it fails or waits as [`set_when_full`](Disk::set_when_full) says; what came before
    /// the part that found no space is written then.
    ///
    /// # Errors
    /// `OutOfRange` past the end, `Full`, `ReadOnly`, `Halted`, `NotFound` once the disk was deleted.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.shared.write(&self.head, buf, offset, Terms::GUEST).map_err(|error| self.said("write", error))
    }

    /// Makes all that returned before this call durable (FLUSH), on all disks of the store.
    ///
    /// # Errors
    /// `Io` if the medium fails: the store has halted then.
    pub fn flush(&self) -> Result<()> {
        self.shared.flush()
    }

    /// Makes a range read as zeros, and frees its whole blocks (DISCARD, TRIM). It never waits for space; the blocks
    /// at either end that it covers in part are written anew, which can find none.
    ///
    /// # Errors
    /// Those of [`write_at`](Disk::write_at).
    pub fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.shared.discard(&self.head, offset, len).map_err(|error| self.said("discard", error))
    }

    /// Makes a range read as zeros (WRITE ZEROES). Its whole blocks take no space afterwards.
    ///
    /// # Errors
    /// Those of [`write_at`](Disk::write_at).
    pub fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.shared.discard(&self.head, offset, len).map_err(|error| self.said("discard", error))
    }

    /// Changes the size (a multiple of 512), whoever reads and writes meanwhile. Growing is free. Snapshots keep the size
    /// that they were made with, and restoring one brings it back. What is written behind a smaller size at that very
    /// moment is cut off. Durable when this returns.
    ///
    /// # Errors
    /// `Invalid` if data would be cut off: discard it first, or use [`resize_cutting`](Disk::resize_cutting); `Limit` where
    /// the server's disks would become larger than they may.
    pub fn resize(&self, size_bytes: u64) -> Result<()> {
        self.resize_checked(size_bytes, true).map_err(|error| self.said("resize", error))
    }

    /// The same, and what data lies behind a smaller size is lost, but for what snapshots hold of it. It costs the same
    /// whatever that is, and works in a full store.
    ///
    /// # Errors
    /// `Invalid` for the size, `Limit`.
    pub fn resize_cutting(&self, size_bytes: u64) -> Result<()> {
        self.resize_checked(size_bytes, false).map_err(|error| self.said("resize", error))
    }

    fn resize_checked(&self, size_bytes: u64, keeps_data: bool) -> Result<()> {
        check_size(size_bytes)?;
        let old = self.size_bytes();
        if size_bytes < old {
            if keeps_data {
                self.refuse_to_cut_data(size_bytes, old)?;
            }
            // What is left of the last block behind the new end: so that growing again shows zeros.
            let end = size_bytes.next_multiple_of(u64::from(self.shared.block_size())).min(old);
            let rest = vec![0; index(end - size_bytes)];
            self.shared.write(&self.head, &rest, size_bytes, Terms::RELIEF)?;
        }
        let planned = self.shared.execute((Purpose::Relief, 1), |state| {
            let disk = state.disk(self.id())?;
            if size_bytes > disk.size_bytes {
                refuse_bytes(state, disk.server, size_bytes - disk.size_bytes)?;
            }
            Ok(Event::ResizeDisk { id: self.id(), size_bytes })
        });
        planned.map(drop)
    }

    fn refuse_to_cut_data(&self, size_bytes: u64, old: u64) -> Result<()> {
        for extent in self.extents(size_bytes..old) {
            let extent = extent?;
            if extent.is_data() && !self.reads_as_zero(extent.offset, extent.len)? {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!(
                        "shrinking the disk to {size_bytes} bytes would cut off data at offset {}; discard from {size_bytes} on first, or say that it can go",
                        extent.offset
                    ),
                ));
            }
        }
        Ok(())
    }

    fn reads_as_zero(&self, offset: u64, len: u64) -> Result<bool> {
        let mut buf = vec![0; index(len.min(1 << 20))];
        for at in (offset..offset + len).step_by(buf.len()) {
            let part = &mut buf[..index((offset + len - at).min(1 << 20))];
            self.read_at(part, at)?;
            if part.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The extents of a range of bytes: where data is and where holes are.
    pub fn extents(&self, range: Range<u64>) -> Extents {
        Extents::new(self.shared.engine.clone(), self.source(), range)
    }

    /// Bytes of blocks that the disk refers to, as of the last checkpoint.
    pub fn mapped_bytes(&self) -> Option<u64> {
        let state = self.shared.state.read();
        let record = state.disk(self.id()).ok()?;
        Some(record.root.mapped * u64::from(self.shared.block_size()))
    }

    /// What writes do when the store is full.
    pub fn when_full(&self) -> WhenFull {
        self.shared.state.read().disk(self.id()).map_or(WhenFull::Fail, |record| record.when_full)
    }

    /// Sets what writes do when the store is full: fail, or wait for space. A write that waits does so for its whole
    /// length, holds up no other call, and tries again when something is deleted, discarded, collected or grown. Durable when this returns.
    ///
    /// # Errors
    /// `NotFound` once the disk was deleted.
    pub fn set_when_full(&self, when_full: WhenFull) -> Result<()> {
        self.shared.execute((Purpose::Relief, 1), |state| {
            state.disk(self.id())?;
            Ok(Event::MarkDisk { id: self.id(), when_full })
        })?;
        Ok(())
    }

    /// What it refers to, and what nobody else does, as of the last checkpoint; `None` once it was deleted.
    pub fn space(&self) -> Option<Space> {
        let state = self.shared.state.read();
        let record = state.disk(self.id()).ok()?;
        let block_size = u64::from(self.shared.block_size());
        if record.shared.is_none() {
            self.shared.ask_for_count(&state, record.id);
        }
        let alone = record.shared.and_then(|shared| record.root.mapped.checked_sub(shared));
        let of = SizeOf::Disk(record.id);
        let alone = alone.and_then(|references| self.shared.blocks_alone(&state, of, references));
        Some(Space {
            referenced_bytes: record.root.mapped * block_size,
            exclusive_bytes: alone.map(|blocks| blocks * block_size),
        })
    }

    /// Counts [`space`](Self::space) now if nobody has counted it yet, instead of in the background: for a store without a
    /// background thread, as one that was opened read-only.
    ///
    /// # Errors
    /// `Io` if the medium fails.
    pub fn count_space(&self) -> Result<()> {
        let is_known = || self.space().is_none_or(|space| space.exclusive_bytes.is_some());
        self.shared.engine.count_now(is_known)
    }

    /// The disk as `std::io::{Read, Write, Seek}`.
    pub fn io(&self) -> DiskIo {
        DiskIo::new(self.clone())
    }
}
