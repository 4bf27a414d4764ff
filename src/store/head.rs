//! Head: one live disk in memory.
//!
//! Floor 5.

use crate::commit::Run;
use crate::extent::{DeltaTree, Footprint, Foundation, View, height_for};
use crate::format::{DiskRecord, Reference};
use crate::units::{BlockNo, DiskBlock, DiskId, Epoch};
use parking_lot::RwLock;
use std::sync::Arc;

/// A live disk.
pub(crate) struct Head {
    pub(crate) id: DiskId,
    pub(crate) state: RwLock<HeadState>,
}

/// What a head's lock guards.
pub(crate) struct HeadState {
    pub(crate) view: View,
    pub(crate) size_bytes: u64,
    /// What new references are stamped with.
    pub(crate) birth: Epoch,
    /// References in the delta that were born later are this head's alone.
    pub(crate) owned_after: Epoch,
    /// Where the next blocks go.
    pub(crate) run: Option<Arc<Run>>,
    /// Whether the head is on the engine's list of those that the next checkpoint settles.
    pub(crate) is_touched: bool,
    /// The disk was deleted.
    pub(crate) is_gone: bool,
}

impl Head {
    /// The head that a record describes.
    pub(crate) fn new(
        record: &DiskRecord,
        owned_after: Epoch,
        block_size: u32,
        fanout_bits: u32,
    ) -> Arc<Self> {
        let blocks = record.size_bytes.div_ceil(u64::from(block_size));
        let height = height_for(blocks, fanout_bits).max(record.root.height);
        let view =
            View { foundation: Foundation::settled(record.root), delta: DeltaTree::new(height, fanout_bits) };
        Arc::new(Self {
            id: record.id,
            state: RwLock::new(HeadState {
                view,
                size_bytes: record.size_bytes,
                birth: record.birth,
                owned_after,
                run: None,
                is_touched: false,
                is_gone: false,
            }),
        })
    }
}

impl HeadState {
    /// Sets the references of consecutive blocks. Those that they replace, and that nobody else can
    /// hold, are added to `dropped`.
    pub(crate) fn set(
        &mut self,
        first: DiskBlock,
        references: &[Reference],
        footprint: &mut Footprint,
        dropped: &mut Vec<BlockNo>,
    ) {
        let owned_after = self.owned_after;
        self.view
            .delta
            .set(first, references, footprint, &mut |old| drop_if_owned(old, owned_after, dropped));
    }

    /// Makes blocks holes, in the same way.
    pub(crate) fn clear(
        &mut self,
        first: DiskBlock,
        count: u64,
        footprint: &mut Footprint,
        dropped: &mut Vec<BlockNo>,
    ) {
        let owned_after = self.owned_after;
        self.view.delta.clear(first, count, footprint, &mut |old| drop_if_owned(old, owned_after, dropped));
    }

    /// Changes the size. What lies behind a smaller one becomes a hole.
    pub(crate) fn resize(
        &mut self,
        size_bytes: u64,
        (block_size, fanout_bits): (u32, u32),
        footprint: &mut Footprint,
        dropped: &mut Vec<BlockNo>,
    ) {
        let blocks = |bytes: u64| bytes.div_ceil(u64::from(block_size));
        let (old, new) = (blocks(self.size_bytes), blocks(size_bytes));
        if new < old {
            self.clear(DiskBlock(new), old - new, footprint, dropped);
        }
        self.view.delta.raise(height_for(new, fanout_bits));
        self.size_bytes = size_bytes;
    }
}

fn drop_if_owned(old: Reference, owned_after: Epoch, dropped: &mut Vec<BlockNo>) {
    if !old.is_hole() && old.birth() > owned_after {
        dropped.push(old.block());
    }
}
