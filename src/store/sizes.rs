//! Sizes: what a disk or snapshot alone holds, and what deleting a set of snapshots would free.
//!
//! Floor 5. Checkpoints keep most counts by adding (C4). The others are counted here, over what differs between neighbours,
//! in small steps, beside all traffic: the gate keeps the trees that are being walked.

use super::block_sizes::Total;
use super::engine::Engine;
use super::state::State;
use crate::catalog::Child;
use crate::commit::Checkpointer;
use crate::error::{Error, ErrorKind, Result};
use crate::extent::Census;
use crate::format::Root;
use crate::limits::{COLLECT_STEP_BLOCKS, COUNTED_TOGETHER_MAX, COUNTED_UNASKED_MAX};
use crate::space::GateGuard;
use crate::units::{DiskId, ServerId, SnapshotId, VersionId};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// Free blocks below which counting makes way: it keeps freed blocks from being used again.
const FREE_BLOCKS_TO_COUNT: u64 = 1024;

/// What a disk refers to, or all disks of a server together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Space {
    /// Bytes of all blocks that it refers to. One that [`dedup`](crate::Store::dedup) put into several places counts for each.
    pub referenced_bytes: u64,
    /// Of those, what no snapshot and no other disk refers to: deleting the disk would free it. `None` while that is
    /// being counted; for one of more than 1,024 clones of a deleted snapshot, that begins with the question.
    pub exclusive_bytes: Option<u64>,
}

impl Space {
    /// Of the referenced bytes, what somebody else refers to, too.
    pub fn shared_bytes(&self) -> Option<u64> {
        self.exclusive_bytes.map(|exclusive| self.referenced_bytes.saturating_sub(exclusive))
    }
}

/// What deleting would free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Freed {
    /// Bytes of data blocks.
    pub data_bytes: u64,
    /// Bytes of extent nodes, at most.
    pub metadata_bytes: u64,
}

/// A count under way.
struct Counting {
    point: Child,
    census: Census,
    mapped: u64,
}

impl Engine {
    /// Counts what is not known yet, at once, unless `is_known` says that it is. Who asks for blocks is asked again once references are
    /// counted.
    pub(crate) fn count_now(&self, is_known: impl Fn() -> bool) -> Result<()> {
        if is_known() {
            return Ok(());
        }
        self.count_sizes(|| Ok(false))?;
        if is_known() {
            return Ok(());
        }
        self.count_blocks(|| Ok(false))
    }

    /// Counts what is to be counted, until nothing is left, or the store has something more urgent to do, as `pause` says.
    pub(crate) fn count_sizes(&self, mut pause: impl FnMut() -> Result<bool>) -> Result<()> {
        let Some(_only) = self.census.try_lock() else { return Ok(()) };
        while self.has_room_to_count() {
            let Some((mut counting, guard)) = self.begin_count() else { return Ok(()) };
            let counted = loop {
                match counting.census.step(&self.nodes, COLLECT_STEP_BLOCKS) {
                    Ok(true) => break true,
                    Ok(false) => {}
                    Err(error) if error.kind() == ErrorKind::Corrupt => {
                        // A scrub tells where; the count stays unknown.
                        self.state.write().catalog.give_up_count(counting.point);
                        break false;
                    }
                    Err(error) => return Err(error),
                }
                if pause()? {
                    self.state.write().catalog.counting = None;
                    return Ok(());
                }
                let is_void = self.state.read().catalog.counting != Some(counting.point);
                if is_void || !self.has_room_to_count() {
                    break false;
                }
            };
            self.end_count(&counting, counted);
            drop(guard);
            if pause()? {
                return Ok(());
            }
        }
        Ok(())
    }

    pub(super) fn has_room_to_count(&self) -> bool {
        self.waiting_for_space.load(Ordering::Relaxed) == 0
            && (!self.gate.holds_any() || self.free_hint.load(Ordering::Relaxed) > FREE_BLOCKS_TO_COUNT)
    }

