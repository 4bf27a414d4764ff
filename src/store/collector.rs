//! Collector: gives back what deleted versions held, in small steps.
//!
//! Floor 5. It works on settled trees only, and never beside a checkpoint (T2). What it drops, and how
//! far it came, become durable together with the next checkpoint.

use super::engine::Engine;
use super::holes::Thinning;
use super::reclaimable;
use super::sizes::settled_root;
use super::state::State;
use super::statistics::Counters;
use crate::catalog::Child;
use crate::commit::Checkpointer;
use crate::error::Result;
use crate::extent::{Footprint, Limit, Reaped, Reaper, Victim};
use crate::format::{CatalogKey, CatalogRecord, Collection, CollectionMode, Garbage, Reference, Root};
use crate::limits::{COLLECT_STEP_BLOCKS, DROPS_PER_CHECKPOINT};
use crate::units::{DiskBlock, VersionId, wide};
use std::sync::atomic::Ordering;

/// One piece of the collector's work.
enum Job {
    Garbage(Garbage),
    Version(Collection, Victim, Vec<Root>),
}

impl Engine {
    /// Runs the collector until nothing is left to do, and makes what it freed reusable.
    pub(crate) fn collect(&self) -> Result<()> {
        self.check_writable()?;
        let mut checkpointer = self.maintenance.lock();
        self.checkpoint_with(&mut checkpointer, false)?;
        self.look_again();
        while self.collect_some(&mut checkpointer)? {
            self.checkpoint_with(&mut checkpointer, false)?;
        }
        self.checkpoint_with(&mut checkpointer, false)?;
        drop(checkpointer);
        if self.options.punch_holes {
            self.wait_for_parked();
        }
        self.give_back_unasked(Thinning::Full)?;
        self.count_sizes(|| Ok(false))?;
        self.want_all_sizes();
        self.count_blocks(|| Ok(false))
    }

    /// Runs collector steps until a checkpoint is worth while. Whether anything was done.
    pub(super) fn collect_some(&self, _proof: &mut Checkpointer) -> Result<bool> {
        let mut worked = false;
        while self.collect_step(COLLECT_STEP_BLOCKS)? {
            worked = true;
            if self.owes_much() || self.dropped.lock().len() >= DROPS_PER_CHECKPOINT {
                break;
            }
        }
        Ok(worked)
    }

    /// Whether a checkpoint had better come before more changes.
    pub(super) fn owes_much(&self) -> bool {
        self.metadata_debt() > self.free_hint.load(Ordering::Relaxed) / 2
    }

    /// Runs one collector step, which looks at about `places` places. Whether there was anything to do.
    pub(crate) fn collect_step(&self, places: u64) -> Result<bool> {
        let job = next_job(&mut self.state.write());
        let Some(job) = job else { return Ok(false) };
        let step = || match job {
            Job::Garbage(garbage) => self.step_garbage(&garbage, places),
            Job::Version(collection, victim, children) => {
                self.step_version(collection, (&victim, &children), places)
            }
        };
        self.times.collector.time(step).map(|()| true)
    }

    fn drop_all(&self, reaped: &mut Reaped) {
        Counters::add(&self.counters.collected_blocks, wide(reaped.dropped.len()));
        self.dropped.lock().append(&mut reaped.dropped);
    }

    fn step_garbage(&self, garbage: &Garbage, places: u64) -> Result<()> {
        let limit = Limit { below: garbage.limit_below, above: garbage.limit_above, split: garbage.split };
        let victim =
            Victim { reference: garbage.reference, height: garbage.height, first: garbage.first, limit };
        let walk = Reaper::new(&self.nodes, garbage.cursor, places, false);
        let mut reaped = walk.walk(&victim, &[])?;
        self.drop_all(&mut reaped);
        let catalog = &mut self.state.write().catalog;
        match reaped.next {
            None => catalog.remove(CatalogKey::Garbage(garbage.id)),
            Some(cursor) => {
                catalog.put(CatalogRecord::Garbage(Garbage { cursor, ..garbage.clone() }));
            }
        }
        Ok(())
    }

