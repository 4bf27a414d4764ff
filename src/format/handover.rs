//! Handover file: what a process that is killed leaves to the next one.
//!
//! Floor 1. A header of 4096 bytes, and behind it segments of 8 MiB. Each segment is filled from its start with entries, which
//! bear consecutive numbers; a segment that nobody needs is filled anew. An entry is a piece of the records of one
//! journal batch that is being collected, and the bytes of the blocks that its last record names last.
//!
//! ```text
//! header │ entry 812 │ entry 813 │ … │ stale │ segment 1: entry 640 │ … │
//! ```
//!
//! The file is good as long as the machine runs: nothing in it is ever synced, and its header names the boot.

use super::seal;
use crate::limits;
use crate::units::{BlockNo, Sequence, index, wide};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the header.
pub(crate) const HANDOVER_HEADER_BYTES: u64 = 4096;
/// Bytes of a segment.
pub(crate) const SEGMENT_BYTES: u64 = 8 << 20;
/// First bytes of the file.
const MAGIC: [u8; 8] = *b"cowblkHO";
/// The version of this file's format.
const VERSION: u32 = 1;
/// Bytes of an entry before its records.
pub(crate) const ENTRY_HEAD_BYTES: usize = size_of::<EntryHead>();

/// What the file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct HandoverHeader {
    pub(super) magic: [u8; 8],
    pub(super) version: U32,
    /// Seal of the header's bytes, with this field as zero.
    pub(super) crc: U32,
    /// The store's.
    pub(super) uuid: [u8; 16],
    /// The machine's, since it was started.
    pub(super) boot: [u8; 16],
    /// Drawn at random: entries are sealed with it, so that nobody who writes blocks can forge one.
    pub(super) nonce: [u8; 16],
    /// The term of the opening that writes the file, or that left what is in it.
    pub(super) term: U64,
    /// The term of an opening that began to take over what is here; 0 if none did.
    pub(super) resumed: U64,
    /// The superblock's count of writes once that term has begun.
    pub(super) writes: U64,
    pub(super) reserved: U64,
}

const _: () = assert!(size_of::<HandoverHeader>() == 96);

/// The head of an entry: its records and the bytes of its blocks follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct EntryHead {
    /// Seal of the header's nonce, the head, with this field as zero, and the records. Blocks are sealed by their record.
    pub(super) crc: U32,
    pub(super) record_bytes: U32,
    pub(super) data_bytes: U32,
    pub(super) reserved: U32,
    /// One more than the entry's before it; the first is 1.
    pub(super) number: U64,
    /// The batch that the records belong to.
    pub(super) sequence: U64,
    /// Where in that batch's records these ones start. What the batch had from there on they replace.
    pub(super) at: U64,
    /// The first block whose bytes follow; 0 if none do.
    pub(super) physical: U64,
}

const _: () = assert!(size_of::<EntryHead>() == 48);

impl HandoverHeader {
    /// The header of a file that an opening of a store begins.
    pub(crate) fn new(uuid: [u8; 16], boot: [u8; 16], nonce: [u8; 16], term: u64) -> Self {
        Self {
            magic: MAGIC,
            version: U32::new(VERSION),
            crc: U32::ZERO,
            uuid,
            boot,
            nonce,
            term: U64::new(term),
            resumed: U64::ZERO,
            writes: U64::ZERO,
            reserved: U64::ZERO,
        }
    }

    /// The same, of a store that stands at `term`, once an opening begins to take over: it will write the superblock with the
    /// next term, and as its write number `writes`.
    pub(crate) fn claimed(self, term: u64, writes: u64) -> Self {
        Self { term: U64::new(term), resumed: U64::new(term + 1), writes: U64::new(writes), ..self }
    }

    /// What entries are sealed with.
    pub(crate) fn nonce(&self) -> [u8; 16] {
        self.nonce
    }

    /// The sealed bytes.
    pub(crate) fn seal(mut self) -> Vec<u8> {
        self.crc = U32::ZERO;
        self.crc = U32::new(seal(self.as_bytes()));
        self.as_bytes().to_vec()
    }

    /// The header at the start of `bytes`; `None` where they are not a handover file's.
    pub(crate) fn open(bytes: &[u8]) -> Option<Self> {
        let (header, _) = Self::read_from_prefix(bytes).ok()?;
        let own = header.magic == MAGIC && header.version.get() == VERSION;
        let claimed = header.crc;
        let unsealed = Self { crc: U32::ZERO, ..header };
        (own && U32::new(seal(unsealed.as_bytes())) == claimed).then_some(header)
    }

    /// Whether `bytes` start as those of a handover file do, whatever else is wrong with it.
    pub(crate) fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    /// Whether it is about this store.
    pub(crate) fn is_of_store(&self, uuid: [u8; 16]) -> bool {
        self.uuid == uuid
    }

    /// Whether the machine has run since the file was begun.
    pub(crate) fn is_of_boot(&self, boot: [u8; 16]) -> bool {
        self.boot == boot
    }

    /// What it means to a store that stands at this term, after so many writes of its superblock.
    pub(crate) fn standing(&self, term: u64, writes: u64) -> Standing {
        if self.term.get() == term {
            Standing::Left
        } else if term == 0 || self.resumed.get() != term {
            Standing::Unrelated
        } else if self.writes.get() == writes {
            Standing::Claimed
        } else {
            Standing::Over
        }
    }
}

/// What a handover file means to its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The last opening left it.
    Left,
    /// The last opening began to take it over, and came to no checkpoint.
    Claimed,
    /// The last opening took it over, and came to a checkpoint.
    Over,
    /// It is of another time.
    Unrelated,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) number: u64,
    pub(crate) sequence: Sequence,
    pub(crate) at: u64,
    pub(crate) records: &'a [u8],
    /// Whole blocks, and the first one's place.
    pub(crate) data: Option<(BlockNo, &'a [u8])>,
}

