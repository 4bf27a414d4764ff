//! Journal batches: a header, records, and the blocks of small flushes.
//!
//! Floor 1. A batch is sealed as a whole and accepted as a whole. It starts at a multiple of
//! [`JOURNAL_UNIT`]; one that does not fit before the journal's end starts at its beginning.
//!
//! ```text
//! batch  =  header | record | record | … | zeros up to JOURNAL_UNIT | inline block | inline block | …
//! ```

use super::event::Event;
use super::seal;
use crate::limits;
use crate::units::{BlockNo, BlockRun, DiskBlock, DiskId, Epoch, Sequence, index, narrow, wide};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Batches start at multiples of this many bytes, so that they can be written with `O_DIRECT`.
pub(crate) const JOURNAL_UNIT: u64 = 4096;
/// First bytes of a batch.
pub(crate) const BATCH_MAGIC: [u8; 8] = *b"cowblkJB";

/// The start of a batch.
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct BatchHeader {
    pub(crate) magic: [u8; 8],
    /// Seal of the whole batch, with this field as zero.
    pub(crate) crc: U32,
    pub(crate) reserved: U32,
    /// The number of this batch: a stale batch of an earlier round has another.
    pub(crate) sequence: U64,
    /// The opening that wrote it: a batch that an earlier recovery cut off has a smaller one.
    pub(crate) term: U64,
    /// The last batch known durable when this one was written: damage up to there is damage, not tearing.
    pub(crate) durable: U64,
    pub(crate) record_bytes: U32,
    pub(crate) inline_blocks: U32,
    /// A batch of another store that once had this place is told apart.
    pub(crate) uuid: [u8; 16],
}

/// Bytes of a batch header.
pub(crate) const BATCH_HEADER_BYTES: usize = 64;
const _: () = assert!(size_of::<BatchHeader>() == BATCH_HEADER_BYTES);

/// The start of a record.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RecordHead {
    pub(crate) kind: U32,
    /// Bytes of the record behind this head.
    pub(crate) bytes: U32,
}

const RECORD_HEAD_BYTES: usize = size_of::<RecordHead>();
const _: () = assert!(RECORD_HEAD_BYTES == 8);

const KIND_MAP: u32 = 1;
const KIND_CLEAR: u32 = 2;
const KIND_EVENT: u32 = 3;
const KIND_INLINE: u32 = 4;
const KIND_SHARE: u32 = 5;

/// Body of a map record: `count` disk blocks from `first` on are now held by as many store blocks
/// from `physical` on. A CRC-32 for each block follows. A share record has the same body.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct MapBody {
    pub(crate) disk: U64,
    pub(crate) first: U64,
    pub(crate) physical: U64,
    pub(crate) birth: U64,
    pub(crate) count: U32,
    pub(crate) reserved: U32,
}

const MAP_BODY_BYTES: usize = size_of::<MapBody>();
const _: () = assert!(MAP_BODY_BYTES == 40);

/// Body of a clear record: disk blocks that are now holes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct ClearBody {
    pub(crate) disk: U64,
    pub(crate) first: U64,
    pub(crate) count: U64,
}

const _: () = assert!(size_of::<ClearBody>() == 24);

/// Body of an inline record: where the batch's next inline blocks belong.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct InlineBody {
    pub(crate) physical: U64,
    pub(crate) count: U32,
    pub(crate) reserved: U32,
}

const _: () = assert!(size_of::<InlineBody>() == 16);

/// A decoded map or share record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MapRecord {
    pub(crate) disk: DiskId,
    pub(crate) first: DiskBlock,
    pub(crate) physical: BlockNo,
    pub(crate) birth: Epoch,
    /// A seal for each block.
    pub(crate) crcs: Vec<u32>,
}

/// A decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Blocks that nothing referred to before.
    Map(MapRecord),
    /// Blocks that the checkpoint refers to already: each has one more reference now.
    Share(MapRecord),
    Clear {
        disk: DiskId,
        first: DiskBlock,
        count: u64,
    },
    Event(Event),
    /// The batch carries these blocks; `at` is where their bytes start in it.
    Inline {
        run: BlockRun,
        at: usize,
    },
}

/// Collects records until a batch is sealed.
#[derive(Default)]
pub(crate) struct BatchBuilder {
    bytes: Vec<u8>,
    /// Where the last record starts, if it is a map or share record that can be extended, its kind, and what it says.
    last_map: Option<(usize, u32, MapBody)>,
}

impl BatchBuilder {
    /// Whether no record waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of the records that wait.
    pub(crate) fn record_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Where the records start that the next one added may change: behind all, or at the last one, if that can be extended.
    pub(crate) fn settled_bytes(&self) -> usize {
        self.last_map.map_or(self.bytes.len(), |(at, ..)| at)
    }

