//! Disk I/O: a disk as `std::io::{Read, Write, Seek}`, for code that knows files.
//!
//! Floor 5.

use super::disk::Disk;
use crate::units::{index, wide};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// A disk with a position. Reading and writing stop at the disk's end; flushing flushes the disk.
#[derive(Clone, Debug)]
pub struct DiskIo {
    disk: Disk,
    position: u64,
}

impl DiskIo {
    pub(super) fn new(disk: Disk) -> Self {
        Self { disk, position: 0 }
    }

    /// The disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// How many of `len` bytes lie before the disk's end.
    fn before_end(&self, len: usize) -> usize {
        index(self.disk.size_bytes().saturating_sub(self.position).min(wide(len)))
    }
}

impl Read for DiskIo {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.before_end(buf.len());
        self.disk.read_at(&mut buf[..count], self.position)?;
        self.position += wide(count);
        Ok(count)
    }
}

impl Write for DiskIo {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.before_end(buf.len());
        if count == 0 && !buf.is_empty() {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the position is at the end of the disk"));
        }
        self.disk.write_at(&buf[..count], self.position)?;
        self.position += wide(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.disk.flush()?)
    }
}

impl Seek for DiskIo {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
            SeekFrom::End(delta) => self.disk.size_bytes().checked_add_signed(delta),
        };
        let before_start =
            || io::Error::new(io::ErrorKind::InvalidInput, "a seek to before the disk's start");
        self.position = target.ok_or_else(before_start)?;
        Ok(self.position)
    }
}