impl<'a> Entry<'a> {
    /// Bytes that it takes in the file.
    pub(crate) fn len_bytes(&self) -> usize {
        ENTRY_HEAD_BYTES + self.records.len() + self.data.map_or(0, |(_, bytes)| bytes.len())
    }

    /// Adds its bytes to `target`.
    pub(crate) fn write_to(&self, nonce: [u8; 16], target: &mut Vec<u8>) {
        let narrow = |bytes: &[u8]| U32::new(u32::try_from(bytes.len()).expect("an entry fits a segment"));
        let (physical, data) = self.data.unwrap_or((BlockNo(0), &[]));
        let mut head = EntryHead {
            crc: U32::ZERO,
            record_bytes: narrow(self.records),
            data_bytes: narrow(data),
            reserved: U32::ZERO,
            number: U64::new(self.number),
            sequence: U64::new(self.sequence.0),
            at: U64::new(self.at),
            physical: U64::new(physical.0),
        };
        head.crc = U32::new(head.seal(nonce, self.records));
        target.extend_from_slice(head.as_bytes());
        target.extend_from_slice(self.records);
        target.extend_from_slice(data);
    }

    /// The entry at the start of `bytes`; `None` where there is no whole one.
    pub(crate) fn read_from(bytes: &'a [u8], nonce: [u8; 16], block_size: u32) -> Option<Self> {
        let (head, rest) = EntryHead::read_from_prefix(bytes).ok()?;
        let (records, rest) = rest.split_at_checked(index(u64::from(head.record_bytes.get())))?;
        let (data, _) = rest.split_at_checked(index(u64::from(head.data_bytes.get())))?;
        let blocks = wide(data.len()) / u64::from(block_size);
        let is_whole = head.seal(nonce, records) == head.crc.get()
            && head.reserved == U32::ZERO
            && head.number.get() > 0
            && (data.is_empty() == (head.physical.get() == 0))
            && head.physical.get().checked_add(blocks).is_some_and(|end| end <= limits::BLOCK_NO_MAX)
            && are_whole(data, records, index(u64::from(block_size)));
        is_whole.then(|| Entry {
            number: head.number.get(),
            sequence: Sequence(head.sequence.get()),
            at: head.at.get(),
            records,
            data: (!data.is_empty()).then_some((BlockNo(head.physical.get()), data)),
        })
    }
}

impl EntryHead {
    fn seal(self, nonce: [u8; 16], records: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&nonce);
        hasher.update(Self { crc: U32::ZERO, ..self }.as_bytes());
        hasher.update(records);
        hasher.finalize()
    }
}

/// Whether blocks match their seals, with which the records end.
fn are_whole(data: &[u8], records: &[u8], block_bytes: usize) -> bool {
    let blocks = data.chunks_exact(block_bytes);
    let seals = blocks.len().checked_mul(4).and_then(|bytes| records.len().checked_sub(bytes));
    let Some(seals) = seals.and_then(|from| records.get(from..)) else { return false };
    blocks.remainder().is_empty()
        && blocks.zip(seals.chunks_exact(4)).all(|(block, sealed)| seal(block).to_le_bytes() == *sealed)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    fn entry(data: &[u8]) -> Vec<u8> {
        let records = [[9; 40].as_slice(), &seal(data).to_le_bytes()].concat();
        let data = Some((BlockNo(70), data));
        let entry = Entry { number: 3, sequence: Sequence(8), at: 120, records: &records, data };
        let mut bytes = Vec::new();
        entry.write_to([3; 16], &mut bytes);
        assert_eq!(bytes.len(), entry.len_bytes());
        assert_eq!(Entry::read_from(&bytes, [3; 16], 4096), Some(entry));
        bytes
    }

    #[test]
    fn an_entry_comes_back_and_any_flipped_bit_unseals_it() {
        let bytes = entry(&[7; 4096]);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Entry::read_from(&flipped, [3; 16], 4096), None, "bit {bit}");
        }
        assert_eq!(Entry::read_from(&bytes, [4; 16], 4096), None, "of another file");
        assert_eq!(Entry::read_from(&bytes[..bytes.len() - 1], [3; 16], 4096), None, "cut short");
        assert_eq!(Entry::read_from(&[0; 4096], [3; 16], 4096), None, "nothing");
    }

    #[test]
    fn a_file_stands_to_its_store_as_openings_went() {
        let header = HandoverHeader::new([1; 16], [2; 16], [3; 16], 5);
        let bytes = header.seal();
        let header = HandoverHeader::open(&bytes).unwrap();
        assert!(header.is_of_store([1; 16]) && !header.is_of_store([2; 16]));
        assert!(header.is_of_boot([2; 16]) && !header.is_of_boot([1; 16]));
        assert_eq!((header.standing(5, 70), header.standing(6, 70)), (Standing::Left, Standing::Unrelated));
        let claimed = HandoverHeader::open(&header.claimed(5, 71).seal()).unwrap();
        let standings =
            [(5, 70), (6, 71), (6, 72), (7, 72)].map(|(term, writes)| claimed.standing(term, writes));
        assert_eq!(standings, [Standing::Left, Standing::Claimed, Standing::Over, Standing::Unrelated]);
        // Who claims it next says where the store stands by then.
        let again = claimed.claimed(6, 72);
        assert_eq!((again.standing(6, 71), again.standing(7, 72)), (Standing::Left, Standing::Claimed));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(HandoverHeader::open(&flipped), None, "bit {bit}");
        }
    }
}
