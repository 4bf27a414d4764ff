//! Reap: walks a deleted version beside its children, and drops what nobody else holds.
//!
//! Floor 3. A walk goes on from a cursor and stops after a number of blocks. A node is dropped when
//! the cursor leaves it, so that a walk that is taken up again can still read it.

use super::nodes::NodeSource;
use super::settle::{Limit, lowered};
use crate::error::Result;
use crate::format::{Reference, Root};
use crate::units::{BlockNo, DiskBlock};

/// What is to be walked.
pub(crate) struct Victim {
    pub(crate) reference: Reference,
    /// Levels of nodes below.
    pub(crate) height: u32,
    /// The disk block that it starts at.
    pub(crate) first: DiskBlock,
    /// What it owns.
    pub(crate) limit: Limit,
}

/// What one walk found.
#[derive(Default)]
pub(crate) struct Reaped {
    /// References to drop; empty where the walk only looks.
    pub(crate) dropped: Vec<BlockNo>,
    /// How many of those are data.
    pub(crate) data: usize,
    /// Places whose reference no child holds, for a version that stays (trim).
    pub(crate) unheld: Vec<DiskBlock>,
    /// Where to go on; `None` when all is done.
    pub(crate) next: Option<DiskBlock>,
}

/// One walk.
pub(crate) struct Reaper<'a> {
    nodes: &'a NodeSource,
    limit: Limit,
    from: u64,
    budget: u64,
    /// Whether the version stays: then places are noted, and nothing is dropped here.
    keeps: bool,
    reaped: Reaped,
}

/// Whether a walk is out of budget.
enum Step {
    Done,
    Stop,
}

impl<'a> Reaper<'a> {
    /// A walk from `from` on that looks at about `budget` places.
    pub(crate) fn new(nodes: &'a NodeSource, from: DiskBlock, budget: u64, keeps: bool) -> Self {
        let limit = Limit::uniform(crate::units::Epoch(0));
        Self { nodes, limit, from: from.0, budget, keeps, reaped: Reaped::default() }
    }

    /// Walks `victim` beside the trees of its children, which are at least as high.
    pub(crate) fn walk(mut self, victim: &Victim, children: &[Root]) -> Result<Reaped> {
        self.limit = victim.limit;
        let children = children
            .iter()
            .map(|child| lowered(self.nodes, *child, victim.height))
            .collect::<Result<Vec<_>>>()?;
        self.subtree(victim.height, victim.first.0, victim.reference, &children)?;
        Ok(self.reaped)
    }

    fn subtree(&mut self, level: u32, first: u64, own: Reference, children: &[Reference]) -> Result<Step> {
        let span = 1u64.checked_shl(level * self.nodes.fanout_bits()).unwrap_or(u64::MAX);
        let passed = first.saturating_add(span) <= self.from;
        if passed || own.is_hole() || !self.limit.owns(own.birth(), first) || children.contains(&own) {
            return Ok(Step::Done);
        }
        if level == 0 {
            self.leave(own, first);
            return Ok(Step::Done);
        }
        if level == 1 {
            if self.budget == 0 {
                self.reaped.next = Some(DiskBlock(first.max(self.from)));
                return Ok(Step::Stop);
            }
            self.budget = self.budget.saturating_sub(1 << self.nodes.fanout_bits());
        }
        let node = self.nodes.node(own)?;
        let beside = children
            .iter()
            .filter(|child| !child.is_hole())
            .map(|child| self.nodes.node(*child))
            .collect::<Result<Vec<_>>>()?;
        let child_span = span >> self.nodes.fanout_bits();
        let mut at_children = vec![Reference::HOLE; beside.len()];
        for (at, &reference) in node.iter().enumerate() {
            for (place, node) in at_children.iter_mut().zip(&beside) {
                *place = node[at];
            }
            if let Step::Stop =
                self.subtree(level - 1, first + at as u64 * child_span, reference, &at_children)?
            {
                return Ok(Step::Stop);
            }
        }
        if !self.keeps {
            self.reaped.dropped.push(own.block());
        }
        Ok(Step::Done)
    }

