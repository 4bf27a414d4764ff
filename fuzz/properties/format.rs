//! Format: finds the parts of a store's image and seals them again after a change. Written from docs/format.md.

use std::collections::{BTreeMap, BTreeSet};

use super::bincode::Reader;

pub(crate) const BLOCK: usize = 4096;
const SLOTS: [usize; 2] = [0, 64 << 10];
const JOURNAL: usize = 128 << 10;
const REFERENCE: usize = 16;

/// Offsets of the superblock's fields.
pub(crate) mod superblock {
    pub(crate) const CRC: usize = 12;
    pub(crate) const UUID: usize = 40;
    pub(crate) const ZONE_BLOCKS: usize = 60;
    pub(crate) const JOURNAL_BLOCKS: usize = 64;
    pub(crate) const TERM: usize = 80;
    pub(crate) const CHECKPOINT_BLOCK: usize = 96;
    pub(crate) const CHECKPOINT_BYTES: usize = 104;
    pub(crate) const CHECKPOINT_CRC: usize = 108;
    pub(crate) const JOURNAL_OFFSET: usize = 112;
    pub(crate) const JOURNAL_SEQUENCE: usize = 120;
    pub(crate) const CLEAN: usize = 128;
    pub(crate) const RESERVED: usize = 136;
}

/// Offsets of the checkpoint record's fields.
pub(crate) mod checkpoint {
    pub(crate) const ZONES: usize = 16;
    pub(crate) const EPOCH: usize = 24;
    pub(crate) const NEXT_ID: usize = 32;
    pub(crate) const CATALOG_ROOT: usize = 48;
    pub(crate) const CATALOG_HEIGHT: usize = 64;
    pub(crate) const GROUPS: usize = 68;
    pub(crate) const HEAD_BYTES: usize = 80;
}

/// A batch of the journal.
#[derive(Clone, Copy)]
pub(crate) struct Batch {
    /// Its first byte in the image.
    pub(crate) at: usize,
    pub(crate) bytes: usize,
}

/// What there is to mutate, by kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    CatalogNode,
    CatalogPage,
    Node,
    Data,
    Summary,
    Refcounts,
}

/// A subtree that a reference leads to: its bytes, and the levels of nodes in it.
#[derive(Clone, Copy)]
pub(crate) struct Tree {
    pub(crate) reference: [u8; REFERENCE],
    pub(crate) height: u32,
}

/// Where everything is in an image that is whole.
#[derive(Clone, Default)]
pub(crate) struct Parts {
    pub(crate) checkpoint: usize,
    pub(crate) checkpoint_bytes: usize,
    pub(crate) batches: Vec<Batch>,
    /// Where the batch behind the last one goes.
    pub(crate) journal_end: usize,
    /// The blocks of each kind.
    pub(crate) blocks: BTreeMap<Kind, BTreeSet<usize>>,
    /// All references of all trees.
    pub(crate) trees: Vec<Tree>,
    /// For each block, where in the image its seals are.
    seals: BTreeMap<usize, BTreeSet<usize>>,
}

/// An image, and where its parts were before anything was changed.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    pub(crate) parts: Parts,
}

