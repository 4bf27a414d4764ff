//! Trees: every map as it can be saved.
//!
//! Floor 6. A node that is whole, and all below it, stays where it is. One that is lost is written anew, and so are the
//! nodes above it, each with the birth that it had: who shares what, and who owns it, stays as it was (R1).
//!
//! What a lost node of a version held is known where a child of that version goes on with it: a child's reference that is
//! no younger than the version's epoch was inherited, so the version had it at the same place. What is known of nobody is
//! lost: it becomes a reference to a block that does not match its seal, so that reading it is an error and not zeros.
//!
//! R1  A node that is written anew keeps its birth, and everybody who held the old one holds the new one.

use super::space::Space;
use crate::check::catalog::Records;
use crate::check::lineage::Lineages;
use crate::check::medium::Medium;
use crate::check::walk::Scope;
use crate::error::Result;
use crate::format::{Reference, Root, node_from_bytes, node_to_bytes, seal};
use crate::limits::MAP_HEIGHT_MAX;
use crate::units::{BlockNo, DiskId, Epoch, VersionId, index};
use std::collections::HashMap;
use std::ops::Range;

/// References to one block, at most: fewer than a refcount holds.
const REFERENCES_PER_GRAVE_MAX: u64 = 60_000;

/// Whose map a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Disk(DiskId),
    Version(VersionId),
    Garbage(u64),
}

/// One map.
pub(super) struct Tree {
    pub(super) owner: Owner,
    lineage: u64,
    parent: Option<VersionId>,
    pub(super) root: Root,
    first: u64,
    /// Blocks that somebody may read; 0 where nobody does.
    seen_blocks: u64,
    scope: Scope,
}

/// A range of disk blocks that a tree lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    pub(super) tree: usize,
    pub(super) first: u64,
    pub(super) end: u64,
}

/// What becomes of a subtree.
#[derive(Clone, Copy, Default)]
struct Saved {
    reference: Reference,
    mapped: u64,
}

/// What became of a node, and what it lost.
struct Done {
    reference: Reference,
    level: u32,
    first: u64,
    saved: Saved,
    lost: Range<usize>,
}

/// All trees that records lead to, those that the collector is at work on last.
pub(super) fn trees(records: &Records, block_size: u32) -> Vec<Tree> {
    let lineages = Lineages::new(records);
    let blocks = |bytes: u64| bytes.div_ceil(u64::from(block_size));
    let mut trees: Vec<Tree> = Vec::new();
    for disk in records.disks.values() {
        trees.push(Tree {
            owner: Owner::Disk(disk.id),
            lineage: lineages.of_disk(disk.id),
            parent: disk.parent,
            root: disk.root,
            first: 0,
            seen_blocks: blocks(disk.size_bytes),
            scope: Scope::Whole,
        });
    }
    let victim = records.dropping();
    let mut versions: Vec<_> = records.versions.values().collect();
    versions.sort_by_key(|version| Some(version.id) == victim.map(|(id, _)| id));
    for version in versions {
        let limit = records.epoch_of(version.parent);
        let scope = match victim {
            Some((id, cursor)) if id == version.id => {
                Scope::Owned { below: limit, above: limit, split: 0, cursor }
            }
            _ => Scope::Whole,
        };
        trees.push(Tree {
            owner: Owner::Version(version.id),
            lineage: lineages.of_version(version.id),
            parent: version.parent,
            root: version.root,
            first: 0,
            seen_blocks: version.snapshot.map_or(0, |_| blocks(version.size_bytes)),
            scope,
        });
    }
    for (nth, garbage) in (0..).zip(records.garbage.values()) {
        trees.push(Tree {
            owner: Owner::Garbage(garbage.id),
            lineage: lineages.beyond(nth),
            parent: None,
            root: Root { reference: garbage.reference, height: garbage.height, mapped: 0 },
            first: garbage.first.0,
            seen_blocks: 0,
            scope: Scope::Owned {
                below: garbage.limit_below,
                above: garbage.limit_above,
                split: garbage.split.0,
                cursor: garbage.cursor.0,
            },
        });
    }
    trees
}

/// Saves one tree after the other.
pub(super) struct Saver<'a> {
    medium: &'a Medium<'a>,
    trees: &'a [Tree],
    epochs: HashMap<VersionId, Epoch>,
    pub(super) space: &'a mut Space,
    /// What became of each node, for each lineage that holds it.
    done: HashMap<(u64, BlockNo), Done>,
    /// Nodes that stay where they are, and whose.
    kept: HashMap<BlockNo, u64>,
    /// What was lost, whoever may read it.
    losses: Vec<Loss>,
    /// What is lost reads as zeros.
    zero_lost: bool,
    /// A block that lost references point at, and how many more may.
    grave: Option<(BlockNo, u64)>,
}

