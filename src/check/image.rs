//! Image: small stores built by hand, for the tests of this room.
//!
//! Floor 5. Built from the encoders of `format` alone: what is written here is what the format says, and not what
//! the engine makes of it.

use crate::device::MemoryDevice;
use crate::format::{
    BatchBuilder, BatchIdentity, CatalogRecord, CheckpointRecord, DiskRecord, Geometry, GroupEntry,
    HEADER_BYTES, Place, Reference, Root, SLOT_OFFSETS, ServerKind, ServerMarks, ServerRecord, SnapshotKind,
    SnapshotMarks, SnapshotRecord, Superblock, VersionRecord, WhenFull, ZoneEntry, encode_counts,
    encode_page, encode_summary, encoded_record, node_to_bytes, seal,
};
use crate::units::{
    BlockNo, DiskId, Epoch, Generation, Sequence, ServerId, SnapshotId, VersionId, index, narrow, wide,
};
use zerocopy::little_endian::{U32, U64};

pub(super) const UUID: [u8; 16] = [7; 16];
pub(super) const TERM: u64 = 3;
pub(super) const FIRST_SEQUENCE: u64 = 10;
pub(super) const EPOCH: u64 = 100;
const ZONES: u64 = 3;

/// A store in the making. What is public is there to be made wrong.
pub(super) struct Image {
    pub(super) geometry: Geometry,
    pub(super) bytes: Vec<u8>,
    /// The refcounts of each zone.
    pub(super) counts: Vec<Vec<u16>>,
    pub(super) records: Vec<CatalogRecord>,
    /// Added to what the tables say of their zones, groups and the store.
    pub(super) used_wrong: [u32; 3],
    pub(super) next_id: u64,
    next_block: u64,
}

/// Where a finished image keeps things.
pub(super) struct Finished {
    pub(super) bytes: Vec<u8>,
    pub(super) superblock: Superblock,
    pub(super) geometry: Geometry,
    pub(super) page: BlockNo,
    pub(super) catalog_node: BlockNo,
    pub(super) record: BlockNo,
}

impl Image {
    pub(super) fn new() -> Self {
        let geometry = Geometry::new(4096, 64, 16).unwrap();
        let data = index(u64::from(geometry.data_blocks_per_zone()));
        Self {
            geometry,
            bytes: vec![0; index(geometry.length_bytes(ZONES))],
            counts: vec![vec![0; data]; index(ZONES)],
            records: vec![CatalogRecord::Server(ServerRecord {
                id: ServerId(1),
                name: "web".into(),
                created_at: 0,
                kind: ServerKind::User,
                origin: None,
                marks: ServerMarks::default(),
            })],
            used_wrong: [0; 3],
            next_id: 50,
            next_block: 0,
        }
    }

    /// The place of the `nth` data block.
    fn place(&self, nth: u64) -> Place {
        let per_zone = u64::from(self.geometry.data_blocks_per_zone());
        Place { zone: nth / per_zone, index: narrow(index(nth % per_zone)) }
    }

    /// The count of a block.
    pub(super) fn count_of(&mut self, block: BlockNo) -> &mut u16 {
        let place = self.geometry.place_of(block).unwrap();
        &mut self.counts[index(place.zone)][index(u64::from(place.index))]
    }

    /// Writes a block and counts it once.
    pub(super) fn put(&mut self, bytes: &[u8]) -> (BlockNo, u32) {
        let block = self.geometry.block_at(self.place(self.next_block));
        self.next_block += 1;
        let mut padded = bytes.to_vec();
        padded.resize(self.geometry.block_bytes(), 0);
        let at = index(self.geometry.offset_bytes(block));
        self.bytes[at..at + padded.len()].copy_from_slice(&padded);
        *self.count_of(block) += 1;
        (block, seal(&padded))
    }

    /// A data block.
    pub(super) fn data(&mut self, birth: u64) -> Reference {
        let (block, crc) = self.put(&[0xda; 4096]);
        Reference::new(block, Epoch(birth), crc)
    }

    /// A node that holds these references.
    pub(super) fn node(&mut self, birth: u64, entries: &[(usize, Reference)]) -> Reference {
        let mut node = vec![Reference::HOLE; 1 << self.geometry.fanout_bits()];
        for &(at, entry) in entries {
            node[at] = entry;
        }
        let (block, crc) = self.put(node_to_bytes(&node));
        Reference::new(block, Epoch(birth), crc)
    }

    /// A disk of 512 blocks, which has two levels of nodes where `height` is 2.
    pub(super) fn disk(&mut self, id: u64, parent: Option<u64>, birth: u64, root: Root) {
        self.records.push(CatalogRecord::Disk(DiskRecord {
            id: DiskId(id),
            server: ServerId(1),
            name: format!("vd{id}"),
            created_at: 0,
            size_bytes: 512 * 4096,
            parent: parent.map(VersionId),
            birth: Epoch(birth),
            origin: None,
            when_full: WhenFull::Fail,
            shared: None,
            root,
        }));
    }

    /// A version of disk 2, frozen in `epoch`, and born in the epoch before; hidden without a snapshot.
    pub(super) fn version(
        &mut self,
        id: u64,
        parent: Option<u64>,
        epoch: u64,
        snapshot: Option<u64>,
        root: Root,
    ) {
        self.records.push(CatalogRecord::Version(VersionRecord {
            id: VersionId(id),
            disk: DiskId(2),
            disk_name: "vd2".into(),
            size_bytes: 512 * 4096,
            parent: parent.map(VersionId),
            epoch: Epoch(epoch),
            birth: Epoch(epoch - 1),
            snapshot: snapshot.map(SnapshotId),
            trimmed: false,
            exclusive: None,
            root,
        }));
        if let Some(snapshot) = snapshot {
            self.snapshot(snapshot, &[id]);
        }
    }

