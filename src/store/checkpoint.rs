//! Checkpoints: freeze at one instant, write without stopping anybody, publish.
//!
//! Floor 5.

use super::blocks::{MetadataSpace, Purpose, RUNS_PER_LOCK};
use super::engine::Engine;
use super::head::Head;
use super::state::State;
use super::statistics::Counters;
use crate::catalog::{Catalog, Child};
use crate::commit::{Checkpointer, Committed, Flushed, Frozen, Lead, Taken, Tally, Target, Unit};
use crate::error::Result;
use crate::extent::{CutRoom, DeltaTree, Footprint, Foundation, Limit, View};
use crate::format::{CatalogKey, CatalogRecord, Root};
use crate::limits::{CUTS_PER_BLOCK, CUTS_PER_CHECKPOINT_MAX};
use crate::units::{Epoch, VersionId, index, wide};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a freeze takes from the engine.
struct Freeze {
    frozen: Frozen,
    taken: Option<Taken>,
    /// The foundations that become settled when the checkpoint is durable.
    settling: Vec<(Target, Arc<Foundation>)>,
    footprint: Footprint,
}

impl Engine {
    /// Runs a checkpoint. Afterwards the journal is empty, and what was dropped is free.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        self.check_writable()?;
        let mut checkpointer = self.maintenance.lock();
        self.checkpoint_with(&mut checkpointer, false)
    }

    /// Runs a checkpoint. The caller has the maintenance lock.
    pub(super) fn checkpoint_with(&self, checkpointer: &mut Checkpointer, is_last: bool) -> Result<()> {
        let done = self.try_checkpoint(checkpointer, is_last);
        self.signal.announce();
        done.map_err(|error| self.halt(error))
    }

    fn try_checkpoint(&self, checkpointer: &mut Checkpointer, is_last: bool) -> Result<()> {
        let _timed = self.times.checkpoint.start();
        self.release_parked();
        self.note_checkpoint();
        let lead = self.journal.lead()?;
        let Freeze { mut frozen, taken, settling, footprint } = {
            let _timed = self.times.freeze.start();
            let _closed = self.barrier.write();
            self.freeze(&lead, checkpointer, is_last)
        };
        let lead = self.write_taken(lead, taken, &mut frozen)?;
        let start = frozen.journal;
        let committed = checkpointer.write(frozen, &self.nodes, &MetadataSpace(self))?;
        self.publish(committed, settling, footprint);
        self.journal.trim(start);
        drop(lead);
        self.release_parked();
        Counters::add(&self.counters.checkpoints, 1);
        Ok(())
    }

    /// Writes the batch that was being collected at the freeze, so that flushes need not wait for the
    /// checkpoint, and fixes where the journal goes on. If the batch does not fit, flushes do wait: the
    /// lead is kept until the checkpoint covers the batch.
    fn write_taken<'a>(
        &self,
        lead: Lead<'a>,
        taken: Option<Taken>,
        frozen: &mut Frozen,
    ) -> Result<Option<Lead<'a>>> {
        self.runs.home_all(&*self.device, &self.geometry)?;
        let written = match taken {
            Some(taken) => lead.write(taken, &self.runs, (&[], false))?,
            None => Flushed::Done,
        };
        frozen.journal = lead.start();
        match written {
            Flushed::Done => lead.sync().map(|()| None),
            Flushed::NoRoom => Ok(Some(lead)),
        }
    }

    /// Takes everything that changed since the last freeze. The barrier is closed.
    fn freeze(&self, lead: &Lead<'_>, checkpointer: &Checkpointer, is_last: bool) -> Freeze {
        let mut guard = self.state.write();
        let state = &mut *guard;
        let mut settling = Vec::new();
        let mut disturbed = HashSet::new();
        let mut units = freeze_versions(state, &mut settling, &mut disturbed);
        for head in std::mem::take(&mut *self.touched.lock()) {
            let unit = self.freeze_head(state, &head, &mut settling, &mut disturbed);
            units.extend(unit);
        }
        let footprint = Footprint {
            nodes: self.dirty_nodes.load(Ordering::Relaxed),
            bytes: self.dirty_bytes.load(Ordering::Relaxed),
        };
        self.allocator.lock().freeze();
        let catalog = &mut state.catalog;
        let next_garbage = catalog.garbage.keys().next_back().map_or(1, |last| last + 1);
        let frozen = Frozen {
            units,
            records: self.take_dirty(catalog),
            dropped: std::mem::take(&mut *self.dropped.lock()),
            epoch: catalog.epoch,
            next_id: catalog.next_id,
            next_garbage: next_garbage.max(checkpointer.generation.0 << 16),
            room: self.cut_room(),
            journal: lead.start(),
            is_last,
        };
        Freeze { frozen, taken: lead.take_for_checkpoint(), settling, footprint }
    }

    /// What the checkpoint that begins may cut off: the records of that take blocks that nobody set aside.
    fn cut_room(&self) -> CutRoom {
        let spare = self.free_hint.load(Ordering::Relaxed).saturating_sub(self.floor(Purpose::Relief));
        let count = index(spare.saturating_mul(CUTS_PER_BLOCK).min(CUTS_PER_CHECKPOINT_MAX));
        CutRoom { count, blocks_min: self.options.cut_blocks_min }
    }

    fn take_dirty(&self, catalog: &mut Catalog) -> Vec<(CatalogKey, Option<CatalogRecord>)> {
        let records = catalog.take_dirty();
        self.frozen_records.store(wide(records.len()), Ordering::Relaxed);
        self.dirty_records.store(0, Ordering::Relaxed);
        records
    }

    fn freeze_head(
        &self,
        state: &mut State,
        head: &Arc<Head>,
        settling: &mut Vec<(Target, Arc<Foundation>)>,
        disturbed: &mut HashSet<VersionId>,
    ) -> Option<Unit> {
        let mut guard = head.state.write();
        let own = &mut *guard;
        own.is_touched = false;
        self.close_run(own);
        let record = state.catalog.disks.get(&head.id).filter(|_| !own.is_gone)?;
        let (parent, birth, known) = (record.parent, record.birth, record.shared);
        let base = own.view.foundation.root().expect("the checkpoint before this one is published");
        let empty = DeltaTree::new(own.view.delta.height(), state.fanout_bits);
        let delta = std::mem::replace(&mut own.view.delta, empty);
        let view = View { foundation: own.view.foundation.clone(), delta: delta.clone() };
        if !delta.is_empty() {
            own.view.foundation = Foundation::settling(delta, base);
            settling.push((Target::Head(head.id), own.view.foundation.clone()));
        }
        state.catalog.touch(CatalogKey::Disk(head.id));
        let target = Target::Head(head.id);
        let shared = shared_of_base(state, parent, base, known);
        let unit = unit(state, (target, parent, birth), (view, base), disturbed);
        Some(Unit { shared, ..unit })
    }

    /// The checkpoint is durable: everybody sees its trees from now on, and what it dropped may go.
    fn publish(&self, committed: Committed, settling: Vec<(Target, Arc<Foundation>)>, footprint: Footprint) {
        {
            let mut state = self.state.write();
            for &(target, root) in &committed.roots {
                settle_record(&mut state, target, root);
            }
            let roots: HashMap<Target, Root> = committed.roots.into_iter().collect();
            for (target, foundation) in settling {
                foundation.settle(roots[&target]);
            }
            for tally in &committed.tallies {
                note_tally(&mut state.catalog, tally);
            }
            for (garbage, blocks) in committed.garbage {
                state.catalog.cut_blocks.insert(garbage.id, blocks);
                state.catalog.garbage.insert(garbage.id, garbage);
            }
            let (totals, has_changed) = committed.counts;
            self.shared_blocks.store(totals.shared, Ordering::Relaxed);
            self.saved_blocks.store(totals.extra, Ordering::Relaxed);
            if has_changed {
                state.catalog.forget_all_blocks();
            }
        }
        if committed.tallies.iter().any(|tally| tally.lost != Some(0)) {
            self.has_let_go.store(true, Ordering::Relaxed);
        }
        self.dirty_nodes.fetch_sub(footprint.nodes, Ordering::Relaxed);
        self.dirty_bytes.fetch_sub(footprint.bytes, Ordering::Relaxed);
        self.frozen_records.store(0, Ordering::Relaxed);
        for runs in committed.parked.chunks(RUNS_PER_LOCK) {
            self.with_allocator(|allocator| allocator.park(runs));
        }
        self.with_allocator(|allocator| allocator.publish(committed.groups));
        self.gate.park(committed.parked);
    }
}

