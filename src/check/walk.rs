//! Walk: follows every tree from its root, and counts what it holds.
//!
//! Floor 5. Each node is read once, however many trees share it: what was found below is remembered. A
//! node that is reached in a second place, at another level, or from an unrelated disk is a finding, and
//! is not followed again: a walk takes at most as many steps as the store has blocks, times the fanout.

use super::catalog::Records;
use super::lineage::Lineages;
use super::medium::Medium;
use super::recount::{DISK_BLOCKS_MAX, Holder};
use super::report::CheckReport;
use crate::defect::Defect;
use crate::format::{Place, Reference, Root, node_from_bytes};
use crate::limits::MAP_HEIGHT_MAX;
use crate::units::{BlockNo, Epoch, wide};
use std::collections::HashMap;

/// Which part of a tree its root still stands for.
#[derive(Clone, Copy)]
pub(crate) enum Scope {
    /// All of it.
    Whole,
    /// What the collector has not come to, and only what it is going to drop: the rest is somebody else's.
    Owned { below: Epoch, above: Epoch, split: u64, cursor: u64 },
}

impl Scope {
    /// Whether what stands at `first`, and reaches up to `end`, is to be followed and counted.
    pub(crate) fn includes(self, birth: Epoch, (first, end): (u64, u64)) -> bool {
        match self {
            Self::Whole => true,
            Self::Owned { below, above, split, cursor } => {
                let limit = if first < split { below } else { above };
                end > cursor && birth > limit
            }
        }
    }
}

/// One tree.
pub(crate) struct Tree {
    /// What it is called in findings.
    pub(crate) name: String,
    /// Whose references it shares; `None` for the catalog.
    pub(crate) lineage: Option<u64>,
    pub(crate) scope: Scope,
}

/// What was found in a subtree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subtree {
    /// References to data blocks.
    pub(crate) mapped: u64,
    /// The first disk block behind the last one that is mapped.
    pub(crate) end: u64,
    /// Whether all of it could be followed.
    pub(crate) whole: bool,
}

impl Subtree {
    const EMPTY: Self = Self { mapped: 0, end: 0, whole: true };
    const LOST: Self = Self { mapped: 0, end: 0, whole: false };

    fn join(&mut self, other: Self) {
        self.mapped += other.mapped;
        self.end = self.end.max(other.end);
        self.whole &= other.whole;
    }
}

/// Hears what a walk finds.
pub(crate) trait Ledger {
    /// A map refers to a data block. What two nodes that were copied from one hold is said for each of them.
    fn data(&mut self, place: Place, reference: Reference, holder: Holder);
    /// A block is a node or a catalog page; said once.
    fn metadata(&mut self, place: Place, block: BlockNo);
}

/// How a node was reached first, and what is below.
struct Seen {
    reference: Reference,
    level: u32,
    first: u64,
    lineage: Option<u64>,
    below: Subtree,
}

