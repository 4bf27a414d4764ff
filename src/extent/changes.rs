//! Changes: walks two contents side by side, and reports where their references differ.
//!
//! Floor 3. Each content is a delta over a delta over a tree. A subtree for which all three are the same in both is
//! stepped over without being read, so that a walk costs what differs, not what the disks hold.

use super::delta::{DeltaNode, DeltaTree};
use super::nodes::{Node, NodeSource};
use super::view::View;
use crate::error::Result;
use crate::format::{Reference, Root};
use crate::units::{DiskBlock, index, wide};
use std::sync::Arc;

/// What a content is made of at one instant, from the top down.
pub(crate) struct Layers {
    upper: DeltaTree,
    lower: Option<DeltaTree>,
    root: Root,
}

/// Consecutive blocks that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) first: DiskBlock,
    pub(crate) count: u64,
    /// Whether the newer content holds data there, or holes.
    pub(crate) is_data: bool,
}

/// What one walk found.
pub(crate) struct Differences {
    /// In order; neighbours of one kind are joined.
    pub(crate) found: Vec<Difference>,
    /// Where to go on; `None` when all is done.
    pub(crate) next: Option<DiskBlock>,
}

impl View {
    /// What the view is made of now. The caller is inside the gate, and stays there while it uses them.
    pub(crate) fn layers(&self) -> Layers {
        let (root, lower) = self.foundation.parts();
        Layers { upper: self.delta.clone(), lower, root }
    }
}

/// Compares the blocks from `from` up to, not including, `until`. Without an older content, all data of the newer
/// one differs. Stops after about `budget` nodes of each, which is at least the height of the maps.
pub(crate) fn differences(
    nodes: &NodeSource,
    (older, newer): (Option<&Layers>, &Layers),
    (from, until): (DiskBlock, DiskBlock),
    budget: u32,
) -> Result<Differences> {
    let older = older.map_or(Place::EMPTY, Place::of);
    let newer = Place::of(newer);
    let height = older.height().max(newer.height());
    let mut walk = Walk { nodes, from: from.0, until: until.0, budget, found: Vec::new(), next: None };
    walk.subtree((height, 0), older, newer)?;
    Ok(Differences { found: walk.found, next: walk.next })
}

/// A subtree of a delta. It lies at `level`, or, if the walk is higher up, somewhere below the first child.
#[derive(Clone, Copy)]
struct Delta<'a> {
    node: Option<&'a Arc<DeltaNode>>,
    level: u32,
}

/// A subtree of a tree on the medium, in the same way.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Tree {
    reference: Reference,
    level: u32,
}

/// The layers of one content at one place.
#[derive(Clone, Copy)]
struct Place<'a> {
    upper: Delta<'a>,
    lower: Delta<'a>,
    tree: Tree,
}

impl<'a> Delta<'a> {
    const SILENT: Self = Self { node: None, level: 0 };

    fn of(delta: &'a DeltaTree) -> Self {
        delta.root().map_or(Self::SILENT, |root| Self { node: Some(root), level: delta.height() })
    }

    /// Whether all below `level` is a hole.
    fn is_cleared(self, level: u32) -> bool {
        self.level == level && self.node.is_some_and(|node| matches!(**node, DeltaNode::Cleared))
    }

