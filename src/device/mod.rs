//! Device: where bytes live, and what "durable" means.
//!
//! Floor 1. Every byte of a store reaches its medium through [`Device`], so that a test can stand
//! between the store and the medium and take power away at any moment.
//!
//! ```text
//! write_at ──▶ volatile cache ──sync──▶ durable
//! ```
//!
//! V1  A `write_at` that returned is visible to `read_at` at once, but durable only after a later `sync` returned.
//! V2  Until that `sync`, a crash may keep any part of any write, in any order, torn at 512-byte sectors;
//!     the length and punched holes are volatile in the same way.
//! V3  After a failed `sync` nothing is known about the writes before it: nobody retries it (`latched.rs`; the store halts).

use std::io;

mod aligned;
mod direct;
mod file;
mod latched;
mod mapped;
mod memory;
mod metered;
mod side_file;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod windows;

pub(crate) use aligned::Aligned;
pub use file::{Access, FileDevice};
pub(crate) use latched::Latched;
pub use mapped::MappedDevice;
pub use memory::MemoryDevice;
pub(crate) use metered::{Meter, Metered};
#[cfg(test)]
pub(crate) use side_file::tampering;
pub(crate) use side_file::{SideFile, boot_id, owner_of};

/// A random-access medium: a regular file, a block device, memory, or a simulation of one.
///
/// All methods take `&self`: a device is shared between threads and does its own locking, if any.
pub trait Device: Send + Sync + 'static {
    /// Fills `buf` from `offset`. Reading past [`len_bytes`](Device::len_bytes) is `UnexpectedEof`.
    ///
    /// # Errors
    /// Whatever the medium reports.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buf` at `offset`, inside the current length.
    ///
    /// # Errors
    /// `InvalidInput` past the current length, with nothing written. Whatever the medium reports; how much of
    /// `buf` arrived is then unknown.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Writes as [`write_at`](Device::write_at) does, where a [`sync`](Device::sync) comes next: a medium may have a way that
    /// makes both together cheaper. Nothing is durable before the sync.
    ///
    /// # Errors
    /// Those of [`write_at`](Device::write_at).
    fn write_before_sync(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(buf, offset)
    }

    /// Makes every write, growth and discard that returned before this call durable (`fdatasync`).
    ///
    /// # Errors
    /// After an error the fate of all earlier writes is unknown.
    fn sync(&self) -> io::Result<()>;

    /// The length in bytes now.
    ///
    /// # Errors
    /// Whatever the medium reports.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Makes the medium at least `len_bytes` long, with space allocated where the medium can promise
    /// it (so that later writes do not meet a full file system); new bytes read as zero.
    ///
    /// # Errors
    /// `StorageFull` where the file system has no room; `Unsupported` on a medium of fixed size
    /// that is shorter.
    fn grow(&self, len_bytes: u64) -> io::Result<()>;

    /// Tells the medium that the range's bytes are not needed any more; they may read as anything.
    /// A later write there may meet a full file system: the promise of [`grow`](Device::grow) is given back.
    ///
    /// # Errors
    /// `Unsupported` where the medium cannot do it.
    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()>;

    /// Sees that the range, which lies inside the length, has space on the medium again after a [`discard`](Device::discard), so
    /// that writes there do not meet a full file system. What it holds stays. As volatile as a growth.
    ///
    /// # Errors
    /// `StorageFull` where the file system has no room.
    fn allocate(&self, _offset: u64, _len_bytes: u64) -> io::Result<()> {
        Ok(())
    }

    /// Whether parts of the medium may lack space, and have to be [allocated](Device::allocate) before they are written: it
    /// was discarded in part, or copied with holes.
    fn may_have_holes(&self) -> bool {
        false
    }

    /// Whether [`grow`](Device::grow) can ever succeed beyond the current length.
    fn can_grow(&self) -> bool;

    /// Whether its length is fixed, whoever opened it: a block device, and not a file.
    fn has_fixed_length(&self) -> bool {
        !self.can_grow()
    }

    /// Whether writes are refused.
    fn is_read_only(&self) -> bool;
}

/// What a device answers to a write or a discard that leaves its length: no medium grows by accident.
fn beyond_the_end() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the range reaches beyond the end of the device")
}

/// What a device answers to a mutation when it was opened for reading.
fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the device is open for reading only")
}
