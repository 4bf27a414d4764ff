//! Engine: the store, called from a bounded pool of threads that may block.
//!
//! So many calls are at work at a time, so many more may wait; what comes beyond that is refused at once, so that no
//! queue grows and the rest of the daemon (health, sign-in, the page) goes on answering.

use crate::refusal::Refusal;
use cowblk::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// Calls that may wait for a free thread.
const WAITING_MAX: usize = 1024;

/// The store, and who may call it when.
#[derive(Clone)]
pub(crate) struct Engine {
    store: Store,
    slots: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// Counts one who waits, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Engine {
    /// A pool of `threads` over the store.
    pub(crate) fn new(store: Store, threads: usize) -> Self {
        Self { store, slots: Arc::new(Semaphore::new(threads)), waiting: Arc::default() }
    }

    /// The store, for calls that do no more than look at memory.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// How many calls wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Runs `act` on a thread that may block. It runs to its end even if nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Store) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = {
            if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                return Err(Refusal::busy("too many requests wait for the store; try again in a second"));
            }
            let _waiting = Waiting(&self.waiting);
            let acquired = self.slots.clone().acquire_owned().await;
            acquired.map_err(|_| Refusal::busy("the daemon is going down"))?
        };
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || {
            let outcome = act(&store);
            drop(permit);
            outcome
        });
        done.await
            .map_err(|_| Refusal::internal("the request failed on a fault of the daemon; see its log"))?
    }
}
