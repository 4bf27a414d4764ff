//! Checkpoint record: everything that one durable generation of a store starts from.
//!
//! Floor 1. Written to fresh blocks by each checkpoint; the superblock points at it and seals it.

use super::reference::{REFERENCE_BYTES, Reference};
use crate::limits;
use crate::units::{Epoch, Generation, narrow, wide};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First bytes of a checkpoint record.
pub(crate) const CHECKPOINT_MAGIC: [u8; 8] = *b"cowblkCP";

/// The fixed part; an entry for each group of zones follows.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct CheckpointHead {
    pub(crate) magic: [u8; 8],
    pub(crate) generation: U64,
    /// How many zones the store has.
    pub(crate) zones: U64,
    /// The last epoch given out.
    pub(crate) epoch: U64,
    /// The next id of a server, disk, snapshot or version.
    pub(crate) next_id: U64,
    /// Data blocks whose refcount is not zero.
    pub(crate) used: U64,
    /// Root of the catalog map.
    pub(crate) catalog_root: [u8; 16],
    /// Levels of nodes in the catalog map.
    pub(crate) catalog_height: U32,
    pub(crate) groups: U32,
    /// How many pages the catalog has.
    pub(crate) catalog_pages: U64,
    /// Data blocks whose refcount is above one.
    pub(crate) shared: U64,
    /// References beyond the first of each block.
    pub(crate) extra: U64,
}

const _: () = assert!(size_of::<CheckpointHead>() == 96);

/// One group of zones, as the checkpoint record tells it.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct GroupEntryBytes {
    /// Seal of the group's summary page.
    pub(crate) crc: U32,
    /// Data blocks of the group whose refcount is not zero.
    pub(crate) used: U32,
    /// Bit 0: the current slot of the summary. Bit 1: it was ever written.
    pub(crate) flags: U32,
}

const _: () = assert!(size_of::<GroupEntryBytes>() == 12);

/// One group of zones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupEntry {
    pub(crate) crc: u32,
    pub(crate) used: u32,
    /// The current slot of the summary page; `None` if it was never written.
    pub(crate) slot: Option<u64>,
}

/// The decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointRecord {
    pub(crate) generation: Generation,
    pub(crate) zones: u64,
    pub(crate) epoch: Epoch,
    pub(crate) next_id: u64,
    pub(crate) used: u64,
    /// Data blocks with more than one reference.
    pub(crate) shared: u64,
    /// References beyond the first of each block.
    pub(crate) extra: u64,
    pub(crate) catalog_root: Reference,
    pub(crate) catalog_height: u32,
    pub(crate) catalog_pages: u64,
    pub(crate) groups: Vec<GroupEntry>,
}

impl CheckpointRecord {
    /// Bytes of a record with this many groups.
    pub(crate) fn bytes_for(groups: u64) -> u64 {
        wide(size_of::<CheckpointHead>()) + groups * wide(size_of::<GroupEntryBytes>())
    }

    /// The record's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut catalog_root = [0; REFERENCE_BYTES];
        catalog_root.copy_from_slice(self.catalog_root.as_bytes());
        let head = CheckpointHead {
            magic: CHECKPOINT_MAGIC,
            generation: U64::new(self.generation.0),
            zones: U64::new(self.zones),
            epoch: U64::new(self.epoch.0),
            next_id: U64::new(self.next_id),
            used: U64::new(self.used),
            shared: U64::new(self.shared),
            extra: U64::new(self.extra),
            catalog_root,
            catalog_height: U32::new(self.catalog_height),
            groups: U32::new(narrow(self.groups.len())),
            catalog_pages: U64::new(self.catalog_pages),
        };
        let mut bytes = head.as_bytes().to_vec();
        for group in &self.groups {
            let flags = group.slot.map_or(0, |slot| 2 | u32::from(slot == 1));
            let entry = GroupEntryBytes {
                crc: U32::new(group.crc),
                used: U32::new(group.used),
                flags: U32::new(flags),
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes
    }

    /// The record in `bytes`, whose seal the caller has checked; `None` where it is impossible.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = CheckpointHead::read_from_prefix(bytes).ok()?;
        let catalog_root = Reference::read_from_bytes(&head.catalog_root).ok()?;
        let entries = <[GroupEntryBytes]>::ref_from_bytes(rest).ok()?;
        let possible = head.magic == CHECKPOINT_MAGIC
            && wide(entries.len()) == u64::from(head.groups.get())
            && catalog_root.is_valid()
            && head.catalog_height.get() <= limits::MAP_HEIGHT_MAX
            && head.epoch.get() <= limits::EPOCH_MAX
            && entries.iter().all(|entry| entry.flags.get() <= 3);
        possible.then(|| Self {
            generation: Generation(head.generation.get()),
            zones: head.zones.get(),
            epoch: Epoch(head.epoch.get()),
            next_id: head.next_id.get(),
            used: head.used.get(),
            shared: head.shared.get(),
            extra: head.extra.get(),
            catalog_root,
            catalog_height: head.catalog_height.get(),
            catalog_pages: head.catalog_pages.get(),
            groups: entries
                .iter()
                .map(|entry| GroupEntry {
                    crc: entry.crc.get(),
                    used: entry.used.get(),
                    slot: (entry.flags.get() & 2 != 0).then_some(u64::from(entry.flags.get() & 1)),
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::BlockNo;

    #[test]
    fn a_record_comes_back_as_it_went_and_a_longer_one_is_refused() {
        let record = CheckpointRecord {
            generation: Generation(9),
            zones: 80,
            epoch: Epoch(4),
            next_id: 17,
            used: 1234,
            shared: 12,
            extra: 345,
            catalog_root: Reference::new(BlockNo(99), Epoch(1), 5),
            catalog_height: 1,
            catalog_pages: 3,
            groups: vec![
                GroupEntry { crc: 1, used: 2, slot: Some(1) },
                GroupEntry { crc: 0, used: 0, slot: None },
            ],
        };
        let mut bytes = record.encode();
        assert_eq!(wide(bytes.len()), CheckpointRecord::bytes_for(2));
        assert_eq!(CheckpointRecord::decode(&bytes), Some(record));
        bytes.push(0);
        assert_eq!(CheckpointRecord::decode(&bytes), None);
    }
}
