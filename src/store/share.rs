//! Share: lets a place of a disk refer to a block that something refers to already, in the place of one with the same bytes.
//!
//! Floor 5. Under the maintenance lock. No checkpoint is under way then, so the tables' counts are those of the settled trees,
//! and what a settled tree of a disk or a shown version refers to has a count of at least one. Whatever drops that reference
//! meanwhile is counted by the next checkpoint, which counts the new one first (S5).
//!
//! ```text
//! gate:         look up both ▶ read and compare ▶                                           leave
//! maintenance:                                    both unchanged? count below 65,535? ▶ share
//! ```

use super::block_index::Key;
use super::engine::Engine;
use super::head::{Head, HeadState};
use super::sizes::settled_root;
use super::state::State;
use crate::catalog::Child;
use crate::commit::Checkpointer;
use crate::commit::Waiting;
use crate::error::Result;
use crate::extent::{DeltaTree, Footprint, Foundation, Limit, View};
use crate::format::{Reference, Root};
use crate::space::CountPages;
use crate::units::{BlockNo, DiskBlock};
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
        twins: &[(Twin, Key)],
    ) -> Result<(Vec<Shared>, Waiting)> {
        let root = shown_root(&self.state.read(), Child::Head(head.id));
        let mut pages = CountPages::default();
        let mut verdicts = Vec::with_capacity(twins.len());
        for (twin, _) in twins {
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
            return Ok((vec![Shared::Changed; twins.len()], Waiting::default()));
        };
        let (below, above, split) = state.catalog.limits_below(disk.parent);
        let limit = Limit { below, above, split };
        let mut own = head.state.write();
        let is_same_tree = !own.is_gone && own.view.foundation.root() == root;
        let (mut footprint, mut dropped, mut waiting) =
            (Footprint::default(), Vec::new(), Waiting::default());
        let mut became = Vec::with_capacity(twins.len());
        for ((twin, key), (is_unchanged, count)) in twins.iter().zip(verdicts) {
            let is_free_to = is_unchanged
                && is_same_tree
                && own.view.delta.get(twin.at) == Reference::UNSET
                && limit.owns(twin.own.birth(), twin.at.0);
            if !is_free_to {
                became.push(Shared::Changed);
                continue;
            }
            let block = twin.shared.block();
            // Writers take from the room of a template's block, and do not know its count.
            let spent = self.templates.as_ref().and_then(|templates| templates.spend(key, block));
            let has_room = spent != Some(false)
                && self.with_allocator(|allocator| {
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
            waiting = self.put_share(head, &mut own, (twin.at, twin.shared), (&mut footprint, &mut dropped));
            became.push(Shared::Done);
        }
        if became.contains(&Shared::Done) {
            self.touch(head, &mut own.is_touched);
            self.account(footprint, dropped);
        }
        Ok((became, waiting))
    }
}

impl Engine {
    /// Lets a place refer to a block that got one more reference. Returns how much waits to be written.
    pub(super) fn put_share(
        &self,
        head: &Head,
        own: &mut HeadState,
        (at, shared): (DiskBlock, Reference),
        (footprint, dropped): (&mut Footprint, &mut Vec<BlockNo>),
    ) -> Waiting {
        let reference = Reference::new(shared.block(), own.birth, shared.crc());
        own.set(at, &[reference], footprint, dropped);
        self.journal.append(|builder| {
            builder.share(head.id, at, reference.block(), reference.birth(), &[reference.crc()]);
        })
    }
}

/// The settled tree of a disk, or of a version that is shown: the collector may have dropped what others lead to.
pub(super) fn shown_root(state: &State, point: Child) -> Option<Root> {
    if let Child::Version(id) = point {
        state.catalog.versions.get(&id)?.snapshot?;
    }
    settled_root(state, point)
}

#[cfg(test)]
mod tests {
    use super::super::block_index::key_of;
    use super::*;
    use crate::device::MemoryDevice;
    use crate::store::{Disk, Options, Store};

    const BLOCK: u64 = 4096;

    fn options() -> Options {
        Options::default().journal_bytes(1 << 20).zone_blocks(512).background(false)
    }

    struct Rig {
        device: Arc<MemoryDevice>,
        store: Store,
        disk: Disk,
    }

    impl Rig {
        /// A disk whose blocks 0 and 1 are alike, and settled.
        fn new() -> Self {
            let device = Arc::new(MemoryDevice::new(0));
            let store = Store::create_on(device.clone(), options()).unwrap();
            let disk = store.create_server("web").unwrap().create_disk("vda", 300 * BLOCK).unwrap();
            disk.write_at(&[7; 2 * 4096], 0).unwrap();
            store.checkpoint().unwrap();
            Self { device, store, disk }
        }

        /// Place `at` is to share what place 0 holds.
        fn twin(&self, at: u64) -> (Twin, Key) {
            let (engine, point) = (&self.disk.shared.engine, Child::Head(self.disk.head.id));
            let reference = |at| engine.settled_reference(point, DiskBlock(at)).unwrap();
            let source = (point, DiskBlock(0));
            let twin = Twin { at: DiskBlock(at), own: reference(at), source, shared: reference(0) };
            (twin, key_of(&[7; 4096]))
        }

        fn share(&self, twins: &[(Twin, Key)]) -> Vec<Shared> {
            let engine = &self.disk.shared.engine;
            engine.share(&mut engine.maintenance.lock(), &self.disk.head, twins).unwrap().0
        }

        fn byte(&self, at: u64) -> u8 {
            let mut block = [0; 4096];
            self.disk.read_at(&mut block, at * BLOCK).unwrap();
            assert!(block.iter().all(|byte| *byte == block[0]));
            block[0]
        }

        /// Blocks and references after a checkpoint, and after a crash before it, too.
        fn audit(&self) -> (u64, u64) {
            self.store.flush().unwrap();
            let crashed = Arc::new(MemoryDevice::from_bytes(self.device.to_bytes()));
            let reopened = Store::open_on(crashed, options()).unwrap();
            let counts = [&self.store, &reopened].map(|store| {
                store.collect().unwrap();
                let report = store.check().unwrap();
                assert!(report.is_clean(), "{:#?}", report.findings);
                (report.data_blocks_in_use, report.data_blocks_mapped)
            });
            assert_eq!(counts[0], counts[1], "after a crash");
            counts[0]
        }
    }

    /// The old reference goes with the very checkpoint that counts the new one.
    #[test]
    fn a_block_that_is_being_dropped_can_be_shared() {
        let rig = Rig::new();
        let twin = rig.twin(1);
        rig.disk.write_at(&[8; 4096], 0).unwrap();
        assert_eq!(rig.share(&[twin]), [Shared::Done]);
        assert_eq!(rig.audit(), (2, 2));
        assert_eq!((rig.byte(0), rig.byte(1)), (8, 7));
        rig.disk.discard(0, 2 * BLOCK).unwrap();
        assert_eq!(rig.audit(), (0, 0));
    }

    #[test]
    fn what_changed_since_it_was_compared_is_not_shared() {
        let rig = Rig::new();
        let twin = rig.twin(1);
        rig.disk.write_at(&[9; 4096], BLOCK).unwrap();
        assert_eq!(rig.share(&[twin]), [Shared::Changed], "the place was written");
        rig.disk.write_at(&[7; 4096], BLOCK).unwrap();
        rig.store.checkpoint().unwrap();
        assert_eq!(rig.share(&[twin]), [Shared::Changed], "with the same bytes, in another block");
        let twin = rig.twin(1);
        rig.disk.write_at(&[9; 4096], 0).unwrap();
        rig.store.checkpoint().unwrap();
        assert_eq!(rig.share(&[twin]), [Shared::Changed], "the source is gone");
        assert_eq!(rig.audit(), (2, 2));
    }

    /// What a snapshot holds is not the disk's to give up.
    #[test]
    fn what_is_not_owned_is_not_shared() {
        let rig = Rig::new();
        let server = rig.store.server("web").unwrap();
        let snapshot = server.snapshot("s", "").unwrap();
        rig.store.checkpoint().unwrap();
        let twin = rig.twin(1);
        assert_eq!(rig.share(&[twin]), [Shared::Changed]);
        let _ = snapshot;
        assert_eq!(rig.audit(), (2, 2));
    }

    /// A place that holds a shared block, loses it, and gets it back within one checkpoint: its map has the very same
    /// reference already.
    #[test]
    fn a_reference_that_is_made_anew_counts_once() {
        let rig = Rig::new();
        rig.share(&[rig.twin(1)]);
        assert_eq!(rig.audit(), (1, 2));
        let engine = &rig.disk.shared.engine;
        let shared = rig.twin(1).0.shared;
        for _ in 0..2 {
            rig.disk.write_at(&[8; 4096], BLOCK).unwrap();
            engine.share_at_once(&rig.disk.head, DiskBlock(1), shared);
            engine.share_at_once(&rig.disk.head, DiskBlock(1), shared);
            assert_eq!((rig.byte(0), rig.byte(1)), (7, 7));
            assert_eq!(rig.audit(), (1, 2));
        }
        rig.disk.discard(0, BLOCK).unwrap();
        assert_eq!(rig.audit(), (1, 1));
        rig.disk.discard(0, 2 * BLOCK).unwrap();
        assert_eq!(rig.audit(), (0, 0));
    }

    impl Engine {
        /// Puts a reference to a block that something refers to in a place, whatever that holds.
        fn share_at_once(&self, head: &Arc<Head>, at: DiskBlock, shared: Reference) {
            let _open = self.begin_change().unwrap();
            let mut own = head.state.write();
            let (mut footprint, mut dropped) = (Footprint::default(), Vec::new());
            self.with_allocator(|allocator| allocator.share(shared.block()));
            self.put_share(head, &mut own, (at, shared), (&mut footprint, &mut dropped));
            self.touch(head, &mut own.is_touched);
            self.account(footprint, dropped);
        }
    }
}