    /// What to count next, and the gate that keeps its trees. Whoever is in the gate waits for no checkpoint: one may
    /// be waiting for the gate.
    fn begin_count(&self) -> Option<(Counting, GateGuard<'_>)> {
        let _quiet = self.maintenance.lock();
        let gate = self.gate.enter();
        let mut guard = self.state.write();
        let state = &mut *guard;
        let (point, own, census) = loop {
            let (point, is_asked) = self.next_to_count(state)?;
            let Some(own) = settled_root(state, point) else {
                state.catalog.give_up_count(point);
                continue;
            };
            let census = census_of(state, point, own);
            match point {
                Child::Head(id) if !is_asked && census.neighbours() > COUNTED_UNASKED_MAX => {
                    state.catalog.set_aside_with(id);
                }
                _ => break (point, own, census),
            }
        };
        state.catalog.begin_count(point);
        Some((Counting { point, mapped: own.mapped, census }, gate))
    }

    /// What is to be counted next, and whether somebody asked for it.
    fn next_to_count(&self, state: &State) -> Option<(Child, bool)> {
        let mut asked = self.asked_disks.lock();
        while let Some(&id) = asked.first() {
            if state.catalog.awaits_count(Child::Head(id)) {
                return Some((Child::Head(id), true));
            }
            asked.remove(&id);
        }
        let is_ready = |point: &Child| match point {
            Child::Version(id) => !state.unsettled.contains_key(id),
            Child::Head(_) => true,
        };
        state.catalog.uncounted.iter().copied().find(is_ready).map(|point| (point, false))
    }

    /// Somebody wants to know a disk's size.
    pub(super) fn ask_for_count(&self, state: &State, id: DiskId) {
        if state.catalog.awaits_count(Child::Head(id)) {
            self.asked_disks.lock().insert(id);
        }
    }

    fn end_count(&self, counting: &Counting, is_complete: bool) {
        let catalog = &mut self.state.write().catalog;
        if catalog.counting.take() != Some(counting.point) || !is_complete {
            return;
        }
        let alone = counting.census.found.data;
        let count = match counting.point {
            Child::Version(_) => Some(alone + catalog.counted_since),
            Child::Head(_) => {
                counting.mapped.checked_sub(alone).and_then(|held| held.checked_sub(catalog.counted_since))
            }
        };
        match count {
            Some(count) => catalog.set_count(counting.point, count),
            // The map says that it holds less than was found: it would say so again. The count stays unknown.
            None if catalog.counted_since == 0 => catalog.give_up_count(counting.point),
            None => {}
        }
    }

    /// What deleting these snapshots would free, all together. Everything before this call is taken into account. `Busy` where
    /// writers need the space that this holds back meanwhile.
    pub(crate) fn would_free(&self, ids: &[SnapshotId]) -> Result<Freed> {
        self.freed_by(|state| plan_deletion(state, ids))
    }

    /// What deleting a server would free, with all that it has.
    pub(super) fn server_would_free(&self, id: ServerId) -> Result<Freed> {
        self.freed_by(|state| {
            state.server(id)?;
            let mut victims = versions_of(state, &state.catalog.snapshots_of(id))?;
            victims.extend(state.catalog.disks_of(id).into_iter().map(Child::Head));
            if victims.len() > COUNTED_TOGETHER_MAX {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!(
                        "the server has {} disks and snapshots of disks, and at most {COUNTED_TOGETHER_MAX} are counted together; \
                         delete snapshots first",
                        victims.len()
                    ),
                ));
            }
            censuses_of(state, &victims)
        })
    }

    fn freed_by(&self, plan: impl FnOnce(&State) -> Result<Vec<Census>>) -> Result<Freed> {
        let (censuses, shared, gate) = {
            let mut checkpointer = self.maintenance.lock();
            self.settle_for_sizes(&mut checkpointer)?;
            let shared = checkpointer.tables.shared_blocks()?;
            (plan(&self.state.read())?, shared, self.gate.enter())
        };
        let mut total = Total::default();
        for mut census in censuses {
            census.beside_shared(&shared);
            while !census.step(&self.nodes, COLLECT_STEP_BLOCKS)? {
                if self.waiting_for_space.load(Ordering::Relaxed) > 0 {
                    let message = "writers wait for the space that counting holds back; try again";
                    return Err(Error::new(ErrorKind::Busy, message));
                }
            }
            total.add(&mut census);
        }
        drop(gate);
        let block_size = u64::from(self.block_size());
        Ok(Freed { data_bytes: total.whole(&shared) * block_size, metadata_bytes: total.nodes * block_size })
    }

    fn settle_for_sizes(&self, checkpointer: &mut Checkpointer) -> Result<()> {
        if self.is_read_only && self.journal.used_bytes() > 0 {
            let message =
                "what the journal holds is in no map yet, and cannot be counted; open the store for writing";
            return Err(Error::new(ErrorKind::ReadOnly, message));
        }
        if self.is_read_only || self.is_halted.load(Ordering::Acquire) {
            return Ok(());
        }
        self.checkpoint_with(checkpointer, false)
    }
}

