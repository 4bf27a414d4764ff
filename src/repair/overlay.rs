//! Overlay: a device with writes that nobody has made yet.
//!
//! Floor 6. A repair is written here first, and checked here. Only then do its writes go to the medium.

use crate::device::Device;
use crate::units::{index, wide};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Writes by where they start; none overlaps another.
pub(super) type Writes = BTreeMap<u64, Vec<u8>>;

/// A device, and writes on top of it.
pub(super) struct Overlay {
    pub(super) device: Arc<dyn Device>,
    pub(super) layers: Vec<Arc<Writes>>,
    pub(super) len_bytes: u64,
}

impl Device for Overlay {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset + wide(buf.len());
        if end > self.len_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A range that a layer covers whole is not asked of the medium, which may refuse it.
        let whole = self.layers.iter().rev().find_map(|layer| {
            let (start, bytes) = layer.range(..=offset).next_back()?;
            bytes.get(index(offset - start)..)?.get(..buf.len())
        });
        if let Some(bytes) = whole {
            buf.copy_from_slice(bytes);
            return Ok(());
        }
        let medium_end = self.device.len_bytes()?.min(end);
        buf.fill(0);
        if medium_end > offset {
            self.device.read_at(&mut buf[..index(medium_end - offset)], offset)?;
        }
        for layer in &self.layers {
            for (&start, bytes) in layer.range(..end) {
                let from = start.max(offset);
                let to = (start + wide(bytes.len())).min(end);
                if from < to {
                    buf[index(from - offset)..index(to - offset)]
                        .copy_from_slice(&bytes[index(from - start)..index(to - start)]);
                }
            }
        }
        Ok(())
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.len_bytes)
    }

    fn grow(&self, _len_bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn discard(&self, _offset: u64, _len_bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn can_grow(&self) -> bool {
        false
    }

    fn is_read_only(&self) -> bool {
        true
    }
}