    /// The records from a byte on, as [`settled_bytes`](Self::settled_bytes) said before they were added.
    pub(crate) fn records_from(&self, at: usize) -> &[u8] {
        self.bytes.get(at..).unwrap_or_default()
    }

    /// A batch whose records were written down elsewhere.
    pub(crate) fn of_records(bytes: Vec<u8>) -> Self {
        Self { bytes, last_map: None }
    }

    fn push(&mut self, kind: u32, parts: &[&[u8]]) -> usize {
        let at = self.bytes.len();
        let length = parts.iter().map(|part| part.len()).sum();
        let head = RecordHead { kind: U32::new(kind), bytes: U32::new(narrow(length)) };
        self.bytes.extend_from_slice(head.as_bytes());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.last_map = None;
        at
    }

    /// Disk blocks from `first` on are now held by the blocks from `physical` on, with these seals.
    pub(crate) fn map(
        &mut self,
        disk: DiskId,
        first: DiskBlock,
        physical: BlockNo,
        birth: Epoch,
        crcs: &[u32],
    ) {
        self.hold(KIND_MAP, (disk, first), (physical, birth), crcs);
    }

    /// Disk blocks from `first` on are now held by the blocks from `physical` on, too, which something refers to already.
    pub(crate) fn share(
        &mut self,
        disk: DiskId,
        first: DiskBlock,
        physical: BlockNo,
        birth: Epoch,
        crcs: &[u32],
    ) {
        self.hold(KIND_SHARE, (disk, first), (physical, birth), crcs);
    }

    fn hold(
        &mut self,
        kind: u32,
        (disk, first): (DiskId, DiskBlock),
        (physical, birth): (BlockNo, Epoch),
        crcs: &[u32],
    ) {
        let body = MapBody {
            disk: U64::new(disk.0),
            first: U64::new(first.0),
            physical: U64::new(physical.0),
            birth: U64::new(birth.0),
            count: U32::new(narrow(crcs.len())),
            reserved: U32::ZERO,
        };
        if self.extend_last_map(kind, &body, crcs) {
            return;
        }
        let at = self.push(kind, &[body.as_bytes()]);
        self.append_crcs(crcs);
        self.patch_map(at, kind, body);
    }

    /// Extends the last record where the new blocks follow it on both sides.
    fn extend_last_map(&mut self, kind: u32, body: &MapBody, crcs: &[u32]) -> bool {
        let Some((at, last_kind, last)) = self.last_map else { return false };
        let count = u64::from(last.count.get());
        let follows = last_kind == kind
            && last.disk == body.disk
            && last.birth == body.birth
            && last.first.get() + count == body.first.get()
            && last.physical.get() + count == body.physical.get()
            && count + wide(crcs.len()) <= limits::RUN_BLOCKS_MAX;
        if follows {
            self.append_crcs(crcs);
            let count = U32::new(last.count.get() + narrow(crcs.len()));
            self.patch_map(at, kind, MapBody { count, ..last });
        }
        follows
    }

    fn append_crcs(&mut self, crcs: &[u32]) {
        for &crc in crcs {
            self.bytes.extend_from_slice(U32::new(crc).as_bytes());
        }
    }

    /// Writes the head and body of the map or share record at `at` anew.
    fn patch_map(&mut self, at: usize, kind: u32, body: MapBody) {
        let length = narrow(MAP_BODY_BYTES) + 4 * body.count.get();
        let head = RecordHead { kind: U32::new(kind), bytes: U32::new(length) };
        if let Some(place) = self.bytes.get_mut(at..at + RECORD_HEAD_BYTES + MAP_BODY_BYTES) {
            let (head_place, body_place) = place.split_at_mut(RECORD_HEAD_BYTES);
            head_place.copy_from_slice(head.as_bytes());
            body_place.copy_from_slice(body.as_bytes());
        }
        self.last_map = Some((at, kind, body));
    }

    /// Disk blocks that are now holes.
    pub(crate) fn clear(&mut self, disk: DiskId, first: DiskBlock, count: u64) {
        let body = ClearBody { disk: U64::new(disk.0), first: U64::new(first.0), count: U64::new(count) };
        self.push(KIND_CLEAR, &[body.as_bytes()]);
    }

    /// A change of the catalog.
    pub(crate) fn event(&mut self, event: &Event) {
        self.push(KIND_EVENT, &[&event.encode()]);
    }

    /// The blocks of a run travel with the batch; their bytes are given to [`seal`](Self::seal), in the same order.
    pub(crate) fn inline(&mut self, run: BlockRun) {
        let count = U32::new(u32::try_from(run.count).expect("inline blocks are bounded"));
        let body = InlineBody { physical: U64::new(run.first.0), count, reserved: U32::ZERO };
        self.push(KIND_INLINE, &[body.as_bytes()]);
    }