/// The censuses that add up to what deleting snapshots would free. What several of them hold counts for the first.
fn plan_deletion(state: &State, ids: &[SnapshotId]) -> Result<Vec<Census>> {
    for id in ids {
        let record = state.snapshot(*id)?;
        if record.marks.protected {
            return Err(super::server::protected(&record.name, *id));
        }
    }
    censuses(state, ids)
}

/// The censuses of what these snapshots alone hold.
pub(super) fn censuses(state: &State, ids: &[SnapshotId]) -> Result<Vec<Census>> {
    censuses_of(state, &versions_of(state, ids)?)
}

fn versions_of(state: &State, ids: &[SnapshotId]) -> Result<BTreeSet<Child>> {
    let mut versions = BTreeSet::new();
    for id in ids {
        versions.extend(state.snapshot(*id)?.versions.iter().copied().map(Child::Version));
    }
    Ok(versions)
}

/// The censuses of what these versions and heads alone hold, all together.
fn censuses_of(state: &State, victims: &BTreeSet<Child>) -> Result<Vec<Census>> {
    let unsettled = || Error::new(ErrorKind::Busy, "a snapshot is being settled; try again");
    let census = |victim: &Child| {
        let own = settled_root(state, *victim).ok_or_else(unsettled)?;
        let around = state.catalog.around(&[*victim], |other| victims.contains(&Child::Version(other)));
        let others = around.found.into_iter().chain(around.passed.into_iter().map(Child::Version));
        // What two of them hold counts for the first.
        let counted = others.filter(|other| !victims.contains(other) || other < victim);
        Ok(Census::new(own, counted.filter_map(|point| settled_root(state, point)).collect()))
    };
    victims.iter().map(census).collect()
}

/// The census of what a point alone holds in its tree. What a head made itself, nobody descends from (C5).
pub(super) fn census_of(state: &State, point: Child, own: Root) -> Census {
    let census = Census::new(own, beside(state, point));
    match point {
        Child::Version(_) => census,
        Child::Head(id) => {
            let parent = state.catalog.disks.get(&id).and_then(|disk| disk.parent);
            census.alone_after(state.catalog.epoch_of(parent))
        }
    }
}

/// The trees that may hold what a point holds. For a version, those of its own snapshot count as one with it: what two of them
/// hold counts for the first.
fn beside(state: &State, point: Child) -> Vec<Root> {
    let versions = match point {
        Child::Head(_) => None,
        Child::Version(id) => state.catalog.versions.get(&id).and_then(|version| version.snapshot),
    };
    let versions = versions.and_then(|id| state.catalog.snapshots.get(&id)).map(|record| &record.versions);
    let is_own = |id: VersionId| versions.is_some_and(|versions| versions.contains(&id));
    let around = state.catalog.around(&[point], is_own);
    let counted = around.passed.into_iter().map(Child::Version).filter(|other| *other < point);
    around.found.into_iter().chain(counted).filter_map(|other| settled_root(state, other)).collect()
}

/// The tree that the last checkpoint left of a head or version.
pub(super) fn settled_root(state: &State, point: Child) -> Option<Root> {
    match point {
        Child::Head(id) => state.heads.get(&id)?.state.read().view.foundation.root(),
        Child::Version(id) => match state.unsettled.get(&id) {
            Some(view) => view.foundation.root(),
            None => Some(state.catalog.versions.get(&id)?.root),
        },
    }
}
