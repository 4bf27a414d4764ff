//! Settle: merges a delta into a tree on the medium, copy-on-write, and drops what it replaces.
//!
//! Floor 3. The only place where a head's old references and nodes are dropped. It runs inside a
//! checkpoint, and never beside the collector: both decide ownership from the same cursor (E2).
//!
//! E4  A reference (place, block, birth) counts once in its lineage, however often it was made. Only who stamps a birth makes
//!     references with it: so a delta's reference that the tree holds already, of the unit's own birth, was shared once more.

use super::cut::{Cut, CutRoom};
use super::delta::{DeltaNode, DeltaTree, LeafDelta};
use super::nodes::NodeSource;
use crate::defect::Defect;
use crate::error::{Error, Result};
use crate::format::{Reference, Root};
use crate::units::{BlockNo, DiskBlock, Epoch, index};
use std::sync::Arc;

/// What a version owns: references born after the limit. While the collector merges the version's
/// parent into it, the places that the collector has passed have the lower limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Below `split`.
    pub(crate) below: Epoch,
    /// From `split` on.
    pub(crate) above: Epoch,
    pub(crate) split: DiskBlock,
}

impl Limit {
    /// The same everywhere.
    pub(crate) fn uniform(epoch: Epoch) -> Self {
        Self { below: epoch, above: epoch, split: DiskBlock(0) }
    }

    /// Whether a reference or node at `at`, born in `birth`, is owned.
    pub(crate) fn owns(&self, birth: Epoch, at: u64) -> bool {
        birth > if at < self.split.0 { self.below } else { self.above }
    }
}

/// Takes nodes to the medium.
pub(crate) trait NodeSink {
    /// Gives the node a free block, and sees that it is on the medium before the checkpoint's sync.
    fn put(&mut self, references: &[Reference], birth: Epoch) -> Result<Reference>;

    /// The node at `block`, if it was put and is not on the medium yet.
    fn waiting(&self, block: BlockNo) -> Option<Arc<[Reference]>>;
}

/// What settling one version gave.
pub(crate) struct Settled {
    pub(crate) root: Root,
    /// What was cut off: for the collector.
    pub(crate) cuts: Vec<Cut>,
    /// Whether that is the whole old tree, of which nothing was counted.
    pub(crate) is_all: bool,
    /// What it let go of and does not own.
    pub(crate) lost: Lost,
}

/// References that were replaced and belong to an ancestor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) count: u64,
    /// Those of them that were born after what the parent itself inherited.
    pub(crate) of_parent: u64,
}

impl Settled {
    fn unchanged(root: Root) -> Self {
        Self { root, cuts: Vec::new(), is_all: false, lost: Lost::default() }
    }
}

/// Settles one version.
pub(crate) struct Settler<'a> {
    pub(crate) nodes: &'a NodeSource,
    pub(crate) sink: &'a mut dyn NodeSink,
    /// Hears of each reference that is dropped.
    pub(crate) dropped: &'a mut Vec<BlockNo>,
    pub(crate) limit: Limit,
    /// What new nodes are stamped with.
    pub(crate) birth: Epoch,
    /// What was born after this, and is not owned, is the parent's own.
    pub(crate) inherited_after: Epoch,
    pub(crate) room: CutRoom,
    pub(super) cuts: Vec<Cut>,
    pub(super) mapped: i64,
    pub(super) lost: Lost,
}

/// A subtree of the old tree.
#[derive(Clone, Copy)]
enum Old {
    /// A node, or a hole.
    Here(Reference),
    /// The map grew: the old root lies further down, in the first slot.
    Below,
}

impl<'a> Settler<'a> {
    pub(crate) fn new(
        nodes: &'a NodeSource,
        sink: &'a mut dyn NodeSink,
        dropped: &'a mut Vec<BlockNo>,
        limit: Limit,
        birth: Epoch,
    ) -> Self {
        Self {
            nodes,
            sink,
            dropped,
            limit,
            birth,
            inherited_after: Epoch(0),
            room: CutRoom::default(),
            cuts: Vec::new(),
            mapped: 0,
            lost: Lost::default(),
        }
    }

