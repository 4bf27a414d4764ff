//! Atlas: which bytes of an image something refers to, and what is read through them.
//!
//! Made from docs/format.md alone, with no code of the library: what the atlas says that nothing refers to may be
//! damaged without a word, and nothing else may.
//!
//! ```text
//! superblock ─┬▶ checkpoint record ─┬▶ catalog map ─▶ pages ─▶ records ─▶ trees ─▶ data
//!             │                     └▶ zone summaries ─▶ refcount pages
//!             └▶ journal batches ─▶ blocks that they name; what they put over the trees
//! ```

#![allow(unreachable_pub, reason = "a test crate has no outside")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test stops where it is surprised")]

mod bytes;
mod catalog;
mod journal;

use bytes::{Bytes, Reference};
use catalog::Catalog;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Stores that an atlas can be made of have blocks of this many bytes.
pub const BLOCK: usize = 4096;
/// Where the journal starts.
pub const HEADER_BYTES: usize = 131_072;
const FANOUT: u64 = (BLOCK / 16) as u64;

/// What a block is held as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Superblock,
    Checkpoint,
    Summary,
    Refcounts,
    Catalog,
    Node,
    Data,
    Batch,
}

/// A block that something refers to.
#[derive(Clone, Debug)]
pub struct Held {
    pub kind: Kind,
    /// The bytes that are sealed; what is behind them in the block is nothing's.
    pub bytes: Range<usize>,
    /// It is part of, or named by, the journal's batch of this number from the end on. Nothing says of batch 0, the last
    /// one, that it was durable: damage cannot be told from a torn end. Of each other one only the next one says so.
    pub from_end: Option<usize>,
    /// Only versions that were deleted, and wait for the collector, lead here.
    pub is_deleted: bool,
}

/// A disk, live or frozen.
#[derive(Clone, Debug)]
pub struct View {
    /// `server/disk` or `server@snapshot/disk`; `None` for what was deleted.
    pub path: Option<String>,
    pub size_bytes: u64,
    root: Reference,
    height: u32,
    /// What the journal put over the tree: blocks of the store, or holes.
    above: BTreeMap<u64, Option<u64>>,
}

/// The map of one image.
pub struct Atlas {
    pub held: BTreeMap<usize, Held>,
    pub views: Vec<View>,
    /// How many batches recovery must find behind the checkpoint.
    pub batches: usize,
    pub zones: u64,
    /// Where the file must end, for nothing to be missing.
    pub len_bytes: usize,
    /// Blocks that batches carry: recovery takes them from there, whatever their places hold.
    carried: BTreeSet<u64>,
}

/// The numbers of a superblock that places follow from.
struct Geometry {
    zone_blocks: u64,
    journal_blocks: u64,
    refcount_pages: u64,
    entry_bytes: u64,
    zones_per_group: u64,
}

impl Geometry {
    fn read(superblock: Bytes<'_>) -> Self {
        assert_eq!(superblock.u32(56), BLOCK as u64, "the atlas knows blocks of 4 KiB");
        let (zone_blocks, journal_blocks) = (superblock.u32(60), superblock.u32(64));
        let refcount_pages = zone_blocks.div_ceil(BLOCK as u64 / 2 + 2);
        let entry_bytes = 24 + 4 * refcount_pages;
        let zones_per_group = BLOCK as u64 / entry_bytes;
        Self { zone_blocks, journal_blocks, refcount_pages, entry_bytes, zones_per_group }
    }

    fn group(&self, group: u64) -> u64 {
        (HEADER_BYTES / BLOCK) as u64
            + self.journal_blocks
            + group * (2 + self.zones_per_group * self.zone_blocks)
    }

    fn zone(&self, zone: u64) -> u64 {
        self.group(zone / self.zones_per_group) + 2 + zone % self.zones_per_group * self.zone_blocks
    }
}