impl<'a> Saver<'a> {
    pub(super) fn new(
        medium: &'a Medium<'a>,
        trees: &'a [Tree],
        records: &Records,
        space: &'a mut Space,
        zero_lost: bool,
    ) -> Self {
        let epochs = records.versions.values().map(|version| (version.id, version.epoch)).collect();
        Self {
            medium,
            trees,
            epochs,
            space,
            done: HashMap::new(),
            kept: HashMap::new(),
            losses: Vec::new(),
            zero_lost,
            grave: None,
        }
    }

    /// The root that the tree has from now on.
    pub(super) fn save(&mut self, nth: usize) -> Result<Root> {
        let tree = &self.trees[nth];
        let Root { reference, height, .. } = tree.root;
        if height > MAP_HEIGHT_MAX || (height == 0 && !reference.is_hole()) {
            self.lose(nth, 0, u64::MAX);
            return Ok(Root::default());
        }
        let saved = self.subtree(nth, reference, (height, tree.first))?;
        Ok(Root { reference: saved.reference, height, mapped: saved.mapped })
    }

    fn span(&self, level: u32) -> u64 {
        1u64.checked_shl(level * self.medium.geometry.fanout_bits()).unwrap_or(u64::MAX)
    }

    fn lose(&mut self, tree: usize, first: u64, end: u64) {
        self.losses.push(Loss { tree, first, end });
    }

    /// What was lost that somebody may read.
    pub(super) fn take_losses(&mut self) -> Vec<Loss> {
        let losses = std::mem::take(&mut self.losses).into_iter();
        let seen = losses.map(|loss| Loss { end: loss.end.min(self.trees[loss.tree].seen_blocks), ..loss });
        seen.filter(|loss| loss.first < loss.end).collect()
    }

    fn subtree(&mut self, nth: usize, reference: Reference, (level, first): (u32, u64)) -> Result<Saved> {
        let tree = &self.trees[nth];
        let end = first.saturating_add(self.span(level));
        if reference.is_hole() {
            return Ok(Saved::default());
        }
        if !tree.scope.includes(reference.birth(), (first, end)) {
            return Ok(Saved { reference, mapped: 0 });
        }
        let is_data = self.medium.place_of(reference.block()).is_some() && reference.is_valid();
        let beyond = matches!(tree.owner, Owner::Disk(_)) && first >= tree.seen_blocks;
        if beyond {
            return Ok(Saved::default());
        }
        if level == 0 {
            return if is_data {
                Ok(Saved { reference, mapped: 1 })
            } else {
                self.unknown(nth, reference.birth(), (0, first))
            };
        }
        let key = (tree.lineage, reference.block());
        if let Some(done) = self.done.get(&key) {
            if (done.reference, done.level, done.first) == (reference, level, first) {
                let saved = done.saved;
                for at in done.lost.clone() {
                    self.losses.push(Loss { tree: nth, ..self.losses[at] });
                }
                return Ok(saved);
            }
            return self.unknown(nth, reference.birth(), (level, first));
        }
        let before = self.losses.len();
        let bytes = if is_data { self.medium.sealed(reference.block(), reference.crc()).ok() } else { None };
        let saved = match bytes {
            Some(bytes) => self.node(nth, reference, (level, first), &node_from_bytes(&bytes))?,
            None => self.lost_node(nth, reference, (level, first))?,
        };
        self.done.insert(key, Done { reference, level, first, saved, lost: before..self.losses.len() });
        Ok(saved)
    }

    fn node(
        &mut self,
        nth: usize,
        reference: Reference,
        (level, first): (u32, u64),
        entries: &[Reference],
    ) -> Result<Saved> {
        let (mut mapped, mut changed) = (0, false);
        let mut saved = Vec::with_capacity(entries.len());
        for (at, &entry) in (0..).zip(entries) {
            let place = (level - 1, first.saturating_add(self.span(level - 1).saturating_mul(at)));
            let child = if entry.is_valid() && entry.birth() <= reference.birth() {
                self.subtree(nth, entry, place)?
            } else {
                self.unknown(nth, reference.birth(), place)?
            };
            changed |= child.reference != entry;
            mapped += child.mapped;
            saved.push(child.reference);
        }
        let lineage = self.trees[nth].lineage;
        // A node that an unrelated map holds, too, is copied: each node has one lineage.
        let is_own = *self.kept.entry(reference.block()).or_insert(lineage) == lineage;
        if !changed && is_own {
            return Ok(Saved { reference, mapped });
        }
        Ok(Saved { reference: self.put(&saved, reference.birth())?, mapped })
    }

    /// Writes a node; nothing, if all are holes.
    fn put(&mut self, entries: &[Reference], birth: Epoch) -> Result<Reference> {
        if entries.iter().all(Reference::is_hole) {
            return Ok(Reference::HOLE);
        }
        let bytes = node_to_bytes(entries);
        let block = self.space.put(bytes)?;
        Ok(Reference::new(block, birth, seal(bytes)))
    }

