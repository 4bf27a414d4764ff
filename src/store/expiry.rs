//! Expiry: snapshots that are deleted without a user asking for each: those whose time is over, those that a
//! retention policy gives up, and, in a store that is full, what restores replaced.
//!
//! Floor 5. The background thread calls it, so nothing here waits for that thread.

use super::blocks::Purpose;
use super::engine::Engine;
use super::notices::Notice;
use super::server::protected;
use super::state::State;
use crate::error::{ErrorKind, Result};
use crate::format::Event;
use crate::units::{ServerId, SnapshotId};

/// How many records of the catalog deleting a snapshot changes, about.
const RECORDS_PER_DELETION: u64 = 2;

/// Plans the deletion of a snapshot.
///
/// # Errors
/// `NotFound`, `Protected`.
pub(crate) fn plan_deletion(state: &State, id: SnapshotId) -> Result<Event> {
    let record = state.snapshot(id)?;
    if record.marks.protected { Err(protected(&record.name, id)) } else { Ok(Event::DeleteSnapshot { id }) }
}

impl Engine {
    /// Deletes the snapshots whose time is over. Returns them; their deletion is durable then.
    pub(crate) fn expire(&self) -> Result<Vec<SnapshotId>> {
        self.check_writable()?;
        let now = self.now();
        let (mut expired, mut tried) = (Vec::new(), None);
        // What somebody else deletes or protects at this moment is passed over, and not met twice.
        while let Some(id) = self.first_expired(now).filter(|id| tried != Some(*id)) {
            tried = Some(id);
            if let Some(server) = self.delete_quietly(id)? {
                self.notices.post(Notice::SnapshotExpired { server, snapshot: id });
                expired.push(id);
            }
        }
        self.end_deletions(expired.len())?;
        Ok(expired)
    }

    fn first_expired(&self, now: u64) -> Option<SnapshotId> {
        self.state.read().catalog.first_expired(now)
    }

    /// Deletes these snapshots, but for those that are gone or protected meanwhile. Returns those that it deleted; that is
    /// durable then. All deletions share a few flushes.
    pub(crate) fn delete_snapshots(&self, ids: &[SnapshotId]) -> Result<Vec<SnapshotId>> {
        self.check_writable()?;
        let mut deleted = Vec::with_capacity(ids.len());
        for &id in ids {
            if self.delete_quietly(id)?.is_some() {
                deleted.push(id);
            }
        }
        self.end_deletions(deleted.len())?;
        Ok(deleted)
    }

    /// Deletes the oldest snapshot that a restore left. Whether there was one.
    pub(super) fn give_up_oldest_replaced(&self) -> Result<bool> {
        let Some(id) = self.state.read().catalog.oldest_before_restore() else { return Ok(false) };
        if let Some(server) = self.delete_quietly(id)? {
            self.notices.post(Notice::UndoGivenUp { server, snapshot: id });
        }
        self.end_deletions(1)?;
        Ok(true)
    }

    /// Deletes a snapshot, without a flush. The server that it was of, or `None` if it is gone or protected meanwhile.
    fn delete_quietly(&self, id: SnapshotId) -> Result<Option<ServerId>> {
        if self.journal.used_bytes() > self.geometry.journal_bytes() / 2 {
            self.checkpoint()?;
        }
        let mut owner = None;
        let deleted = self.record((Purpose::Relief, RECORDS_PER_DELETION), |state| {
            owner = state.snapshot(id).ok().map(|record| record.server);
            plan_deletion(state, id)
        });
        match deleted {
            Ok(_) => {
                self.spill_if_many(self.journal.waiting())?;
                Ok(owner)
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Protected) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn end_deletions(&self, count: usize) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        self.flush()?;
        self.ask_for_collection();
        Ok(())
    }
}
