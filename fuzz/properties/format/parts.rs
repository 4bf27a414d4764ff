//! Parts: where everything is in the image of a valid store. Written from docs/format.md.

use std::collections::BTreeMap;

use super::bincode::Reader;
use super::schema;

pub(crate) const BLOCK: usize = 4096;
pub(crate) const JOURNAL: usize = 128 << 10;
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
    pub(crate) const HEAD_BYTES: usize = 96;
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
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) checkpoint: usize,
    pub(crate) checkpoint_bytes: usize,
    pub(crate) batches: Vec<Batch>,
    /// Where the batch behind the last one goes.
    pub(crate) journal_end: usize,
    /// Where the journal ends.
    pub(crate) journal_limit: usize,
    /// The blocks of each kind.
    blocks: BTreeMap<Kind, Vec<usize>>,
    /// All references of all trees.
    pub(crate) trees: Vec<Tree>,
    /// For each block, where in the image its seals are.
    seals: BTreeMap<usize, Vec<usize>>,
}

/// Finds the parts of an image.
struct Finder<'a> {
    bytes: &'a [u8],
    parts: Parts,
}

impl Parts {
    /// The parts of a valid store of which slot A is current.
    pub(crate) fn find(bytes: &[u8]) -> Self {
        let mut finder = Finder { bytes, parts: Parts::default() };
        finder.parts.checkpoint = finder.u64(superblock::CHECKPOINT_BLOCK) as usize * BLOCK;
        finder.parts.checkpoint_bytes = finder.u32(superblock::CHECKPOINT_BYTES) as usize;
        finder.find_batches();
        finder.find_tables();
        let at = finder.parts.checkpoint;
        let height = finder.u32(at + checkpoint::CATALOG_HEIGHT);
        finder.walk(at + checkpoint::CATALOG_ROOT, height, [Kind::CatalogNode, Kind::CatalogPage]);
        for page in finder.parts.blocks(Kind::CatalogPage).to_vec() {
            finder.find_roots(page * BLOCK);
        }
        finder.parts
    }

    /// The blocks of a kind.
    pub(crate) fn blocks(&self, kind: Kind) -> &[usize] {
        self.blocks.get(&kind).map(Vec::as_slice).unwrap_or_default()
    }

    /// Where the seals of a block are.
    pub(crate) fn seals(&self, block: usize) -> &[usize] {
        self.seals.get(&block).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Finder<'_> {
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    fn find_batches(&mut self) {
        let start = JOURNAL;
        let end = JOURNAL + self.u64(superblock::JOURNAL_BLOCKS) as usize * BLOCK;
        self.parts.journal_limit = end;
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
        let insert = |places: &mut Vec<usize>, place| match places.binary_search(&place) {
            Ok(_) => false,
            Err(at) => {
                places.insert(at, place);
                true
            }
        };
        insert(self.parts.blocks.entry(kind).or_default(), block);
        insert(self.parts.seals.entry(block).or_default(), seal_at)
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
            let record = &self.bytes[at + 2..at + 2 + length];
            if let Some((reference, behind)) = schema::reference(schema::RECORDS, record) {
                let height = Reader::new(&record[behind..]).small().unwrap() as u32;
                self.walk(at + 2 + reference, height, [Kind::Node, Kind::Data]);
            }
            at += 2 + length;
        }
    }
}
