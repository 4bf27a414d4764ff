//! Delta: what was written to a map since its tree was settled, as a persistent radix tree in memory.
//!
//! Floor 3. It has the shape of the tree on the medium, so that settling is one walk over both. Nodes
//! are shared with snapshots by `Arc` and copied when a writer meets one that is shared.

use crate::format::Reference;
use crate::units::{DiskBlock, index, wide};
use std::sync::Arc;

/// Entries that a sparse leaf holds at most; beyond, a dense one is smaller and faster.
const SPARSE_MAX: usize = 24;

/// A subtree's changes.
#[derive(Clone, Debug)]
pub(crate) enum DeltaNode {
    /// Everything below is a hole now.
    Cleared,
    /// The references of one leaf that were set.
    Leaf(LeafDelta),
    /// The subtrees in which something was set.
    Inner(Box<[Option<Arc<DeltaNode>>]>),
}

/// The changed references of one leaf.
#[derive(Clone, Debug)]
pub(crate) enum LeafDelta {
    /// Sorted by index.
    Sparse(Vec<(u16, Reference)>),
    /// A place for each; those that were not set hold [`Reference::UNSET`].
    Dense(Box<[Reference]>),
}

/// Memory that deltas take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) nodes: u64,
    pub(crate) bytes: u64,
}

impl Footprint {
    fn add(&mut self, bytes: usize) {
        self.nodes += 1;
        self.bytes += wide(bytes);
    }
}

/// The changes of a whole map.
#[derive(Clone, Debug)]
pub(crate) struct DeltaTree {
    root: Option<Arc<DeltaNode>>,
    height: u32,
    fanout_bits: u32,
}

/// How many levels of nodes a map of `blocks` blocks needs; at least one.
pub(crate) fn height_for(blocks: u64, fanout_bits: u32) -> u32 {
    let mut height = 1;
    while height * fanout_bits < 64 && blocks > 1 << (height * fanout_bits) {
        height += 1;
    }
    height
}

impl LeafDelta {
    fn get(&self, at: usize) -> Reference {
        match self {
            Self::Sparse(entries) => entries
                .binary_search_by_key(&at, |entry| usize::from(entry.0))
                .map_or(Reference::UNSET, |found| entries[found].1),
            Self::Dense(entries) => entries[at],
        }
    }

    /// Sets references from index `at` on; `replaced` hears of those that this delta held there.
    fn set(&mut self, at: usize, new: &[Reference], fanout: usize, replaced: &mut dyn FnMut(Reference)) {
        if let Self::Sparse(entries) = self {
            if entries.len() + new.len() <= SPARSE_MAX {
                set_sparse(entries, at, new, replaced);
                return;
            }
            self.densify(fanout);
        }
        let Self::Dense(entries) = self else { unreachable!("made dense above") };
        for (place, &reference) in entries[at..at + new.len()].iter_mut().zip(new) {
            let old = std::mem::replace(place, reference);
            if old != Reference::UNSET {
                replaced(old);
            }
        }
    }

    fn densify(&mut self, fanout: usize) {
        let mut dense = vec![Reference::UNSET; fanout].into_boxed_slice();
        self.each(|at, reference| dense[at] = reference);
        *self = Self::Dense(dense);
    }

    /// Calls `visit` with the index and value of each reference that was set, in order.
    pub(crate) fn each(&self, mut visit: impl FnMut(usize, Reference)) {
        match self {
            Self::Sparse(entries) => {
                for &(at, reference) in entries {
                    visit(usize::from(at), reference);
                }
            }
            Self::Dense(entries) => {
                for (at, &reference) in entries.iter().enumerate().filter(|(_, r)| **r != Reference::UNSET) {
                    visit(at, reference);
                }
            }
        }
    }

    fn footprint_bytes(&self) -> usize {
        size_of::<DeltaNode>()
            + match self {
                Self::Sparse(_) => SPARSE_MAX * size_of::<(u16, Reference)>(),
                Self::Dense(entries) => size_of_val(&**entries),
            }
    }
}

fn set_sparse(
    entries: &mut Vec<(u16, Reference)>,
    at: usize,
    new: &[Reference],
    replaced: &mut dyn FnMut(Reference),
) {
    for (offset, &reference) in new.iter().enumerate() {
        let key = u16::try_from(at + offset).expect("a node has at most 4096 entries");
        match entries.binary_search_by_key(&key, |entry| entry.0) {
            Ok(found) => replaced(std::mem::replace(&mut entries[found].1, reference)),
            Err(place) => {
                if entries.capacity() == 0 {
                    entries.reserve_exact(SPARSE_MAX);
                }
                entries.insert(place, (key, reference));
            }
        }
    }
}

