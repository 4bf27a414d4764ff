//! Layout: every fixed structure of the format as data, field by field.
//!
//! Floor 1. docs/format.md shows the same tables; tests/format.rs fails when they differ.

use super::checkpoint::{CheckpointHead, GroupEntryBytes};
use super::handover::{EntryHead, HandoverHeader};
use super::journal::{BatchHeader, ClearBody, InlineBody, MapBody, RecordHead};
use super::reference::Reference;
use super::superblock::Superblock;
use super::zone::ZoneEntryHead;

/// One field of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, as in the code.
    pub name: &'static str,
    /// Where it starts, in bytes from the structure's start.
    pub offset: usize,
}

/// One structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its name, as in docs/format.md.
    pub name: &'static str,
    /// Its length in bytes.
    pub bytes: usize,
    /// Its fields, in order, without gaps.
    pub fields: &'static [Field],
}

/// A structure's layout, taken from the compiler.
macro_rules! layout {
    ($name:literal, $type:ident { $($field:tt),+ $(,)? }) => {
        Layout {
            name: $name,
            bytes: size_of::<$type>(),
            fields: &[$(Field { name: stringify!($field), offset: std::mem::offset_of!($type, $field) }),+],
        }
    };
}

/// Every fixed structure.
pub const LAYOUT: &[Layout] = &[
    layout!(
        "superblock",
        Superblock {
            magic,
            version,
            crc,
            compatible,
            read_only_compatible,
            incompatible,
            uuid,
            block_size,
            zone_blocks,
            journal_blocks,
            writes,
            term,
            recovered,
            checkpoint_block,
            checkpoint_bytes,
            checkpoint_crc,
            journal_offset,
            journal_sequence,
            clean,
            reserved,
        }
    ),
    layout!(
        "checkpoint record",
        CheckpointHead {
            magic,
            generation,
            zones,
            epoch,
            next_id,
            used,
            catalog_root,
            catalog_height,
            groups,
            catalog_pages,
            shared,
            extra,
        }
    ),
    layout!("group entry", GroupEntryBytes { crc, used, flags }),
    layout!("zone entry", ZoneEntryHead { used, shared, current, written }),
    layout!("reference", Reference { block, birth, flags, crc }),
    layout!(
        "batch header",
        BatchHeader { magic, crc, reserved, sequence, term, durable, record_bytes, inline_blocks, uuid }
    ),
    layout!("record head", RecordHead { kind, bytes }),
    layout!("map record", MapBody { disk, first, physical, birth, count, reserved }),
    layout!("share record", MapBody { disk, first, physical, birth, count, reserved }),
    layout!("clear record", ClearBody { disk, first, count }),
    layout!("inline record", InlineBody { physical, count, reserved }),
    layout!(
        "handover header",
        HandoverHeader { magic, version, crc, uuid, boot, nonce, term, resumed, writes, reserved }
    ),
    layout!(
        "handover entry",
        EntryHead { crc, record_bytes, data_bytes, reserved, number, sequence, at, physical }
    ),
];
