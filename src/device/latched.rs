//! Latched: once a write or a sync has failed, none that follows succeeds.
//!
//! Floor 1. An operating system tells of a failed write-back once, to whichever sync comes first, and forgets the pages.
//! A second sync that succeeds would prove nothing, and one that runs beside the first may miss the news altogether. So
//! syncs run one at a time, each after the verdict on the one before, and a failure stays (V3). That costs a flush little:
//! a sync of a file waits for everything that is being written back anyway.

use super::Device;
use parking_lot::Mutex;
use std::io;
use std::sync::{Arc, OnceLock};

/// A device that does not recover from a failure until it is opened again.
pub(crate) struct Latched {
    device: Arc<dyn Device>,
    /// The first failure of a write or sync.
    failure: OnceLock<(io::ErrorKind, String)>,
    syncing: Mutex<()>,
}

impl Latched {
    /// `device`, which has not failed yet.
    pub(crate) fn latch(device: Arc<dyn Device>) -> Arc<dyn Device> {
        Arc::new(Self { device, failure: OnceLock::new(), syncing: Mutex::default() })
    }

    fn check(&self) -> io::Result<()> {
        match self.failure.get() {
            None => Ok(()),
            Some((kind, said)) => {
                Err(io::Error::new(*kind, format!("an earlier write or sync failed: {said}")))
            }
        }
    }

    fn noted(&self, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &result {
            self.failure.get_or_init(|| (error.kind(), error.to_string()));
        }
        result
    }
}

impl Device for Latched {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.device.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check()?;
        self.noted(self.device.write_at(buf, offset))
    }

    fn write_before_sync(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check()?;
        self.noted(self.device.write_before_sync(buf, offset))
    }

    fn sync(&self) -> io::Result<()> {
        let _alone = self.syncing.lock();
        self.check()?;
        self.noted(self.device.sync())
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

    fn allocate(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.device.allocate(offset, len_bytes)
    }

    fn may_have_holes(&self) -> bool {
        self.device.may_have_holes()
    }

    fn can_grow(&self) -> bool {
        self.device.can_grow()
    }

    fn has_fixed_length(&self) -> bool {
        self.device.has_fixed_length()
    }

    fn is_read_only(&self) -> bool {
        self.device.is_read_only()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::{Fault, Faults, SimDevice, When};
    use super::*;

    #[test]
    fn after_a_failure_nothing_is_written_or_synced_though_the_medium_works_again() {
        for fault in [Fault::WriteError, Fault::SyncDropsWrites, Fault::NoSpace] {
            let medium = SimDevice::new(8192, 1);
            let device = Latched::latch(Arc::new(medium.clone()));
            device.write_at(&[1], 0).unwrap();
            device.sync().unwrap();
            medium.set_faults(Faults::none().with(fault, When::Nth(1)));
            let first = device.write_at(&[2], 1).and_then(|()| device.sync()).unwrap_err();
            medium.sync().unwrap();
            for later in [device.write_at(&[3], 2), device.sync()] {
                let later = later.unwrap_err();
                assert_eq!(later.kind(), first.kind(), "{fault}");
                assert!(later.to_string().contains(&first.to_string()), "{fault}: {later}");
            }
            let mut bytes = [9; 3];
            device.read_at(&mut bytes, 0).unwrap();
            assert_eq!((bytes[0], bytes[2]), (1, 0), "{fault}: reads go on");
        }
    }
}
