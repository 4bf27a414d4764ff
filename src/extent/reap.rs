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
        }
    }
}
