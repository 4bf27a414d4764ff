//! Medium: a device in memory that is full at some length, so that no forged number can eat all memory.

use std::io;
use std::sync::Arc;

use cowblk::device::{Device, MemoryDevice};

const BYTES_MAX: u64 = 32 << 20;

pub(crate) struct Medium(MemoryDevice);

impl Medium {
    pub(crate) fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self(MemoryDevice::from_bytes(bytes)))
    }
}

impl Device for Medium {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.0.len_bytes()
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        if len_bytes > BYTES_MAX { Err(io::ErrorKind::StorageFull.into()) } else { self.0.grow(len_bytes) }
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.0.discard(offset, len_bytes)
    }

    fn can_grow(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }
}