    fn leave(&mut self, own: Reference, at: u64) {
        if self.keeps {
            self.reaped.unheld.push(DiskBlock(at));
        } else {
            self.reaped.dropped.push(own.block());
            self.reaped.data += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Device, MemoryDevice};
    use crate::format::{Geometry, Place, node_to_bytes, seal};
    use crate::units::{Epoch, index, wide};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const LEAVES: u64 = 7;
    const FANOUT: u64 = 256;
    const PARENT: Epoch = Epoch(10);

    /// Trees on a medium, all of two levels.
    struct Forest {
        device: Arc<MemoryDevice>,
        geometry: Geometry,
        used: u32,
        state: u64,
    }

    impl Forest {
        fn new(seed: u64) -> Self {
            let geometry = Geometry::new(4096, 16_400, 16).unwrap();
            let device = Arc::new(MemoryDevice::new(index(geometry.length_bytes(1))));
            Self { device, geometry, used: 0, state: seed }
        }

        fn dice(&mut self, end: u64) -> u64 {
            self.state =
                self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.state >> 33) % end
        }

        fn block(&mut self) -> BlockNo {
            self.used += 1;
            self.geometry.block_at(Place { zone: 0, index: self.used - 1 })
        }

        /// Sources that have read nothing yet.
        fn nodes(&self) -> NodeSource {
            NodeSource::new(self.device.clone(), self.geometry, 1 << 20)
        }

        fn write(&mut self, references: &[Reference], birth: Epoch) -> Reference {
            let mut node = vec![Reference::HOLE; index(FANOUT)];
            node[..references.len()].copy_from_slice(references);
            let bytes = node_to_bytes(&node);
            let block = self.block();
            self.device.write_at(bytes, self.geometry.offset_bytes(block)).unwrap();
            Reference::new(block, birth, seal(bytes))
        }

        fn data(&mut self, birth: u64) -> Reference {
            Reference::new(self.block(), Epoch(birth), 0)
        }

        /// A tree of a version with that parent: some of it is the parent's.
        fn tree(&mut self) -> Vec<Reference> {
            (0..LEAVES)
                .map(|_| {
                    let inherited = self.dice(4) == 0;
                    let leaf: Vec<_> = (0..FANOUT)
                        .map(|_| match self.dice(40) {
                            0 => self.data(5),
                            1 if !inherited => self.data(15),
                            _ => Reference::HOLE,
                        })
                        .collect();
                    self.write(&leaf, Epoch(if inherited { 5 } else { 15 }))
                })
                .collect()
        }

        /// A child's tree: some leaves are the same, some differ in places, some are gone.
        fn child(&mut self, leaves: &[Reference]) -> Vec<Reference> {
            leaves
                .iter()
                .map(|&leaf| match self.dice(4) {
                    0 => leaf,
                    1 => Reference::HOLE,
                    _ => {
                        let mut own = self.nodes().node(leaf).unwrap().to_vec();
                        for place in &mut own {
                            match self.dice(30) {
                                0 => *place = self.data(25),
                                1..5 => *place = Reference::HOLE,
                                _ => {}
                            }
                        }
                        self.write(&own, Epoch(25))
                    }
                })
                .collect()
        }

        fn root(&mut self, leaves: &[Reference], birth: u64) -> Root {
            Root { reference: self.write(leaves, Epoch(birth)), height: 2, mapped: 0 }
        }

        fn leaf(&self, leaf: Reference) -> Vec<Reference> {
            if leaf.is_hole() {
                vec![Reference::HOLE; index(FANOUT)]
            } else {
                self.nodes().node(leaf).unwrap().to_vec()
            }
        }
    }

    /// What must be dropped of a tree beside its children's, how often, found without any walk.
    fn expected(
        forest: &Forest,
        root: Root,
        own: &[Reference],
        children: &[Vec<Reference>],
    ) -> BTreeMap<BlockNo, u32> {
        let mut gone = vec![root.reference];
        for (at, &leaf) in own.iter().enumerate() {
            let beside: Vec<Reference> = children.iter().map(|child| child[at]).collect();
            if !beside.contains(&leaf) {
                gone.push(leaf);
            }
            let beside: Vec<Vec<Reference>> = beside.into_iter().map(|leaf| forest.leaf(leaf)).collect();
            for (at, &reference) in forest.leaf(leaf).iter().enumerate() {
                if !reference.is_hole() && beside.iter().all(|leaf| leaf[at] != reference) {
                    gone.push(reference);
                }
            }
        }
        gone.into_iter()
            .filter(|reference| reference.birth() > PARENT)
            .map(|reference| (reference.block(), 1))
            .collect()
    }

