//! Journal: the batches behind a checkpoint, and what they say, as docs/format.md has it.

use super::bytes::{Bytes, Fields};
use super::{BLOCK, HEADER_BYTES};
use std::ops::Range;

pub struct Batch {
    /// Where it is in the image.
    pub bytes: Range<usize>,
    /// Nothing says that it was durable.
    pub is_tail: bool,
    pub records: Vec<Record>,
}

/// What a batch says, as far as it matters for where things are.
pub enum Record {
    Map { disk: u64, first: u64, physical: u64, count: u64 },
    Share { disk: u64, first: u64, physical: u64, count: u64 },
    Clear { disk: u64, first: u64, count: u64 },
    Inline { physical: u64, count: u64 },
    Grow { zones: u64 },
    CreateDisk { id: u64, server: u64, name: String, size_bytes: u64 },
    Snapshot { server: u64, name: String, versions: Vec<(u64, u64)> },
}

/// The batches of an image that is sound, in order.
pub fn read(image: Bytes<'_>, superblock: Bytes<'_>) -> Vec<Batch> {
    let size = usize::try_from(superblock.u32(64)).unwrap() * BLOCK;
    let journal = image.part(HEADER_BYTES..HEADER_BYTES + size);
    let (term, recovered) = (superblock.u64(80), superblock.u64(88));
    let (mut at, mut sequence) = (usize::try_from(superblock.u64(112)).unwrap(), superblock.u64(120));
    let (mut batches, mut durable) = (Vec::new(), recovered);
    let is_next = |at: usize, sequence: u64| {
        at + BLOCK <= size && journal.0[at..at + 8] == *b"cowblkJB" && {
            let header = journal.part(at..at + 64);
            header.0[48..64] == superblock.0[40..56]
                && header.u64(16) == sequence
                && (header.u64(24) == term || sequence <= recovered)
        }
    };
    while let Some(place) = [at, 0].into_iter().find(|place| is_next(*place, sequence)) {
        let header = journal.part(place..place + 64);
        let (record_bytes, inline) = (header.u32(40), header.u32(44));
        let records = usize::try_from(record_bytes).unwrap();
        let len = (64 + records).next_multiple_of(4096) + usize::try_from(inline).unwrap() * BLOCK;
        durable = durable.max(header.u64(32));
        let decoded = decode(journal.part(place + 64..place + 64 + records));
        let start = HEADER_BYTES + place;
        batches.push((sequence, Batch { bytes: start..start + len, is_tail: false, records: decoded }));
        (at, sequence) = ((place + len) % size, sequence + 1);
    }
    batches.into_iter().map(|(sequence, batch)| Batch { is_tail: sequence > durable, ..batch }).collect()
}

fn decode(mut bytes: Bytes<'_>) -> Vec<Record> {
    let mut records = Vec::new();
    while !bytes.0.is_empty() {
        let (kind, len) = (bytes.u32(0), usize::try_from(bytes.u32(4)).unwrap());
        let body = bytes.part(8..8 + len);
        records.push(match kind {
            1 => Record::Map {
                disk: body.u64(0),
                first: body.u64(8),
                physical: body.u64(16),
                count: body.u32(32),
            },
            5 => Record::Share {
                disk: body.u64(0),
                first: body.u64(8),
                physical: body.u64(16),
                count: body.u32(32),
            },
            2 => Record::Clear { disk: body.u64(0), first: body.u64(8), count: body.u64(16) },
            3 => event(&mut Fields(body.0)),
            4 => Record::Inline { physical: body.u64(0), count: body.u32(8) },
            other => panic!("a journal record of kind {other}"),
        });
        bytes = bytes.part(8 + len..bytes.0.len());
    }
    records
}

fn event(fields: &mut Fields<'_>) -> Record {
    match fields.integer() {
        0 => Record::Grow { zones: fields.integer() },
        3 => {
            let (id, server) = (fields.integer(), fields.integer());
            Record::CreateDisk { id, server, name: fields.string(), size_bytes: fields.integer() }
        }
        6 => {
            let (_, server, name) = (fields.integer(), fields.integer(), fields.string());
            let (_description, _created_at, _identity) = (fields.string(), fields.integer(), fields.raw(16));
            fields.marks();
            let _epoch = fields.integer();
            let versions = fields.list(|pair| (pair.integer(), pair.integer()));
            Record::Snapshot { server, name, versions }
        }
        other => panic!("an event of variant {other}, which no patient's journal holds"),
    }
}