    /// Merges `delta` into the tree at `base`. What `delta` shares with `older` is in that tree already.
    pub(crate) fn settle(
        &mut self,
        base: Root,
        delta: &DeltaTree,
        older: Option<&DeltaTree>,
    ) -> Result<Settled> {
        let height = delta.height().max(base.height);
        let mut delta = delta.clone();
        delta.raise(height);
        let mut older = older.cloned();
        if let Some(older) = &mut older {
            older.raise(height);
        }
        let older = older.as_ref().and_then(DeltaTree::root);
        let Some(node) = delta.root() else { return Ok(Settled::unchanged(base)) };
        let is_known = older.is_some_and(|older| Arc::ptr_eq(older, node));
        if is_known {
            return Ok(Settled::unchanged(base));
        }
        if matches!(**node, DeltaNode::Cleared) && base.height > 1 {
            let root = Root { reference: Reference::HOLE, height, mapped: 0 };
            let cut = Cut::new(base.reference, base.height, 0, base.mapped);
            return Ok(Settled { root, cuts: vec![cut], is_all: true, lost: Lost::default() });
        }
        (self.mapped, self.lost) = (0, Lost::default());
        let old = if base.height == height || base.reference.is_hole() {
            Old::Here(base.reference)
        } else {
            Old::Below
        };
        let walk = Walk { base, bits: self.nodes.fanout_bits() };
        let reference = self.merge(walk, (height, 0), old, node, older)?;
        let mapped = base.mapped.checked_add_signed(self.mapped).ok_or_else(|| {
            let place =
                format!("the map at block {} says {} and holds more", base.reference.block(), base.mapped);
            Error::corrupt(Defect::MappedCount, place)
        })?;
        let root = Root { reference, height, mapped };
        Ok(Settled { root, cuts: std::mem::take(&mut self.cuts), is_all: false, lost: self.lost })
    }

    /// A node of the old tree, which may have been made by this very checkpoint.
    pub(super) fn node(&self, reference: Reference) -> Result<Arc<[Reference]>> {
        match self.sink.waiting(reference.block()) {
            Some(node) => Ok(node),
            None => self.nodes.node(reference),
        }
    }

    /// The new reference of the subtree of `level` levels at `first`.
    fn merge(
        &mut self,
        walk: Walk,
        (level, first): (u32, u64),
        old: Old,
        delta: &Arc<DeltaNode>,
        older: Option<&Arc<DeltaNode>>,
    ) -> Result<Reference> {
        if let (Old::Here(reference), Some(older)) = (old, older)
            && Arc::ptr_eq(older, delta)
        {
            return Ok(reference);
        }
        match (&**delta, old) {
            (DeltaNode::Cleared, _) => {
                let (reference, level) = walk.resolve(old, level);
                self.cut_off(reference, level, first)?;
                Ok(Reference::HOLE)
            }
            (DeltaNode::Leaf(leaf), Old::Here(reference)) => self.merge_leaf(first, reference, leaf),
            (DeltaNode::Leaf(_), Old::Below) => unreachable!("a leaf has nothing below"),
            (DeltaNode::Inner(slots), _) => {
                let older = match older.map(|older| &**older) {
                    Some(DeltaNode::Inner(slots)) => Some(slots),
                    _ => None,
                };
                self.merge_inner(walk, (level, first), old, slots, older.map(|slots| &**slots))
            }
        }
    }

    fn merge_inner(
        &mut self,
        walk: Walk,
        (level, first): (u32, u64),
        old: Old,
        slots: &[Option<Arc<DeltaNode>>],
        older: Option<&[Option<Arc<DeltaNode>>]>,
    ) -> Result<Reference> {
        let span = 1u64 << ((level - 1) * walk.bits);
        let mut entries = match old {
            Old::Here(reference) if !reference.is_hole() => self.node(reference)?.to_vec(),
            _ => vec![Reference::HOLE; 1 << walk.bits],
        };
        let mut changed = false;
        let (mut at, mut child_first) = (0, first);
        while at < entries.len() {
            let child_old = match old {
                Old::Below if at == 0 => walk.child_of_below(level),
                _ => Old::Here(entries[at]),
            };
            let new = match (&slots[at], child_old) {
                (Some(delta), _) => {
                    let older = older.and_then(|older| older[at].as_ref());
                    self.merge(walk, (level - 1, child_first), child_old, delta, older)?
                }
                (None, Old::Here(reference)) => reference,
                (None, Old::Below) => self.lift(walk, level - 1)?,
            };
            changed |= new != entries[at];
            entries[at] = new;
            at += 1;
            child_first += span;
        }
        match old {
            Old::Here(reference) if !changed => Ok(reference),
            Old::Here(reference) => self.replace(reference, first, &entries),
            Old::Below => self.replace(Reference::HOLE, first, &entries),
        }
    }