    fn step_version(
        &self,
        collection: Collection,
        (victim, children): (&Victim, &[Root]),
        places: u64,
    ) -> Result<()> {
        let keeps = collection.mode == CollectionMode::Trim;
        // What is cleared from a version that stays is written anew: no more than there is room for.
        let room = (self.free_hint.load(Ordering::Relaxed) / 8) << self.nodes.fanout_bits();
        let budget = if keeps { places.min(room) } else { places };
        let walk = Reaper::new(&self.nodes, collection.cursor, budget.max(1), keeps);
        let mut reaped = walk.walk(victim, children)?;
        self.drop_all(&mut reaped);
        let state = &mut *self.state.write();
        reclaimable::dropped(&mut state.catalog, collection.victim, reaped.data + reaped.unheld.len());
        if keeps && !reaped.unheld.is_empty() {
            self.clear_from(state, collection.victim, &reaped.unheld);
            state.catalog.trim_above(collection.victim);
        }
        match (reaped.next, collection.mode) {
            (Some(cursor), _) => {
                state.catalog.put(CatalogRecord::Collection(Collection { cursor, ..collection }));
            }
            (None, CollectionMode::Trim) => {
                state.catalog.note_trimmed(collection.victim);
                state.catalog.remove(CatalogKey::Collection);
            }
            (None, CollectionMode::Drop | CollectionMode::Merge) => {
                reclaimable::hand_on(&mut state.catalog, collection.victim);
                state.catalog.splice_out(collection.victim);
                state.catalog.remove(CatalogKey::Collection);
            }
        }
        Ok(())
    }

    /// Clears references from a version that stays. The next checkpoint settles that, and drops them.
    fn clear_from(&self, state: &mut State, victim: VersionId, unheld: &[DiskBlock]) {
        let Some(version) = state.catalog.versions.get(&victim) else { return };
        let mut view = state.view_of(version);
        let mut footprint = Footprint::default();
        for &block in unheld {
            view.delta.set(block, &[Reference::HOLE], &mut footprint, &mut |_| {});
        }
        state.unsettled.insert(victim, view);
        state.catalog.touch(CatalogKey::Version(victim));
        self.account(footprint, Vec::new());
    }
}

/// What the collector does next: what it has begun, or the first deleted version that is settled.
fn next_job(state: &mut State) -> Option<Job> {
    if let Some(garbage) = state.catalog.garbage.values().next() {
        return Some(Job::Garbage(garbage.clone()));
    }
    let collection = state.catalog.collection.or_else(|| begin(state))?;
    state.catalog.collection = Some(collection);
    let version = state.catalog.versions.get(&collection.victim)?;
    // What a version that stays inherited from deleted ones is cleared from it, too: those could not let go of it otherwise.
    let above = match collection.mode {
        CollectionMode::Trim => state.catalog.nearest_shown(version.parent),
        CollectionMode::Drop | CollectionMode::Merge => version.parent,
    };
    let victim = Victim {
        reference: version.root.reference,
        height: version.root.height,
        first: DiskBlock(0),
        limit: Limit::uniform(state.catalog.epoch_of(above)),
    };
    let children = state.catalog.lineage.children(collection.victim);
    let children = children.into_iter().filter_map(|child| settled_root(state, child)).collect();
    Some(Job::Version(collection, victim, children))
}

fn begin(state: &State) -> Option<Collection> {
    state.catalog.lineage.queue.iter().find_map(|&victim| {
        let mode = match state.catalog.lineage.child_count(victim) {
            0 => CollectionMode::Drop,
            1 => CollectionMode::Merge,
            _ => CollectionMode::Trim,
        };
        let is_ready = !state.unsettled.contains_key(&victim) && !waits_below(state, victim, mode);
        is_ready.then_some(Collection { victim, mode, cursor: DiskBlock(0) })
    })
}

/// Whether a version is to be trimmed, and something was cleared from a deleted one below it that is not settled yet.
fn waits_below(state: &State, victim: VersionId, mode: CollectionMode) -> bool {
    let below = || state.catalog.lineage.children(victim).into_iter();
    mode == CollectionMode::Trim
        && below().any(|child| match child {
            Child::Version(id) => state.catalog.is_hidden(id) && state.unsettled.contains_key(&id),
            Child::Head(_) => false,
        })
}
