//! Prune: applies a retention policy to the snapshots of a server.
//!
//! Floor 6.

use super::retention::{Candidate, Retention, Verdict};
use crate::error::Result;
use crate::store::Server;
use crate::units::SnapshotId;

impl Server {
    /// What [`prune`](Server::prune) would do now, newest snapshot first. Nothing is deleted.
    ///
    /// # Errors
    /// `NotFound` if the server was deleted.
    pub fn plan_prune(&self, policy: &Retention) -> Result<Vec<Verdict>> {
        let candidates: Vec<Candidate> = {
            let state = self.shared.state();
            state.server(self.id)?;
            let ids = state.catalog.snapshots_of(self.id);
            let records = ids.iter().filter_map(|id| state.catalog.snapshots.get(id));
            let candidate = |record: &crate::format::SnapshotRecord| Candidate {
                id: record.id,
                created_at: record.created_at,
                kind: record.kind,
                marks: record.marks.clone(),
            };
            records.map(candidate).collect()
        };
        Ok(policy.plan(&candidates, self.shared.now()))
    }

    /// Deletes the server's snapshots that the policy does not keep, and those that have expired. The collector frees their
    /// space. Returns what became of each snapshot, newest first; one that somebody protected or deleted meanwhile is
    /// left out. Durable when this returns.
    ///
    /// # Errors
    /// `NotFound` if the server was deleted, `Io`, `Full`.
    pub fn prune(&self, policy: &Retention) -> Result<Vec<Verdict>> {
        let mut verdicts = self.plan_prune(policy)?;
        let leaving = verdicts.iter().filter(|verdict| !verdict.is_kept()).map(|verdict| verdict.id);
        let leaving: Vec<SnapshotId> = leaving.collect();
        let deleted = self.shared.delete_snapshots(&leaving)?;
        verdicts.retain(|verdict| verdict.is_kept() || deleted.contains(&verdict.id));
        Ok(verdicts)
    }
}