impl DeltaNode {
    /// Calls `visit` for each reference that was set below, holes included.
    fn each(&self, visit: &mut dyn FnMut(Reference)) {
        match self {
            Self::Cleared => {}
            Self::Leaf(leaf) => leaf.each(|_, reference| visit(reference)),
            Self::Inner(slots) => {
                for child in slots.iter().flatten() {
                    child.each(visit);
                }
            }
        }
    }

    fn footprint_bytes(&self) -> usize {
        match self {
            Self::Cleared => 0,
            Self::Leaf(leaf) => leaf.footprint_bytes(),
            Self::Inner(slots) => size_of::<Self>() + size_of_val(&**slots),
        }
    }
}

impl DeltaTree {
    /// No changes to a map of `height` levels.
    pub(crate) fn new(height: u32, fanout_bits: u32) -> Self {
        Self { root: None, height, fanout_bits }
    }

    /// Whether nothing was set.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Levels of nodes.
    pub(crate) fn height(&self) -> u32 {
        self.height
    }

    /// The topmost node.
    pub(crate) fn root(&self) -> Option<&Arc<DeltaNode>> {
        self.root.as_ref()
    }

    fn fanout(&self) -> usize {
        1 << self.fanout_bits
    }

    fn covers(&self, block: u64) -> bool {
        block.checked_shr(self.height * self.fanout_bits).unwrap_or(0) == 0
    }

    /// Makes the map taller: the old root becomes the first subtree of each new level.
    pub(crate) fn raise(&mut self, height: u32) {
        while self.height < height {
            if let Some(old) = self.root.take() {
                let mut slots = vec![None; self.fanout()].into_boxed_slice();
                slots[0] = Some(old);
                self.root = Some(Arc::new(DeltaNode::Inner(slots)));
            }
            self.height += 1;
        }
    }

    /// What was set at `block`, or [`Reference::UNSET`].
    pub(crate) fn get(&self, block: DiskBlock) -> Reference {
        let Some(mut node) = self.root.as_deref() else { return Reference::UNSET };
        if !self.covers(block.0) {
            return Reference::UNSET;
        }
        let mut shift = (self.height - 1) * self.fanout_bits;
        let mask = wide(self.fanout()) - 1;
        loop {
            let slot = index(block.0 >> shift & mask);
            node = match node {
                DeltaNode::Cleared => return Reference::HOLE,
                DeltaNode::Leaf(leaf) => return leaf.get(slot),
                DeltaNode::Inner(slots) => match &slots[slot] {
                    None => return Reference::UNSET,
                    Some(child) => child,
                },
            };
            shift = shift.saturating_sub(self.fanout_bits);
        }
    }

    /// Sets the references of consecutive blocks; `replaced` hears of those that this delta held there.
    pub(crate) fn set(
        &mut self,
        first: DiskBlock,
        new: &[Reference],
        footprint: &mut Footprint,
        replaced: &mut dyn FnMut(Reference),
    ) {
        let end = first.0 + wide(new.len());
        assert!(
            new.is_empty() || self.covers(end - 1),
            "block {end} lies in a map of {} levels",
            self.height
        );
        let (height, bits) = (self.height, self.fanout_bits);
        let fanout = wide(self.fanout());
        let (mut at, mut rest) = (first.0, new);
        while !rest.is_empty() {
            let in_leaf = index((fanout - at % fanout).min(wide(rest.len())));
            let (part, tail) = rest.split_at(in_leaf);
            let leaf = leaf_mut(&mut self.root, (height, bits), at, footprint);
            let was_sparse = matches!(leaf, LeafDelta::Sparse(_));
            leaf.set(index(at % fanout), part, 1 << bits, replaced);
            if was_sparse && matches!(leaf, LeafDelta::Dense(_)) {
                footprint.bytes += wide(leaf.footprint_bytes());
            }
            at += wide(in_leaf);
            rest = tail;
        }
    }

    /// Makes `count` blocks from `first` on holes; `replaced` hears of what this delta held there.
    pub(crate) fn clear(
        &mut self,
        first: DiskBlock,
        count: u64,
        footprint: &mut Footprint,
        replaced: &mut dyn FnMut(Reference),
    ) {
        if count == 0 {
            return;
        }
        assert!(
            self.covers(first.0 + count - 1),
            "blocks {first}+{count} lie in a map of {} levels",
            self.height
        );
        let shape = (self.height, self.fanout_bits);
        clear(&mut self.root, shape, (first.0, first.0 + count), footprint, replaced);
    }

    /// Calls `visit` for each reference that was set here and is not shared with `older`, a delta that
    /// this one was copied from.
    pub(crate) fn each_since(&self, older: Option<&Self>, visit: &mut dyn FnMut(Reference)) {
        let mut older = older.cloned();
        if let Some(older) = &mut older {
            older.raise(self.height);
        }
        let older_root = older.as_ref().and_then(|older| older.root.as_ref());
        if let Some(root) = &self.root {
            each_since(root, older_root, visit);
        }
    }
}