    /// The old root, wrapped into as many levels as it takes to be `level` levels high.
    fn lift(&mut self, walk: Walk, level: u32) -> Result<Reference> {
        let mut reference = walk.base.reference;
        for _ in walk.base.height..level {
            let mut entries = vec![Reference::HOLE; 1 << walk.bits];
            entries[0] = reference;
            reference = self.replace(Reference::HOLE, 0, &entries)?;
        }
        Ok(reference)
    }

    fn merge_leaf(&mut self, first: u64, old: Reference, leaf: &LeafDelta) -> Result<Reference> {
        let mut entries = if old.is_hole() {
            vec![Reference::HOLE; 1 << self.nodes.fanout_bits()]
        } else {
            self.node(old)?.to_vec()
        };
        let mut changed = false;
        leaf.each(|at, new| {
            let replaced = std::mem::replace(&mut entries[at], new);
            if replaced != new {
                changed = true;
                self.mapped += i64::from(!new.is_hole()) - i64::from(!replaced.is_hole());
                self.let_go(replaced, first + at as u64);
            } else if !new.is_hole() && new.birth() == self.birth {
                // The version came back to a block that it shared before: one reference, which was counted once more.
                self.dropped.push(new.block());
            }
        });
        if changed { self.replace(old, first, &entries) } else { Ok(old) }
    }

    /// Writes a node in the place of `old`, which is dropped if it is owned; nothing, if all are holes.
    fn replace(&mut self, old: Reference, first: u64, entries: &[Reference]) -> Result<Reference> {
        self.drop_if_owned(old, first);
        if entries.iter().all(Reference::is_hole) {
            return Ok(Reference::HOLE);
        }
        let reference = self.sink.put(entries, self.birth)?;
        self.nodes.remember(reference, entries);
        Ok(reference)
    }

    /// Drops a reference to data if it is owned; counts it if it is not.
    fn let_go(&mut self, replaced: Reference, at: u64) {
        if replaced.is_hole() {
            return;
        }
        if self.limit.owns(replaced.birth(), at) {
            self.dropped.push(replaced.block());
        } else {
            self.lose(replaced);
        }
    }

    /// Counts a reference to data that was let go of and is not owned.
    pub(super) fn lose(&mut self, replaced: Reference) {
        self.lost.count += 1;
        self.lost.of_parent += u64::from(replaced.birth() > self.inherited_after);
    }

    fn drop_if_owned(&mut self, reference: Reference, at: u64) {
        if !reference.is_hole() && self.limit.owns(reference.birth(), at) {
            self.dropped.push(reference.block());
        }
    }

    /// Drops what is owned of a subtree that is cut off, and counts what was mapped there.
    pub(super) fn release(&mut self, reference: Reference, level: u32, first: u64) -> Result<()> {
        if reference.is_hole() {
            return Ok(());
        }
        if level == 0 {
            self.mapped -= 1;
            self.let_go(reference, first);
            return Ok(());
        }
        self.drop_if_owned(reference, first);
        let span = 1u64 << ((level - 1) * self.nodes.fanout_bits());
        let node = self.node(reference)?;
        for (at, &child) in node.iter().enumerate() {
            self.release(child, level - 1, first + at as u64 * span)?;
        }
        Ok(())
    }
}

/// What a walk over the old tree needs to know of it.
#[derive(Clone, Copy)]
struct Walk {
    base: Root,
    bits: u32,
}

impl Walk {
    /// The first child of a place above the old root.
    fn child_of_below(&self, level: u32) -> Old {
        if level - 1 == self.base.height { Old::Here(self.base.reference) } else { Old::Below }
    }

    /// The node at or below a place, and its level.
    fn resolve(&self, old: Old, level: u32) -> (Reference, u32) {
        match old {
            Old::Here(reference) => (reference, level),
            Old::Below => (self.base.reference, self.base.height),
        }
    }
}

/// The first reference of a subtree that is `height` levels high, found from a root that may be higher.
pub(crate) fn lowered(nodes: &NodeSource, root: Root, height: u32) -> Result<Reference> {
    let mut reference = root.reference;
    for _ in height..root.height {
        if reference.is_hole() {
            break;
        }
        reference = nodes.node(reference)?[index(0)];
    }
    Ok(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owned_is_younger_than_the_limit_on_its_side_of_the_cursor() {
        let limit = Limit { below: Epoch(4), above: Epoch(10), split: DiskBlock(100) };
        assert!(limit.owns(Epoch(5), 99) && !limit.owns(Epoch(4), 99));
        assert!(limit.owns(Epoch(11), 100) && !limit.owns(Epoch(10), 100));
        let limit = Limit::uniform(Epoch(7));
        assert!(limit.owns(Epoch(8), 0) && !limit.owns(Epoch(7), u64::MAX));
    }
}
