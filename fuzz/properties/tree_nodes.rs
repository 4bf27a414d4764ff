//! Tree nodes: nodes and tables of a valid store in which references and counts were replaced, sealed up to the superblock.
//!
//! References lead to real blocks and nodes, at other places and levels than their own. What happens: see exercise.rs.

use super::bases::bases;
use super::exercise::{Forged, exercise};
use super::image::{BLOCK, Image, Kind, Sealing};
use super::input::Input;

const BLOCKS_MAX: usize = 4;
const CHANGES_MAX: usize = 8;

/// The property.
pub fn run(data: &[u8]) {
    let input = &mut Input(data);
    let mut image = bases()[input.below(3)].image();
    let mut forged = Forged::Numbers;
    for _ in 0..BLOCKS_MAX {
        if mutate(&mut image, input) {
            forged = Forged::Anything;
        }
        if input.byte() < 200 {
            break;
        }
    }
    exercise(image.pages, input, &forged);
}

/// Changes a block; returns whether references were changed.
fn mutate(image: &mut Image, input: &mut Input<'_>) -> bool {
    const KINDS: [Kind; 6] =
        [Kind::Node, Kind::Node, Kind::Node, Kind::CatalogNode, Kind::Refcounts, Kind::Summary];
    let kind = KINDS[input.below(KINDS.len())];
    let blocks = image.parts.blocks(kind);
    let Some(&block) = blocks.get(input.below(blocks.len())) else { return false };
    for _ in 0..CHANGES_MAX {
        match kind {
            Kind::Refcounts => count(image, block, input),
            Kind::Summary => summary(image, block, input),
            _ => reference(image, block, input),
        }
        if input.byte() < 128 {
            break;
        }
    }
    image.seal_block(block);
    !matches!(kind, Kind::Refcounts | Kind::Summary)
}

/// Replaces a reference, mostly near the beginning of the node, where the others are.
fn reference(image: &mut Image, block: usize, input: &mut Input<'_>) {
    let nth = if input.byte() < 220 { input.below(16) } else { input.below(256) };
    let at = block * BLOCK + nth * 16;
    let trees = &image.parts.trees;
    let tree = trees[input.below(trees.len())].reference;
    match input.byte() {
        0..=99 => image.put(at, &tree),
        100..=139 => image.put(at, &[0; 16]),
        140..=179 => image.put(at + 6, &input.number().to_le_bytes()[..5]),
        180..=199 => image.put(at, &(48 + input.word(1)).to_le_bytes()[..6]),
        200..=219 => image.put(at, &input.number().to_le_bytes()[..6]),
        220..=229 => image.put(at + 11, &[input.byte()]),
        230..=239 => image.put(at + 12, &input.word(4).to_le_bytes()[..4]),
        _ => {
            let other = block * BLOCK + input.below(16) * 16;
            let (one, two) = (image.pages.get(at, 16), image.pages.get(other, 16));
            image.put(other, &one.unwrap_or_default());
            image.put(at, &two.unwrap_or_default());
        }
    }
}

fn count(image: &mut Image, block: usize, input: &mut Input<'_>) {
    let nth = input.below(80);
    image.put(block * BLOCK + 2 * nth, &input.number().to_le_bytes()[..2]);
}

/// The entry of a zone: used, reserved, current, written, the seal of its page.
fn summary(image: &mut Image, block: usize, input: &mut Input<'_>) {
    const FIELDS: [(usize, usize); 5] = [(0, 4), (4, 4), (8, 8), (16, 8), (24, 4)];
    let (offset, bytes) = FIELDS[input.below(FIELDS.len())];
    let zone = if input.byte() < 220 { input.below(3) } else { input.below(150) };
    image.put(block * BLOCK + 28 * zone + offset, &input.number().to_le_bytes()[..bytes]);
}
