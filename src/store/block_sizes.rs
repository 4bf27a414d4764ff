//! Block sizes: how many blocks a snapshot refers to, and how many go with it, where blocks have several references.
//!
//! Floor 5. The catalog counts references (C4): exact and cheap, and where nothing is shared by deduplication, references are
//! blocks. Where something is, a block goes with a snapshot if all of its references do. So the references that a snapshot holds alone are
//! walked once more, beside the counts of the blocks that have several:
//!
//! ```text
//! blocks that go  =  references held alone to blocks with one reference
//!                 +  blocks with n references of which n are held alone
//! ```
//!
//! So are the blocks of a snapshot some of whose disks are clones of others.
//!
//! C6  What is kept here is what a full recount gives, as of the last checkpoint; what a change makes doubtful is forgotten.

use super::engine::Engine;
use super::sizes::{census_of, censuses, settled_root};
use super::state::State;
use crate::catalog::{Child, SizeOf};
use crate::error::{ErrorKind, Result};
use crate::extent::Census;
use crate::limits::COLLECT_STEP_BLOCKS;
use crate::space::{GateGuard, SharedBlocks};
use crate::units::{BlockNo, SnapshotId, wide};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What some censuses found, all together.
#[derive(Default)]
pub(super) struct Total {
    /// References to blocks that have no other.
    single: u64,
    pub(super) nodes: u64,
    /// Blocks that have several references, and how many of those were found.
    several: HashMap<BlockNo, u16>,
}

impl Total {
    pub(super) fn add(&mut self, census: &mut Census) {
        self.single += census.found.data;
        self.nodes += census.found.nodes;
        for (block, found) in census.take_several() {
            let all = self.several.entry(block).or_default();
            *all = all.saturating_add(found);
        }
    }

    /// Blocks of which all references were found.
    pub(super) fn whole(&self, shared: &SharedBlocks) -> u64 {
        let whole = self.several.iter().filter(|(block, found)| shared.count(**block) == **found);
        self.single + wide(whole.count())
    }

    /// Blocks of which any reference was found.
    fn distinct(&self) -> u64 {
        self.single + wide(self.several.len())
    }
}

/// A count under way.
struct Counting<'a> {
    alone: Vec<Census>,
    /// Of a snapshot whose blocks were not counted yet.
    all: Vec<Census>,
    shared: Arc<SharedBlocks>,
    _gate: GateGuard<'a>,
}

/// Whether disks of a snapshot may hold the same references: some are clones of others.
fn has_kin(state: &State, id: SnapshotId) -> bool {
    let record = state.catalog.snapshots.get(&id);
    record.is_some_and(|record| state.catalog.lineage.has_kin(&record.versions))
}

impl Engine {
    /// How many blocks a snapshot refers to, each counted once, where so many references are known.
    pub(crate) fn distinct_blocks(&self, state: &State, id: SnapshotId, mapped: u64) -> Option<u64> {
        if !self.has_shared_blocks() && !has_kin(state, id) {
            return Some(mapped);
        }
        let known = state.catalog.distinct_blocks.get(&id).copied();
        if known.is_none() {
            self.wanted_sizes.lock().insert(SizeOf::Snapshot(id));
        }
        known
    }

    /// How many blocks go with a snapshot or disk that holds so many references alone.
    pub(crate) fn blocks_alone(&self, state: &State, of: SizeOf, references: u64) -> Option<u64> {
        if references == 0 || !self.has_shared_blocks() {
            return Some(references);
        }
        let known = state.catalog.blocks_alone.get(&of).copied();
        if known.is_none() {
            self.wanted_sizes.lock().insert(of);
        }
        known
    }

    /// Whether any block had several references at the last checkpoint.
    pub(super) fn has_shared_blocks(&self) -> bool {
        self.shared_blocks.load(Ordering::Relaxed) > 0
    }

    /// Wants the sizes of everything.
    pub(super) fn want_all_sizes(&self) {
        let state = self.state.read();
        let has_shared = self.has_shared_blocks();
        let snapshots = state.catalog.snapshots.keys().copied();
        let snapshots = snapshots.filter(|id| has_shared || has_kin(&state, *id)).map(SizeOf::Snapshot);
        let disks = state.catalog.disks.keys().copied().filter(|_| has_shared).map(SizeOf::Disk);
        self.wanted_sizes.lock().extend(snapshots.chain(disks));
    }

