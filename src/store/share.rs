//! Share: lets a place of a disk refer to a block that something refers to already, in the place of one with the same bytes.
//!
//! Floor 5. Under the maintenance lock. No checkpoint is under way then, so the tables' counts are those of the settled trees,
//! and what a settled tree of a disk or a shown version refers to has a count of at least one. Whatever drops that reference
//! meanwhile is counted by the next checkpoint, which counts the new one first (S4).
//!
//! ```text
//! gate:         look up both ▶ read and compare ▶                                           leave
//! maintenance:                                    both unchanged? count below 65,535? ▶ share
//! ```

use super::engine::Engine;
use super::head::Head;
use super::sizes::settled_root;
use super::state::State;
use crate::catalog::Child;
use crate::commit::Checkpointer;
use crate::error::Result;
use crate::extent::{DeltaTree, Footprint, Foundation, Limit, View};
use crate::format::{Reference, Root};
use crate::space::CountPages;
use crate::units::DiskBlock;
use std::sync::Arc;

/// A place whose block has the bytes of another one. Both were read and compared, inside the gate, which the caller is still in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Twin {
    pub(super) at: DiskBlock,
    pub(super) own: Reference,
    /// Where the other one stands, and what was found there.
    pub(super) source: (Child, DiskBlock),
    pub(super) shared: Reference,
}

/// What became of a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    Done,
    /// Something changed since the two were compared.
    Changed,
    /// The block has as many references as a block can have.
    Saturated,
}

impl Engine {
    /// The reference at a place of the settled tree of a disk or shown version; a hole where there is none any more.
    pub(super) fn settled_reference(&self, point: Child, at: DiskBlock) -> Result<Reference> {
        let root = shown_root(&self.state.read(), point);
        self.reference_in(root, at)
    }

    fn reference_in(&self, root: Option<Root>, at: DiskBlock) -> Result<Reference> {
        let Some(root) = root else { return Ok(Reference::HOLE) };
        let mut found = [Reference::HOLE];
        self.settled_view(root).lookup(&self.nodes, at, &mut found)?;
        Ok(found[0])
    }

    /// A view of nothing but a tree.
    pub(super) fn settled_view(&self, root: Root) -> View {
        let delta = DeltaTree::new(root.height.max(1), self.nodes.fanout_bits());
        View { foundation: Foundation::settled(root), delta }
    }

    /// Shares what can be shared. Says for each twin what became of it, and how many bytes of journal records wait.
    pub(super) fn share(
        &self,
        checkpointer: &mut Checkpointer,
        head: &Arc<Head>,
        twins: &[Twin],
    ) -> Result<(Vec<Shared>, usize)> {
        let root = shown_root(&self.state.read(), Child::Head(head.id));
        let mut pages = CountPages::default();
        let mut verdicts = Vec::with_capacity(twins.len());
        for twin in twins {
            let (point, at) = twin.source;
            let is_unchanged = self.settled_reference(point, at)? == twin.shared
                && self.reference_in(root, twin.at)? == twin.own;
            let count =
                if is_unchanged { checkpointer.tables.count(twin.shared.block(), &mut pages)? } else { 0 };
            verdicts.push((is_unchanged, count));
        }
        let _open = self.begin_change()?;
        let state = self.state.read();
        let Some(disk) = state.catalog.disks.get(&head.id) else {
            return Ok((vec![Shared::Changed; twins.len()], 0));
        };
        let (below, above, split) = state.catalog.limits_below(disk.parent);
        let limit = Limit { below, above, split };
        let mut own = head.state.write();
        let is_same_tree = !own.is_gone && own.view.foundation.root() == root;
        let (mut footprint, mut dropped, mut waiting) = (Footprint::default(), Vec::new(), 0);
        let mut became = Vec::with_capacity(twins.len());
        for (twin, (is_unchanged, count)) in twins.iter().zip(verdicts) {
            let is_free_to = is_unchanged
                && is_same_tree
                && own.view.delta.get(twin.at) == Reference::UNSET
                && limit.owns(twin.own.birth(), twin.at.0);
            if !is_free_to {
                became.push(Shared::Changed);
                continue;
            }
            let block = twin.shared.block();
            let has_room = self.with_allocator(|allocator| {
                let is_below =
                    u32::from(count) + u32::from(allocator.shared_since(block)) < u32::from(u16::MAX);
                if is_below {
                    allocator.share(block);
                }
                is_below
            });
            if !has_room {
                became.push(Shared::Saturated);
                continue;
            }
            let reference = Reference::new(block, own.birth, twin.shared.crc());
            own.set(twin.at, &[reference], &mut footprint, &mut dropped);
            waiting = self.journal.append(|builder| {
                builder.share(head.id, twin.at, block, reference.birth(), &[reference.crc()]);
            });
            became.push(Shared::Done);
        }
        if became.contains(&Shared::Done) {
            self.touch(head, &mut own.is_touched);
            self.account(footprint, dropped);
        }
        Ok((became, waiting))
    }
}

/// The settled tree of a disk, or of a version that is shown: the collector may have dropped what others lead to.
pub(super) fn shown_root(state: &State, point: Child) -> Option<Root> {
    if let Child::Version(id) = point {
        state.catalog.versions.get(&id)?.snapshot?;
    }
    settled_root(state, point)
}
