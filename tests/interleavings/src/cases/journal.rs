//! Journal: whoever flushes finds what was appended before on the medium when the flush returns, with one leader at a
//! time, and nobody waits for ever.

use super::medium::Medium;
use crate::format::Geometry;
use crate::journal::{Flushed, Journal};
use crate::runs::RunTable;
use crate::units::{DiskBlock, DiskId, Sequence};
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::Ordering;

struct World {
    medium: Arc<Medium>,
    journal: Journal,
    runs: RunTable,
}

/// A disk's id that stands nowhere else in a journal.
fn mark(nth: u64) -> DiskId {
    DiskId(0x0BAD_D15C_0000_0000 + nth)
}

impl World {
    fn new() -> Arc<Self> {
        let geometry = Geometry::new(4096, 64, 16).expect("a small geometry");
        let len = usize::try_from(geometry.length_bytes(1)).expect("a small medium");
        let medium = Arc::new(Medium::new(len));
        let journal = Journal::new(medium.clone(), geometry, ([7; 16], 1), Sequence(1), (0, 0, true));
        Arc::new(Self { medium, journal, runs: RunTable::default() })
    }

    fn append(&self, nth: u64) {
        self.journal.append(|builder| builder.clear(mark(nth), DiskBlock(0), 1));
    }

    fn is_durable(&self, nth: u64) -> bool {
        let mark = mark(nth).0.to_le_bytes();
        self.medium.bytes().durable.windows(8).any(|bytes| bytes == mark)
    }

    /// Appends and flushes, as the engine does: a failure halts the journal.
    fn write(&self, nth: u64) {
        self.append(nth);
        match self.journal.flush(&self.runs) {
            Ok(Flushed::Done) => {
                assert!(self.is_durable(nth), "a flush returned before its record was durable")
            }
            Ok(Flushed::NoRoom) => panic!("a few batches fit"),
            Err(error) => {
                assert!(self.medium.fails.load(Ordering::SeqCst), "nothing failed: {error}");
                self.journal.fail(&error);
            }
        }
    }
}

fn spawn(world: &Arc<World>, work: impl Fn(&World) + Send + 'static) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || work(&world))
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("a thread of the case");
    }
}

/// Three flush at once, two times each; one spills; one leads as a checkpoint does.
pub fn every_flush_is_durable() {
    let world = World::new();
    let mut threads: Vec<_> = (0..3)
        .map(|nth| spawn(&world, move |world| [nth, nth + 10].iter().for_each(|nth| world.write(*nth))))
        .collect();
    threads.push(spawn(&world, |world| {
        world.append(20);
        world.journal.spill(&world.runs).expect("the medium works");
    }));
    threads.push(spawn(&world, |world| {
        let lead = world.journal.lead().expect("the medium works");
        lead.sync().expect("the medium works");
    }));
    join(threads);
    assert!(world.medium.syncs.load(Ordering::SeqCst) <= 7, "who waits shares a sync");
    world.write(30);
    assert!([0, 1, 2, 10, 11, 12, 20, 30].iter().all(|nth| world.is_durable(*nth)));
}

/// The smallest case: two flush at once.
pub fn two_flushes() {
    let world = World::new();
    let other = spawn(&world, |world| world.write(1));
    world.write(0);
    join(vec![other]);
}

/// The medium begins to fail at any moment: nobody who waits is left alone, and nobody is told a lie.
pub fn a_failing_sync_reaches_all_who_wait() {
    let world = World::new();
    let mut threads: Vec<_> = (0..3).map(|nth| spawn(&world, move |world| world.write(nth))).collect();
    threads.push(spawn(&world, |world| world.medium.fails.store(true, Ordering::SeqCst)));
    join(threads);
    world.append(9);
    let refused = world.journal.flush(&world.runs).expect_err("the medium has failed");
    world.journal.fail(&refused);
    assert!(world.journal.lead().is_err() && !world.is_durable(9));
}
