//! Sim: one device for all tests, with crashes and faults from a seed.
//!
//! Floor 1. Behind the cargo feature `sim`; nothing outside tests uses it.
//!
//! ```text
//! write, grow, discard ──▶ visible ──sync──▶ durable
//!                             │                 │
//!                          readers            crash ──▶ durable + any of the unsynced changes
//! ```
//!
//! N1  The same seed and the same operations in the same order give the same image, the same errors and the same log.
//! N2  A reader sees every change that was reported as done, at once and in order, unless a fault says otherwise.
//! N3  What a crash leaves is the durable image plus unsynced changes; nothing that a sync reported as durable is
//!     missing, unless a fault says otherwise.
//! N4  A crash is taken without touching the device, so one state can be crashed in every way it can.

use std::sync::Arc;
use std::{fmt, io};

use parking_lot::{Mutex, MutexGuard};

use super::Device;

mod faults;
mod holes;
mod image;
mod log;
mod random;
mod state;
mod survival;
#[cfg(test)]
mod tests;

pub use faults::{Fault, Faults, When};
pub use log::{Call, Operation};
pub use random::Random;
pub use survival::{Fate, SECTOR_BYTES, Survival};

use image::Image;
use state::State;

/// A simulated device with a volatile cache. Clones are handles of the same device.
///
/// A crash sweep cuts the power at each operation of a verb, then looks at each thing that a crash may leave:
///
/// ```
/// use cowblk::device::Device;
/// use cowblk::device::sim::{Fault, Faults, SimDevice, Survival, When};
///
/// // The verb under test: it marks a block as valid only when its content is durable.
/// fn publish(device: &dyn Device) -> std::io::Result<()> {
///     device.write_at(&[7; 1024], 4096)?;
///     device.sync()?;
///     device.write_at(&[1], 0)?;
///     device.sync()
/// }
///
/// let setup = SimDevice::new(8192, 42);
/// for cut in 1.. {
///     let device = setup.fork();
///     device.set_faults(Faults::none().with(Fault::PowerCut, When::At(device.operations() + cut)));
///     let result = publish(&device);
///     for mask in 0..1 << device.unsynced_count() {
///         let after = device.crash(&Survival::Exactly(mask)).image();
///         assert!(after[0] == 0 || after[4096..5120] == [7; 1024], "cut at {cut}, survival {mask:b}");
///     }
///     if result.is_ok() {
///         break;
///     }
/// }
/// ```
#[derive(Clone)]
pub struct SimDevice {
    state: Arc<Mutex<State>>,
    read_only: bool,
}

/// What a discarded range reads as. The [`Device`] promises nothing, so a store must live with each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// Zeroes.
    Zeroes,
    /// What it was: the medium did not care.
    Unchanged,
    /// Noise.
    Noise,
    /// Zeroes, noise or what it was, by the seed.
    Any,
    /// Nothing can be discarded: the device says `Unsupported`.
    Refused,
}

impl SimDevice {
    /// A device of `len_bytes` durable zeroes that works; everything random about it comes from `seed`.
    pub fn new(len_bytes: usize, seed: u64) -> SimDevice {
        SimDevice::on(Image::zeroed(len_bytes), seed)
    }

    /// A device that holds `image`, durably.
    pub fn from_image(image: &[u8], seed: u64) -> SimDevice {
        SimDevice::on(Image::from_bytes(image), seed)
    }

    fn on(image: Image, seed: u64) -> SimDevice {
        SimDevice::with_state(State::new(image, Random::new(seed)))
    }

    fn with_state(state: State) -> SimDevice {
        SimDevice { state: Arc::new(Mutex::new(state)), read_only: false }
    }

    /// Lets the device grow to `len_bytes` and no further: then the medium is full.
    #[must_use]
    pub fn with_capacity(self, len_bytes: usize) -> SimDevice {
        self.state.lock().capacity_bytes = Some(len_bytes);
        self
    }

    /// Gives the device a fixed size, like a block device.
    #[must_use]
    pub fn with_fixed_size(self) -> SimDevice {
        self.state.lock().capacity_bytes = None;
        self
    }

    /// Decides what discarded ranges read as; [`Discarded::Any`] where it is not called.
    #[must_use]
    pub fn with_discarded(self, discarded: Discarded) -> SimDevice {
        self.state.lock().discarded = discarded;
        self
    }

