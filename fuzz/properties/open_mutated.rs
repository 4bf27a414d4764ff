//! Open mutated: a valid store of which bytes, blocks or the end were changed, and some of it sealed again.
//!
//! As long as nothing is sealed again, what can be read is what recovery may find there, or an error. With forged seals, and
//! whatever is done with the store then: see exercise.rs.

use super::bases::bases;
use super::exercise::{Forged, exercise};
use super::image::{BLOCK, Image, Kind, Sealing, superblock};
use super::input::Input;

const MUTATIONS_MAX: usize = 12;

/// The property.
pub fn run(data: &[u8]) {
    let input = &mut Input(data);
    let base = &bases()[input.below(bases().len())];
    let mut image = base.image();
    let mut forged = Forged::Nothing(&base.states);
    for _ in 0..MUTATIONS_MAX {
        match mutate(&mut image, input) {
            Some(Target::Block(_)) => forged = Forged::Anything,
            Some(_) if matches!(forged, Forged::Nothing(_)) => forged = Forged::Numbers,
            _ => {}
        }
        if input.byte() < 160 {
            break;
        }
    }
    exercise(image.pages, input, &forged);
}

/// What a mutation aims at.
enum Target {
    Superblock,
    Checkpoint,
    Batch(usize),
    Block(usize),
    Anything,
}

/// Changes something; returns what, if it was sealed again.
fn mutate(image: &mut Image, input: &mut Input<'_>) -> Option<Target> {
    let target = target(image, input);
    let must_seal = input.byte() >= 96;
    let (start, length) = match target {
        Target::Superblock => (0, superblock::RESERVED + 8),
        Target::Checkpoint => (image.parts.checkpoint, image.parts.checkpoint_bytes),
        Target::Batch(nth) => (image.batches[nth].at, image.batches[nth].bytes.min(BLOCK)),
        Target::Block(block) => (block * BLOCK, BLOCK),
        Target::Anything => (0, image.pages.len()),
    };
    change(image, input, (start, length));
    if must_seal {
        match target {
            Target::Superblock => image.seal_superblock(),
            Target::Checkpoint => image.seal_checkpoint(),
            Target::Batch(nth) => image.seal_batch(image.batches[nth]),
            Target::Block(block) => image.seal_block(block),
            Target::Anything => return None,
        }
    }
    must_seal.then_some(target)
}

fn target(image: &Image, input: &mut Input<'_>) -> Target {
    let kind = match input.byte() % 10 {
        0 => return Target::Superblock,
        1 => return Target::Checkpoint,
        2 if !image.batches.is_empty() => {
            return Target::Batch(input.below(image.batches.len()));
        }
        3 => Kind::CatalogNode,
        4 => Kind::CatalogPage,
        5 => Kind::Node,
        6 => Kind::Data,
        7 => Kind::Summary,
        8 => Kind::Refcounts,
        _ => return Target::Anything,
    };
    let blocks = image.parts.blocks(kind);
    if blocks.is_empty() { Target::Anything } else { Target::Block(blocks[input.below(blocks.len())]) }
}

fn change(image: &mut Image, input: &mut Input<'_>, (start, length): (usize, usize)) {
    let other =
        |input: &mut Input<'_>, image: &Image| input.below((image.pages.len() / BLOCK).max(1)) * BLOCK;
    let at = start + input.below(length);
    match input.byte() % 8 {
        0 | 1 => {
            let flip = input.byte().max(1);
            let mut byte = [0];
            image.pages.read(at, &mut byte);
            image.put(at, &[byte[0] ^ flip]);
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
        _ if input.byte() < 32 => image.pages.truncate(at),
        _ => {
            let (value, count) = (input.byte(), input.below(BLOCK));
            image.put(at, &vec![value; count]);
        }
    }
}

fn block(image: &Image, at: usize) -> Option<Vec<u8>> {
    image.pages.get(at, BLOCK)
}