impl Image {
    /// Finds the parts of a valid store of which slot A is current.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let mut image = Self { bytes, parts: Parts::default() };
        image.parts.checkpoint = image.u64(superblock::CHECKPOINT_BLOCK) as usize * BLOCK;
        image.parts.checkpoint_bytes = image.u32(superblock::CHECKPOINT_BYTES) as usize;
        image.find_batches();
        image.find_tables();
        let at = image.parts.checkpoint;
        let height = image.u32(at + checkpoint::CATALOG_HEIGHT);
        image.walk(at + checkpoint::CATALOG_ROOT, height, [Kind::CatalogNode, Kind::CatalogPage]);
        for page in image.blocks(Kind::CatalogPage) {
            image.find_roots(page * BLOCK);
        }
        image
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    /// Writes what fits.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    pub(crate) fn blocks(&self, kind: Kind) -> Vec<usize> {
        self.parts.blocks.get(&kind).map(|blocks| blocks.iter().copied().collect()).unwrap_or_default()
    }

    pub(crate) fn journal(&self) -> (usize, usize) {
        (JOURNAL, JOURNAL + self.u64(superblock::JOURNAL_BLOCKS) as usize * BLOCK)
    }

    fn find_batches(&mut self) {
        let (start, end) = self.journal();
        let mut at = start + self.u64(superblock::JOURNAL_OFFSET) as usize;
        let mut sequence = self.u64(superblock::JOURNAL_SEQUENCE);
        if self.u32(superblock::CLEAN) == 1 {
            self.parts.journal_end = at;
            return;
        }
        loop {
            let is_next = |at: usize| {
                at < end && &self.bytes[at..at + 8] == b"cowblkJB" && self.u64(at + 16) == sequence
            };
            let Some(place) = [at, start].into_iter().find(|at| is_next(*at)) else { break };
            let records = (64 + self.u32(place + 40) as usize).next_multiple_of(4096);
            let bytes = records + self.u32(place + 44) as usize * BLOCK;
            self.parts.batches.push(Batch { at: place, bytes });
            at = place + bytes;
            sequence += 1;
        }
        self.parts.journal_end = at;
    }

    fn find_tables(&mut self) {
        let zone_blocks = self.u32(superblock::ZONE_BLOCKS) as usize;
        let pages = zone_blocks.div_ceil(BLOCK / 2 + 2);
        let entry_bytes = 24 + 4 * pages;
        let zones_per_group = BLOCK / entry_bytes;
        let record = self.parts.checkpoint;
        let zones = self.u64(record + checkpoint::ZONES) as usize;
        let first_group = JOURNAL / BLOCK + self.u64(superblock::JOURNAL_BLOCKS) as usize;
        for group in 0..self.u32(record + checkpoint::GROUPS) as usize {
            let entry = record + checkpoint::HEAD_BYTES + 12 * group;
            let flags = self.u32(entry + 8) as usize;
            if flags & 2 == 0 {
                continue;
            }
            let group_start = first_group + group * (2 + zones_per_group * zone_blocks);
            let summary = group_start + (flags & 1);
            self.add(Kind::Summary, summary, entry);
            for zone in 0..zones_per_group.min(zones - group * zones_per_group) {
                let entry = summary * BLOCK + zone * entry_bytes;
                let (current, written) = (self.u64(entry + 8), self.u64(entry + 16));
                for page in (0..pages).filter(|page| written >> page & 1 == 1) {
                    let zone_start = group_start + 2 + zone * zone_blocks;
                    let block = zone_start + 2 * page + (current >> page & 1) as usize;
                    self.add(Kind::Refcounts, block, entry + 24 + 4 * page);
                }
            }
        }
    }

    fn add(&mut self, kind: Kind, block: usize, seal_at: usize) -> bool {
        self.parts.blocks.entry(kind).or_default().insert(block);
        self.parts.seals.entry(block).or_default().insert(seal_at)
    }

    /// Follows the reference at `at`, which leads to a node of level `height`, or for 0 to what a leaf refers to.
    fn walk(&mut self, at: usize, height: u32, [node, leaf]: [Kind; 2]) {
        let mut reference = [0; REFERENCE];
        reference.copy_from_slice(&self.bytes[at..at + REFERENCE]);
        let mut block = [0; 8];
        block[..6].copy_from_slice(&reference[..6]);
        let block = u64::from_le_bytes(block) as usize;
        if block == 0 {
            return;
        }
        self.parts.trees.push(Tree { reference, height });
        let kind = if height == 0 { leaf } else { node };
        if self.add(kind, block, at + 12) && height > 0 {
            for nth in 0..BLOCK / REFERENCE {
                self.walk(block * BLOCK + nth * REFERENCE, height - 1, [node, leaf]);
            }
        }
    }

    /// The roots in the records of a catalog page.
    fn find_roots(&mut self, page: usize) {
        let mut at = page;
        while at + 2 <= page + BLOCK {
            let length = usize::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]));
            if length == 0 {
                break;
            }
            if let Some((within, height)) = root_of(&self.bytes[at + 2..at + 2 + length]) {
                self.walk(at + 2 + within, height, [Kind::Node, Kind::Data]);
            }
            at += 2 + length;
        }
    }

    /// Seals a block in all its parents, and those in theirs, up to the superblock.
    pub(crate) fn seal_block(&mut self, block: usize) {
        let Some(bytes) = self.bytes.get(block * BLOCK..(block + 1) * BLOCK) else { return };
        let crc = crc32fast::hash(bytes).to_le_bytes();
        for at in self.parts.seals.get(&block).cloned().unwrap_or_default() {
            self.put(at, &crc);
            let record = self.parts.checkpoint..self.parts.checkpoint + self.parts.checkpoint_bytes;
            if record.contains(&at) {
                self.seal_checkpoint();
            } else {
                self.seal_block(at / BLOCK);
            }
        }
    }

    /// Seals the checkpoint record in the superblock.
    pub(crate) fn seal_checkpoint(&mut self) {
        let (at, length) = (self.parts.checkpoint, self.parts.checkpoint_bytes);
        let Some(bytes) = self.bytes.get(at..at + length) else { return };
        let crc = crc32fast::hash(bytes).to_le_bytes();
        self.put(superblock::CHECKPOINT_CRC, &crc);
        self.seal_superblock();
    }

    /// Seals slot A, and makes slot B the same.
    pub(crate) fn seal_superblock(&mut self) {
        let Some(slot) = self.bytes.get_mut(..4096) else { return };
        slot[superblock::CRC..superblock::CRC + 4].fill(0);
        let crc = crc32fast::hash(slot).to_le_bytes();
        slot[superblock::CRC..superblock::CRC + 4].copy_from_slice(&crc);
        let slot = slot.to_vec();
        self.put(SLOTS[1], &slot);
    }

    /// Seals a batch as a whole.
    pub(crate) fn seal_batch(&mut self, batch: Batch) {
        let Some(bytes) = self.bytes.get_mut(batch.at..batch.at + batch.bytes) else { return };
        bytes[8..12].fill(0);
        let crc = crc32fast::hash(bytes).to_le_bytes();
        bytes[8..12].copy_from_slice(&crc);
    }

    /// Appends a batch with these records and inline blocks to the journal, if there is room behind the last one.
    pub(crate) fn append_batch(&mut self, records: &[u8], inline: &[u8], is_durable: bool) -> Option<Batch> {
        let sequence = self.u64(superblock::JOURNAL_SEQUENCE) + self.parts.batches.len() as u64;
        let durable = if is_durable { sequence } else { sequence - 1 };
        let mut batch = b"cowblkJB\0\0\0\0\0\0\0\0".to_vec();
        for number in [sequence, self.u64(superblock::TERM), durable] {
            batch.extend_from_slice(&number.to_le_bytes());
        }
        batch.extend_from_slice(&(records.len() as u32).to_le_bytes());
        batch.extend_from_slice(&((inline.len() / BLOCK) as u32).to_le_bytes());
        batch.extend_from_slice(&self.bytes[superblock::UUID..superblock::UUID + 16]);
        batch.extend_from_slice(records);
        batch.resize(batch.len().next_multiple_of(4096), 0);
        batch.extend_from_slice(inline);
        let place = Batch { at: self.parts.journal_end, bytes: batch.len() };
        if place.at + place.bytes > self.journal().1 {
            return None;
        }
        self.put(place.at, &batch);
        self.seal_batch(place);
        self.parts.journal_end += place.bytes;
        self.parts.batches.push(place);
        Some(place)
    }

    /// Gives the store another uuid: the one that it was made with is random.
    pub(crate) fn name(&mut self, uuid: [u8; 16]) {
        self.put(superblock::UUID, &uuid);
        self.seal_superblock();
        for batch in self.parts.batches.clone() {
            self.put(batch.at + 48, &uuid);
            self.seal_batch(batch);
        }
    }
}

/// Where in a record the reference of its root is, and the root's height.
fn root_of(record: &[u8]) -> Option<(usize, u32)> {
    let fields = &mut Reader::new(record);
    match fields.integer() {
        1 => {
            fields.integer();
            fields.integer();
            fields.string();
            fields.integer();
            fields.integer();
            fields.option();
            fields.integer();
            fields.option(); // origin
            if fields.integer() == 1 {
                fields.integer(); // so many seconds
            }
            fields.option(); // shared
        }
        3 => {
            fields.integer();
            fields.integer();
            fields.string();
            fields.integer();
            fields.option();
            fields.integer();
            fields.integer();
            fields.option();
            fields.input.byte();
            fields.option(); // exclusive
        }
        4 => {
            fields.integer();
        }
        _ => return None,
    }
    let at = fields.position();
    fields.input.bytes(REFERENCE);
    Some((at, fields.integer() as u32))
}