fn each_since(node: &Arc<DeltaNode>, older: Option<&Arc<DeltaNode>>, visit: &mut dyn FnMut(Reference)) {
    if older.is_some_and(|older| Arc::ptr_eq(older, node)) {
        return;
    }
    let older = older.map(|older| &**older);
    match (&**node, older) {
        (DeltaNode::Inner(slots), Some(DeltaNode::Inner(older_slots))) => {
            for (child, older) in slots.iter().zip(older_slots) {
                if let Some(child) = child {
                    each_since(child, older.as_ref(), visit);
                }
            }
        }
        (DeltaNode::Leaf(leaf), Some(DeltaNode::Leaf(older_leaf))) => leaf.each(|at, reference| {
            if older_leaf.get(at) != reference {
                visit(reference);
            }
        }),
        (node, _) => node.each(visit),
    }
}

/// The node in a slot, for writing: made if nothing is there, copied if it is shared.
fn writable<'a>(
    slot: &'a mut Option<Arc<DeltaNode>>,
    level: u32,
    bits: u32,
    footprint: &mut Footprint,
) -> &'a mut DeltaNode {
    let fresh = match slot.as_deref() {
        Some(DeltaNode::Cleared) if level > 1 => {
            let cleared = slot.clone();
            Some(DeltaNode::Inner(vec![cleared; 1 << bits].into_boxed_slice()))
        }
        Some(DeltaNode::Cleared) => {
            Some(DeltaNode::Leaf(LeafDelta::Dense(vec![Reference::HOLE; 1 << bits].into_boxed_slice())))
        }
        Some(_) => None,
        None if level > 1 => Some(DeltaNode::Inner(vec![None; 1 << bits].into_boxed_slice())),
        None => Some(DeltaNode::Leaf(LeafDelta::Sparse(Vec::new()))),
    };
    if let Some(fresh) = fresh {
        footprint.add(fresh.footprint_bytes());
        *slot = Some(Arc::new(fresh));
    }
    let node = slot.as_mut().expect("filled above");
    if Arc::strong_count(node) > 1 {
        footprint.add(node.footprint_bytes());
    }
    Arc::make_mut(node)
}

fn leaf_mut<'a>(
    root: &'a mut Option<Arc<DeltaNode>>,
    (height, bits): (u32, u32),
    at: u64,
    footprint: &mut Footprint,
) -> &'a mut LeafDelta {
    let mut slot = root;
    let mut level = height;
    loop {
        match writable(slot, level, bits, footprint) {
            DeltaNode::Leaf(leaf) => return leaf,
            DeltaNode::Inner(slots) => {
                level -= 1;
                slot = &mut slots[index(at >> (level * bits) & ((1 << bits) - 1))];
            }
            DeltaNode::Cleared => unreachable!("a writable node is not cleared"),
        }
    }
}

