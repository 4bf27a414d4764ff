//! Recorder: a device that remembers each moment at which a crash is worth a look.
//!
//! What a crash may leave between two syncs is a subset of what it may leave right before the second one. So a copy
//! of the device before each sync stands for all moments since the last; copies after single writes are kept, too,
//! for the few whose promises differ.

use cowblk::device::Device;
use cowblk::device::sim::SimDevice;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// What was promised at a moment: positions in the history of states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The last state that a returned verb made durable.
    pub promised: usize,
    /// The last state that was asked for.
    pub asked: usize,
}

/// A device as it was at some moment, unsynced changes and all.
pub struct CrashPoint {
    pub device: SimDevice,
    pub moment: Moment,
    /// Whether this is the last moment before a sync.
    pub is_full: bool,
}

/// Passes everything on, and keeps copies.
pub struct Recorder {
    pub device: SimDevice,
    state: Arc<Mutex<Recording>>,
}

#[derive(Default)]
struct Recording {
    moment: Moment,
    points: Vec<CrashPoint>,
}

impl Recorder {
    pub fn new(device: SimDevice) -> Arc<Self> {
        Arc::new(Self { device, state: Arc::default() })
    }

    /// From now on this is what is promised.
    pub fn set_moment(&self, moment: Moment) {
        self.state.lock().moment = moment;
    }

    /// The moments since the last call.
    pub fn take(&self) -> Vec<CrashPoint> {
        std::mem::take(&mut self.state.lock().points)
    }

    /// The moment now.
    pub fn now(&self) -> CrashPoint {
        CrashPoint { device: self.device.fork(), moment: self.state.lock().moment, is_full: true }
    }

    fn keep(&self, is_full: bool) {
        let mut state = self.state.lock();
        let moment = state.moment;
        state.points.push(CrashPoint { device: self.device.fork(), moment, is_full });
    }
}

impl Device for Recorder {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.device.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let written = self.device.write_at(buf, offset);
        if written.is_ok() {
            self.keep(false);
        }
        written
    }

    fn sync(&self) -> io::Result<()> {
        if self.device.unsynced_count() > 0 && !self.device.is_cut() {
            self.keep(true);
        }
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