    /// Bytes of the batch with this many inline blocks.
    pub(crate) fn batch_bytes(&self, inline_blocks: u64, block_size: u32) -> u64 {
        batch_bytes(wide(self.bytes.len()), inline_blocks, block_size)
    }

    /// The sealed batch; the builder is empty afterwards.
    pub(crate) fn seal(&mut self, identity: &BatchIdentity, inline: &[u8], block_size: u32) -> Vec<u8> {
        let inline_blocks = wide(inline.len()) / u64::from(block_size);
        let header = BatchHeader {
            magic: BATCH_MAGIC,
            crc: U32::ZERO,
            reserved: U32::ZERO,
            sequence: U64::new(identity.sequence.0),
            term: U64::new(identity.term),
            durable: U64::new(identity.durable.0),
            record_bytes: U32::new(narrow(self.bytes.len())),
            inline_blocks: U32::new(u32::try_from(inline_blocks).expect("inline blocks are bounded")),
            uuid: identity.uuid,
        };
        let mut batch = Vec::with_capacity(index(self.batch_bytes(inline_blocks, block_size)));
        batch.extend_from_slice(header.as_bytes());
        batch.append(&mut self.bytes);
        batch.resize(batch.len().next_multiple_of(index(JOURNAL_UNIT)), 0);
        batch.extend_from_slice(inline);
        let crc = seal(&batch);
        if let Some(place) = batch.get_mut(8..12) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        self.last_map = None;
        batch
    }
}

fn batch_bytes(record_bytes: u64, inline_blocks: u64, block_size: u32) -> u64 {
    (wide(BATCH_HEADER_BYTES) + record_bytes).next_multiple_of(JOURNAL_UNIT)
        + inline_blocks * u64::from(block_size)
}

/// What a batch says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchIdentity {
    pub(crate) sequence: Sequence,
    pub(crate) term: u64,
    pub(crate) durable: Sequence,
    pub(crate) uuid: [u8; 16],
}

impl BatchHeader {
    /// The header at the start of `bytes`, if it is one of the store `uuid` and its length is possible.
    pub(crate) fn read(bytes: &[u8], uuid: [u8; 16]) -> Option<Self> {
        let (header, _) = Self::read_from_prefix(bytes).ok()?;
        let own = header.magic == BATCH_MAGIC && header.uuid == uuid && header.reserved == U32::ZERO;
        own.then_some(header)
    }

    /// Bytes of the whole batch; `None` where no batch is as long.
    pub(crate) fn batch_bytes(&self, block_size: u32) -> Option<u64> {
        let length =
            batch_bytes(u64::from(self.record_bytes.get()), u64::from(self.inline_blocks.get()), block_size);
        (length <= limits::BATCH_BYTES_MAX).then_some(length)
    }
}

/// A sealed batch that was read back.
pub(crate) struct Batch {
    pub(crate) header: BatchHeader,
    bytes: Vec<u8>,
    block_size: u32,
}

impl Batch {
    /// The batch in `bytes` (exactly as long as its header says); `None` where the seal does not match.
    pub(crate) fn open(mut bytes: Vec<u8>, header: BatchHeader, block_size: u32) -> Option<Self> {
        bytes.get_mut(8..12)?.fill(0);
        (seal(&bytes) == header.crc.get()).then_some(Self { header, bytes, block_size })
    }

    /// The records; `None` where one makes no sense, though the seal matched.
    pub(crate) fn records(&self) -> Option<Vec<Record>> {
        let end = BATCH_HEADER_BYTES + index(u64::from(self.header.record_bytes.get()));
        let mut rest = self.bytes.get(BATCH_HEADER_BYTES..end)?;
        let mut inline_at = end.next_multiple_of(index(JOURNAL_UNIT));
        let mut records = Vec::new();
        while !rest.is_empty() {
            let (head, tail) = RecordHead::read_from_prefix(rest).ok()?;
            let (body, tail) = tail.split_at_checked(index(u64::from(head.bytes.get())))?;
            records.push(self.record(head.kind.get(), body, &mut inline_at)?);
            rest = tail;
        }
        (inline_at == self.bytes.len()).then_some(records)
    }

