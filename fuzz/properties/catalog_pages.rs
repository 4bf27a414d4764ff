//! Catalog pages: any records instead of those of a valid store, or beside them, sealed up to the superblock.
//!
//! They are refused, or the store works or gives errors, as exercise.rs has it. Their references lead to real nodes, if the input does not want
//! otherwise, so that more than the first look at them is reached.

use super::bases::bases;
use super::exercise::{Forged, exercise};
use super::forger::Forger;
use super::format::schema::RECORDS;
use super::image::{BLOCK, Image, Kind, Sealing, checkpoint};
use super::input::Input;

const RECORDS_MAX: usize = 24;

/// The property.
pub fn run(data: &[u8]) {
    let input = &mut Input(data);
    let base = &bases()[input.below(3)];
    let mut image = base.image();
    let pages = image.parts.blocks(Kind::CatalogPage);
    let page = pages[input.below(pages.len())];
    let (is_raw, must_keep) = (input.byte() < 40, input.chance());
    if input.byte() > 200 {
        let at = image.parts.checkpoint;
        let (epoch, next_id) = (input.number().to_le_bytes(), input.number().to_le_bytes());
        image.put(at + checkpoint::EPOCH, &epoch);
        image.put(at + checkpoint::NEXT_ID, &next_id);
    }
    let mut bytes = if must_keep { kept(&image, page) } else { Vec::new() };
    if is_raw {
        bytes.extend_from_slice(input.bytes(BLOCK));
    } else {
        add_records(&image, input, &mut bytes);
    }
    bytes.resize(BLOCK, 0);
    image.put(page * BLOCK, &bytes);
    if !must_keep {
        for &other in pages.iter().filter(|other| **other != page) {
            image.put(other * BLOCK, &[0; BLOCK]);
            image.seal_block(other);
        }
    }
    image.seal_block(page);
    exercise(image.pages, input, &Forged::Anything);
}

/// The records that the page has, without the zeros behind them.
fn kept(image: &Image, page: usize) -> Vec<u8> {
    let bytes = image.pages.get(page * BLOCK, BLOCK).unwrap_or_default();
    let mut at = 0;
    while at + 2 < BLOCK && bytes[at..at + 2] != [0, 0] {
        at += 2 + usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    }
    bytes[..at].to_vec()
}

fn add_records(image: &Image, input: &mut Input<'_>, bytes: &mut Vec<u8>) {
    for _ in 0..RECORDS_MAX {
        if input.is_empty() {
            break;
        }
        let record = record(image, input);
        if bytes.len() + 2 + record.len() > BLOCK {
            break;
        }
        let length = if input.byte() < 250 { record.len() } else { input.below(BLOCK) };
        bytes.extend_from_slice(&(length as u16).to_le_bytes());
        bytes.extend_from_slice(&record);
    }
}

fn record(image: &Image, input: &mut Input<'_>) -> Vec<u8> {
    Forger { name: &name, reference: &|input| reference(image, input) }.forge(RECORDS, input)
}

fn name(input: &mut Input<'_>) -> String {
    match input.byte() {
        count @ 200..=215 => "n".repeat(usize::from(count - 199) * 16),
        216..=230 => String::from_utf8_lossy(input.bytes(6)).into_owned(),
        231..=235 => String::new(),
        other => format!("n{}", other % 12),
    }
}

/// A reference to a node that there is, with its height or another; sometimes a hole, sometimes anything.
fn reference(image: &Image, input: &mut Input<'_>) -> ([u8; 16], u64) {
    let trees = &image.parts.trees;
    let tree = trees[input.below(trees.len())];
    let height = if input.byte() < 230 { u64::from(tree.height) } else { input.number() };
    match input.byte() {
        0..=199 => (tree.reference, height),
        200..=219 => {
            // Another birth.
            let mut reference = tree.reference;
            reference[6..11].copy_from_slice(&input.number().to_le_bytes()[..5]);
            (reference, height)
        }
        220..=239 => ([0; 16], height),
        _ => {
            let mut reference = [0; 16];
            let bytes = input.bytes(16);
            reference[..bytes.len()].copy_from_slice(bytes);
            (reference, height)
        }
    }
}
