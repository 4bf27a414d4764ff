//! Mapped: a read-only view of a whole store file through the page cache, without a system call a read.
//!
//! Floor 1. One of the few files that may say `unsafe`; what it costs in trust is said at the one block.
//!
//! P1  The file stays open, and locked against cooperating writers, for as long as it is mapped.
//! P2  Mapped bytes leave only as copies: nobody outside holds a reference into the mapping.
#![expect(
    unsafe_code,
    reason = "a memory map cannot be made without it; walking a big store reads millions of blocks"
)]

use std::io;
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

use super::memory::range_within;
use super::{Access, Device, FileDevice};
use crate::error::{Error, ErrorKind};

/// A whole store file or block device, mapped for reading. Every write is refused.
///
/// An I/O error of the medium does not come back as an `Err` from a mapping: the kernel ends the process with
/// SIGBUS. A program that must outlive a failing disk reads through [`FileDevice`] instead.
#[derive(Debug)]
pub struct MappedDevice {
    map: Mmap,
    /// Never read again, but holds the lock (P1); after `map`, so that it is dropped after it.
    _file: FileDevice,
}

impl MappedDevice {
    /// Opens and maps `path`, sharing it with other readers.
    ///
    /// # Errors
    /// As [`FileDevice::open`] with [`Access::ReadOnly`]; `Io` where the file cannot be mapped.
    pub fn open(path: &Path) -> crate::Result<MappedDevice> {
        let file = FileDevice::open(path, Access::ReadOnly)?;
        let map = map_whole(&file).map_err(|cause| cannot_map(path, cause))?;
        Ok(MappedDevice { map, _file: file })
    }
}

fn map_whole(device: &FileDevice) -> io::Result<Mmap> {
    let len = usize::try_from(device.len_bytes()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: a mapping must not change or shrink under a Rust reference to it. No call can promise that for a
    // file, so this is who keeps it:
    // - Every writable `FileDevice` first takes an exclusive lock on the file, and `device` holds the shared one for
    //   as long as the mapping lives (P1): no process that goes through this library writes, or truncates by
    //   creating anew, what we map. A store file in use never shrinks below the length it reported.
    // - The locks are advisory. A program that ignores them can still write, and we then copy out bytes of either
    //   age; nothing here parses in place or reads a byte twice (P2), and who reads checks checksums on the copy.
    // - A program that ignores them can still truncate: touching a page beyond the new end raises SIGBUS, which
    //   ends the process. So does a read error of the medium. It never yields foreign memory.
    unsafe { MmapOptions::new().len(len).map(device.file()) }
}

fn cannot_map(path: &Path, cause: io::Error) -> Error {
    let path = path.display();
    let message = format!(
        "cannot map {path} into memory: {cause}; open it without a memory map, or raise the limit (ulimit -v)"
    );
    Error::new(ErrorKind::Io, message).caused_by(cause)
}

impl Device for MappedDevice {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let range = range_within(offset, buf.len(), self.map.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(&self.map[range]);
        Ok(())
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> io::Result<()> {
        Err(super::read_only())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.map.len() as u64)
    }

    fn grow(&self, _len_bytes: u64) -> io::Result<()> {
        Err(super::read_only())
    }

    fn discard(&self, _offset: u64, _len_bytes: u64) -> io::Result<()> {
        Err(super::read_only())
    }

    fn can_grow(&self) -> bool {
        false
    }

    fn is_read_only(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_mapping_shows_the_whole_file_and_refuses_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pool.cow");
        fs::write(&path, [[1u8; 5000], [2; 5000]].concat()).unwrap();

        let device = MappedDevice::open(&path).unwrap();
        let mut buf = [0; 4];
        device.read_at(&mut buf, 4998).unwrap();
        assert_eq!(buf, [1, 1, 2, 2]);
        assert_eq!(device.len_bytes().unwrap(), 10_000);
        assert!(device.is_read_only() && !device.can_grow());
        assert_eq!(device.read_at(&mut buf, 9_998).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(device.write_at(&buf, 0).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(device.grow(20_000).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(device.discard(0, 512).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        device.sync().unwrap();
    }

    #[test]
    fn an_empty_file_maps_to_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        fs::write(&path, []).unwrap();
        let device = MappedDevice::open(&path).unwrap();
        assert_eq!(device.len_bytes().unwrap(), 0);
        assert_eq!(device.read_at(&mut [0], 0).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_mapped_file_cannot_be_opened_for_writing_or_created_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pool.cow");
        fs::write(&path, [1; 512]).unwrap();
        let device = MappedDevice::open(&path).unwrap();
        let refused = FileDevice::open(&path, Access::ReadWrite).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Busy);
        let refused = FileDevice::create(&path, true).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Busy);
        assert_eq!(fs::metadata(&path).unwrap().len(), 512, "a refused create must not truncate");
        drop(device);
        FileDevice::open(&path, Access::ReadWrite).unwrap();
    }
}