    fn record(&self, kind: u32, body: &[u8], inline_at: &mut usize) -> Option<Record> {
        match kind {
            KIND_MAP => decode_map(body).map(Record::Map),
            KIND_SHARE => decode_map(body).map(Record::Share),
            KIND_CLEAR => {
                let clear = ClearBody::read_from_bytes(body).ok()?;
                Some(Record::Clear {
                    disk: DiskId(clear.disk.get()),
                    first: DiskBlock(clear.first.get()),
                    count: clear.count.get(),
                })
            }
            KIND_EVENT => Event::decode(body).map(Record::Event),
            KIND_INLINE => {
                let inline = InlineBody::read_from_bytes(body).ok()?;
                let count = u64::from(inline.count.get());
                let at = *inline_at;
                *inline_at += index(count * u64::from(self.block_size));
                let possible = inline.reserved == U32::ZERO
                    && count > 0
                    && *inline_at <= self.bytes.len()
                    && is_block_range(inline.physical.get(), count);
                possible.then_some(Record::Inline {
                    run: BlockRun { first: BlockNo(inline.physical.get()), count },
                    at,
                })
            }
            _ => None,
        }
    }

    /// Bytes in a block.
    pub(crate) fn block_bytes(&self) -> usize {
        index(u64::from(self.block_size))
    }

    /// The bytes of `count` inline blocks at `at`, as a record said.
    pub(crate) fn inline(&self, at: usize, count: u64) -> Option<&[u8]> {
        self.bytes.get(at..at + index(count * u64::from(self.block_size)))
    }
}

fn decode_map(body: &[u8]) -> Option<MapRecord> {
    let (map, crcs) = MapBody::read_from_prefix(body).ok()?;
    let crcs = <[U32]>::ref_from_bytes(crcs).ok()?;
    let count = wide(crcs.len());
    let possible = map.reserved == U32::ZERO
        && count == u64::from(map.count.get())
        && count > 0
        && is_block_range(map.physical.get(), count)
        && map.birth.get() <= limits::EPOCH_MAX
        && map.first.get().checked_add(count).is_some();
    possible.then(|| MapRecord {
        disk: DiskId(map.disk.get()),
        first: DiskBlock(map.first.get()),
        physical: BlockNo(map.physical.get()),
        birth: Epoch(map.birth.get()),
        crcs: crcs.iter().map(|crc| crc.get()).collect(),
    })
}

fn is_block_range(first: u64, count: u64) -> bool {
    first > 0 && first.checked_add(count).is_some_and(|end| end <= limits::BLOCK_NO_MAX)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    fn identity() -> BatchIdentity {
        BatchIdentity { sequence: Sequence(8), term: 3, durable: Sequence(7), uuid: [5; 16] }
    }

    fn sealed() -> Vec<u8> {
        let mut builder = BatchBuilder::default();
        builder.map(DiskId(1), DiskBlock(10), BlockNo(100), Epoch(2), &[1]);
        builder.map(DiskId(1), DiskBlock(11), BlockNo(101), Epoch(2), &[2, 3]);
        builder.map(DiskId(1), DiskBlock(13), BlockNo(200), Epoch(2), &[4]);
        builder.share(DiskId(1), DiskBlock(14), BlockNo(201), Epoch(2), &[5]);
        builder.share(DiskId(1), DiskBlock(15), BlockNo(202), Epoch(2), &[6]);
        builder.clear(DiskId(1), DiskBlock(0), 5);
        builder.event(&Event::Grow { zones: 3 });
        builder.inline(BlockRun { first: BlockNo(200), count: 1 });
        builder.seal(&identity(), &[9; 4096], 4096)
    }

    #[test]
    fn a_batch_comes_back_as_it_went_and_neighbours_share_a_record() {
        let bytes = sealed();
        let header = BatchHeader::read(&bytes, [5; 16]).unwrap();
        assert_eq!(header.batch_bytes(4096), Some(wide(bytes.len())));
        let batch = Batch::open(bytes, header, 4096).unwrap();
        let held = |first, physical, crcs: &[u32]| MapRecord {
            disk: DiskId(1),
            first: DiskBlock(first),
            physical: BlockNo(physical),
            birth: Epoch(2),
            crcs: crcs.to_vec(),
        };
        let run = BlockRun { first: BlockNo(200), count: 1 };
        let expected = vec![
            Record::Map(held(10, 100, &[1, 2, 3])),
            Record::Map(held(13, 200, &[4])),
            Record::Share(held(14, 201, &[5, 6])),
            Record::Clear { disk: DiskId(1), first: DiskBlock(0), count: 5 },
            Record::Event(Event::Grow { zones: 3 }),
            Record::Inline { run, at: 4096 },
        ];
        assert_eq!(batch.records(), Some(expected));
        assert_eq!(batch.inline(4096, 1), Some(&[9; 4096][..]));
    }

    #[test]
    fn any_flipped_bit_unseals_a_batch() {
        let bytes = sealed();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let header = BatchHeader::read(&flipped, [5; 16]);
            let Some(header) = header.filter(|h| h.batch_bytes(4096) == Some(wide(flipped.len()))) else {
                continue;
            };
            assert!(Batch::open(flipped, header, 4096).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_batch_of_another_store_is_not_ours() {
        assert!(BatchHeader::read(&sealed(), [6; 16]).is_none());
    }
}
