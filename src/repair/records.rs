//! Records: a catalog whose records agree with one another again, where some are lost.
//!
//! Floor 6. What a lost record said is put together from those that speak of it, as far as they do:
//!
//! | lost | becomes |
//! |---|---|
//! | server | a server `recovered-ID` |
//! | snapshot | a snapshot `recovered-ID` with the versions that name it |
//! | disk | nothing; its snapshots can still be restored |
//! | version | nothing; what descends from it has no parent any more, and owns all that it holds |
//! | collector's place | nothing; it begins anew |

use super::trees::Owner;
use crate::check::catalog::Records;
use crate::format::{
    CatalogRecord, CollectionMode, Root, ServerKind, ServerMarks, ServerRecord, SnapshotKind, SnapshotMarks,
    SnapshotRecord,
};
use crate::units::{ServerId, SnapshotId, VersionId};
use std::collections::{BTreeMap, BTreeSet};

/// Makes the records agree. Says what could not be kept.
pub(super) fn reconcile(
    records: &mut Records,
    (epoch, next_id): (u64, u64),
    lost: &mut Vec<String>,
) -> (u64, u64) {
    revive_snapshots(records, lost);
    revive_servers(records, lost);
    orphan(records, lost);
    for snapshot in records.snapshots.values_mut() {
        let versions = &records.versions;
        let listed = snapshot.versions.len();
        snapshot.versions.retain(|id| versions.get(id).is_some_and(|v| v.snapshot == Some(snapshot.id)));
        if snapshot.versions.len() < listed {
            let gone = listed - snapshot.versions.len();
            lost.push(format!("snapshot {} ({}): {gone} of its disks", snapshot.name, snapshot.id));
        }
    }
    let children = |victim: VersionId| {
        records.versions.values().filter(|v| v.parent == Some(victim)).count()
            + records.disks.values().filter(|disk| disk.parent == Some(victim)).count()
    };
    let is_possible = records.collection.is_none_or(|collection| {
        let hidden = records.versions.get(&collection.victim).is_some_and(|v| v.snapshot.is_none());
        let children = children(collection.victim);
        hidden
            && match collection.mode {
                CollectionMode::Drop => children == 0,
                CollectionMode::Merge => children == 1,
                CollectionMode::Trim => true,
            }
    });
    if !is_possible {
        records.collection = None;
    }
    counters(records, epoch, next_id)
}

/// Nobody knows who alone holds what any more: the store counts anew when it is open.
pub(super) fn forget_sizes(records: &mut Records) {
    for version in records.versions.values_mut() {
        version.exclusive = None;
    }
    for disk in records.disks.values_mut() {
        disk.shared = None;
    }
}

/// Snapshots that versions name.
fn revive_snapshots(records: &mut Records, lost: &mut Vec<String>) {
    let mut missing: BTreeMap<SnapshotId, Vec<VersionId>> = BTreeMap::new();
    for version in records.versions.values() {
        if let Some(id) = version.snapshot {
            match records.snapshots.get_mut(&id) {
                None => missing.entry(id).or_default().push(version.id),
                Some(snapshot) if snapshot.versions.contains(&version.id) => {}
                Some(snapshot) => snapshot.versions.push(version.id),
            }
        }
    }
    for (id, versions) in missing {
        let disk_of = |version: &VersionId| records.versions.get(version).map(|version| version.disk);
        let disks: BTreeSet<_> = versions.iter().filter_map(disk_of).collect();
        let server = records.disks.values().find(|disk| disks.contains(&disk.id)).map(|disk| disk.server);
        let server = server
            .or_else(|| server_beside(records, &disks))
            .or_else(|| records.servers.keys().next().copied())
            .unwrap_or(ServerId(id.0));
        lost.push(format!("name and time of snapshot {id}: it is called recovered-{id}"));
        let record = SnapshotRecord {
            id,
            server,
            name: format!("recovered-{id}"),
            description: "its record was lost".into(),
            created_at: 0,
            kind: SnapshotKind::User,
            identity: [0; 16],
            origin: None,
            marks: SnapshotMarks::default(),
            versions,
        };
        records.snapshots.insert(id, record);
    }
}

