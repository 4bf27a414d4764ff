//! Scan: goes through a map leaf by leaf, and steps over subtrees that hold nothing.
//!
//! Floor 3. Its cost follows what is mapped, not how long the disk is.

use super::delta::{DeltaNode, DeltaTree};
use super::nodes::NodeSource;
use super::view::View;
use crate::error::Result;
use crate::format::{Reference, Root};
use crate::units::{DiskBlock, index, wide};
use std::sync::Arc;

/// What a scan finds at a place.
pub(crate) enum Scan {
    /// Nothing is mapped from here up to, but not including, this block.
    Hole { until: DiskBlock },
    /// A leaf that covers the place: its first block, and its references.
    Leaf { first: DiskBlock, references: Vec<Reference> },
}

/// What one layer says of a place.
enum Layer {
    /// Nothing in this layer, up to this block.
    Silent { until: u64 },
    /// Holes, up to this block.
    Hole { until: u64 },
    /// The leaf's references, some maybe unset.
    Leaf(Vec<Reference>),
}

/// What the view holds around `at`.
pub(crate) fn scan(view: &View, nodes: &NodeSource, at: DiskBlock) -> Result<Scan> {
    let bits = nodes.fanout_bits();
    let leaf_first = at.0 >> bits << bits;
    let (root, settling) = view.foundation.parts();
    let mut until = u64::MAX;
    let mut references = None;
    for delta in [Some(&view.delta), settling.as_ref()].into_iter().flatten() {
        match delta_layer(delta, at.0, bits) {
            Layer::Silent { until: end } => until = until.min(end),
            Layer::Hole { until: end } => {
                return Ok(finish(references, None, leaf_first, until.min(end)));
            }
            Layer::Leaf(leaf) => {
                merge(&mut references, leaf);
                until = leaf_first + (1 << bits);
            }
        }
    }
    match tree_layer(nodes, root, at.0)? {
        Layer::Silent { until: end } | Layer::Hole { until: end } => {
            Ok(finish(references, None, leaf_first, until.min(end)))
        }
        Layer::Leaf(leaf) => Ok(finish(references, Some(leaf), leaf_first, until)),
    }
}

/// Puts a lower layer's leaf under an upper one's.
fn merge(upper: &mut Option<Vec<Reference>>, lower: Vec<Reference>) {
    match upper {
        None => *upper = Some(lower),
        Some(upper) => {
            for (place, reference) in upper.iter_mut().zip(lower) {
                if *place == Reference::UNSET {
                    *place = reference;
                }
            }
        }
    }
}

fn finish(upper: Option<Vec<Reference>>, lower: Option<Vec<Reference>>, first: u64, until: u64) -> Scan {
    let mut references = upper;
    if let Some(lower) = lower {
        merge(&mut references, lower);
    }
    match references {
        None => Scan::Hole { until: DiskBlock(until) },
        Some(mut references) => {
            for place in &mut references {
                if *place == Reference::UNSET {
                    *place = Reference::HOLE;
                }
            }
            Scan::Leaf { first: DiskBlock(first), references }
        }
    }
}

/// The end of the subtree of `level` levels that holds `at`.
fn subtree_end(at: u64, level: u32, bits: u32) -> u64 {
    let shift = level * bits;
    if shift >= 64 { u64::MAX } else { (at >> shift).checked_add(1).map_or(u64::MAX, |next| next << shift) }
}

/// Where `alike` slots end that begin with the one of `level` levels that holds `at`: as far as its node goes.
fn alike_end<T>(at: u64, level: u32, bits: u32, slots: &[T], is_alike: impl Fn(&T) -> bool) -> u64 {
    let slot = index(at >> (level * bits) & ((1 << bits) - 1));
    let more = slots.iter().skip(slot + 1).take_while(|slot| is_alike(slot)).count();
    subtree_end(at, level, bits).saturating_add(wide(more) << (level * bits))
}

fn delta_layer(delta: &DeltaTree, at: u64, bits: u32) -> Layer {
    let mut level = delta.height();
    let top = subtree_end(0, level, bits);
    if at >= top {
        return Layer::Silent { until: u64::MAX };
    }
    let mut node: Option<&Arc<DeltaNode>> = delta.root();
    loop {
        match node.map(|node| &**node) {
            None => return Layer::Silent { until: subtree_end(at, level, bits) },
            Some(DeltaNode::Cleared) => return Layer::Hole { until: subtree_end(at, level, bits) },
            Some(DeltaNode::Leaf(leaf)) => {
                let mut references = vec![Reference::UNSET; 1 << bits];
                leaf.each(|at, reference| references[at] = reference);
                return Layer::Leaf(references);
            }
            Some(DeltaNode::Inner(slots)) => {
                level -= 1;
                node = slots[index(at >> (level * bits) & ((1 << bits) - 1))].as_ref();
                match node.map(|node| &**node) {
                    None => {
                        return Layer::Silent { until: alike_end(at, level, bits, slots, Option::is_none) };
                    }
                    Some(DeltaNode::Cleared) => {
                        let is_cleared = |slot: &Option<Arc<DeltaNode>>| {
                            matches!(slot.as_deref(), Some(DeltaNode::Cleared))
                        };
                        return Layer::Hole { until: alike_end(at, level, bits, slots, is_cleared) };
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

fn tree_layer(nodes: &NodeSource, root: Root, at: u64) -> Result<Layer> {
    let bits = nodes.fanout_bits();
    let mut level = root.height;
    if at >= subtree_end(0, level, bits) {
        return Ok(Layer::Silent { until: u64::MAX });
    }
    let mut reference = root.reference;
    loop {
        if reference.is_hole() {
            return Ok(Layer::Silent { until: subtree_end(at, level, bits) });
        }
        let node = nodes.node(reference)?;
        if level == 1 {
            return Ok(Layer::Leaf(node.to_vec()));
        }
        level -= 1;
        reference = node[index(at >> (level * bits) & ((1 << bits) - 1))];
        if reference.is_hole() {
            return Ok(Layer::Silent { until: alike_end(at, level, bits, &node, Reference::is_hole) });
        }
    }
}