    /// A node that cannot be read: what the children of those that hold it know of it.
    fn lost_node(&mut self, nth: usize, lost: Reference, (level, first): (u32, u64)) -> Result<Saved> {
        let lineage = self.trees[nth].lineage;
        let mut sources = Vec::new();
        if self.trees[nth].parent.is_some() || matches!(self.trees[nth].owner, Owner::Version(_)) {
            for child in self.trees.iter().filter(|tree| tree.lineage == lineage) {
                let Some(parent) = child.parent else { continue };
                let parents = self.trees.iter().filter(|tree| tree.owner == Owner::Version(parent));
                let Some(epoch) = self.epochs.get(&parent) else { continue };
                let held = parents.map(|parent| self.descend(parent, level, first)).next();
                let theirs = self.descend(child, level, first);
                if held == Some(lost) && theirs != lost && !theirs.is_hole() {
                    sources.push((theirs, *epoch));
                }
            }
        }
        self.recover(nth, lost.birth(), (level, first), &sources)
    }

    /// What a tree holds at a place, as far as its nodes can be read.
    fn descend(&self, tree: &Tree, level: u32, first: u64) -> Reference {
        let (mut reference, mut height) = (tree.root.reference, tree.root.height);
        while height > level && height <= MAP_HEIGHT_MAX && !reference.is_hole() {
            let Ok(bytes) = self.medium.sealed(reference.block(), reference.crc()) else {
                return Reference::HOLE;
            };
            height -= 1;
            let at = first / self.span(height) % self.span(1);
            reference = node_from_bytes(&bytes).get(index(at)).copied().unwrap_or_default();
        }
        if height == level { reference } else { Reference::HOLE }
    }

    fn recover(
        &mut self,
        nth: usize,
        birth: Epoch,
        (level, first): (u32, u64),
        sources: &[(Reference, Epoch)],
    ) -> Result<Saved> {
        let inherited =
            sources.iter().find(|(entry, epoch)| entry.birth() <= *epoch && entry.birth() <= birth);
        if let Some((entry, _)) = inherited {
            return self.subtree(nth, *entry, (level, first));
        }
        let nodes: Vec<_> = sources
            .iter()
            .filter(|_| level > 0)
            .filter_map(|(entry, epoch)| {
                let bytes = self.medium.sealed(entry.block(), entry.crc()).ok()?;
                Some((node_from_bytes(&bytes), *epoch))
            })
            .collect();
        if nodes.is_empty() {
            return self.unknown(nth, birth, (level, first));
        }
        let (mut entries, mut mapped) = (Vec::new(), 0);
        for at in 0..self.span(1) {
            let below: Vec<_> = nodes
                .iter()
                .filter_map(|(node, epoch)| Some((*node.get(index(at))?, *epoch)))
                .filter(|(entry, _)| entry.is_valid() && !entry.is_hole())
                .collect();
            let place = (level - 1, first.saturating_add(self.span(level - 1).saturating_mul(at)));
            let child = self.recover(nth, birth, place, &below)?;
            entries.push(child.reference);
            mapped += child.mapped;
        }
        Ok(Saved { reference: self.put(&entries, birth)?, mapped })
    }

    /// A subtree of which nothing is known: unreadable as far as somebody may read it.
    fn unknown(&mut self, nth: usize, birth: Epoch, (level, first): (u32, u64)) -> Result<Saved> {
        // Whoever shares the node may read further than this tree does.
        let its = self.trees.iter().filter(|tree| tree.lineage == self.trees[nth].lineage);
        let seen = its.map(|tree| tree.seen_blocks).max().unwrap_or(0);
        self.lose(nth, first, first.saturating_add(self.span(level)));
        if self.zero_lost { Ok(Saved::default()) } else { self.bury(seen, birth, (level, first)) }
    }

    fn bury(&mut self, seen_blocks: u64, birth: Epoch, (level, first): (u32, u64)) -> Result<Saved> {
        if first >= seen_blocks {
            return Ok(Saved::default());
        }
        if level == 0 {
            let (block, left) = match self.grave.take() {
                Some(grave) => grave,
                None => (self.space.put(b"cowblk: lost in a repair\n")?, REFERENCES_PER_GRAVE_MAX),
            };
            self.grave = (left > 1).then_some((block, left - 1));
            // The seal of something else: every read of it is an error.
            return Ok(Saved { reference: Reference::new(block, birth, 0xdead_dead), mapped: 1 });
        }
        let (mut entries, mut mapped) = (Vec::new(), 0);
        for at in 0..self.span(1) {
            let place = (level - 1, first.saturating_add(self.span(level - 1).saturating_mul(at)));
            let child = self.bury(seen_blocks, birth, place)?;
            entries.push(child.reference);
            mapped += child.mapped;
        }
        Ok(Saved { reference: self.put(&entries, birth)?, mapped })
    }
}
