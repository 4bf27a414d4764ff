//! Journal damage: what opening makes of a journal of which one batch rotted, in the middle, at the end, and after an opening
//! that had accepted it; and of a batch that an earlier opening had refused.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk::device::MemoryDevice;
use cowblk::{Defect, Options, Store};
use std::sync::Arc;

const BLOCK: usize = 4096;
const JOURNAL: std::ops::Range<usize> = (128 << 10)..(128 << 10) + (256 << 10);
const BATCHES: u64 = 6;

fn options() -> Options {
    Options::default().zone_blocks(256).journal_bytes(256 << 10).background(false)
}

/// A store that was flushed after each of some writes, as a crash leaves it, and where its batches of them are.
fn crashed() -> (Vec<u8>, Vec<usize>) {
    let device = Arc::new(MemoryDevice::new(0));
    let store = Store::create_on(device.clone(), options()).unwrap();
    let disk = store.create_server("web").unwrap().create_disk("vda", 1 << 20).unwrap();
    store.checkpoint().unwrap();
    let (_, before) = batches(&device.to_bytes());
    for nth in 1..=BATCHES {
        disk.write_at(&[u8::try_from(nth).unwrap(); BLOCK], nth * BLOCK as u64).unwrap();
        disk.flush().unwrap();
    }
    let (image, after) = batches(&device.to_bytes());
    let new: Vec<usize> = after.into_iter().filter(|at| !before.contains(at)).collect();
    assert_eq!(new.len() as u64, BATCHES);
    (image, new)
}

/// The image, and where batches start in it.
fn batches(image: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let at = JOURNAL.step_by(BLOCK).filter(|at| image[*at..].starts_with(b"cowblkJB")).collect();
    (image.to_vec(), at)
}

fn open(image: &[u8]) -> cowblk::Result<(Arc<MemoryDevice>, Store)> {
    let device = Arc::new(MemoryDevice::from_bytes(image.to_vec()));
    Store::open_on(device.clone(), options()).map(|store| (device, store))
}

/// How many of the writes are there, one after the other.
fn writes_in(store: &Store) -> u64 {
    let disk = store.server("web").unwrap().disk("vda").unwrap();
    let is_there = |nth: u64| {
        let mut bytes = [0; BLOCK];
        disk.read_at(&mut bytes, nth * BLOCK as u64).unwrap();
        assert!(bytes == [0; BLOCK] || bytes == [u8::try_from(nth).unwrap(); BLOCK]);
        bytes[0] != 0
    };
    let count = (1..=BATCHES).take_while(|nth| is_there(*nth)).count() as u64;
    assert!((count + 1..=BATCHES).all(|nth| !is_there(nth)), "this is no prefix");
    count
}

/// One byte of the records, and one of the block that travels with them.
fn rotten(image: &[u8], batch: usize) -> [Vec<u8>; 2] {
    [70, BLOCK + 9].map(|offset| {
        let mut image = image.to_vec();
        image[batch + offset] ^= 4;
        image
    })
}

#[test]
fn a_batch_that_rotted_and_was_durable_is_damage_and_no_torn_end() {
    let (image, batches) = crashed();
    assert_eq!(writes_in(&open(&image).unwrap().1), BATCHES);
    let (last, earlier) = batches.split_last().unwrap();
    for (nth, batch) in earlier.iter().enumerate() {
        for image in rotten(&image, *batch) {
            let refused = open(&image).map(drop).unwrap_err();
            assert_eq!(refused.defect(), Some(Defect::Journal), "batch {nth}: {refused}");
        }
    }
    for image in rotten(&image, *last) {
        assert_eq!(
            writes_in(&open(&image).unwrap().1),
            BATCHES - 1,
            "nothing says that the last one was durable"
        );
    }
}

#[test]
fn a_batch_that_an_opening_accepted_is_durable_from_then_on() {
    let (image, batches) = crashed();
    let (device, store) = open(&image).unwrap();
    let image = device.to_bytes(); // it crashes before it writes a batch of its own
    drop(store);
    assert_eq!(writes_in(&open(&image).unwrap().1), BATCHES);
    for batch in batches {
        for image in rotten(&image, batch) {
            let refused = open(&image).map(drop).unwrap_err();
            assert_eq!(refused.defect(), Some(Defect::Journal), "{refused}");
        }
    }
}

/// The wipe of the refused batch did not last: its term says that it is none of this opening's.
#[test]
fn a_batch_that_an_opening_refused_stays_refused() {
    let (whole, batches) = crashed();
    let last = *batches.last().unwrap();
    let [torn, _] = rotten(&whole, last);
    let (device, store) = open(&torn).unwrap();
    assert_eq!(writes_in(&store), BATCHES - 1);
    let mut image = device.to_bytes();
    drop(store);
    assert!(image[last..last + 64].iter().all(|byte| *byte == 0), "it was not wiped");
    image[last..last + 2 * BLOCK].copy_from_slice(&whole[last..last + 2 * BLOCK]);
    assert_eq!(writes_in(&open(&image).unwrap().1), BATCHES - 1);
}
