//! Found: the stores that fuzzing found bugs with, made again from what was wrong with them.
//!
//! An input of a fuzzer means something else as soon as its target changes; these do not. Inputs that were not told again
//! yet lie in fuzz/regressions/.

use super::bases::{Base, bases};
use super::exercise::{Forged, exercise};
use super::format::bincode::Fields;
use super::image::{BLOCK, Image, Kind, Sealing, checkpoint, superblock};
use super::input::Input;

/// A store that was once met: what was wrong with it, and how it is made.
pub type Found = (&'static str, fn());

/// All of them.
pub const FOUND: [Found; 7] = [
    ("a next id at the end of all numbers", || checkpoint_says(checkpoint::NEXT_ID, u64::MAX)),
    ("a next id that was given out", || checkpoint_says(checkpoint::NEXT_ID, 1)),
    ("a catalog with a root and no levels", || checkpoint_says(checkpoint::CATALOG_HEIGHT, 0)),
    ("a first batch with the number zero", || {
        use_in_every_way(|image| {
            image.put(superblock::JOURNAL_SEQUENCE, &[0; 8]);
            image.put(superblock::CLEAN, &[0; 8]);
            image.seal_superblock();
        });
    }),
    ("a store that grows to no end", || {
        use_in_every_way(|image| {
            let mut event = Fields::default();
            event.integer(0).integer(u64::MAX / 2);
            let head = [3_u32, event.0.len() as u32].map(u32::to_le_bytes);
            image.put(superblock::CLEAN, &[0; 8]);
            image.seal_superblock();
            image.append_batch(&[head.as_flattened(), &event.0].concat(), &[], true);
        });
    }),
    ("a refcount page that was never written, and of which the second slot is current", || {
        use_in_every_way(|image| {
            let block = image.parts.blocks(Kind::Summary)[0];
            let zone = (0..3).find(|zone| image.u64(block * BLOCK + 28 * zone) == 0).unwrap_or(2);
            image.put(block * BLOCK + 28 * zone + 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0]);
            image.seal_block(block);
        });
    }),
    ("a group of zones with more blocks in use than its zones have", || {
        (1..20).for_each(group_has_in_use);
    }),
];

fn group_has_in_use(missing: u32) {
    use_in_every_way(|image| {
        let used = image.u64(image.parts.checkpoint + checkpoint::ZONES) as u32 * 62 - missing;
        image.put(image.parts.checkpoint + checkpoint::HEAD_BYTES + 4, &used.to_le_bytes());
        image.seal_checkpoint();
    });
}

fn checkpoint_says(field: usize, number: u64) {
    use_in_every_way(|image| {
        let bytes = if field == checkpoint::CATALOG_HEIGHT { 4 } else { 8 };
        image.put(image.parts.checkpoint + field, &number.to_le_bytes()[..bytes]);
        image.seal_checkpoint();
    });
}

/// Changes each of the small stores, and does all that there is to do with it, in several orders.
fn use_in_every_way(change: impl Fn(&mut Image)) {
    for choices in [0, 8, 12] {
        for first in 0..11 {
            for base in bases() {
                exercise(changed(base, &change).pages, &mut Input(&steps(choices, first)), &Forged::Numbers);
            }
        }
    }
}

fn changed(base: &Base, change: impl Fn(&mut Image)) -> Image {
    let mut image = base.image();
    change(&mut image);
    image
}

/// One step after another, each with the choice of a server and a disk.
fn steps(choices: u8, first: u8) -> Vec<u8> {
    let step = |nth: u8| [(first + nth) % 11, nth % 2, nth % 3];
    std::iter::once(choices).chain((0..11).flat_map(step)).collect()
}
