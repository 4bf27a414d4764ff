//! Memory: a device that is a growable vector, for tests and for embedders who want no file.
//!
//! Floor 1. Nothing here is ever durable: the bytes live as long as the last handle, and `sync` has nothing to do.
//!
//! M1  A transfer lies inside the length or is refused as a whole: no byte of it is read or written.

use std::io;
use std::ops::Range;

use parking_lot::RwLock;

use super::Device;

/// A device in memory. Growing it costs an allocation; discarded ranges read as zero.
///
/// ```
/// use cowblk::device::{Device, MemoryDevice};
///
/// let device = MemoryDevice::new(4096);
/// device.write_at(b"hello", 100)?;
/// assert_eq!(&device.to_bytes()[100..105], b"hello");
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug, Default)]
pub struct MemoryDevice {
    bytes: RwLock<Vec<u8>>,
}

impl MemoryDevice {
    /// A device of `len_bytes` zeroes.
    pub fn new(len_bytes: usize) -> MemoryDevice {
        MemoryDevice::from_bytes(vec![0; len_bytes])
    }

    /// A device that holds `bytes`, such as an image taken from another device.
    pub fn from_bytes(bytes: Vec<u8>) -> MemoryDevice {
        MemoryDevice { bytes: RwLock::new(bytes) }
    }

    /// A copy of everything that the device holds.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes.read().clone()
    }
}

impl Device for MemoryDevice {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.bytes.read();
        let range = range_within(offset, buf.len(), bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(&bytes[range]);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = self.bytes.write();
        let range = range_within(offset, buf.len(), bytes.len()).ok_or_else(super::beyond_the_end)?;
        bytes[range].copy_from_slice(buf);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.read().len() as u64)
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        let wanted = usize::try_from(len_bytes).map_err(|_| io::ErrorKind::StorageFull)?;
        let mut bytes = self.bytes.write();
        let missing = wanted.saturating_sub(bytes.len());
        // A length that memory cannot hold is "full", as on any medium; `resize` alone would abort.
        bytes.try_reserve(missing).map_err(|_| io::ErrorKind::StorageFull)?;
        let len = bytes.len() + missing;
        bytes.resize(len, 0);
        Ok(())
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        let mut bytes = self.bytes.write();
        let range = usize::try_from(len_bytes)
            .ok()
            .and_then(|len| range_within(offset, len, bytes.len()))
            .ok_or_else(super::beyond_the_end)?;
        bytes[range].fill(0);
        Ok(())
    }

    fn can_grow(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }
}

/// The bytes `offset..offset + len`, if they all lie inside a device of `device_len` bytes.
pub(super) fn range_within(offset: u64, len: usize, device_len: usize) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(len)?;
    (end <= device_len).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let device = MemoryDevice::new(8192);
        device.write_at(b"abc", 4095).unwrap();
        let mut buf = [0; 5];
        device.read_at(&mut buf, 4094).unwrap();
        assert_eq!(&buf, b"\0abc\0");
        device.sync().unwrap();
    }

    #[test]
    fn a_transfer_across_the_end_is_refused_whole() {
        let device = MemoryDevice::new(1000);
        let mut buf = [7; 10];
        assert_eq!(device.read_at(&mut buf, 995).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(buf, [7; 10]);
        assert_eq!(device.read_at(&mut buf, u64::MAX).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(device.write_at(&buf, 995).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(device.write_at(&buf, u64::MAX - 3).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(device.discard(995, 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(device.to_bytes(), vec![0; 1000]);
    }

    #[test]
    fn grow_adds_zeroes_and_never_shrinks() {
        let device = MemoryDevice::from_bytes(vec![9; 10]);
        device.grow(20).unwrap();
        device.grow(5).unwrap();
        assert_eq!(device.len_bytes().unwrap(), 20);
        assert_eq!(device.to_bytes(), [[9; 10], [0; 10]].concat());
    }

    #[test]
    fn growing_past_all_memory_is_full_not_an_abort() {
        let device = MemoryDevice::new(512);
        assert_eq!(device.grow(u64::MAX).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(device.len_bytes().unwrap(), 512);
    }

    #[test]
    fn discarded_bytes_read_as_zero() {
        let device = MemoryDevice::from_bytes(vec![9; 30]);
        device.discard(10, 10).unwrap();
        assert_eq!(device.to_bytes(), [[9; 10], [0; 10], [9; 10]].concat());
    }
}
