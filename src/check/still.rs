//! Still: a device of which some ranges read for ever as they did when they were read first.
//!
//! Floor 5. Superblocks, zone summaries and refcount pages lie at fixed places, which later checkpoints write again.
//! A check of a store that is open reads them while no checkpoint runs, and keeps them until it compares them.

use crate::device::Device;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Reads from a device, and from memory what was read while it kept everything.
pub(super) struct Still {
    device: Arc<dyn Device>,
    /// By where they start.
    kept: Mutex<HashMap<u64, Box<[u8]>>>,
    is_keeping: AtomicBool,
}

impl Still {
    /// Keeps whatever is read from now on.
    pub(super) fn new(device: Arc<dyn Device>) -> Self {
        Self { device, kept: Mutex::default(), is_keeping: AtomicBool::new(true) }
    }

    /// Keeps nothing more, and reads the rest from `device`.
    pub(super) fn over(mut self, device: Arc<dyn Device>) -> Self {
        self.is_keeping.store(false, Ordering::Relaxed);
        self.device = device;
        self
    }
}

impl Device for Still {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if let Some(bytes) = self.kept.lock().get(&offset).filter(|bytes| bytes.len() == buf.len()) {
            buf.copy_from_slice(bytes);
            return Ok(());
        }
        self.device.read_at(buf, offset)?;
        if self.is_keeping.load(Ordering::Relaxed) {
            self.kept.lock().insert(offset, (&*buf).into());
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
        self.device.len_bytes()
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
