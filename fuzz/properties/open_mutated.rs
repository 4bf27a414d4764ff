//! Open mutated: a valid store of which bytes, blocks or the end were changed, and some of it sealed again.
//!
//! As long as nothing is sealed again, what can be read is what recovery may find there, or an error. Then, and with forged
//! seals, too, whatever is done with the store works or gives an error.

use cowblk::Store;

use super::content::{difference, is_part_of, observe};
use super::exercise::exercise;
use super::format::{BLOCK, Image, Kind, superblock};
use super::image::{Base, bases, options};
use super::input::Input;
use super::medium::Medium;

const MUTATIONS_MAX: usize = 12;

/// The property.
pub fn run(data: &[u8]) {
    let input = &mut Input(data);
    let base = &bases()[input.below(bases().len())];
    let mut image = base.image.clone();
    let mut is_forged = false;
    for _ in 0..MUTATIONS_MAX {
        if input.is_empty() {
            break;
        }
        is_forged |= mutate(&mut image, input);
    }
    if !is_forged {
        expect_truth(base, &image);
    }
    exercise(image.bytes, input);
}

/// Whatever opens shows one of the states that it may be in.
fn expect_truth(base: &Base, image: &Image) {
    let Ok(store) = Store::open_on(Medium::new(image.bytes.clone()), options()) else { return };
    let seen = observe(&store, true);
    let is_true = base.states.iter().any(|state| is_part_of(&seen, state));
    let last = base.states.last().map(|state| difference(&seen, state));
    assert!(is_true, "the store shows what it never held: {last:?}");
}

/// What a mutation aims at.
enum Target {
    Superblock,
    Checkpoint,
    Batch(usize),
    Block(usize),
    Anything,
}

/// Changes something; returns whether it was sealed again.
fn mutate(image: &mut Image, input: &mut Input<'_>) -> bool {
    let target = target(image, input);
    let must_seal = input.byte() >= 96;
    let (start, length) = match target {
        Target::Superblock => (0, superblock::RESERVED + 8),
        Target::Checkpoint => (image.parts.checkpoint, image.parts.checkpoint_bytes),
        Target::Batch(nth) => (image.parts.batches[nth].at, image.parts.batches[nth].bytes.min(BLOCK)),
        Target::Block(block) => (block * BLOCK, BLOCK),
        Target::Anything => (0, image.bytes.len()),
    };
    change(image, input, (start, length));
    if must_seal {
        match target {
            Target::Superblock => image.seal_superblock(),
            Target::Checkpoint => image.seal_checkpoint(),
            Target::Batch(nth) => image.seal_batch(image.parts.batches[nth]),
            Target::Block(block) => image.seal_block(block),
            Target::Anything => return false,
        }
    }
    must_seal
}

fn target(image: &Image, input: &mut Input<'_>) -> Target {
    let kind = match input.byte() % 10 {
        0 => return Target::Superblock,
        1 => return Target::Checkpoint,
        2 if !image.parts.batches.is_empty() => {
            return Target::Batch(input.below(image.parts.batches.len()));
        }
        3 => Kind::CatalogNode,
        4 => Kind::CatalogPage,
        5 => Kind::Node,
        6 => Kind::Data,
        7 => Kind::Summary,
        8 => Kind::Refcounts,
        _ => return Target::Anything,
    };
    let blocks = image.blocks(kind);
    if blocks.is_empty() { Target::Anything } else { Target::Block(blocks[input.below(blocks.len())]) }
}

fn change(image: &mut Image, input: &mut Input<'_>, (start, length): (usize, usize)) {
    let other =
        |input: &mut Input<'_>, image: &Image| input.below((image.bytes.len() / BLOCK).max(1)) * BLOCK;
    let at = start + input.below(length);
    match input.byte() % 8 {
        0 | 1 => {
            let flip = input.byte().max(1);
            if let Some(byte) = image.bytes.get_mut(at) {
                *byte ^= flip;
            }
        }
        2 => {
            let (one, two) = (start / BLOCK * BLOCK, other(input, image));
            if let (Some(a), Some(b)) = (block(image, one), block(image, two)) {
                image.put(one, &b);
                image.put(two, &a);
            }
        }
        3 => {
            let from = other(input, image);
            if let Some(bytes) = block(image, from) {
                image.put(start / BLOCK * BLOCK, &bytes);
            }
        }
        4 => {
            let value = input.number().to_le_bytes();
            image.put(at / 8 * 8, &value);
        }
        5 => {
            let value = input.number().to_le_bytes();
            image.put(at / 4 * 4, &value[..4]);
        }
        6 => {
            let count = input.below(40);
            let bytes = input.bytes(count).to_vec();
            image.put(at, &bytes);
        }
        _ if input.byte() < 32 => image.bytes.truncate(at),
        _ => {
            let (value, count) = (input.byte(), input.below(BLOCK));
            image.put(at, &vec![value; count]);
        }
    }
}

fn block(image: &Image, at: usize) -> Option<Vec<u8>> {
    image.bytes.get(at..at + BLOCK).map(<[u8]>::to_vec)
}
