//! Census: counts what a tree holds and none of its neighbours does.
//!
//! Floor 3. It is what deleting a snapshot would free: a reference that anybody else holds is held by a neighbour in the
//! lineage, at the same place (docs/architecture.md, "What a snapshot's size means"). The walk steps over every subtree that a
//! neighbour has, too. It asks one neighbour after the other, that one first who held the last, and reads a neighbour's nodes only when
//! he is asked: so its cost follows what differs, however many neighbours there are.

use super::mix::Mix;
use super::nodes::{Node, NodeSource};
use super::settle::lowered;
use crate::error::Result;
use crate::format::{Reference, Root};
use crate::space::SharedBlocks;
use crate::units::{BlockNo, DiskBlock, Epoch, index, wide};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
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
    /// Whom to ask first.
    order: Vec<u64>,
    /// What was born later, nobody else holds.
    alone_after: Option<Epoch>,
    /// Where to go on; `None` when all is done.
    cursor: Option<DiskBlock>,
    pub(crate) found: Unheld,
    /// Blocks with several references are not counted in `found`, but gathered.
    shared: Option<Arc<SharedBlocks>>,
    several: HashMap<BlockNo, u16>,
}

/// What a neighbour has where the walk is.
#[derive(Clone)]
enum Beside {
    Nothing,
    /// This subtree, whose node is read once it is needed.
    Subtree(Reference, Option<Node>),
    /// Its tree is lower, and lies in the first slot, further down.
    Above(Root),
}

/// What the neighbours who were asked have at some place.
type Asked = HashMap<u64, Beside, BuildHasherDefault<Mix>>;

/// One step of a census.
struct Walk<'a> {
    nodes: &'a NodeSource,
    beside: &'a [Root],
    order: &'a mut [u64],
    alone_after: Option<Epoch>,
    /// For each level above the data, from the top: the slot that the walk is in, and what the neighbours who were asked have there.
    path: Vec<(usize, Asked)>,
    from: u64,
    budget: u64,
    next: Option<u64>,
    found: Unheld,
    shared: Option<&'a SharedBlocks>,
    several: &'a mut HashMap<BlockNo, u16>,
}

impl Census {
    /// A count of what `own` holds and none of `beside` does.
    pub(crate) fn new(own: Root, mut beside: Vec<Root>) -> Self {
        beside.retain(|root| !root.reference.is_hole());
        Self {
            own,
            order: (0..wide(beside.len())).collect(),
            beside,
            alone_after: None,
            cursor: Some(DiskBlock(0)),
            found: Unheld::default(),
            shared: None,
            several: HashMap::new(),
        }
    }

    /// Nobody else is asked for what was born after `epoch`.
    pub(crate) fn alone_after(self, epoch: Epoch) -> Self {
        Self { alone_after: Some(epoch), ..self }
    }

    /// How many trees may hold the same.
    pub(crate) fn neighbours(&self) -> usize {
        self.beside.len()
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
        let mut walk = Walk {
            nodes,
            beside: &self.beside,
            order: &mut self.order,
            alone_after: self.alone_after,
            path: Vec::new(),
            from: cursor.0,
            budget: budget.max(1),
            next: None,
            found: Unheld::default(),
            shared: self.shared.as_deref(),
            several: &mut self.several,
        };
        walk.subtree(self.own.height, 0, self.own.reference)?;
        self.found.data += walk.found.data;
        self.found.nodes += walk.found.nodes;
        self.cursor = walk.next.map(DiskBlock);
        Ok(self.cursor.is_none())
    }
}

impl Walk<'_> {
    /// Counts in one subtree. Whether the budget lasted.
    fn subtree(&mut self, level: u32, first: u64, own: Reference) -> Result<bool> {
        let span = 1u64.checked_shl(level * self.nodes.fanout_bits()).unwrap_or(u64::MAX);
        if first.saturating_add(span) <= self.from || own.is_hole() || self.is_held(level, own)? {
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
        let child_span = span >> self.nodes.fanout_bits();
        self.path.push((0, Asked::default()));
        for (at, &child) in node.iter().enumerate() {
            let child_first = first + wide(at) * child_span;
            let depth = self.path.len() - 1;
            self.path[depth].0 = at;
            if !self.subtree(level - 1, child_first, child)? {
                return Ok(false);
            }
        }
        self.path.pop();
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

    /// Whether a neighbour holds `own`, `level` levels above the data, where the walk is.
    fn is_held(&mut self, level: u32, own: Reference) -> Result<bool> {
        if self.alone_after.is_some_and(|epoch| own.birth() > epoch) {
            return Ok(false);
        }
        for nth in 0..self.order.len() {
            let holds = match self.place(self.path.len(), level, self.order[nth])? {
                Beside::Subtree(reference, _) => reference == own,
                Beside::Nothing | Beside::Above(_) => false,
            };
            if holds {
                self.order.swap(0, nth);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a neighbour has `level` levels above the data, in the first `depth` slots of the path.
    fn place(&mut self, depth: usize, level: u32, neighbour: u64) -> Result<Beside> {
        let Some(above) = depth.checked_sub(1) else {
            let root = self.beside[index(neighbour)];
            if root.height < level {
                return Ok(Beside::Above(root));
            }
            return lowered(self.nodes, root, level).map(Beside::subtree);
        };
        let slot = self.path[above].0;
        if let Some(there) = self.path[above].1.get_mut(&neighbour) {
            return there.slot(slot, level, self.nodes);
        }
        let mut there = self.place(above, level + 1, neighbour)?;
        let found = there.slot(slot, level, self.nodes);
        self.path[above].1.insert(neighbour, there);
        found
    }
}

impl Beside {
    fn subtree(reference: Reference) -> Self {
        if reference.is_hole() { Self::Nothing } else { Self::Subtree(reference, None) }
    }

    /// What lies in slot `at`, `level` levels above the data.
    fn slot(&mut self, at: usize, level: u32, nodes: &NodeSource) -> Result<Self> {
        Ok(match self {
            Self::Subtree(_, Some(node)) => Self::subtree(node[at]),
            Self::Subtree(reference, node) => Self::subtree(node.insert(nodes.node(*reference)?)[at]),
            Self::Above(root) if at == 0 && root.height == level => Self::subtree(root.reference),
            Self::Above(root) if at == 0 => Self::Above(*root),
            Self::Above(_) | Self::Nothing => Self::Nothing,
        })
    }
}
