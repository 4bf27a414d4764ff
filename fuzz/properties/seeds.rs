//! Seeds: inputs to begin with, made from the small valid stores, so that they follow every change of the format.

use super::bases::bases;
use super::image::{BLOCK, Kind};

const RANDOM: u64 = 100;
const SIZES: [&str; 8] = ["512", "4K", "20GiB", "1T", "16383P", "1.5G", "99999999999999999999", "0"];

/// Inputs for a target. Those of a target that is not named here are random: to it, every input means something.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "sizes" => SIZES.iter().map(|size| size.as_bytes().to_vec()).collect(),
        "format_journal" => journal(),
        "format_catalog" => catalog(),
        "format_tables" => tables(),
        _ => (0..RANDOM).map(random).collect(),
    }
}

fn random(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..4 + seed).map(|_| byte()).collect()
}

/// The records of every batch: behind the header, as many bytes as it says.
fn records() -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    for base in bases() {
        let image = base.image();
        for batch in &image.batches {
            let lengths = image.u64(batch.at + 40);
            let bytes = image.pages.get(batch.at + 64, lengths as u32 as usize).unwrap();
            found.push(((lengths >> 32) as u8, bytes));
        }
    }
    found
}

fn journal() -> Vec<Vec<u8>> {
    let carried = records().into_iter().filter(|(inline, _)| *inline < 3);
    carried.map(|(inline, records)| [vec![inline], records].concat()).collect()
}

/// Events of the journals, one by one, and catalog pages without the zeros behind them.
fn catalog() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for (_, records) in records() {
        let mut rest = &records[..];
        while let Some((head, tail)) = rest.split_at_checked(8) {
            let length = u32::from_le_bytes(head[4..].try_into().unwrap()) as usize;
            if head[0] == 3 {
                found.push([&[0], &tail[..length]].concat());
            }
            rest = &tail[length..];
        }
    }
    found.extend(blocks(Kind::CatalogPage).map(|page| [&[200], trimmed(&page)].concat()));
    found
}

fn tables() -> Vec<Vec<u8>> {
    let mut found = vec![vec![0]];
    for base in bases() {
        let image = base.image();
        let record = image.pages.get(image.parts.checkpoint, image.parts.checkpoint_bytes);
        found.push([vec![1], record.unwrap()].concat());
    }
    let nodes = blocks(Kind::Node).chain(blocks(Kind::CatalogNode));
    found.extend(nodes.map(|node| [&[2], trimmed(&node)].concat()));
    // Three zones of one page each.
    found.extend(blocks(Kind::Summary).map(|page| [&[18], trimmed(&page)].concat()));
    found.extend(blocks(Kind::Refcounts).map(|page| [&[4], trimmed(&page)].concat()));
    found
}

fn blocks(kind: Kind) -> impl Iterator<Item = Vec<u8>> {
    bases().iter().flat_map(move |base| {
        let image = base.image();
        image.parts.blocks(kind).iter().map(move |block| image.pages.get(block * BLOCK, BLOCK).unwrap())
    })
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
}