/// Enters a settled root where the live catalog keeps it.
fn settle_record(state: &mut State, target: Target, root: Root) {
    match target {
        Target::Head(id) => {
            if let Some(disk) = state.catalog.disks.get_mut(&id) {
                disk.root = root;
            }
        }
        Target::Version(id) => {
            if let Some(version) = state.catalog.versions.get_mut(&id) {
                version.root = root;
            }
            state.unsettled.remove(&id);
        }
    }
}

/// Units for all versions that are not settled, from the oldest on. A head that takes over such a version while
/// the checkpoint is under way shares its foundation, and sees it settled with all others.
fn freeze_versions(
    state: &mut State,
    settling: &mut Vec<(Target, Arc<Foundation>)>,
    disturbed: &mut HashSet<VersionId>,
) -> Vec<Unit> {
    let mut ids: Vec<VersionId> = state.unsettled.keys().copied().collect();
    ids.sort_by_key(|id| (state.catalog.epoch_of(Some(*id)), *id));
    ids.iter().filter_map(|id| freeze_version(state, *id, settling, disturbed)).collect()
}

fn freeze_version(
    state: &mut State,
    id: VersionId,
    settling: &mut Vec<(Target, Arc<Foundation>)>,
    disturbed: &mut HashSet<VersionId>,
) -> Option<Unit> {
    let version = state.catalog.versions.get(&id)?;
    let (parent, birth) = (version.parent, version.birth);
    let is_hidden = version.snapshot.is_none();
    let is_abandoned = is_hidden && state.catalog.lineage.child_count(id) == 0;
    let own = state.unsettled.get_mut(&id)?;
    let base = own.foundation.root().expect("the checkpoint before this one is published");
    let empty = DeltaTree::new(own.delta.height(), state.fanout_bits);
    let below = Foundation::settling(own.delta.clone(), base);
    settling.push((Target::Version(id), below.clone()));
    let view = std::mem::replace(own, View { foundation: below, delta: empty });
    let whose = (Target::Version(id), parent, birth);
    if is_abandoned || is_hidden {
        // Nobody counted on what it held.
        return Some(Unit { is_abandoned, ..unit_alone(state, whose, (view, base)) });
    }
    Some(unit(state, whose, (view, base), disturbed))
}