    /// As [`set_faults`](SimDevice::set_faults), in one expression.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> SimDevice {
        self.set_faults(faults);
        self
    }

    /// Keeps a log of operations from now on.
    #[must_use]
    pub fn with_log(self) -> SimDevice {
        self.state.lock().log.get_or_insert_default();
        self
    }

    /// Another handle of the same device, one that refuses writes.
    #[must_use]
    pub fn read_only(&self) -> SimDevice {
        SimDevice { state: Arc::clone(&self.state), read_only: true }
    }

    /// Replaces all faults. Operation numbers go on: to count from now, add [`operations`](SimDevice::operations).
    /// A power that is cut stays cut.
    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().set_faults(faults);
    }

    /// How many operations there were. Asking for the length is none, nor is anything after the power was cut.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// The operations since the log was asked for; empty without one.
    pub fn log(&self) -> Vec<Operation> {
        self.state.lock().log.clone().unwrap_or_default()
    }

    /// Whether the power is cut.
    pub fn is_cut(&self) -> bool {
        self.state.lock().cut
    }

    /// Cuts the power now, between two operations.
    pub fn cut_power(&self) {
        self.state.lock().cut = true;
    }

    /// How many changes a crash now may keep or lose.
    pub fn unsynced_count(&self) -> usize {
        self.state.lock().unsynced.len()
    }

    /// The changes that a crash now may keep or lose, oldest first, as they were asked for.
    pub fn unsynced(&self) -> Vec<Call> {
        self.state.lock().unsynced.iter().map(|unsynced| unsynced.call).collect()
    }

    /// The device as it comes back after a crash at this moment: powered, without faults, its operations counted
    /// anew, with the durable bytes and what `survival` lets through.
    ///
    /// This one stays as it is, so that it can be crashed again in another way.
    #[must_use = "the crash happens to the device that is returned"]
    pub fn crash(&self, survival: &Survival) -> SimDevice {
        SimDevice::with_state(self.state.lock().crash(survival))
    }

    /// A second device that goes on independently from exactly this state: unsynced changes, faults, log and all.
    /// Given the same operations, both do the same.
    #[must_use]
    pub fn fork(&self) -> SimDevice {
        let state = self.state.lock().clone();
        SimDevice { state: Arc::new(Mutex::new(state)), read_only: self.read_only }
    }

    /// What a reader sees now, whole. Not an operation: faults do not touch it, and it works without power.
    pub fn image(&self) -> Vec<u8> {
        self.state.lock().visible.to_bytes()
    }

    /// Flips a bit of the medium, as a fault at rest does: unsynced writes over it hide it, and heal it when synced.
    ///
    /// # Panics
    /// Where there is no such byte, or no such bit in a byte.
    pub fn flip_bit(&self, offset: usize, bit: u8) {
        assert!(bit < 8, "a byte has no bit {bit}");
        self.state.lock().flip(offset, bit);
    }

    fn for_writing(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.read_only { Err(super::read_only()) } else { Ok(self.state.lock()) }
    }
}

impl fmt::Debug for SimDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("SimDevice")
            .field("len_bytes", &state.visible.len())
            .field("operations", &state.operations)
            .field("unsynced", &state.unsynced.len())
            .field("cut", &state.cut)
            .finish_non_exhaustive()
    }
}

impl Device for SimDevice {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let call = Call::Read { offset, len_bytes: buf.len() as u64 };
        self.state.lock().operate(call, |state, struck| state.read(buf, offset, struck))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let call = Call::Write { offset, len_bytes: buf.len() as u64 };
        self.for_writing()?.operate(call, |state, struck| state.write(buf, offset, struck))
    }

    fn sync(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.state.lock().operate(Call::Sync, State::sync)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.state.lock().len_bytes()
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        let call = Call::Grow { len_bytes };
        self.for_writing()?.operate(call, |state, struck| state.grow(len_bytes, struck))
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        let call = Call::Discard { offset, len_bytes };
        self.for_writing()?.operate(call, |state, struck| state.discard(offset, len_bytes, struck))
    }

    fn allocate(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        let call = Call::Allocate { offset, len_bytes };
        self.for_writing()?.operate(call, |state, struck| state.allocate(offset, len_bytes, struck))
    }

    fn may_have_holes(&self) -> bool {
        self.state.lock().has_holes()
    }

    fn can_grow(&self) -> bool {
        // A medium that is full can still say so: only one of fixed size cannot grow at all.
        !self.read_only && self.state.lock().capacity_bytes.is_some()
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }
}