    /// In steps of one leaf. What a step drops is overwritten before the next one: nobody may want it any more.
    #[test]
    fn whatever_the_steps_are_each_reference_that_nobody_else_holds_is_dropped_once() {
        for seed in 0..40 {
            let mut forest = Forest::new(seed);
            let own = forest.tree();
            let count = forest.dice(3);
            let children: Vec<_> = (0..count).map(|_| forest.child(&own)).collect();
            let root = forest.root(&own, 15);
            let child_roots: Vec<_> = children.iter().map(|leaves| forest.root(leaves, 25)).collect();
            let victim = Victim {
                reference: root.reference,
                height: 2,
                first: DiskBlock(0),
                limit: Limit::uniform(PARENT),
            };
            let expected = expected(&forest, root, &own, &children);
            let (mut dropped, mut cursor, mut steps) = (BTreeMap::new(), Some(DiskBlock(0)), 0);
            while let Some(from) = cursor {
                let nodes = forest.nodes();
                let reaped = Reaper::new(&nodes, from, 1, false).walk(&victim, &child_roots).unwrap();
                assert!(reaped.next.is_none_or(|next| next > from), "seed {seed}: {from} comes again");
                for block in reaped.dropped {
                    *dropped.entry(block).or_insert(0) += 1;
                    forest.device.write_at(&[0xEE; 4096], forest.geometry.offset_bytes(block)).unwrap();
                }
                cursor = reaped.next;
                steps += 1;
            }
            assert!(dropped == expected, "seed {seed}: {dropped:?} and not {expected:?}");
            let differing = (0..index(LEAVES))
                .filter(|&at| own[at].birth() > PARENT && children.iter().all(|child| child[at] != own[at]));
            assert_eq!(steps, differing.count().max(1), "seed {seed}: a step has one leaf");
        }
    }

    /// A version that stays is told where nobody else holds what it does; nothing is dropped.
    #[test]
    fn a_version_that_stays_is_only_looked_at() {
        for seed in 0..20 {
            let mut forest = Forest::new(1000 + seed);
            let own = forest.tree();
            let children = [forest.child(&own), forest.child(&own)];
            let root = forest.root(&own, 15);
            let child_roots: Vec<_> = children.iter().map(|leaves| forest.root(leaves, 25)).collect();
            let limit = Limit::uniform(PARENT);
            let victim = Victim { reference: root.reference, height: 2, first: DiskBlock(0), limit };
            let nodes = forest.nodes();
            let reaped =
                Reaper::new(&nodes, DiskBlock(0), u64::MAX, true).walk(&victim, &child_roots).unwrap();
            assert_eq!((reaped.dropped.len(), reaped.next), (0, None));
            let unheld: Vec<_> = (0..LEAVES * FANOUT)
                .filter(|at| {
                    let (leaf, place) = (index(at / FANOUT), index(at % FANOUT));
                    let reference = forest.leaf(own[leaf])[place];
                    let is_owned = !reference.is_hole() && reference.birth() > PARENT;
                    is_owned && children.iter().all(|child| forest.leaf(child[leaf])[place] != reference)
                })
                .map(DiskBlock)
                .collect();
            assert_eq!(reaped.unheld, unheld, "seed {seed}");
        }
    }

    /// Below the cursor of a merge, a child owns what its parent handed to it.
    #[test]
    fn garbage_has_two_limits() {
        let mut forest = Forest::new(7);
        let leaf: Vec<_> = (0..FANOUT).map(|_| forest.data(5)).collect();
        let first = DiskBlock(3 * FANOUT);
        let reference = forest.write(&leaf, Epoch(5));
        let split = first.plus(100);
        let limit = Limit { below: Epoch(0), above: PARENT, split };
        let victim = Victim { reference, height: 1, first, limit };
        let nodes = forest.nodes();
        let reaped = Reaper::new(&nodes, DiskBlock(0), 1, false).walk(&victim, &[]).unwrap();
        let mut expected: Vec<_> = leaf[..100].iter().map(Reference::block).collect();
        expected.push(reference.block());
        assert_eq!((reaped.dropped, reaped.next), (expected, None));
        assert!(wide(leaf.len()) == FANOUT);
    }
}
