//! View: the content of a disk or version: a delta over a foundation.
//!
//! Floor 3.

use super::delta::DeltaTree;
use super::nodes::NodeSource;
use crate::error::Result;
use crate::format::{Reference, Root};
use crate::units::{DiskBlock, index, wide};
use parking_lot::RwLock;
use std::sync::Arc;

/// What lies under a delta. It is settled once, in place, so that all views above it see that at once.
pub(crate) struct Foundation(RwLock<State>);

#[derive(Clone)]
enum State {
    Settled(Root),
    /// A checkpoint is settling this delta into the tree under it.
    Settling {
        delta: DeltaTree,
        root: Root,
    },
}

impl Foundation {
    /// A tree on the medium.
    pub(crate) fn settled(root: Root) -> Arc<Self> {
        Arc::new(Self(RwLock::new(State::Settled(root))))
    }

    /// A delta that a checkpoint is about to settle into `root`.
    pub(crate) fn settling(delta: DeltaTree, root: Root) -> Arc<Self> {
        Arc::new(Self(RwLock::new(State::Settling { delta, root })))
    }

    /// The checkpoint is durable: `root` holds everything.
    pub(crate) fn settle(&self, root: Root) {
        let old = std::mem::replace(&mut *self.0.write(), State::Settled(root));
        drop(old); // outside of the lock: a large delta takes its time
    }

    /// The tree, if no checkpoint is at work on it.
    pub(crate) fn root(&self) -> Option<Root> {
        match &*self.0.read() {
            State::Settled(root) => Some(*root),
            State::Settling { .. } => None,
        }
    }

    /// The tree on the medium, and the delta that is being settled into it.
    pub(crate) fn parts(&self) -> (Root, Option<DeltaTree>) {
        match &*self.0.read() {
            State::Settled(root) => (*root, None),
            State::Settling { delta, root } => (*root, Some(delta.clone())),
        }
    }

    /// Fills in those references from `first` on that are still unset.
    pub(crate) fn fill(
        &self,
        nodes: &NodeSource,
        first: DiskBlock,
        references: &mut [Reference],
    ) -> Result<()> {
        let root = match &*self.0.read() {
            State::Settled(root) => *root,
            State::Settling { delta, root } => {
                for (at, place) in references.iter_mut().enumerate() {
                    if *place == Reference::UNSET {
                        *place = delta.get(first.plus(wide(at)));
                    }
                }
                *root
            }
        };
        fill_from_tree(nodes, root, first, references)
    }
}

/// Fills in those references that are still unset from a tree.
fn fill_from_tree(
    nodes: &NodeSource,
    root: Root,
    first: DiskBlock,
    references: &mut [Reference],
) -> Result<()> {
    let fanout = 1u64 << nodes.fanout_bits();
    let mut done = 0;
    while done < references.len() {
        let at = first.plus(wide(done));
        let in_leaf = index((fanout - at.0 % fanout).min(wide(references.len() - done)));
        let part = &mut references[done..done + in_leaf];
        if part.contains(&Reference::UNSET) {
            let leaf = leaf(nodes, root, at)?;
            let from = index(at.0 % fanout);
            for (offset, place) in part.iter_mut().enumerate() {
                if *place == Reference::UNSET {
                    *place = leaf.as_ref().map_or(Reference::HOLE, |leaf| leaf[from + offset]);
                }
            }
        }
        done += in_leaf;
    }
    Ok(())
}

/// The leaf that holds `block`, if there is one.
fn leaf(nodes: &NodeSource, root: Root, block: DiskBlock) -> Result<Option<Arc<[Reference]>>> {
    let bits = nodes.fanout_bits();
    let beyond = block.0.checked_shr(root.height * bits).unwrap_or(0) != 0;
    if root.reference.is_hole() || beyond {
        return Ok(None);
    }
    let mut reference = root.reference;
    for level in (1..root.height).rev() {
        let node = nodes.node(reference)?;
        reference = node[index(block.0 >> (level * bits) & ((1 << bits) - 1))];
        if reference.is_hole() {
            return Ok(None);
        }
    }
    nodes.node(reference).map(Some)
}

/// The content of a disk or version.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) foundation: Arc<Foundation>,
    pub(crate) delta: DeltaTree,
}

impl View {
    /// What the delta says of each block; unset where it says nothing.
    pub(crate) fn delta_references(&self, first: DiskBlock, references: &mut [Reference]) {
        if self.delta.is_empty() {
            references.fill(Reference::UNSET);
            return;
        }
        for (at, place) in references.iter_mut().enumerate() {
            *place = self.delta.get(first.plus(wide(at)));
        }
    }

    /// The reference of each block from `first` on.
    pub(crate) fn lookup(
        &self,
        nodes: &NodeSource,
        first: DiskBlock,
        references: &mut [Reference],
    ) -> Result<()> {
        self.delta_references(first, references);
        if references.contains(&Reference::UNSET) {
            self.foundation.fill(nodes, first, references)?;
        }
        Ok(())
    }

    /// The tree, if everything is in it.
    pub(crate) fn settled_root(&self) -> Option<Root> {
        if self.delta.is_empty() { self.foundation.root() } else { None }
    }
}
