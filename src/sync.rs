//! Sync: the locks and atomic numbers of those files whose interleavings are searched.
//!
//! Floor 0. `tests/interleavings` compiles the same files with this module exchanged for one whose locks and numbers
//! hand over to a scheduler at each use.

pub(crate) use parking_lot::{Condvar, Mutex, RwLock};
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