/// The server of another snapshot that holds one of the disks.
fn server_beside(records: &Records, disks: &BTreeSet<crate::units::DiskId>) -> Option<ServerId> {
    let holds =
        |id: &VersionId| records.versions.get(id).is_some_and(|version| disks.contains(&version.disk));
    records.snapshots.values().find(|other| other.versions.iter().any(holds)).map(|other| other.server)
}

/// Servers that disks and snapshots name.
fn revive_servers(records: &mut Records, lost: &mut Vec<String>) {
    let named = records.disks.values().map(|disk| disk.server);
    let named: BTreeSet<_> =
        named.chain(records.snapshots.values().map(|snapshot| snapshot.server)).collect();
    for id in named.into_iter().filter(|id| !records.servers.contains_key(id)).collect::<Vec<_>>() {
        lost.push(format!("name of server {id}: it is called recovered-{id}"));
        let record = ServerRecord {
            id,
            name: format!("recovered-{id}"),
            created_at: 0,
            kind: ServerKind::User,
            origin: None,
            marks: ServerMarks::default(),
        };
        records.servers.insert(id, record);
    }
}

/// Whoever descends from a version that is gone, or that cannot be its parent, has no parent any more.
fn orphan(records: &mut Records, lost: &mut Vec<String>) {
    let parents: BTreeMap<_, _> =
        records.versions.values().map(|version| (version.id, version.epoch)).collect();
    for disk in records.disks.values_mut() {
        let fits = |id| parents.get(&id).is_some_and(|epoch| *epoch < disk.birth);
        if disk.parent.is_some_and(|id| !fits(id)) {
            lost.push(format!("what disk {} ({}) descends from", disk.name, disk.id));
            disk.parent = None;
        }
    }
    for version in records.versions.values_mut() {
        let fits = |id| parents.get(&id).is_some_and(|epoch| *epoch < version.birth);
        if version.parent.is_some_and(|id| !fits(id)) {
            lost.push(format!("what version {} of disk {} descends from", version.id, version.disk_name));
            version.parent = None;
        }
    }
}

/// The last epoch and the next id, no smaller than what is in use.
fn counters(records: &Records, epoch: u64, next_id: u64) -> (u64, u64) {
    let births = records.disks.values().map(|disk| disk.birth.0);
    let epoch = births.chain(records.versions.values().map(|version| version.epoch.0)).fold(epoch, u64::max);
    let ids = records.servers.keys().map(|id| id.0).chain(records.disks.keys().map(|id| id.0));
    let ids =
        ids.chain(records.snapshots.keys().map(|id| id.0)).chain(records.versions.keys().map(|id| id.0));
    (epoch, ids.map(|id| id + 1).fold(next_id, u64::max))
}

/// Enters a root. Whether it changed.
pub(super) fn set_root(records: &mut Records, owner: Owner, root: Root) -> bool {
    let place = match owner {
        Owner::Disk(id) => records.disks.get_mut(&id).map(|disk| &mut disk.root),
        Owner::Version(id) => records.versions.get_mut(&id).map(|version| &mut version.root),
        Owner::Garbage(id) => {
            let Some(garbage) = records.garbage.get_mut(&id) else { return false };
            let changed = garbage.reference != root.reference;
            garbage.reference = root.reference;
            return changed;
        }
    };
    place.is_some_and(|place| std::mem::replace(place, root) != root)
}

/// All records.
pub(super) fn all(records: &Records) -> Vec<CatalogRecord> {
    let mut all: Vec<CatalogRecord> = records.servers.values().cloned().map(CatalogRecord::Server).collect();
    all.extend(records.disks.values().cloned().map(CatalogRecord::Disk));
    all.extend(records.snapshots.values().cloned().map(CatalogRecord::Snapshot));
    all.extend(records.versions.values().cloned().map(CatalogRecord::Version));
    all.extend(records.garbage.values().cloned().map(CatalogRecord::Garbage));
    all.extend(records.collection.map(CatalogRecord::Collection));
    all
}
