//! Watch: a device that remembers which bytes were read.

use cowblk::device::Device;
use cowblk::device::sim::SimDevice;
use parking_lot::Mutex;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of an image: those that were read, or any other set.
#[derive(Clone)]
pub struct Bytes(Vec<bool>);

impl Bytes {
    pub fn none(len: usize) -> Self {
        Self(vec![false; len])
    }

    pub fn add(&mut self, range: Range<usize>) {
        self.0[range].fill(true);
    }

    pub fn holds(&self, byte: usize) -> bool {
        self.0[byte]
    }

    /// The blocks of which any byte is in the set.
    pub fn blocks(&self, block: usize) -> impl Iterator<Item = usize> + '_ {
        self.0.chunks(block).enumerate().filter(|(_, bytes)| bytes.contains(&true)).map(|(at, _)| at)
    }
}

/// Passes everything on. Clones watch together.
#[derive(Clone)]
pub struct Watch {
    device: SimDevice,
    read: Arc<Mutex<Bytes>>,
}

impl Watch {
    pub fn new(device: SimDevice, len: usize) -> Self {
        Self { device, read: Arc::new(Mutex::new(Bytes::none(len))) }
    }

    /// What was read since the last call.
    pub fn take(&self) -> Bytes {
        let mut read = self.read.lock();
        let len = read.0.len();
        std::mem::replace(&mut read, Bytes::none(len))
    }
}

impl Device for Watch {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.device.read_at(buf, offset)?;
        let start = usize::try_from(offset).unwrap();
        self.read.lock().add(start..start + buf.len());
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.device.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.device.sync()
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.device.len_bytes()
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.device.grow(len_bytes)
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.device.discard(offset, len_bytes)
    }

    fn can_grow(&self) -> bool {
        self.device.can_grow()
    }

    fn is_read_only(&self) -> bool {
        self.device.is_read_only()
    }
}
