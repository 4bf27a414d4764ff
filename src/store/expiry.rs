//! Expiry: snapshots that are deleted without a user asking for each: those whose time is over, those that a
//! retention policy gives up, and, in a store that is full, what restores replaced.
//!
//! Floor 5. The background thread calls it, so nothing here waits for that thread.

use super::blocks::Purpose;
use super::engine::Engine;
use super::notices::Notice;
use super::server::protected;
use super::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Event, SnapshotRecord};
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
        // What somebody else deletes, protects or gives more time at this moment is passed over, and not met twice.
        while let Some(id) = self.first_expired(now).filter(|id| tried != Some(*id)) {
            tried = Some(id);
            if let Some(server) = self.delete_expired(id, now)? {
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

    /// Deletes a snapshot unless it is gone, protected or not due any more. The server that it was of.
    fn delete_expired(&self, id: SnapshotId, now: u64) -> Result<Option<ServerId>> {
        self.delete_quietly(id, |record| record.marks.expires_at.is_some_and(|at| at <= now))
    }

    /// Deletes these snapshots, but for those that are gone or protected meanwhile. Returns those that it deleted; that is
    /// durable then. All deletions share a few flushes.
    pub(crate) fn delete_snapshots(&self, ids: &[SnapshotId]) -> Result<Vec<SnapshotId>> {
        self.check_writable()?;
        let mut deleted = Vec::with_capacity(ids.len());
        for &id in ids {
            if self.delete_quietly(id, |_| true)?.is_some() {
                deleted.push(id);
            }
        }
        self.end_deletions(deleted.len())?;
        Ok(deleted)
    }

    /// Deletes the oldest snapshot that a restore left. Whether there was one.
    pub(super) fn give_up_oldest_replaced(&self) -> Result<bool> {
        let Some(id) = self.state.read().catalog.oldest_before_restore() else { return Ok(false) };
        if let Some(server) = self.delete_quietly(id, |_| true)? {
            self.notices.post(Notice::UndoGivenUp { server, snapshot: id });
        }
        self.end_deletions(1)?;
        Ok(true)
    }

    /// Deletes a snapshot, without a flush. The server that it was of, or `None` if it is gone or protected meanwhile, or is not one that
    /// `may` go any more: between finding it and this, there may have been a checkpoint.
    fn delete_quietly(
        &self,
        id: SnapshotId,
        may: impl Fn(&SnapshotRecord) -> bool,
    ) -> Result<Option<ServerId>> {
        if self.journal.used_bytes() > self.geometry.journal_bytes() / 2 {
            self.checkpoint()?;
        }
        let mut owner = None;
        let deleted = self.record((Purpose::Relief, RECORDS_PER_DELETION), |state| {
            let record = state.snapshot(id)?;
            if !may(record) {
                return Err(Error::new(ErrorKind::NotFound, format!("snapshot {id} is to stay")));
            }
            owner = Some(record.server);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

    use crate::device::MemoryDevice;
    use crate::{Options, SnapshotMarks, Store};
    use std::sync::Arc;

    /// What was due when it was found, and is not when its turn comes.
    #[test]
    fn a_snapshot_that_was_given_more_time_meanwhile_stays() {
        let options = Options::default().journal_bytes(1 << 20).background(false);
        let store = Store::create_on(Arc::new(MemoryDevice::new(0)), options).unwrap();
        let web = store.create_server("web").unwrap();
        web.create_disk("vda", 1 << 20).unwrap();
        let marks = |expires_at| SnapshotMarks { expires_at, ..SnapshotMarks::default() };
        let due = web.snapshot_with("due", "", marks(Some(1000))).unwrap();
        assert_eq!(store.shared.first_expired(1000), Some(due.id()));
        for more in [Some(1001), None] {
            due.set_marks(marks(more)).unwrap();
            assert_eq!(store.shared.delete_expired(due.id(), 1000).unwrap(), None);
            assert!(store.snapshot(due.id()).is_ok());
        }
        due.set_marks(marks(Some(1000))).unwrap();
        assert_eq!(store.shared.delete_expired(due.id(), 1000).unwrap(), Some(web.id()));
        assert!(web.snapshots().is_empty());
    }
}