/// All walks of one check.
pub(crate) struct Walk<'a> {
    medium: &'a Medium<'a>,
    ledger: &'a mut dyn Ledger,
    report: &'a mut CheckReport,
    seen: HashMap<BlockNo, Seen>,
    /// Catalog pages, in the order of their numbers.
    pages: Vec<(u64, Reference)>,
    complete: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        medium: &'a Medium<'a>,
        ledger: &'a mut dyn Ledger,
        report: &'a mut CheckReport,
    ) -> Self {
        Self { medium, ledger, report, seen: HashMap::new(), pages: Vec::new(), complete: true }
    }

    pub(crate) fn medium(&self) -> &'a Medium<'a> {
        self.medium
    }

    pub(crate) fn report(&mut self) -> &mut CheckReport {
        self.report
    }

    /// The catalog pages that were met.
    pub(crate) fn take_pages(&mut self) -> Vec<(u64, Reference)> {
        std::mem::take(&mut self.pages)
    }

    /// Writes the totals into the report. Whether everything could be followed.
    pub(crate) fn finish(self) -> bool {
        self.report.nodes = wide(self.seen.values().filter(|seen| seen.level > 0).count());
        self.complete
    }

    /// Follows a tree whose topmost reference stands at `first`.
    pub(crate) fn tree(&mut self, tree: &Tree, root: (Reference, u32), first: u64) -> Subtree {
        let (reference, height) = root;
        if height > MAP_HEIGHT_MAX || (height == 0 && !reference.is_hole()) {
            return self.lose(Defect::Reference, format!("{}: a tree of {height} levels", tree.name));
        }
        self.subtree(tree, reference, height, first)
    }

    fn lose(&mut self, defect: Defect, place: String) -> Subtree {
        self.report.find(defect, place);
        self.complete = false;
        Subtree::LOST
    }

    fn subtree(&mut self, tree: &Tree, reference: Reference, level: u32, first: u64) -> Subtree {
        let end = first.saturating_add(self.span(level));
        if reference.is_hole() || !tree.scope.includes(reference.birth(), (first, end)) {
            return Subtree::EMPTY;
        }
        let block = reference.block();
        if first >= DISK_BLOCKS_MAX {
            return self.lose(Defect::Reference, format!("{} maps disk block {first}", tree.name));
        }
        let Some(place) = self.medium.place_of(block) else {
            let what =
                format!("{} holds block {block} at disk block {first}, which is no data block", tree.name);
            return self.lose(Defect::Reference, what);
        };
        match tree.lineage {
            Some(lineage) if level == 0 => {
                let holder = Holder { lineage, birth: reference.birth(), at: first };
                self.ledger.data(place, reference, holder);
                Subtree { mapped: 1, end: first + 1, whole: true }
            }
            _ => self.once(tree, (reference, place), level, first),
        }
    }

    /// Follows a node or catalog page, unless it was followed before.
    fn once(
        &mut self,
        tree: &Tree,
        (reference, place): (Reference, Place),
        level: u32,
        first: u64,
    ) -> Subtree {
        let block = reference.block();
        if let Some(seen) = self.seen.get(&block) {
            let same = seen.reference == reference
                && (seen.level, seen.first, seen.lineage) == (level, first, tree.lineage);
            return if same {
                seen.below
            } else {
                let what = format!(
                    "block {block} is a node of level {} at disk block {}, and again of level {level} at disk block {first} of {}",
                    seen.level, seen.first, tree.name
                );
                self.lose(Defect::Reference, what)
            };
        }
        self.ledger.metadata(place, block);
        let lineage = tree.lineage;
        self.seen.insert(block, Seen { reference, level, first, lineage, below: Subtree::LOST });
        let below = if level == 0 {
            self.pages.push((first, reference));
            Subtree { mapped: 1, end: first + 1, whole: true }
        } else {
            self.node(tree, reference, level, first)
        };
        if let Some(seen) = self.seen.get_mut(&block) {
            seen.below = below;
        }
        below
    }

    fn node(&mut self, tree: &Tree, reference: Reference, level: u32, first: u64) -> Subtree {
        let block = reference.block();
        let bytes = match self.medium.sealed(block, reference.crc()) {
            Ok(bytes) => bytes,
            Err(why) => {
                let what =
                    format!("block {block}, level {level} of {} at disk block {first}: {why}", tree.name);
                return self.lose(Defect::Node, what);
            }
        };
        let span = self.span(level - 1);
        let mut found = Subtree::EMPTY;
        for (nth, &entry) in (0..).zip(node_from_bytes(&bytes).iter()) {
            let at = first.saturating_add(span.saturating_mul(nth));
            if !entry.is_valid() {
                let what = format!("entry {nth} of the node at block {block} has unknown flags");
                found.join(self.lose(Defect::Reference, what));
                continue;
            }
            if entry.birth() > reference.birth() {
                let (younger, older) = (entry.birth(), reference.birth());
                let what = format!(
                    "entry {nth} of the node at block {block} was born in {younger}, the node in {older}"
                );
                self.report.find(Defect::Reference, what);
            }
            found.join(self.subtree(tree, entry, level - 1, at));
        }
        found
    }

    /// Disk blocks below a node of `level` levels.
    fn span(&self, level: u32) -> u64 {
        1u64.checked_shl(level * self.medium.geometry.fanout_bits()).unwrap_or(u64::MAX)
    }
}

