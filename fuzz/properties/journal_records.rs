//! Journal records: any records, sealed into batches behind those of a valid store.
//!
//! They are refused or applied; a store that they were applied to works or gives errors, as exercise.rs has it.

use super::bases::bases;
use super::exercise::{Forged, exercise};
use super::forger::Forger;
use super::format::schema::EVENTS;
use super::image::{BLOCK, Sealing, superblock};
use super::input::Input;

const RECORDS_MAX: usize = 24;

/// The property.
pub fn run(data: &[u8]) {
    let input = &mut Input(data);
    let base = &bases()[input.below(2)];
    let mut image = base.image();
    if image.batches.is_empty() {
        image.put(superblock::CLEAN, &[0; 8]);
        image.seal_superblock();
    }
    let is_raw = input.byte() < 40;
    let mut records = Vec::new();
    let mut inline = Vec::new();
    if is_raw {
        records = input.bytes(4000).to_vec();
    }
    for _ in 0..RECORDS_MAX {
        if input.is_empty() {
            break;
        }
        if input.byte() > 230 {
            let is_durable = input.chance();
            image.append_batch(&std::mem::take(&mut records), &std::mem::take(&mut inline), is_durable);
        }
        record(input, &mut records, &mut inline);
    }
    let is_durable = input.byte() < 128;
    image.append_batch(&records, &inline, is_durable);
    exercise(image.pages, input, &Forged::Anything);
}

fn record(input: &mut Input<'_>, records: &mut Vec<u8>, inline: &mut Vec<u8>) {
    let mut body = Vec::new();
    let choice = input.byte();
    let kind = match choice % 8 {
        0 => {
            // The first data blocks of a store with these options: 48 and up.
            let count = input.byte() % 6;
            for number in [input.number(), input.number(), physical(input), input.number(), u64::from(count)]
            {
                body.extend_from_slice(&number.to_le_bytes());
            }
            let crc = crc32fast::hash(&vec![input.byte(); BLOCK]).to_le_bytes();
            (0..count).for_each(|_| body.extend_from_slice(&crc));
            if choice < 128 { 1 } else { 5 }
        }
        1 => {
            for number in [input.number(), input.number(), input.number()] {
                body.extend_from_slice(&number.to_le_bytes());
            }
            2
        }
        2 => {
            let count = input.byte() % 4;
            body.extend_from_slice(&physical(input).to_le_bytes());
            body.extend_from_slice(&u64::from(count).to_le_bytes());
            let carried = if input.byte() < 240 { count } else { input.byte() % 4 };
            inline.resize(inline.len() + usize::from(carried) * BLOCK, input.byte());
            4
        }
        3 => {
            let count = input.below(60);
            body.extend_from_slice(input.bytes(count));
            u32::from(input.byte() % 7)
        }
        _ => {
            body = event(input);
            3
        }
    };
    let length = if input.byte() < 250 { body.len() as u32 } else { input.number() as u32 };
    records.extend_from_slice(&u32::to_le_bytes(kind));
    records.extend_from_slice(&length.to_le_bytes());
    records.extend_from_slice(&body);
}

fn physical(input: &mut Input<'_>) -> u64 {
    if input.byte() < 200 { 48 + u64::from(input.byte()) } else { input.number() }
}

fn name(input: &mut Input<'_>) -> String {
    const NAMES: [&str; 6] = ["web", "db", "vda", "first", "new", "before-restore"];
    match input.byte() {
        0..=199 => NAMES[input.below(NAMES.len())].to_owned(),
        200..=230 => format!("n{}", input.byte()),
        231..=240 => "n".repeat(usize::from(input.byte()) * 8),
        _ => String::from_utf8_lossy(input.bytes(5)).into_owned(),
    }
}

fn event(input: &mut Input<'_>) -> Vec<u8> {
    Forger { name: &name, reference: &|_| ([0; 16], 0) }.forge(EVENTS, input)
}
