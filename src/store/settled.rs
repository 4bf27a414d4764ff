//! Settled: looking at what the last checkpoint left, while writers and later checkpoints go on.
//!
//! Floor 5. A look has two parts. The first runs while no checkpoint, collector step or flush does: it reads what is
//! written again in place. The second runs beside all of them, inside the gate: whatever the checkpoint leads to
//! is parked when it is dropped, and not used again before the look ends.
//!
//! ```text
//! maintenance lock:  checkpoint ▶ first part ▶ enter the gate
//! gate:                                        second part …………………………………………… leave
//! ```
//!
//! So a look withholds the space that is freed meanwhile. Where somebody comes to need it, the look fails instead.

use super::engine::Engine;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// While so few blocks are free, or fewer, a look does not withhold any.
const FREE_BLOCKS_MIN: u64 = 256;

/// Reads for a look, as long as the store can spare what the look withholds.
struct Watched {
    engine: Arc<Engine>,
    has_failed: AtomicBool,
}

impl Engine {
    /// The device below, for those who only read.
    pub(crate) fn medium(&self) -> &dyn Device {
        &*self.device
    }

    /// Looks at what a checkpoint made now leaves. `hold` runs while nothing is written in place, `walk` beside
    /// everything. A store that takes no changes is looked at as it is.
    ///
    /// # Errors
    /// What the two answer; `Busy` where the store came to need the space that the look withheld.
    pub(crate) fn look<S, T>(
        self: &Arc<Self>,
        hold: impl FnOnce(&Arc<dyn Device>) -> Result<S>,
        walk: impl FnOnce(S, Arc<dyn Device>) -> Result<T>,
    ) -> Result<T> {
        let mut checkpointer = self.maintenance.lock();
        if self.check_writable().is_ok() {
            // A failure halts the store; then the medium shows the checkpoint before, and why this one failed.
            drop(self.checkpoint_with(&mut checkpointer, false));
        }
        let lead = self.journal.lead().ok(); // refused once the store has halted: nobody flushes then
        let begun = hold(&self.device)?;
        drop(lead);
        let _looking = self.gate.enter();
        drop(checkpointer);
        let watched = Arc::new(Watched { engine: self.clone(), has_failed: AtomicBool::new(false) });
        let found = walk(begun, watched.clone());
        if watched.has_failed.load(Ordering::Acquire) {
            let message =
                "the store came to need the space that a check or scrub withholds; try again, or make room";
            return Err(Error::new(ErrorKind::Busy, message));
        }
        found
    }

    /// Whether somebody waits for space, or soon will, while some is withheld.
    pub(crate) fn is_short_of_space(&self) -> bool {
        let free = self.free_hint.load(Ordering::Relaxed);
        let is_waited_for = self.waiting_for_space.load(Ordering::Relaxed) > 0;
        self.gate.holds_any() && (is_waited_for || free < self.metadata_debt() + FREE_BLOCKS_MIN)
    }
}

impl Device for Watched {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if self.has_failed.load(Ordering::Acquire) || self.engine.is_short_of_space() {
            self.has_failed.store(true, Ordering::Release);
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.engine.device.read_at(buf, offset)
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.engine.device.len_bytes()
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
