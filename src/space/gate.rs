//! Gate: lets blocks go only when every reader that might still look at them has left.
//!
//! Floor 2. Readers enter and leave without waiting. What was let in while one phase was current is
//! let out when that phase has no reader left and the next phase has begun.

use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering};
use crate::units::BlockRun;

/// Counts readers in two phases that take turns.
#[derive(Default)]
pub(crate) struct Gate {
    phase: AtomicUsize,
    readers: [AtomicU64; 2],
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Parked in an earlier phase, which this says; goes when its readers have left.
    leaving: Option<(usize, Vec<BlockRun>)>,
    /// Parked since.
    arriving: Vec<BlockRun>,
}

/// Holds the gate for one reader; leaving is dropping it.
pub(crate) struct GateGuard<'a> {
    readers: &'a AtomicU64,
}

impl Drop for GateGuard<'_> {
    fn drop(&mut self) {
        self.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gate {
    /// Enters: what is parked from now on stays untouched until the guard is dropped.
    pub(crate) fn enter(&self) -> GateGuard<'_> {
        loop {
            let phase = self.phase.load(Ordering::SeqCst);
            let readers = &self.readers[phase];
            readers.fetch_add(1, Ordering::SeqCst);
            if self.phase.load(Ordering::SeqCst) == phase {
                return GateGuard { readers };
            }
            readers.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Parks blocks that no root reaches any more.
    pub(crate) fn park(&self, runs: Vec<BlockRun>) {
        self.waiting.lock().arriving.extend(runs);
    }

    /// Whether anything is parked.
    pub(crate) fn holds_any(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.leaving.is_some() || !waiting.arriving.is_empty()
    }

    /// The blocks whose readers have all left: free from now on.
    pub(crate) fn release(&self) -> Vec<BlockRun> {
        let mut waiting = self.waiting.lock();
        let mut released = self.drain_leaving(&mut waiting);
        if waiting.leaving.is_none() && !waiting.arriving.is_empty() {
            let phase = self.phase.load(Ordering::SeqCst);
            let runs = std::mem::take(&mut waiting.arriving);
            waiting.leaving = Some((phase, runs));
            self.phase.store(1 - phase, Ordering::SeqCst);
            released.extend(self.drain_leaving(&mut waiting));
        }
        released
    }

    fn drain_leaving(&self, waiting: &mut Waiting) -> Vec<BlockRun> {
        let drained = waiting
            .leaving
            .as_ref()
            .is_some_and(|(phase, _)| self.readers[*phase].load(Ordering::SeqCst) == 0);
        if drained { waiting.leaving.take().map_or_else(Vec::new, |(_, runs)| runs) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::BlockNo;

    fn run(first: u64) -> BlockRun {
        BlockRun { first: BlockNo(first), count: 1 }
    }

    #[test]
    fn a_block_waits_for_the_readers_that_came_before_it_and_for_no_others() {
        let gate = Gate::default();
        let early = gate.enter();
        gate.park(vec![run(1)]);
        assert_eq!(gate.release(), []);
        let late = gate.enter();
        assert_eq!(gate.release(), []);
        drop(early);
        assert_eq!(gate.release(), [run(1)]);
        gate.park(vec![run(2)]);
        assert_eq!(gate.release(), []);
        drop(late);
        assert_eq!(gate.release(), [run(2)]);
        assert!(!gate.holds_any());
    }
}
