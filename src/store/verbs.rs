//! Verbs: how a change of the catalog is made, logged and applied.
//!
//! Floor 5. A verb plans an event under the state lock, and applies it there: to the journal, to the
//! catalog, to the heads. Replaying the journal applies the same event in the same way.

use super::blocks::Purpose;
use super::engine::Engine;
use super::head::{Head, HeadState};
use super::reclaimable;
use super::state::State;
use crate::defect::Defect;
use crate::error::{Error, ErrorKind, Result};
use crate::extent::{Footprint, View, height_for};
use crate::format::{AdoptedDisk, DiskRecord, Event, NewVersion};
use crate::units::{DiskId, Epoch, VersionId, wide};
use parking_lot::RwLockWriteGuard;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Whether applying an event also logs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logging {
    Journal,
    /// It came from there.
    Replay,
}

impl Engine {
    /// Plans an event from the state as it is, applies it, and makes it durable. It changes about
    /// `records` records of the catalog, each of which may stand in a page of its own.
    pub(crate) fn execute(
        &self,
        (purpose, records): (Purpose, u64),
        plan: impl FnOnce(&State) -> Result<Event>,
    ) -> Result<Event> {
        self.keep_up()?;
        let event = self.record((purpose, records), plan)?;
        self.flush()?;
        Ok(event)
    }

    /// Plans an event and applies it. It is durable with the next flush.
    pub(super) fn record(
        &self,
        (purpose, records): (Purpose, u64),
        plan: impl FnOnce(&State) -> Result<Event>,
    ) -> Result<Event> {
        self.ensure_space(records, purpose)?;
        let _open = self.begin_change()?;
        let mut state = self.state.write();
        let event = plan(&state)?;
        self.apply(&mut state, &event, Logging::Journal)?;
        self.dirty_records.store(wide(state.catalog.dirty_count()), Ordering::Relaxed);
        Ok(event)
    }

    /// The current time, in UTC seconds.
    pub(crate) fn now(&self) -> u64 {
        (self.options.clock)()
    }

    /// How many seconds what a restore replaced is kept at most.
    pub(crate) fn keep_replaced(&self) -> Option<u64> {
        self.options.keep_replaced
    }

    /// Tells the background thread that deleted content waits.
    pub(crate) fn ask_for_collection(&self) {
        self.signal.ask_for_collection();
        self.room.announce();
    }

    /// Applies an event to the journal, the catalog and the heads.
    pub(super) fn apply(&self, state: &mut State, event: &Event, logging: Logging) -> Result<()> {
        let concerned = concerned(state, event);
        let heads: BTreeMap<DiskId, Arc<Head>> =
            concerned.iter().filter_map(|id| Some((*id, state.heads.get(id)?.clone()))).collect();
        let mut guards: Guards<'_> =
            heads.iter().map(|(id, head)| (*id, (head, head.state.write()))).collect();
        let foreseen = reclaimable::foresee(&state.catalog, event);
        state.catalog.apply(event)?;
        reclaimable::expect(&mut state.catalog, foreseen);
        self.forget_hidden_templates(state);
        if logging == Logging::Journal {
            self.journal.append(|builder| builder.event(event));
        }
        match event {
            Event::Grow { .. }
            | Event::CreateServer { .. }
            | Event::DeleteSnapshot { .. }
            | Event::MarkServer { .. }
            | Event::MarkSnapshot { .. }
            | Event::MarkDisk { .. } => {}
            Event::CreateDisk { id, .. } => self.add_head(state, *id)?,
            Event::ResizeDisk { id, size_bytes } => self.resize_head(&mut guards, *id, *size_bytes)?,
            Event::Snapshot { epoch, versions, .. } => {
                self.freeze_heads(state, &mut guards, *epoch, versions)?;
            }
            Event::DeleteDisk { id, epoch, version } => {
                let new = NewVersion { disk: *id, version: *version };
                self.freeze_heads(state, &mut guards, *epoch, &[new])?;
                remove_head(state, &mut guards, *id);
            }
            Event::DeleteServer { epoch, versions, .. } => {
                self.freeze_heads(state, &mut guards, *epoch, versions)?;
                for new in versions {
                    remove_head(state, &mut guards, new.disk);
                }
            }
            Event::Adopt { epoch, disks, .. } => {
                let versions: Vec<NewVersion> = disks.iter().map(AdoptedDisk::new_version).collect();
                self.freeze_heads(state, &mut guards, *epoch, &versions)?;
                for new in disks {
                    remove_head(state, &mut guards, new.disk);
                }
            }
            Event::Restore { epoch, versions, .. } | Event::Reset { epoch, versions } => {
                self.freeze_heads(state, &mut guards, *epoch, versions)?;
                self.return_heads(state, &mut guards, &concerned)?;
            }
            Event::CloneServer { disks, .. } => {
                let disks: Vec<DiskId> = disks.iter().map(|new| new.disk).collect();
                self.return_heads(state, &mut guards, &disks)?;
            }
            Event::CloneDisk { new, .. } => self.return_heads(state, &mut guards, &[new.disk])?,
        }
        Ok(())
    }

