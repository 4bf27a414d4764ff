//! Zeros: a block that holds only zeros takes no space, whoever wrote it and in how many pieces.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(missing_docs, reason = "a test crate has no outside")]

use std::io::{Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use cowblk::device::MemoryDevice;
use cowblk::{Disk, Extent, Options, Sparsified, Store};

mod fixture;

use fixture::{Dice, ReplayOnPanic, seeds};

const BLOCK: usize = 4096;
const SIZE: usize = 300 * BLOCK + 512;

fn store() -> (Store, Disk) {
    let options = Options::default().journal_bytes(1 << 20).zone_blocks(514).background(false);
    let store = Store::create_on(Arc::new(MemoryDevice::new(0)), options).unwrap();
    let disk = store.create_server("web").unwrap().create_disk("vda", SIZE as u64).unwrap();
    (store, disk)
}

/// The blocks that the disk holds data in.
fn held(disk: &Disk) -> Vec<usize> {
    let extents = disk.extents(0..disk.size_bytes()).map(|extent| extent.unwrap());
    let blocks = |extent: Extent| {
        let (first, end) = (extent.offset, extent.offset + extent.len);
        (usize::try_from(first).unwrap() / BLOCK)..usize::try_from(end).unwrap().div_ceil(BLOCK)
    };
    extents.filter(Extent::is_data).flat_map(blocks).collect()
}

fn expected(plain: &[u8]) -> Vec<usize> {
    let blocks = plain.chunks(BLOCK).enumerate();
    blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0)).map(|(at, _)| at).collect()
}

#[test]
fn a_disk_holds_exactly_the_blocks_that_are_not_zero() {
    for seed in seeds(60) {
        let _replay = ReplayOnPanic { test: "--test zeros", seed };
        let mut dice = Dice::new(seed);
        let (store, disk) = store();
        let mut plain = vec![0_u8; SIZE];
        for _ in 0..60 {
            let range = dice.range(SIZE as u64);
            let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
            let mut bytes = vec![u8::from(dice.chance(40)); end - start];
            if dice.chance(30) {
                let at = dice.index(bytes.len());
                bytes[at] = 9;
            }
            match dice.below(4) {
                0 => {
                    bytes.fill(0);
                    disk.write_zeroes(range.start, range.end - range.start).unwrap();
                }
                1 => {
                    let mut io = disk.io();
                    io.seek(SeekFrom::Start(range.start)).unwrap();
                    io.write_all(&bytes).unwrap();
                }
                _ => disk.write_at(&bytes, range.start).unwrap(),
            }
            plain[start..end].copy_from_slice(&bytes);
            if dice.chance(10) {
                store.checkpoint().unwrap();
            }
            assert_eq!(held(&disk), expected(&plain), "seed {seed}");
        }
        let done = disk.sparsify(|_, _| ControlFlow::Continue(())).unwrap();
        let read_bytes = (expected(&plain).len() * BLOCK) as u64;
        assert_eq!(done, Sparsified { read_bytes, cleared_bytes: 0 }, "nothing is left to find");
    }
}

#[test]
fn a_disk_full_of_zeros_takes_what_an_empty_one_takes() {
    let (store, disk) = store();
    store.collect().unwrap();
    let empty = store.status().used_blocks;
    disk.write_at(&vec![0; SIZE], 0).unwrap();
    store.collect().unwrap();
    assert_eq!(store.status().used_blocks, empty);
    disk.write_at(&vec![1; SIZE], 0).unwrap();
    store.collect().unwrap();
    assert!(store.status().used_blocks >= empty + 301);
    disk.write_at(&vec![0; SIZE], 0).unwrap();
    store.collect().unwrap();
    assert_eq!(store.status().used_blocks, empty, "what was overwritten with zeros is free");
}