impl Atlas {
    pub fn of(image: &[u8]) -> Self {
        let image = Bytes(image);
        let slots = [0, 65_536].map(|at| image.part(at..at + BLOCK));
        assert!(slots.iter().all(|slot| slot.0[..8] == *b"cowblk\x1a\n"), "both superblock slots are there");
        let superblock = slots[usize::from(slots[1].u64(72) > slots[0].u64(72))];
        let geometry = Geometry::read(superblock);
        let mut atlas = Self {
            held: BTreeMap::new(),
            views: Vec::new(),
            batches: 0,
            zones: 0,
            len_bytes: 0,
            carried: BTreeSet::new(),
        };
        for slot in [0, 65_536] {
            atlas.hold(slot / BLOCK, Kind::Superblock, BLOCK);
        }
        let record = atlas.record(image, superblock);
        atlas.zones = record.u64(16);
        atlas.summaries(image, &geometry, record);
        let mut catalog = Catalog::read(&atlas.pages(image, record));
        if superblock.u64(128) == 0 {
            let journal = journal::read(image, superblock);
            atlas.batches = journal.len();
            for record in journal.iter().flat_map(|batch| &batch.records) {
                if let journal::Record::Inline { physical, count } = record {
                    atlas.carried.extend(*physical..physical + count);
                }
            }
            for (nth, batch) in journal.iter().enumerate() {
                atlas.batch(batch, journal.len() - 1 - nth, &mut catalog);
            }
        }
        for cut_off in &catalog.garbage {
            atlas.walk(image, (cut_off.reference, cut_off.height), true);
        }
        atlas.views = catalog.views();
        let carried = atlas.carried.clone();
        for view in atlas.views.clone() {
            let is_deleted = view.path.is_none();
            atlas.walk(image, (view.root, view.height), is_deleted);
            for block in view.above.values().flatten().filter(|block| !carried.contains(block)) {
                atlas.hold_tree(*block, Kind::Data, is_deleted);
            }
        }
        let end = geometry.zone(atlas.zones - 1) + geometry.zone_blocks;
        atlas.len_bytes = usize::try_from(end).unwrap() * BLOCK;
        atlas
    }

    /// What holds this byte, if anything does.
    pub fn at(&self, byte: usize) -> Option<&Held> {
        self.held.get(&(byte / BLOCK)).filter(|held| held.bytes.contains(&byte))
    }

    /// The blocks that a read of one block of a disk goes through, its data last.
    pub fn way(&self, image: &[u8], view: &View, block: u64) -> Vec<usize> {
        if let Some(above) = view.above.get(&block) {
            let at_home = above.iter().filter(|physical| !self.carried.contains(physical));
            return at_home.map(|physical| usize::try_from(*physical).unwrap()).collect();
        }
        let (mut way, mut reference, mut height) = (Vec::new(), view.root, view.height);
        while !reference.is_hole() {
            way.push(reference.block);
            if height == 0 {
                break;
            }
            height -= 1;
            let slot = block / FANOUT.pow(height) % FANOUT;
            let node = Bytes(image).part(reference.block * BLOCK..(reference.block + 1) * BLOCK);
            reference = Reference::read(node, usize::try_from(slot).unwrap() * 16);
        }
        way
    }

    fn hold(&mut self, block: usize, kind: Kind, len: usize) -> &mut Held {
        let bytes = block * BLOCK..block * BLOCK + len;
        let held = self.held.entry(block).or_insert(Held { kind, bytes, from_end: None, is_deleted: false });
        assert_eq!(held.kind, kind, "block {block} is held as two things");
        held
    }

    fn hold_tree(&mut self, block: u64, kind: Kind, is_deleted: bool) {
        let block = usize::try_from(block).unwrap();
        let is_new = !self.held.contains_key(&block);
        let held = self.hold(block, kind, BLOCK);
        held.is_deleted = is_deleted && (is_new || held.is_deleted);
    }

    fn record<'a>(&mut self, image: Bytes<'a>, superblock: Bytes<'_>) -> Bytes<'a> {
        let first = usize::try_from(superblock.u64(96)).unwrap();
        let len = usize::try_from(superblock.u32(104)).unwrap();
        for (nth, at) in (0..len).step_by(BLOCK).enumerate() {
            self.hold(first + nth, Kind::Checkpoint, BLOCK.min(len - at));
        }
        let record = image.part(first * BLOCK..first * BLOCK + len);
        assert_eq!(&record.0[..8], b"cowblkCP");
        record
    }

