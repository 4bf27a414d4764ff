//! State: the catalog, the live disks, and the versions that no checkpoint has settled yet.
//!
//! Floor 5.

use super::head::Head;
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::extent::{DeltaTree, Foundation, View};
use crate::format::{DiskRecord, ServerRecord, SnapshotRecord, VersionRecord};
use crate::units::{DiskId, ServerId, SnapshotId, VersionId};
use std::collections::HashMap;
use std::sync::Arc;

/// What the state lock guards.
pub(crate) struct State {
    pub(crate) catalog: Catalog,
    pub(crate) heads: HashMap<DiskId, Arc<Head>>,
    /// Versions whose content is not all in their tree yet.
    pub(crate) unsettled: HashMap<VersionId, View>,
    pub(crate) fanout_bits: u32,
}

impl State {
    /// The content of a version.
    pub(crate) fn view_of(&self, version: &VersionRecord) -> View {
        self.unsettled.get(&version.id).cloned().unwrap_or_else(|| View {
            foundation: Foundation::settled(version.root),
            delta: DeltaTree::new(version.root.height.max(1), self.fanout_bits),
        })
    }

    /// The server, or an error that names it.
    pub(crate) fn server(&self, id: ServerId) -> Result<&ServerRecord> {
        self.catalog
            .servers
            .get(&id)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no server {id}")))
    }

    /// The disk, or an error that names it.
    pub(crate) fn disk(&self, id: DiskId) -> Result<&DiskRecord> {
        self.catalog
            .disks
            .get(&id)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no disk {id}; it was deleted")))
    }

    /// The snapshot, or an error that names it.
    pub(crate) fn snapshot(&self, id: SnapshotId) -> Result<&SnapshotRecord> {
        self.catalog
            .snapshots
            .get(&id)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no snapshot {id}")))
    }

    /// The version that a snapshot shows, or an error if the snapshot was deleted.
    pub(crate) fn shown(&self, id: VersionId) -> Result<&VersionRecord> {
        self.catalog
            .versions
            .get(&id)
            .filter(|version| version.snapshot.is_some())
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "the snapshot was deleted"))
    }
}
