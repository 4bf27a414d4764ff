//! Medium: a device in memory with a volatile cache, which hands over to the scheduler before and after each call.

use crate::device::Device;
use shuttle::thread;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Its own state is no part of the case: nobody else runs between two hand-overs.
#[derive(Default)]
pub(super) struct Medium {
    bytes: Mutex<Bytes>,
    writing_batches: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) fails: AtomicBool,
}

#[derive(Default, Clone)]
pub(super) struct Bytes {
    pub(super) visible: Vec<u8>,
    pub(super) durable: Vec<u8>,
}

impl Medium {
    pub(super) fn new(len: usize) -> Self {
        let bytes = Bytes { visible: vec![0; len], durable: vec![0; len] };
        Self { bytes: Mutex::new(bytes), ..Self::default() }
    }

    pub(super) fn bytes(&self) -> MutexGuard<'_, Bytes> {
        self.bytes.lock().expect("not poisoned")
    }
}

fn range(offset: u64, len: usize) -> std::ops::Range<usize> {
    let start = usize::try_from(offset).expect("a small medium");
    start..start + len
}

impl Device for Medium {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        thread::yield_now();
        buf.copy_from_slice(&self.bytes().visible[range(offset, buf.len())]);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let is_batch = buf.starts_with(b"cowblkJB");
        if is_batch {
            assert_eq!(
                self.writing_batches.fetch_add(1, Ordering::SeqCst),
                0,
                "two write the journal at once"
            );
        }
        thread::yield_now();
        self.bytes().visible[range(offset, buf.len())].copy_from_slice(buf);
        thread::yield_now();
        if is_batch {
            self.writing_batches.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Makes durable what was written before the call, and not what is written during it.
    fn sync(&self) -> io::Result<()> {
        let before = self.bytes().visible.clone();
        thread::yield_now();
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the medium fails"));
        }
        self.bytes().durable = before;
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.bytes().visible.len() as u64)
    }

    fn grow(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn can_grow(&self) -> bool {
        false
    }

    fn is_read_only(&self) -> bool {
        false
    }
}
