//! Runs: a block is found with its content, in memory or at home, whoever brings it home meanwhile; and nobody puts it
//! there once more when its place is used again.

use super::medium::Medium;
use crate::device::Device;
use crate::format::{Geometry, Place};
use crate::runs::{Run, RunTable};
use crate::sync::{AtomicU64, Ordering};
use crate::units::{BlockNo, BlockRun};
use shuttle::thread;
use std::sync::Arc;

const BLOCK: usize = 4096;

struct World {
    medium: Medium,
    geometry: Geometry,
    table: RunTable,
    run: Arc<Run>,
    /// How many blocks records name, and how many are to be seen by readers.
    named: AtomicU64,
    shown: AtomicU64,
}

impl World {
    fn new(capacity: u64) -> Arc<Self> {
        let geometry = Geometry::new(BLOCK as u32, 64, 16).expect("a small geometry");
        let first = geometry.block_at(Place { zone: 0, index: 0 });
        let run = BlockRun { first, count: capacity };
        let table = RunTable::default();
        let run = Arc::new(Run::new(run, BLOCK as u32, table.buffer(1 << 20)));
        table.insert(run.clone());
        let len = usize::try_from(geometry.length_bytes(1)).expect("a small medium");
        Arc::new(Self {
            medium: Medium::new(len),
            geometry,
            table,
            run,
            named: AtomicU64::new(0),
            shown: AtomicU64::new(0),
        })
    }

    /// As a writer does: the bytes, the record, the reference.
    fn write(&self, count: u64) {
        for nth in 0..count {
            self.run.append(&[content(nth); BLOCK]);
            self.named.store(nth + 1, Ordering::SeqCst);
            self.table.recorded(&self.run, nth + 1);
            self.shown.store(nth + 1, Ordering::SeqCst);
        }
        self.run.close();
    }

    fn home(&self) {
        self.table.home(&self.run, &self.medium, &self.geometry).expect("the medium works");
    }

    fn offset(&self, block: BlockNo) -> u64 {
        self.geometry.offset_bytes(block)
    }

    /// As a reader does: from memory, or else from its place.
    fn read(&self) {
        let shown = self.shown.load(Ordering::SeqCst);
        for nth in 0..shown {
            let block = self.run.first().plus(nth);
            let mut buf = [0; BLOCK];
            match self.table.find(block) {
                Some(run) => assert_eq!(run.read(block, &mut buf), BLOCK),
                None => self.medium.read_at(&mut buf, self.offset(block)).expect("the medium works"),
            }
            assert!(buf == [content(nth); BLOCK], "block {nth} of {shown} reads {}", buf[0]);
        }
    }
}

fn content(nth: u64) -> u8 {
    u8::try_from(nth).expect("few blocks") + 1
}

fn spawn(world: &Arc<World>, work: fn(&World)) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || work(&world))
}

/// A run is filled, brought home by two, and read, all at once.
pub fn a_block_is_found_wherever_it_is() {
    let world = World::new(3);
    let threads = [
        spawn(&world, |world| world.write(3)),
        spawn(&world, |world| (0..2).for_each(|_| world.home())),
        spawn(&world, World::home),
        spawn(&world, |world| (0..2).for_each(|_| world.read())),
    ];
    for thread in threads {
        thread.join().expect("a thread of the case");
    }
    world.home();
    world.read();
    assert!(world.table.find(world.run.first()).is_none(), "a run that is at home is let go");
}

/// Two bring a full run home. When one of them is done, the place is used again; the other one must not spoil that.
pub fn a_place_that_is_used_again_is_left_alone() {
    let world = World::new(2);
    world.write(2);
    let other = spawn(&world, World::home);
    world.home();
    let first = world.run.first();
    world.medium.write_at(&[99; BLOCK], world.offset(first)).expect("the medium works");
    other.join().expect("the other one");
    let mut buf = [0; BLOCK];
    world.medium.read_at(&mut buf, world.offset(first)).expect("the medium works");
    assert!(buf == [99; BLOCK], "the place was used again, and now it holds {}", buf[0]);
}

/// What a flush may carry in its batch is what records name: a writer between the two is not overtaken.
pub fn only_what_a_record_names_is_exposed() {
    let world = World::new(3);
    let writer = spawn(&world, |world| world.write(3));
    for _ in 0..3 {
        for (run, blocks) in world.table.exposed() {
            let (exposed, named) = (blocks.end().0 - run.first().0, world.named.load(Ordering::SeqCst));
            assert!(exposed <= named, "{exposed} blocks are exposed, and records name {named}");
            run.journaled_below(blocks.end());
        }
    }
    writer.join().expect("the writer");
    let exposed: u64 = world.table.exposed().iter().map(|(_, blocks)| blocks.count).sum();
    assert!(exposed <= 3);
    world.home();
    assert!(world.table.exposed().is_empty(), "a run that is at home exposes nothing");
}
