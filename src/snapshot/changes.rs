//! Changes: what a snapshot's disks hold that other points do not.
//!
//! Floor 6.

use super::handle::{Snapshot, SnapshotDisk};
use crate::error::Result;
use crate::store::{Changes, Point};
use crate::units::SnapshotId;

impl From<&SnapshotDisk> for Point {
    fn from(disk: &SnapshotDisk) -> Self {
        Self::version(&disk.shared, disk.id)
    }
}

impl Snapshot {
    /// The disk of this snapshot that a disk is, descends from, or was cloned together with, whatever either is called.
    ///
    /// # Errors
    /// `NotFound` if the snapshot does not hold it, or either was deleted; `Invalid` if they lie in different stores.
    pub fn disk_behind(&self, point: &Point) -> Result<SnapshotDisk> {
        point
            .in_snapshot_of(&self.shared, self.id())
            .map(|id| SnapshotDisk { shared: self.shared.clone(), id })
    }
}

impl SnapshotDisk {
    /// What changed from another snapshot of this disk to this one, whichever is older; from `None`: all that it holds.
    ///
    /// # Errors
    /// `NotFound` if there is no such snapshot, or it does not hold this disk; and those of
    /// [`Store::changes`](crate::Store::changes).
    pub fn changes_since(&self, snapshot: impl Into<Option<SnapshotId>>) -> Result<Changes> {
        Point::from(self).changes_since(snapshot.into())
    }
}