    /// Counts what somebody asked for and is not known, until nothing is left, or `pause` says that there is something
    /// more urgent to do.
    pub(crate) fn count_blocks(&self, mut pause: impl FnMut() -> Result<bool>) -> Result<()> {
        let Some(_only) = self.census.try_lock() else { return Ok(()) };
        let mut tried = BTreeSet::new();
        while self.has_room_to_count() {
            let next = self.wanted_sizes.lock().iter().copied().find(|of| !tried.contains(of));
            let Some(of) = next else { return Ok(()) };
            tried.insert(of);
            let Some(mut counting) = self.begin_block_count(of)? else { continue };
            let outcome = self.run_block_count(&mut counting, &mut pause);
            let is_void = self.state.write().catalog.counting_blocks.take() != Some(of);
            match outcome {
                Ok(Some((distinct, alone))) if !is_void => self.note_block_count(of, distinct, alone),
                Ok(Some(_)) => {} // it changed meanwhile: somebody asks again
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Corrupt => _ = self.wanted_sizes.lock().remove(&of),
                Err(error) => return Err(error),
            }
            drop(counting);
            if pause()? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Plans a count. `None` where it is not time yet, or nothing is left to count. Whoever is in the gate waits for no
    /// checkpoint, so the lock comes first.
    fn begin_block_count(&self, of: SizeOf) -> Result<Option<Counting<'_>>> {
        let mut checkpointer = self.maintenance.lock();
        let gate = self.gate.enter();
        let shared = checkpointer.tables.shared_blocks()?;
        let state = &mut *self.state.write();
        let is_there = match of {
            SizeOf::Disk(id) => state.catalog.disks.contains_key(&id),
            SizeOf::Snapshot(id) => state.catalog.snapshots.contains_key(&id),
        };
        if !is_there {
            self.wanted_sizes.lock().remove(&of);
            return Ok(None);
        }
        let points: Vec<Child> = match of {
            SizeOf::Disk(id) => vec![Child::Head(id)],
            SizeOf::Snapshot(id) => {
                let record = state.catalog.snapshots.get(&id);
                record.map_or_else(Vec::new, |record| {
                    record.versions.iter().copied().map(Child::Version).collect()
                })
            }
        };
        let is_unsettled = |point: &Child| match point {
            Child::Version(id) => state.unsettled.contains_key(id),
            Child::Head(_) => false,
        };
        let is_uncounted = |point: &Child| state.catalog.awaits_count(*point);
        if points.iter().any(|point| is_unsettled(point) || is_uncounted(point)) {
            return Ok(None);
        }
        let alone = match of {
            SizeOf::Disk(_) => points
                .iter()
                .filter_map(|point| Some(census_of(state, *point, settled_root(state, *point)?)))
                .collect(),
            SizeOf::Snapshot(id) => censuses(state, &[id])?,
        };
        let all = match of {
            SizeOf::Snapshot(id) if !state.catalog.distinct_blocks.contains_key(&id) => {
                // What two disks of the snapshot hold, of which one was cloned from the other, counts for the first.
                let roots: Vec<_> = points.iter().filter_map(|point| settled_root(state, *point)).collect();
                (0..roots.len()).map(|nth| Census::new(roots[nth], roots[..nth].to_vec())).collect()
            }
            _ => Vec::new(),
        };
        state.catalog.counting_blocks = Some(of);
        Ok(Some(Counting { alone, all, shared, _gate: gate }))
    }

    /// The blocks that all places refer to, and those that go; `None` if it has to make way.
    fn run_block_count(
        &self,
        counting: &mut Counting<'_>,
        pause: &mut impl FnMut() -> Result<bool>,
    ) -> Result<Option<(u64, u64)>> {
        let (mut alone, mut all) = (Total::default(), Total::default());
        let shared = counting.shared.clone();
        let parts = counting.alone.iter_mut().map(|census| (census, true));
        for (census, is_alone) in parts.chain(counting.all.iter_mut().map(|census| (census, false))) {
            census.beside_shared(&shared);
            while !census.step(&self.nodes, COLLECT_STEP_BLOCKS)? {
                if pause()? || !self.has_room_to_count() {
                    return Ok(None);
                }
            }
            if is_alone { alone.add(census) } else { all.add(census) }
        }
        Ok(Some((all.distinct(), alone.whole(&shared))))
    }

    fn note_block_count(&self, of: SizeOf, distinct: u64, alone: u64) {
        let catalog = &mut self.state.write().catalog;
        if let SizeOf::Snapshot(id) = of {
            catalog.distinct_blocks.entry(id).or_insert(distinct);
        }
        catalog.blocks_alone.insert(of, alone);
        self.wanted_sizes.lock().remove(&of);
    }
}