/// All trees that the catalog leads to.
pub(crate) struct Forest<'a> {
    records: &'a Records,
    block_size: u32,
    lineages: Lineages,
}

/// What a record says of its tree.
struct Claims {
    root: Root,
    birth: Epoch,
    /// `None` for a version that is shown no more: nobody reads what a shrunken disk left behind its end.
    size_bytes: Option<u64>,
}

impl<'a> Forest<'a> {
    pub(crate) fn new(records: &'a Records, block_size: u32) -> Self {
        Self { records, block_size, lineages: Lineages::new(records) }
    }

    /// Follows all trees; those that the collector is at work on last, because they are not whole, and
    /// what they share is to be found by way of somebody who holds all of it.
    pub(crate) fn walk(&mut self, walk: &mut Walk<'_>) {
        for disk in self.records.disks.values() {
            let tree = Tree {
                name: format!("disk {}", disk.id),
                lineage: Some(self.lineages.of_disk(disk.id)),
                scope: Scope::Whole,
            };
            self.whole(
                walk,
                &tree,
                &Claims { root: disk.root, birth: disk.birth, size_bytes: Some(disk.size_bytes) },
            );
        }
        let victim = self.records.dropping();
        for version in
            self.records.versions.values().filter(|version| Some(version.id) != victim.map(|(id, _)| id))
        {
            let tree = Tree {
                name: format!("version {}", version.id),
                lineage: Some(self.lineages.of_version(version.id)),
                scope: Scope::Whole,
            };
            let size_bytes = version.snapshot.map(|_| version.size_bytes);
            let claims = Claims { root: version.root, birth: version.birth, size_bytes };
            self.whole(walk, &tree, &claims);
        }
        if let Some((id, cursor)) = victim {
            self.victim(walk, id, cursor);
        }
        self.garbage(walk);
    }

    fn whole(&self, walk: &mut Walk<'_>, tree: &Tree, claims: &Claims) {
        let root = &claims.root;
        if !root.reference.is_hole() && root.reference.birth() > claims.birth {
            let (younger, older) = (root.reference.birth(), claims.birth);
            let what = format!("the root of {} was born in {younger}, and stamps {older}", tree.name);
            walk.report().find(Defect::Reference, what);
        }
        let found = walk.tree(tree, (root.reference, root.height), 0);
        let size_blocks = claims.size_bytes.map(|bytes| bytes.div_ceil(u64::from(self.block_size)));
        if let Some(size_blocks) = size_blocks
            && found.end > size_blocks
        {
            let last = found.end - 1;
            let what = format!("{} maps disk block {last}, and has {size_blocks} blocks", tree.name);
            walk.report().find(Defect::Reference, what);
        }
        if found.whole && found.mapped != root.mapped {
            let what = format!("{} says {}, found {}", tree.name, root.mapped, found.mapped);
            walk.report().find(Defect::MappedCount, what);
        }
    }

    /// The version that the collector is dropping: what it has passed is gone, and what is older than the
    /// version's parent is the parent's.
    fn victim(&self, walk: &mut Walk<'_>, id: crate::units::VersionId, cursor: u64) {
        let Some(version) = self.records.versions.get(&id) else { return };
        let limit = self.records.epoch_of(version.parent);
        let tree = Tree {
            name: format!("version {id}"),
            lineage: Some(self.lineages.of_version(id)),
            scope: Scope::Owned { below: limit, above: limit, split: 0, cursor },
        };
        walk.tree(&tree, (version.root.reference, version.root.height), 0);
    }

    fn garbage(&self, walk: &mut Walk<'_>) {
        for (nth, garbage) in (0..).zip(self.records.garbage.values()) {
            let tree = Tree {
                name: format!("garbage {}", garbage.id),
                lineage: Some(self.lineages.beyond(nth)),
                scope: Scope::Owned {
                    below: garbage.limit_below,
                    above: garbage.limit_above,
                    split: garbage.split.0,
                    cursor: garbage.cursor.0,
                },
            };
            walk.tree(&tree, (garbage.reference, garbage.height), garbage.first.0);
        }
    }
}
