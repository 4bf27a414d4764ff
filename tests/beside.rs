//! Beside: what may happen beside a call of the medium that takes its time. One call is held up, others do their worst
//! meanwhile, then it goes on. So what threads meet once in a million times is met every time.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk::device::{Device, MemoryDevice};
use cowblk::{Disk, Options, Store};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::thread;

const BLOCK: usize = 4096;
/// The thread whose calls are held up.
const HELD: &str = "held";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Read,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Passing,
    /// The call after so many of its kind, by the thread [`HELD`], is the one.
    Armed(Call, u32),
    Held,
    Released,
}

struct Holding {
    memory: MemoryDevice,
    stage: Mutex<Stage>,
    changed: Condvar,
}

impl Holding {
    fn new() -> Arc<Holding> {
        let stage = Mutex::new(Stage::Passing);
        Arc::new(Holding { memory: MemoryDevice::new(0), stage, changed: Condvar::new() })
    }

    fn set(&self, stage: Stage) {
        *self.stage.lock() = stage;
        self.changed.notify_all();
    }

    fn wait_until_held(&self) {
        let mut stage = self.stage.lock();
        while *stage != Stage::Held {
            self.changed.wait(&mut stage);
        }
    }

    fn pass(&self, call: Call) {
        if thread::current().name() != Some(HELD) {
            return;
        }
        let mut stage = self.stage.lock();
        match *stage {
            Stage::Armed(armed, 0) if armed == call => {
                *stage = Stage::Held;
                self.changed.notify_all();
                while *stage == Stage::Held {
                    self.changed.wait(&mut stage);
                }
            }
            Stage::Armed(armed, rest) if armed == call => *stage = Stage::Armed(armed, rest - 1),
            _ => {}
        }
    }
}

impl Device for Holding {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.pass(Call::Read);
        self.memory.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.memory.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.memory.len_bytes()
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.memory.grow(len_bytes)
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.memory.discard(offset, len_bytes)
    }

    fn can_grow(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }
}

fn options() -> Options {
    Options::default().zone_blocks(256).journal_bytes(256 << 10).background(false)
}

fn disk_of(store: &Store) -> Disk {
    store.server("web").unwrap().disk("vda").unwrap()
}

/// A store with a disk whose first blocks are at home, and hold ones.
fn store_on(device: &Arc<Holding>, options: Options) -> Store {
    let store = Store::create_on(device.clone(), options).unwrap();
    let disk = store.create_server("web").unwrap().create_disk("vda", 64 << 20).unwrap();
    disk.write_at(&vec![1; 16 * BLOCK], 0).unwrap();
    store.checkpoint().unwrap();
    store
}

/// Runs `held` in a thread whose first such call is held up while `beside` runs.
fn run_beside<T: Send>(
    device: &Holding,
    (call, after): (Call, u32),
    held: impl FnOnce() -> T + Send,
    beside: impl FnOnce(),
) -> T {
    device.set(Stage::Armed(call, after));
    thread::scope(|scope| {
        let held = thread::Builder::new().name(HELD.into()).spawn_scoped(scope, held).unwrap();
        device.wait_until_held();
        beside();
        device.set(Stage::Released);
        held.join().unwrap()
    })
}

/// Overwrites what the held call looks at, lets checkpoints free it, and takes whatever is free.
fn reuse_everything(store: &Store) {
    let disk = disk_of(store);
    disk.write_at(&vec![2; 16 * BLOCK], 0).unwrap();
    for round in 0..3 {
        store.checkpoint().unwrap();
        disk.write_at(&vec![3 + round; 600 * BLOCK], 1 << 20).unwrap();
        disk.flush().unwrap();
    }
}

#[test]
fn a_block_is_not_used_again_while_a_read_is_on_its_way_to_it() {
    let device = Holding::new();
    let store = store_on(&device, options());
    let disk = disk_of(&store);
    let got = run_beside(
        &device,
        (Call::Read, 0),
        || {
            let mut bytes = vec![0; 16 * BLOCK];
            disk.read_at(&mut bytes, 0).map(|()| bytes)
        },
        || reuse_everything(&store),
    );
    let got = got.unwrap_or_else(|error| panic!("{error}"));
    assert!(got == vec![1; 16 * BLOCK], "the read began before the overwrite");
}

/// A write of a part of a block reads the rest of it.
#[test]
fn a_block_is_not_used_again_while_a_part_of_it_is_being_written() {
    let device = Holding::new();
    let store = store_on(&device, options());
    let disk = disk_of(&store);
    let wrote =
        run_beside(&device, (Call::Read, 0), || disk.write_at(&[9; 100], 1000), || reuse_everything(&store));
    wrote.unwrap_or_else(|error| panic!("{error}"));
    let mut bytes = [0; BLOCK];
    disk.read_at(&mut bytes, 0).unwrap();
    assert_eq!(
        (bytes[999], bytes[1000], bytes[1099], bytes[1100]),
        (2, 9, 9, 2),
        "what was written beside is kept"
    );
}
