//! Again: decodes bytes and encodes them again, for fuzz targets. Behind the cargo feature `fuzz`.
//!
//! Floor 1. What is decoded stays inside; what comes out is what this version would have written.

use super::{
    Batch, BatchBuilder, BatchHeader, BatchIdentity, CheckpointRecord, Event, Record, Slot, Superblock,
    decode_counts, decode_page, decode_summary, encode_counts, encode_page, encode_summary, encoded_record,
    node_from_bytes, node_to_bytes,
};
use crate::units::Sequence;

/// What bytes are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A sealed superblock whose reserved bytes are zero and whose geometry is possible.
    Superblock,
    /// A checkpoint record.
    Checkpoint,
    /// An extent node in which every reference is valid.
    Node,
    /// The summary page of this many zones, each with this many refcount pages.
    Summary {
        /// Zones in the group.
        zones: u64,
        /// Refcount pages of each.
        pages: u32,
    },
    /// A refcount page.
    Counts,
    /// A catalog page.
    CatalogPage,
    /// An event of the journal.
    Event,
    /// A sealed journal batch of a store with blocks of this many bytes.
    Batch {
        /// Bytes in a block.
        block_size: u32,
    },
}

/// The bytes that this version writes for what `bytes` mean; `None` where they are refused.
pub fn again(part: Part, bytes: &[u8]) -> Option<Vec<u8>> {
    match part {
        Part::Superblock => superblock(bytes),
        Part::Checkpoint => CheckpointRecord::decode(bytes).map(|record| record.encode()),
        Part::Node => {
            let node = node_from_bytes(bytes);
            node.iter().all(super::Reference::is_valid).then(|| node_to_bytes(&node).to_vec())
        }
        Part::Summary { zones, pages } => {
            decode_summary(bytes, pages, zones).map(|entries| encode_summary(&entries, bytes.len()))
        }
        Part::Counts => Some(encode_counts(&decode_counts(bytes))),
        Part::CatalogPage => {
            let records: Vec<_> = decode_page(bytes)?.iter().map(encoded_record).collect();
            Some(encode_page(records.iter().map(Vec::as_slice), bytes.len()))
        }
        Part::Event => Event::decode(bytes).map(|event| event.encode()),
        Part::Batch { block_size } => batch(bytes, block_size),
    }
}

fn superblock(bytes: &[u8]) -> Option<Vec<u8>> {
    match Superblock::open(bytes) {
        Slot::Sealed(superblock) if superblock.reserved_is_zero() && superblock.geometry().is_ok() => {
            Some(superblock.seal())
        }
        _ => None,
    }
}

fn batch(bytes: &[u8], block_size: u32) -> Option<Vec<u8>> {
    let uuid = bytes.get(48..64)?.try_into().ok()?;
    let header = BatchHeader::read(bytes, uuid)?;
    let length = header.batch_bytes(block_size)?;
    if length != crate::units::wide(bytes.len()) {
        return None;
    }
    let identity = BatchIdentity {
        sequence: Sequence(header.sequence.get()),
        term: header.term.get(),
        durable: Sequence(header.durable.get()),
        uuid,
    };
    let batch = Batch::open(bytes.to_vec(), header, block_size)?;
    let mut builder = BatchBuilder::default();
    let mut inline = Vec::new();
    for record in batch.records()? {
        match record {
            Record::Map(map) => builder.map(map.disk, map.first, map.physical, map.birth, &map.crcs),
            Record::Share(map) => builder.share(map.disk, map.first, map.physical, map.birth, &map.crcs),
            Record::Clear { disk, first, count } => builder.clear(disk, first, count),
            Record::Event(event) => builder.event(&event),
            Record::Inline { run, at } => {
                builder.inline(run);
                inline.extend_from_slice(batch.inline(at, run.count)?);
            }
        }
    }
    Some(builder.seal(&identity, &inline, block_size))
}
