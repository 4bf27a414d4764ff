//! Format: what the bytes on the medium mean.
//!
//! Floor 1. Layouts, encoding and decoding; no I/O, no policy, no panic on any input. docs/format.md
//! describes every byte for somebody who writes a reader; tests/format.rs holds it to [`LAYOUT`].
//!
//! ```text
//! superblock A | superblock B | journal | group 0 | group 1 | …
//! group  =  summary slot 0 | summary slot 1 | zone | zone | …
//! zone   =  refcount page 0 slot 0 | page 0 slot 1 | page 1 slot 0 | … | data blocks
//! ```
//!
//! F1  All numbers are little-endian.
//! F2  Reserved bytes are written as zero and required to be zero.
//! F3  Whatever can be reached is sealed by what reaches it: superblock (itself) → checkpoint record →
//!     zone summaries → refcount pages, and → catalog map → catalog pages → extent nodes → data.
#![deny(clippy::indexing_slicing)]

#[cfg(feature = "fuzz")]
mod again;
mod catalog;
mod checkpoint;
mod codec;
mod event;
mod geometry;
mod handover;
mod journal;
mod layout;
mod marks;
mod reference;
mod superblock;
mod zone;

pub(crate) use catalog::{
    CatalogKey, CatalogRecord, Collection, CollectionMode, DiskRecord, Garbage, Root, ServerRecord,
    SnapshotRecord, VersionRecord, decode_page, encode_page, encoded_record, page_room,
};

#[cfg(feature = "fuzz")]
pub use again::{Part, again};
pub use catalog::SnapshotKind;
pub(crate) use checkpoint::{CheckpointRecord, GroupEntry};
pub(crate) use event::{AdoptedDisk, Event, NewDisk, NewVersion};
pub(crate) use geometry::{Geometry, HEADER_BYTES, Place};
pub(crate) use handover::{Entry, HANDOVER_HEADER_BYTES, HandoverHeader, SEGMENT_BYTES, Standing};
pub(crate) use journal::{Batch, BatchBuilder, BatchHeader, BatchIdentity, JOURNAL_UNIT, MapRecord, Record};
pub use layout::{Field, LAYOUT, Layout};
pub use marks::{Labels, ServerKind, ServerMarks, SnapshotMarks, WhenFull};
pub(crate) use reference::{Reference, node_from_bytes, node_to_bytes};
pub(crate) use superblock::{FORMAT_VERSION, SLOT_OFFSETS, SUPERBLOCK_BYTES, Slot, Superblock};
pub(crate) use zone::{ZoneEntry, decode_counts, decode_summary, encode_counts, encode_summary};

/// CRC-32 (IEEE) of `bytes`: the seal of everything in a store.
pub(crate) fn seal(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}
