//! Metered: counts what passes between the store and its device.
//!
//! Floor 1.

use super::Device;
use crate::latency::Histogram;
use crate::units::wide;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one device's calls and bytes, and their times.
#[derive(Default)]
pub(crate) struct Meter {
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    /// One read in 16.
    pub(crate) read_times: Histogram,
    pub(crate) write_times: Histogram,
    pub(crate) sync_times: Histogram,
}

/// A device that counts.
pub(crate) struct Metered {
    device: Arc<dyn Device>,
    meter: Arc<Meter>,
}

impl Metered {
    /// `device`, and the counts of what is done with it from now on.
    pub(crate) fn meter(device: Arc<dyn Device>) -> (Arc<dyn Device>, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        (Arc::new(Self { device, meter: meter.clone() }), meter)
    }
}

impl Device for Metered {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let _timed = self.meter.read_times.sample(self.meter.reads.fetch_add(1, Ordering::Relaxed));
        self.meter.bytes_read.fetch_add(wide(buf.len()), Ordering::Relaxed);
        self.device.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.meter.writes.fetch_add(1, Ordering::Relaxed);
        self.meter.bytes_written.fetch_add(wide(buf.len()), Ordering::Relaxed);
        let _timed = self.meter.write_times.start();
        self.device.write_at(buf, offset)
    }

    fn write_before_sync(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.meter.writes.fetch_add(1, Ordering::Relaxed);
        self.meter.bytes_written.fetch_add(wide(buf.len()), Ordering::Relaxed);
        let _timed = self.meter.write_times.start();
        self.device.write_before_sync(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.meter.syncs.fetch_add(1, Ordering::Relaxed);
        let _timed = self.meter.sync_times.start();
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
