//! Sync: what the library's `sync` gives, with the same calls, but under the scheduler.

use shuttle::sync as scheduled;
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::ops::{Deref, DerefMut};

/// A lock that is never poisoned: a case that panics has failed anyway.
#[derive(Default)]
pub(crate) struct Mutex<T>(scheduled::Mutex<T>);

/// Empty only while its thread waits for a condition.
pub(crate) struct MutexGuard<'a, T>(Option<scheduled::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(scheduled::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect("not poisoned")))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("the thread does not wait")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("the thread does not wait")
    }
}

/// A condition that threads wait for.
#[derive(Default)]
pub(crate) struct Condvar(scheduled::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.0.take().expect("the thread does not wait");
        guard.0 = Some(self.0.wait(held).expect("not poisoned"));
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A lock for many readers or one writer.
#[derive(Default)]
pub(crate) struct RwLock<T>(scheduled::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(scheduled::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> scheduled::RwLockReadGuard<'_, T> {
        self.0.read().expect("not poisoned")
    }

    pub(crate) fn write(&self) -> scheduled::RwLockWriteGuard<'_, T> {
        self.0.write().expect("not poisoned")
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().expect("not poisoned")
    }
}