    fn is_same(self, other: Self) -> bool {
        match (self.node, other.node) {
            (None, None) => true,
            (Some(a), Some(b)) => self.level == other.level && Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    fn child(self, level: u32, at: usize) -> Self {
        if self.level < level {
            return if at == 0 { self } else { Self::SILENT };
        }
        match self.node.map(|node| &**node) {
            Some(DeltaNode::Inner(slots)) => {
                slots[at].as_ref().map_or(Self::SILENT, |node| Self { node: Some(node), level: level - 1 })
            }
            _ => Self::SILENT,
        }
    }

    /// Fills in what this leaf says where nothing was said above.
    fn fill(self, references: &mut [Reference]) {
        if let Some(DeltaNode::Leaf(leaf)) = self.node.map(|node| &**node) {
            leaf.each(|at, reference| {
                if references[at] == Reference::UNSET {
                    references[at] = reference;
                }
            });
        }
    }
}

impl Tree {
    const HOLE: Self = Self { reference: Reference::HOLE, level: 0 };

    fn of(root: Root) -> Self {
        if root.reference.is_hole() {
            Self::HOLE
        } else {
            Self { reference: root.reference, level: root.height }
        }
    }

    /// The node at `level`, if there is one.
    fn node(self, nodes: &NodeSource, level: u32) -> Result<Option<Node>> {
        let is_here = self.level == level && !self.reference.is_hole();
        if is_here { nodes.node(self.reference).map(Some) } else { Ok(None) }
    }

    /// The child at `at`; `node` is that of this level.
    fn child(self, node: Option<&Node>, (level, at): (u32, usize)) -> Self {
        match node {
            Some(node) if node[at].is_hole() => Self::HOLE,
            Some(node) => Self { reference: node[at], level: level - 1 },
            None if self.level < level && at == 0 => self,
            None => Self::HOLE,
        }
    }
}

impl<'a> Place<'a> {
    const EMPTY: Self = Self { upper: Delta::SILENT, lower: Delta::SILENT, tree: Tree::HOLE };

    fn of(layers: &'a Layers) -> Self {
        Self {
            upper: Delta::of(&layers.upper),
            lower: layers.lower.as_ref().map_or(Delta::SILENT, Delta::of),
            tree: Tree::of(layers.root),
        }
    }

    /// Levels of nodes; at least one.
    fn height(self) -> u32 {
        self.upper.level.max(self.lower.level).max(self.tree.level).max(1)
    }

    /// The same content, without layers that a cleared one hides.
    fn simplified(self, level: u32) -> Self {
        if self.upper.is_cleared(level) {
            Self::EMPTY
        } else if self.lower.is_cleared(level) {
            Self { lower: Delta::SILENT, tree: Tree::HOLE, ..self }
        } else {
            self
        }
    }

    fn is_same(self, other: Self) -> bool {
        self.upper.is_same(other.upper) && self.lower.is_same(other.lower) && self.tree == other.tree
    }

    fn child(self, node: Option<&Node>, (level, at): (u32, usize)) -> Self {
        Self {
            upper: self.upper.child(level, at),
            lower: self.lower.child(level, at),
            tree: self.tree.child(node, (level, at)),
        }
    }

    /// The references of a leaf.
    fn references(self, nodes: &NodeSource) -> Result<Vec<Reference>> {
        let mut references = vec![Reference::UNSET; 1 << nodes.fanout_bits()];
        self.upper.fill(&mut references);
        self.lower.fill(&mut references);
        if references.contains(&Reference::UNSET) {
            let leaf = self.tree.node(nodes, 1)?;
            for (at, place) in references.iter_mut().enumerate().filter(|(_, r)| **r == Reference::UNSET) {
                *place = leaf.as_ref().map_or(Reference::HOLE, |leaf| leaf[at]);
            }
        }
        Ok(references)
    }
}

/// Whether a walk goes on.
#[derive(PartialEq, Eq)]
enum Step {
    On,
    Stop,
}

/// One walk.
struct Walk<'a> {
    nodes: &'a NodeSource,
    from: u64,
    until: u64,
    budget: u32,
    found: Vec<Difference>,
    next: Option<DiskBlock>,
}

impl Walk<'_> {
    fn subtree(&mut self, (level, first): (u32, u64), older: Place<'_>, newer: Place<'_>) -> Result<Step> {
        let bits = self.nodes.fanout_bits();
        let span = 1u64.checked_shl(level * bits).unwrap_or(u64::MAX);
        let (older, newer) = (older.simplified(level), newer.simplified(level));
        let is_outside = first.saturating_add(span) <= self.from || first >= self.until;
        if is_outside || older.is_same(newer) {
            return Ok(Step::On);
        }
        if self.budget == 0 {
            self.next = Some(DiskBlock(first.max(self.from)));
            return Ok(Step::Stop);
        }
        self.budget -= 1;
        if level == 1 {
            self.leaf(first, &older.references(self.nodes)?, &newer.references(self.nodes)?);
            return Ok(Step::On);
        }
        let of_older = older.tree.node(self.nodes, level)?;
        let of_newer = newer.tree.node(self.nodes, level)?;
        let child_span = 1u64 << ((level - 1) * bits);
        for at in 0..1 << bits {
            let place = (level - 1, first.saturating_add(wide(at).saturating_mul(child_span)));
            let older = older.child(of_older.as_ref(), (level, at));
            let newer = newer.child(of_newer.as_ref(), (level, at));
            if self.subtree(place, older, newer)? == Step::Stop {
                return Ok(Step::Stop);
            }
        }
        Ok(Step::On)
    }

    /// Compares two leaves: a block of the store that both hold is the same content.
    fn leaf(&mut self, first: u64, older: &[Reference], newer: &[Reference]) {
        let start = self.from.saturating_sub(first);
        let end = (self.until - first).min(wide(newer.len()));
        for at in start..end {
            let (older, newer) = (older[index(at)], newer[index(at)]);
            if older.block() != newer.block() {
                self.push(first + at, !newer.is_hole());
            }
        }
    }

    fn push(&mut self, block: u64, is_data: bool) {
        match self.found.last_mut() {
            Some(last) if last.is_data == is_data && last.first.0 + last.count == block => last.count += 1,
            _ => self.found.push(Difference { first: DiskBlock(block), count: 1, is_data }),
        }
    }
}