    pub(super) fn snapshot(&mut self, id: u64, versions: &[u64]) {
        self.records.push(CatalogRecord::Snapshot(SnapshotRecord {
            id: SnapshotId(id),
            server: ServerId(1),
            name: format!("snapshot-{id}"),
            description: String::new(),
            created_at: 0,
            kind: SnapshotKind::User,
            identity: [0; 16],
            origin: None,
            marks: SnapshotMarks::default(),
            versions: versions.iter().copied().map(VersionId).collect(),
        }));
    }

    /// Writes catalog, tables, record and both superblocks.
    pub(super) fn finish(mut self) -> Finished {
        let encoded: Vec<_> = self.records.iter().map(encoded_record).collect();
        let page = encode_page(encoded.iter().map(Vec::as_slice), self.geometry.block_bytes());
        let (page, crc) = self.put(&page);
        let catalog_root = self.node(1, &[(0, Reference::new(page, Epoch(1), crc))]);
        let record_block = self.geometry.block_at(self.place(self.next_block));
        *self.count_of(record_block) += 1;
        let (group, used) = self.tables();
        let record = CheckpointRecord {
            generation: Generation(5),
            zones: ZONES,
            epoch: Epoch(EPOCH),
            next_id: self.next_id,
            used: u64::from(used + self.used_wrong[2]),
            shared: self.counts.iter().flatten().filter(|&&count| count > 1).count() as u64,
            extra: self.counts.iter().flatten().map(|&count| u64::from(count.saturating_sub(1))).sum(),
            catalog_root,
            catalog_height: 1,
            catalog_pages: 1,
            groups: vec![group],
        };
        let record = record.encode();
        let at = index(self.geometry.offset_bytes(record_block));
        self.bytes[at..at + record.len()].copy_from_slice(&record);
        let superblock = Superblock {
            writes: U64::new(8),
            term: U64::new(TERM),
            checkpoint_block: U64::new(record_block.0),
            checkpoint_bytes: U32::new(narrow(record.len())),
            checkpoint_crc: U32::new(seal(&record)),
            journal_sequence: U64::new(FIRST_SEQUENCE),
            ..Superblock::first(&self.geometry, UUID)
        };
        let mut finished = Finished {
            bytes: self.bytes,
            superblock: superblock.clone(),
            geometry: self.geometry,
            page,
            catalog_node: catalog_root.block(),
            record: record_block,
        };
        finished.set_superblocks(|_| ());
        finished
    }

    /// Writes the refcount pages and the summary. Returns its entry, and the blocks in use.
    fn tables(&mut self) -> (GroupEntry, u32) {
        let geometry = self.geometry;
        let mut entries =
            vec![ZoneEntry::fresh(geometry.pages_per_zone()); index(geometry.zones_per_group())];
        let mut total = 0;
        for (zone, counts) in (0..).zip(&self.counts) {
            let used = narrow(counts.iter().filter(|&&count| count != 0).count());
            total += used;
            if used == 0 {
                continue;
            }
            let mut page = counts.clone();
            page.resize(index(u64::from(geometry.counts_per_page())), 0);
            let page = encode_counts(&page);
            let entry = &mut entries[index(zone)];
            entry.used = used;
            entry.shared = narrow(counts.iter().filter(|&&count| count > 1).count());
            entry.turn(0, seal(&page));
            let at = index(geometry.offset_bytes(geometry.refcount_block(zone, 0, 0)));
            self.bytes[at..at + page.len()].copy_from_slice(&page);
        }
        entries[0].used += self.used_wrong[0];
        let summary = encode_summary(&entries, geometry.block_bytes());
        let at = index(geometry.offset_bytes(geometry.summary_block(0, 1)));
        self.bytes[at..at + summary.len()].copy_from_slice(&summary);
        (GroupEntry { crc: seal(&summary), used: total + self.used_wrong[1], slot: Some(1) }, total)
    }
}

impl Finished {
    /// Seals both slots anew, with a change.
    pub(super) fn set_superblocks(&mut self, change: impl Fn(&mut Superblock)) {
        self.set_superblock(0, &change);
        self.set_superblock(1, &change);
    }

    pub(super) fn set_superblock(&mut self, slot: usize, change: impl Fn(&mut Superblock)) {
        let mut superblock = self.superblock.clone();
        change(&mut superblock);
        let at = index(SLOT_OFFSETS[slot]);
        let bytes = superblock.seal();
        self.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
    }

    /// Flips a bit of a block.
    pub(super) fn damage(&mut self, block: BlockNo) {
        self.bytes[index(self.geometry.offset_bytes(block)) + 9] ^= 4;
    }

    /// Writes a journal batch at `at`. Returns where the next one goes.
    pub(super) fn batch(
        &mut self,
        at: u64,
        (sequence, term, durable): (u64, u64, u64),
        builder: &mut BatchBuilder,
    ) -> u64 {
        let identity =
            BatchIdentity { sequence: Sequence(sequence), term, durable: Sequence(durable), uuid: UUID };
        let bytes = builder.seal(&identity, &[], 4096);
        let from = index(HEADER_BYTES + at);
        self.bytes[from..from + bytes.len()].copy_from_slice(&bytes);
        at + wide(bytes.len())
    }

    pub(super) fn device(self) -> MemoryDevice {
        MemoryDevice::from_bytes(self.bytes)
    }
}