/// How many references of a head's tree somebody else holds, where that is known.
fn shared_of_base(state: &State, parent: Option<VersionId>, base: Root, known: Option<u64>) -> Option<u64> {
    let Some(parent) = parent else { return Some(0) };
    let version = state.catalog.versions.get(&parent)?;
    let is_its_tree = version.root.reference == base.reference && !state.unsettled.contains_key(&parent);
    match version.snapshot {
        None => None,
        Some(_) if is_its_tree => Some(version.root.mapped),
        Some(_) => known,
    }
}

/// A unit, and what it means for the counts around it if it changes anything.
fn unit(
    state: &mut State,
    whose: (Target, Option<VersionId>, Epoch),
    what: (View, Root),
    disturbed: &mut HashSet<VersionId>,
) -> Unit {
    let parent = whose.1.filter(|_| !what.0.delta.is_empty());
    let watch = parent.and_then(|parent| state.catalog.watch(parent, disturbed));
    Unit { watch, ..unit_alone(state, whose, what) }
}

fn unit_alone(
    state: &State,
    (target, parent, birth): (Target, Option<VersionId>, Epoch),
    (View { foundation, delta }, base): (View, Root),
) -> Unit {
    let (below, above, split) = state.catalog.limits_below(parent);
    let shown = parent.and_then(|parent| state.catalog.versions.get(&parent)?.snapshot);
    Unit {
        target,
        parent,
        limit: Limit { below, above, split },
        birth,
        foundation,
        base,
        delta,
        is_abandoned: false,
        watch: None,
        shared: None,
        is_parent_shown: shown.is_some(),
    }
}

/// Enters what a checkpoint says of sizes, as far as nothing happened since it was frozen that it does not know of.
fn note_tally(catalog: &mut Catalog, tally: &Tally) {
    if let Some((parent, left)) = tally.left_to {
        match left {
            Some(more) if catalog.still_adds(parent) => catalog.add_count(Child::Version(parent), more),
            _ => catalog.forget_count(Child::Version(parent)),
        }
    }
    if let Target::Head(id) = tally.target {
        catalog.note_shared(id, tally.birth, tally.shared, tally.lost);
    }
}