/// Clears `[start, end)`, relative to the subtree in `slot`.
fn clear(
    slot: &mut Option<Arc<DeltaNode>>,
    (level, bits): (u32, u32),
    (start, end): (u64, u64),
    footprint: &mut Footprint,
    replaced: &mut dyn FnMut(Reference),
) {
    if matches!(slot.as_deref(), Some(DeltaNode::Cleared)) {
        return;
    }
    let span = 1u64.checked_shl(level * bits).unwrap_or(u64::MAX);
    if start == 0 && end >= span {
        if let Some(node) = slot.replace(Arc::new(DeltaNode::Cleared)) {
            node.each(replaced);
        }
        return;
    }
    match writable(slot, level, bits, footprint) {
        DeltaNode::Leaf(leaf) => {
            let holes = vec![Reference::HOLE; index(end - start)];
            leaf.set(index(start), &holes, 1 << bits, replaced);
        }
        DeltaNode::Inner(slots) => {
            let child_span = 1u64 << ((level - 1) * bits);
            for at in start / child_span..=(end - 1) / child_span {
                let first = at * child_span;
                let part = (start.saturating_sub(first), (end - first).min(child_span));
                clear(&mut slots[index(at)], (level - 1, bits), part, footprint, replaced);
            }
        }
        DeltaNode::Cleared => unreachable!("a writable node is not cleared"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{BlockNo, Epoch};

    fn reference(n: u64) -> Reference {
        Reference::new(BlockNo(n + 1), Epoch(1), 0)
    }

    #[test]
    fn heights_grow_with_disks() {
        let heights = [1, 256, 257, 1 << 16, (1 << 16) + 1, 1 << 38].map(|blocks| height_for(blocks, 8));
        assert_eq!(heights, [1, 1, 2, 2, 3, 5]);
        assert_eq!(height_for(u64::MAX, 12), 6);
    }

    #[test]
    fn random_sets_and_clears_agree_with_a_plain_array() {
        const BLOCKS: u64 = 1 << 16;
        let mut model = vec![Reference::UNSET; 1 << 16];
        let mut tree = DeltaTree::new(2, 8);
        let mut shared = Vec::new();
        let mut footprint = Footprint::default();
        let mut state = 99u64;
        for round in 0..3000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let first = (state >> 33) % BLOCKS;
            let longest = if round % 10 == 0 { 3000 } else { 40 };
            let count = (1 + (state >> 13) % longest).min(BLOCKS - first);
            let old = model[index(first)..index(first + count)].to_vec();
            let mut heard = Vec::new();
            if state.is_multiple_of(3) {
                tree.clear(DiskBlock(first), count, &mut footprint, &mut |r| heard.push(r));
                model[index(first)..index(first + count)].fill(Reference::HOLE);
            } else {
                let new: Vec<_> = (0..count).map(|n| reference(round * 10_000 + n)).collect();
                tree.set(DiskBlock(first), &new, &mut footprint, &mut |r| heard.push(r));
                model[index(first)..index(first + count)].copy_from_slice(&new);
            }
            heard.retain(|r| !r.is_hole());
            let expected: Vec<_> =
                old.into_iter().filter(|r| *r != Reference::UNSET && !r.is_hole()).collect();
            assert_eq!(heard, expected, "round {round}");
            if round % 500 == 0 {
                shared.push((tree.clone(), model.clone()));
            }
        }
        shared.push((tree, model));
        for (tree, model) in shared {
            assert!((0..BLOCKS).all(|at| tree.get(DiskBlock(at)) == model[index(at)]));
        }
    }

    #[test]
    fn a_raised_map_keeps_its_content() {
        let mut tree = DeltaTree::new(1, 8);
        let mut footprint = Footprint::default();
        tree.set(DiskBlock(5), &[reference(5)], &mut footprint, &mut |_| {});
        tree.raise(3);
        tree.set(DiskBlock(70_000), &[reference(6)], &mut footprint, &mut |_| {});
        assert_eq!(tree.get(DiskBlock(5)), reference(5));
        assert_eq!(tree.get(DiskBlock(70_000)), reference(6));
        assert_eq!(tree.get(DiskBlock(6)), Reference::UNSET);
    }

    /// Discards that cut off whole inner nodes, and writes into them.
    #[test]
    fn in_a_deep_map_too_sets_and_clears_agree_with_a_plain_array() {
        const BLOCKS: u64 = 1 << 16;
        let mut model = vec![Reference::UNSET; 1 << 16];
        let mut tree = DeltaTree::new(4, 4);
        let mut footprint = Footprint::default();
        let mut state = 5u64;
        for round in 0..2000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let first = (state >> 33) % BLOCKS;
            if state.is_multiple_of(3) {
                let count = (1 + (state >> 13) % 9000).min(BLOCKS - first);
                let mut heard = 0;
                tree.clear(DiskBlock(first), count, &mut footprint, &mut |r| {
                    heard += usize::from(!r.is_hole());
                });
                let part = &mut model[index(first)..index(first + count)];
                assert_eq!(heard, part.iter().filter(|r| **r != Reference::UNSET && !r.is_hole()).count());
                part.fill(Reference::HOLE);
            } else {
                tree.set(DiskBlock(first), &[reference(round)], &mut footprint, &mut |_| {});
                model[index(first)] = reference(round);
            }
        }
        assert!((0..BLOCKS).all(|at| tree.get(DiskBlock(at)) == model[index(at)]));
    }

    #[test]
    fn what_was_set_since_a_copy_was_taken_is_told_and_nothing_else() {
        let mut footprint = Footprint::default();
        let mut set = |tree: &mut DeltaTree, at: u64, n: u64| {
            tree.set(DiskBlock(at), &[reference(n)], &mut footprint, &mut |_| {});
        };
        let mut older = DeltaTree::new(1, 4);
        set(&mut older, 1, 1);
        set(&mut older, 2, 2);
        let mut newer = older.clone();
        newer.raise(3);
        set(&mut newer, 2, 3); // in the leaf that both had
        set(&mut newer, 300, 4);
        let mut since = Vec::new();
        newer.each_since(Some(&older), &mut |reference| since.push(reference));
        assert_eq!(since, [reference(3), reference(4)]);
        since.clear();
        newer.each_since(None, &mut |reference| since.push(reference));
        assert_eq!(since, [1, 3, 4].map(reference));
    }
}
