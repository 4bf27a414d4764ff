//! Gate: blocks are let go only when the readers that might look at them have left, and then they are.

use crate::gate::Gate;
use crate::sync::{AtomicBool, AtomicUsize, Ordering};
use crate::units::{BlockNo, BlockRun, index};
use shuttle::thread;
use std::sync::Arc;

const BLOCKS: usize = 4;

/// A root that leads to one block at a time, and the blocks that were let go.
#[derive(Default)]
struct World {
    gate: Gate,
    root: AtomicUsize,
    is_free: [AtomicBool; BLOCKS],
}

impl World {
    fn release(&self) {
        for run in self.gate.release() {
            let was_free = self.is_free[index(run.first.0)].swap(true, Ordering::SeqCst);
            assert!(!was_free, "block {} is let go twice", run.first);
        }
    }

    /// The root leads to the next block; the one before goes.
    fn publish(&self, block: usize) {
        self.root.store(block, Ordering::SeqCst);
        self.gate.park(vec![BlockRun { first: BlockNo(block as u64 - 1), count: 1 }]);
        self.release();
    }

    fn read(&self) {
        let _reading = self.gate.enter();
        let block = self.root.load(Ordering::SeqCst);
        for _ in 0..2 {
            assert!(!self.is_free[block].load(Ordering::SeqCst), "block {block} is let go under a reader");
        }
    }

    fn all_left(&self) {
        self.release();
        self.release();
        assert!(!self.gate.holds_any(), "nobody reads, and something waits");
        let free: Vec<bool> = self.is_free.iter().map(|free| free.load(Ordering::SeqCst)).collect();
        let last = self.root.load(Ordering::SeqCst);
        assert!((0..BLOCKS).all(|block| free[block] == (block < last)), "{free:?}, and the root is {last}");
    }
}

/// Readers come and go while blocks are parked and let go by two threads.
pub fn readers_and_releasers() {
    let world = Arc::new(World::default());
    let spawn = |work: fn(&World)| {
        let world = Arc::clone(&world);
        thread::spawn(move || work(&world))
    };
    let threads = [
        spawn(|world| (1..BLOCKS).for_each(|block| world.publish(block))),
        spawn(|world| (0..3).for_each(|_| world.release())),
        spawn(|world| (0..2).for_each(|_| world.read())),
        spawn(World::read),
    ];
    for thread in threads {
        thread.join().expect("a thread of the case");
    }
    world.all_left();
}

/// One reader, and blocks that go one after another. A reader that takes the phase for what it was, and
/// enters when the next one has begun, is missed by the second block that goes.
pub fn one_reader_and_two_blocks() {
    one_reader(2);
}

/// The same with one block: there are few enough schedules to try them all.
pub fn one_reader_and_one_block() {
    one_reader(1);
}

fn one_reader(blocks: usize) {
    let world = Arc::new(World::default());
    let reader = {
        let world = Arc::clone(&world);
        thread::spawn(move || world.read())
    };
    (1..=blocks).for_each(|block| world.publish(block));
    reader.join().expect("the reader");
    world.all_left();
}