    fn add_head(&self, state: &mut State, id: DiskId) -> Result<()> {
        let record = state.disk(id)?;
        let owned_after = state.catalog.epoch_of(record.parent);
        let head = Head::new(record, owned_after, self.block_size(), state.fanout_bits);
        self.touch(&head, &mut head.state.write().is_touched);
        state.heads.insert(id, head);
        Ok(())
    }

    fn resize_head(&self, guards: &mut Guards<'_>, id: DiskId, size_bytes: u64) -> Result<()> {
        let (head, own) = guards.get_mut(&id).ok_or_else(|| unknown_disk(id))?;
        let (mut footprint, mut dropped) = (Footprint::default(), Vec::new());
        let shape = (self.block_size(), self.geometry.fanout_bits());
        own.resize(size_bytes, shape, &mut footprint, &mut dropped);
        self.account(footprint, dropped);
        self.touch(head, &mut own.is_touched);
        Ok(())
    }

    /// The content of each head becomes that of its new version; the head goes on from there.
    fn freeze_heads(
        &self,
        state: &mut State,
        guards: &mut Guards<'_>,
        epoch: Epoch,
        versions: &[NewVersion],
    ) -> Result<()> {
        for new in versions {
            let (head, own) = guards.get_mut(&new.disk).ok_or_else(|| unknown_disk(new.disk))?;
            keep_content(state, new.version, &own.view);
            if let Some(disk) = state.catalog.disks.get(&new.disk) {
                own.birth = disk.birth;
            }
            own.owned_after = epoch;
            self.touch(head, &mut own.is_touched);
        }
        Ok(())
    }

    /// The heads of a restored server take over the snapshot's contents.
    fn return_heads(&self, state: &mut State, guards: &mut Guards<'_>, disks: &[DiskId]) -> Result<()> {
        for &id in disks {
            let Some(record) = state.catalog.disks.get(&id).cloned() else { continue };
            let Some(version) = record.parent.and_then(|parent| state.catalog.versions.get(&parent)) else {
                continue;
            };
            let (view, owned_after) = (state.view_of(version), version.epoch);
            if let Some((head, own)) = guards.get_mut(&id) {
                self.take_over(own, view, owned_after, &record);
                self.touch(head, &mut own.is_touched);
            } else {
                self.add_head(state, id)?;
                let head = state.heads.get(&id).cloned().ok_or_else(|| unknown_disk(id))?;
                self.take_over(&mut head.state.write(), view, owned_after, &record);
            }
        }
        Ok(())
    }

    fn take_over(&self, own: &mut HeadState, view: View, owned_after: Epoch, record: &DiskRecord) {
        own.view = view;
        own.size_bytes = record.size_bytes;
        own.birth = record.birth;
        own.owned_after = owned_after;
        let blocks = record.size_bytes.div_ceil(u64::from(self.block_size()));
        own.view.delta.raise(height_for(blocks, self.geometry.fanout_bits()));
    }
}

type Guards<'a> = BTreeMap<DiskId, (&'a Arc<Head>, RwLockWriteGuard<'a, HeadState>)>;

/// The disks whose heads an event changes.
fn concerned(state: &State, event: &Event) -> Vec<DiskId> {
    match event {
        Event::Snapshot { versions, .. }
        | Event::DeleteServer { versions, .. }
        | Event::Reset { versions, .. } => versions.iter().map(|new| new.disk).collect(),
        Event::Adopt { disks, .. } => disks.iter().map(|new| new.disk).collect(),
        Event::DeleteDisk { id, .. } | Event::ResizeDisk { id, .. } => vec![*id],
        Event::Restore { snapshot, versions, .. } => {
            // The snapshot is hidden by its own event if it was an automatic one; its versions stay.
            let restored = state.catalog.snapshots.get(snapshot).map_or(&[][..], |record| &record.versions);
            let restored = restored.iter().filter_map(|id| state.catalog.versions.get(id)).map(|v| v.disk);
            restored.chain(versions.iter().map(|new| new.disk)).collect()
        }
        _ => Vec::new(),
    }
}

/// Sixteen random bytes, which a snapshot is known by wherever it is sent.
///
/// # Errors
/// `Io` where the system has no random numbers.
pub(crate) fn new_identity() -> Result<[u8; 16]> {
    let mut identity = [0; 16];
    getrandom::fill(&mut identity)
        .map_err(|cause| Error::new(ErrorKind::Io, format!("cannot draw random numbers: {cause}")))?;
    Ok(identity)
}

/// Remembers a version's content until a checkpoint has settled it.
fn keep_content(state: &mut State, id: VersionId, view: &View) {
    match (view.settled_root(), state.catalog.versions.get_mut(&id)) {
        (Some(root), Some(version)) => version.root = root,
        _ => {
            state.unsettled.insert(id, view.clone());
        }
    }
}

fn remove_head(state: &mut State, guards: &mut Guards<'_>, id: DiskId) {
    if let Some((_, own)) = guards.get_mut(&id) {
        own.is_gone = true;
    }
    state.heads.remove(&id);
}

fn unknown_disk(id: DiskId) -> Error {
    Error::corrupt(Defect::JournalRecord, format!("event of unknown disk {id}"))
}
