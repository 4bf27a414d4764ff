//! Zone tables: refcount pages, and the summary page that seals those of a group of zones.
//!
//! Floor 1. A refcount page is nothing but 16-bit counts; its seal, and which of its two slots is
//! current, stand in the group's summary page; the summary's own stand in the checkpoint record.

use crate::units::{index, wide};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The fixed part of a zone's entry; a CRC-32 for each of its refcount pages follows.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct ZoneEntryHead {
    /// Data blocks whose refcount is not zero: lets the allocator pass full zones by.
    pub(crate) used: U32,
    /// Data blocks whose refcount is above one: lets whoever looks for them pass the other zones by.
    pub(crate) shared: U32,
    /// A bit for each page: which slot is current.
    pub(crate) current: U64,
    /// A bit for each page: whether it was ever written. One that was not counts all zero.
    pub(crate) written: U64,
}

const _: () = assert!(size_of::<ZoneEntryHead>() == 24);

/// Bytes of a zone's entry in its group's summary.
pub(crate) fn zone_entry_bytes(pages: u32) -> u64 {
    wide(size_of::<ZoneEntryHead>()) + 4 * u64::from(pages)
}

/// One zone, as its group's summary tells it. All zero is a zone that was never touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ZoneEntry {
    pub(crate) used: u32,
    /// Data blocks with more than one reference.
    pub(crate) shared: u32,
    pub(crate) current: u64,
    pub(crate) written: u64,
    /// Seals of the pages, in order.
    pub(crate) crcs: Vec<u32>,
}

impl ZoneEntry {
    /// The entry of a zone that was never touched.
    pub(crate) fn fresh(pages: u32) -> Self {
        Self { crcs: vec![0; index(u64::from(pages))], ..Self::default() }
    }

    /// The current slot of a page; `None` if it was never written.
    pub(crate) fn slot(&self, page: u32) -> Option<u64> {
        (self.written >> page & 1 == 1).then_some(self.current >> page & 1)
    }

    /// Notes that a page was written to the slot that was not current.
    pub(crate) fn turn(&mut self, page: u32, crc: u32) {
        if self.slot(page).is_some() {
            self.current ^= 1 << page;
        } else {
            self.written |= 1 << page;
            self.current &= !(1 << page);
        }
        if let Some(place) = self.crcs.get_mut(index(u64::from(page))) {
            *place = crc;
        }
    }

    /// The slot that the next write of a page goes to.
    pub(crate) fn other_slot(&self, page: u32) -> u64 {
        self.slot(page).map_or(0, |slot| 1 - slot)
    }
}

/// A summary page of `block_size` bytes.
pub(crate) fn encode_summary(entries: &[ZoneEntry], block_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(block_bytes);
    for entry in entries {
        let head = ZoneEntryHead {
            used: U32::new(entry.used),
            shared: U32::new(entry.shared),
            current: U64::new(entry.current),
            written: U64::new(entry.written),
        };
        bytes.extend_from_slice(head.as_bytes());
        for &crc in &entry.crcs {
            bytes.extend_from_slice(U32::new(crc).as_bytes());
        }
    }
    bytes.resize(block_bytes, 0);
    bytes
}

/// The entries of a summary page, of zones with `pages` refcount pages; `None` where bytes behind them are set.
pub(crate) fn decode_summary(bytes: &[u8], pages: u32, zones: u64) -> Option<Vec<ZoneEntry>> {
    let mut entries = Vec::with_capacity(index(zones));
    let mut rest = bytes;
    for _ in 0..zones {
        let (head, tail) = ZoneEntryHead::read_from_prefix(rest).ok()?;
        let (crcs, tail) = <[U32]>::ref_from_prefix_with_elems(tail, index(u64::from(pages))).ok()?;
        entries.push(ZoneEntry {
            used: head.used.get(),
            shared: head.shared.get(),
            current: head.current.get(),
            written: head.written.get(),
            crcs: crcs.iter().map(|crc| crc.get()).collect(),
        });
        rest = tail;
    }
    rest.iter().all(|&byte| byte == 0).then_some(entries)
}

/// The bytes of a refcount page.
pub(crate) fn encode_counts(counts: &[u16]) -> Vec<u8> {
    counts.iter().flat_map(|&count| U16::new(count).to_bytes()).collect()
}

/// The counts of a refcount page.
pub(crate) fn decode_counts(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| U16::read_from_bytes(pair).map_or(0, U16::get)).collect()
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_summary_comes_back_as_it_went() {
        let mut entries = vec![ZoneEntry::fresh(8); 3];
        (entries[1].used, entries[1].shared) = (77, 5);
        entries[1].turn(3, 0xabcd);
        entries[1].turn(3, 0xabce);
        let bytes = encode_summary(&entries, 4096);
        assert_eq!(decode_summary(&bytes, 8, 3), Some(entries.clone()));
        assert_eq!((entries[1].slot(3), entries[1].other_slot(3), entries[0].slot(3)), (Some(1), 0, None));
    }

    #[test]
    fn a_page_that_was_never_written_begins_with_slot_0_whatever_is_said_to_be_current() {
        let mut entry = ZoneEntry { current: 0b11, ..ZoneEntry::fresh(2) };
        assert_eq!((entry.slot(1), entry.other_slot(1)), (None, 0));
        entry.turn(1, 7);
        assert_eq!((entry.slot(1), entry.other_slot(1)), (Some(0), 1));
    }

    #[test]
    fn counts_come_back_as_they_went() {
        let counts: Vec<u16> = (0..2048).map(|n| n * 31).collect();
        assert_eq!(decode_counts(&encode_counts(&counts)), counts);
    }
}