    /// Summaries and refcount pages: of each the slot that is current, if it was ever written.
    fn summaries(&mut self, image: Bytes<'_>, geometry: &Geometry, record: Bytes<'_>) {
        let (zones, groups) = (record.u64(16), record.u32(68));
        for group in 0..groups {
            let flags = record.u32(96 + usize::try_from(group).unwrap() * 12 + 8);
            if flags & 2 == 0 {
                continue;
            }
            let block = usize::try_from(geometry.group(group) + (flags & 1)).unwrap();
            self.hold(block, Kind::Summary, BLOCK);
            let page = image.part(block * BLOCK..(block + 1) * BLOCK);
            for nth in 0..geometry.zones_per_group.min(zones - group * geometry.zones_per_group) {
                let entry = usize::try_from(nth * geometry.entry_bytes).unwrap();
                let (current, written) = (page.u64(entry + 8), page.u64(entry + 16));
                let zone = geometry.zone(group * geometry.zones_per_group + nth);
                for refcounts in (0..geometry.refcount_pages).filter(|at| written >> at & 1 == 1) {
                    let slot = zone + 2 * refcounts + (current >> refcounts & 1);
                    self.hold(usize::try_from(slot).unwrap(), Kind::Refcounts, BLOCK);
                }
            }
        }
    }

    /// The pages of the catalog map. Its nodes and pages are held as parts of the catalog.
    fn pages<'a>(&mut self, image: Bytes<'a>, record: Bytes<'_>) -> Vec<Bytes<'a>> {
        let mut level = vec![Reference::read(record, 48)];
        for _ in 0..record.u32(64) {
            level.retain(|reference| !reference.is_hole());
            level = level
                .iter()
                .flat_map(|node| {
                    self.hold(node.block, Kind::Catalog, BLOCK);
                    let bytes = image.part(node.block * BLOCK..(node.block + 1) * BLOCK);
                    (0..BLOCK / 16).map(move |slot| Reference::read(bytes, slot * 16))
                })
                .collect();
        }
        let pages: Vec<_> = level.into_iter().filter(|reference| !reference.is_hole()).collect();
        for page in &pages {
            self.hold(page.block, Kind::Catalog, BLOCK);
        }
        pages.iter().map(|page| image.part(page.block * BLOCK..(page.block + 1) * BLOCK)).collect()
    }

    /// Holds every node and block below a reference.
    fn walk(&mut self, image: Bytes<'_>, (root, height): (Reference, u32), is_deleted: bool) {
        let mut seen = BTreeSet::new();
        let mut open = vec![(root, height)];
        while let Some((reference, height)) = open.pop() {
            if reference.is_hole() || !seen.insert((reference.block, height)) {
                continue;
            }
            let kind = if height == 0 { Kind::Data } else { Kind::Node };
            self.hold_tree(reference.block as u64, kind, is_deleted);
            if height > 0 {
                let node = image.part(reference.block * BLOCK..(reference.block + 1) * BLOCK);
                let below = (0..BLOCK / 16).map(|slot| (Reference::read(node, slot * 16), height - 1));
                open.extend(below);
            }
        }
    }

    /// Holds a batch, and the blocks that it names; changes the catalog as it says.
    fn batch(&mut self, batch: &journal::Batch, from_end: usize, catalog: &mut Catalog) {
        assert_eq!(batch.is_tail, from_end == 0, "the last batch, and no other, is not known durable");
        for block in batch.bytes.clone().step_by(BLOCK).map(|at| at / BLOCK) {
            self.hold(block, Kind::Batch, BLOCK).from_end = Some(from_end);
        }
        let carried = self.carried.clone();
        for record in &batch.records {
            catalog.apply(record);
            if let journal::Record::Map { physical, count, .. } = record {
                for block in (*physical..physical + count).filter(|block| !carried.contains(block)) {
                    let held = self.hold(usize::try_from(block).unwrap(), Kind::Data, BLOCK);
                    held.from_end = Some(from_end);
                    held.is_deleted = true; // until something that is not deleted leads here
                }
            }
            if let journal::Record::Grow { zones } = record {
                self.zones = self.zones.max(*zones);
            }
        }
    }
}
