//! Crash histories: random verbs on several servers and disks, with crashes at any moment, and the promise that what
//! is found afterwards is a prefix of the history that holds at least what was promised.
//!
//! `COWBLK_SEED=17` replays one seed; `COWBLK_CRASH_STATES=1000000` goes on until so many crashes were looked at.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "the number of crash states is part of the result")]

mod model;

use cowblk::Store;
use cowblk::device::sim::{SimDevice, Survival};
use model::{BLOCK, Fill, Shape, Tally, run_history, states_wanted};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn after_a_crash_a_store_is_a_prefix_of_its_history() {
    let tally = Tally::default();
    if let Ok(seed) = std::env::var("COWBLK_SEED") {
        run_history(seed.parse().unwrap(), &tally);
        return;
    }
    let wanted = states_wanted(40_000);
    let mut seed = 1;
    while tally.count() < wanted {
        run_history(seed, &tally);
        seed += 1;
    }
    println!("{} crash states of {} histories", tally.count(), seed - 1);
}

/// A flush takes the records that wait, and then looks for the blocks to carry along. A writer that comes in between
/// must not have its block carried without its record: after a crash the block would be free, and still in the journal.
#[test]
fn a_crash_while_one_thread_writes_and_another_flushes_leaves_a_store_that_works() {
    const BLOCKS: u64 = 24;
    let tally = Tally::default();
    for seed in 0..40 {
        let device = SimDevice::new(0, seed);
        let shape = Shape { zone_blocks: 256, journal_bytes: 256 << 10, ..Shape::SMALL };
        let store = Store::create_on(Arc::new(device.clone()), shape.options()).unwrap();
        let disk = store.create_server("s").unwrap().create_disk("d", BLOCKS * BLOCK).unwrap();
        let stop = AtomicBool::new(false);
        let images: Vec<SimDevice> = std::thread::scope(|scope| {
            scope.spawn(|| {
                for stamp in 1.. {
                    let range = stamp % BLOCKS * BLOCK..(stamp % BLOCKS + 1) * BLOCK;
                    if stop.load(Ordering::Relaxed)
                        || disk
                            .write_at(&Fill { stamp, zero_every: 0 }.bytes(range.clone()), range.start)
                            .is_err()
                    {
                        return;
                    }
                }
            });
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && disk.flush().is_ok() {
                    std::hint::spin_loop();
                }
            });
            let images = (0..50).map(|_| {
                std::thread::sleep(Duration::from_micros(300));
                device.crash(&Survival::Nothing)
            });
            let images = images.collect();
            stop.store(true, Ordering::Relaxed);
            images
        });
        for image in images {
            let mut image = image;
            for round in 0..3 {
                tally.add();
                let store = Store::open_on(Arc::new(image.clone()), shape.options())
                    .unwrap_or_else(|error| panic!("seed {seed}, opening {round}: {error}"));
                let disk = store.server("s").unwrap().disk("d").unwrap();
                for stamp in 0..8 {
                    let range = stamp * BLOCK..(stamp + 1) * BLOCK;
                    let bytes =
                        Fill { stamp: stamp + (round + 1) * 1000, zero_every: 0 }.bytes(range.clone());
                    disk.write_at(&bytes, range.start).unwrap();
                    disk.flush().unwrap();
                }
                if round == 1 {
                    store.checkpoint().unwrap();
                }
                let mut all = vec![0; usize::try_from(BLOCKS * BLOCK).unwrap()];
                disk.read_at(&mut all, 0)
                    .unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
                let after = image.crash(&Survival::Nothing);
                image.cut_power();
                image = after;
            }
        }
    }
    println!("{} crash states between two threads", tally.count());
}
