//! Census: counts what a tree holds and none of its neighbours does.
//!
//! Floor 3. It is what deleting a snapshot would free: a reference that anybody else holds is held by a neighbour in the
//! lineage, at the same place (docs/architecture.md, "What a snapshot's size means"). The walk steps over every subtree that a
//! neighbour has, too, and reads a neighbour's nodes only where those before it differ: its cost follows what differs.

use super::nodes::{Node, NodeSource};
use super::settle::lowered;
use crate::error::Result;
use crate::format::{Reference, Root};
use crate::space::SharedBlocks;
use crate::units::{BlockNo, DiskBlock, wide};
use std::collections::HashMap;
use std::sync::Arc;

/// What was found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unheld {
    /// References to data.
    pub(crate) data: u64,
    /// Extent nodes.
    pub(crate) nodes: u64,
}

/// A count that can be taken up again. The trees must stay readable meanwhile: its owner holds the gate.
pub(crate) struct Census {
    own: Root,
    beside: Vec<Root>,
    /// Where to go on; `None` when all is done.
    cursor: Option<DiskBlock>,
    pub(crate) found: Unheld,
    /// Blocks with several references are not counted in `found`, but gathered.
    shared: Option<Arc<SharedBlocks>>,
    several: HashMap<BlockNo, u16>,
}

/// Where a neighbour stands while the walk is at some place.
#[derive(Clone, Copy)]
enum Beside {
    /// This subtree.
    At(Reference),
    /// Its tree is lower, and lies in the first slot, further down.
    Above(Root),
}

/// One step of a census.
struct Walk<'a> {
    nodes: &'a NodeSource,
    from: u64,
    budget: u64,
    next: Option<u64>,
    found: Unheld,
    shared: Option<&'a SharedBlocks>,
    several: &'a mut HashMap<BlockNo, u16>,
}

impl Census {
    /// A count of what `own` holds and none of `beside` does.
    pub(crate) fn new(own: Root, beside: Vec<Root>) -> Self {
        let (found, several) = (Unheld::default(), HashMap::new());
        Self { own, beside, cursor: Some(DiskBlock(0)), found, shared: None, several }
    }

    /// Gathers references to these blocks by their blocks.
    pub(crate) fn beside_shared(&mut self, shared: &Arc<SharedBlocks>) {
        self.shared = Some(shared.clone());
    }

    /// The blocks with several references that were found, and how many of those.
    pub(crate) fn take_several(&mut self) -> HashMap<BlockNo, u16> {
        std::mem::take(&mut self.several)
    }

    /// Looks at about `budget` more places. Whether that was all.
    pub(crate) fn step(&mut self, nodes: &NodeSource, budget: u64) -> Result<bool> {
        let Some(cursor) = self.cursor else { return Ok(true) };
        let height = self.own.height;
        let beside = self.beside.iter().filter(|root| !root.reference.is_hole());
        let beside = beside.map(|root| {
            if root.height < height {
                Ok(Beside::Above(*root))
            } else {
                lowered(nodes, *root, height).map(Beside::At)
            }
        });
        let mut beside = beside.collect::<Result<Vec<_>>>()?;
        // A higher neighbour may hold nothing where this tree lies.
        beside.retain(|place| !matches!(place, Beside::At(reference) if reference.is_hole()));
        let mut walk = Walk {
            nodes,
            from: cursor.0,
            budget: budget.max(1),
            next: None,
            found: Unheld::default(),
            shared: self.shared.as_deref(),
            several: &mut self.several,
        };
        walk.subtree(height, 0, self.own.reference, beside)?;
        self.found.data += walk.found.data;
        self.found.nodes += walk.found.nodes;
        self.cursor = walk.next.map(DiskBlock);
        Ok(self.cursor.is_none())
    }
}

impl Walk<'_> {
    /// Counts in one subtree. Whether the budget lasted.
    fn subtree(&mut self, level: u32, first: u64, own: Reference, mut beside: Vec<Beside>) -> Result<bool> {
        let span = 1u64.checked_shl(level * self.nodes.fanout_bits()).unwrap_or(u64::MAX);
        let is_held = beside.iter().any(|place| matches!(place, Beside::At(held) if *held == own));
        if first.saturating_add(span) <= self.from || own.is_hole() || is_held {
            return Ok(true);
        }
        if level == 0 {
            self.count(own.block());
            return Ok(true);
        }
        if level == 1 {
            if self.budget == 0 {
                self.next = Some(first);
                return Ok(false);
            }
            self.budget = self.budget.saturating_sub(1 << self.nodes.fanout_bits());
        }
        let node = self.nodes.node(own)?;
        let mut loaded: Vec<Option<Node>> = vec![None; beside.len()];
        let child_span = span >> self.nodes.fanout_bits();
        for (at, &child) in node.iter().enumerate() {
            let child_first = first + wide(at) * child_span;
            if child.is_hole() || child_first.saturating_add(child_span) <= self.from {
                continue;
            }
            let below = self.below(level, at, child, (&mut beside, &mut loaded))?;
            let Some(below) = below else { continue };
            if !self.subtree(level - 1, child_first, child, below)? {
                return Ok(false);
            }
        }
        self.found.nodes += 1;
        Ok(true)
    }

    fn count(&mut self, block: BlockNo) {
        if self.shared.is_some_and(|shared| shared.count(block) > 1) {
            let found = self.several.entry(block).or_default();
            *found = found.saturating_add(1);
        } else {
            self.found.data += 1;
        }
    }

    /// What the neighbours hold at slot `at`; `None` where one of them holds `child` itself. That one is asked
    /// first from then on.
    fn below(
        &self,
        level: u32,
        at: usize,
        child: Reference,
        (beside, loaded): (&mut [Beside], &mut [Option<Node>]),
    ) -> Result<Option<Vec<Beside>>> {
        let mut below = Vec::new();
        for nth in 0..beside.len() {
            let place = match beside[nth] {
                Beside::Above(root) if at == 0 && root.height == level - 1 => Beside::At(root.reference),
                Beside::Above(root) if at == 0 => Beside::Above(root),
                Beside::Above(_) => continue,
                Beside::At(reference) => {
                    let node = match &loaded[nth] {
                        Some(node) => node,
                        None => loaded[nth].insert(self.nodes.node(reference)?),
                    };
                    Beside::At(node[at])
                }
            };
            match place {
                Beside::At(held) if held == child => {
                    beside.swap(0, nth);
                    loaded.swap(0, nth);
                    return Ok(None);
                }
                Beside::At(held) if held.is_hole() => {}
                place => below.push(place),
            }
        }
        Ok(Some(below))
    }
}
