//! Reclaimable: about how many blocks the collector will free.
//!
//! Floor 5. What a version alone holds when it is deleted, beside all that is shown then, is what the store gains by that (C4). So the
//! `exclusive` counts of deleted versions add up, and the collector takes from them what it drops. A deleted version that goes before it
//! gave all of that back leaves the rest to the one that holds it then.

use super::state::State;
use crate::catalog::{Catalog, Child};
use crate::format::{CatalogKey, Event, Garbage};
use crate::units::{DiskId, VersionId, wide};

/// About how many blocks the collector has still to free.
pub(super) fn reclaimable_blocks(state: &State, block_size: u32) -> u64 {
    let catalog = &state.catalog;
    let of_version = |id: &VersionId| {
        let version = catalog.versions.get(id)?;
        let collection = catalog.collection.filter(|collection| collection.victim == *id);
        let cursor = collection.map_or(0, |collection| collection.cursor.0);
        let places = version.size_bytes.div_ceil(u64::from(block_size));
        Some(version.exclusive.unwrap_or_else(|| ahead(version.root.mapped, cursor, places)))
    };
    let of_garbage = |garbage: &Garbage| {
        let span = 1 << (garbage.height * state.fanout_bits).min(63);
        let blocks = catalog.cut_blocks.get(&garbage.id).copied().unwrap_or(span);
        ahead(blocks, garbage.cursor.0.saturating_sub(garbage.first.0), span)
    };
    let versions = catalog.lineage.queue.iter().filter_map(of_version);
    versions.chain(catalog.garbage.values().map(of_garbage)).fold(0, u64::saturating_add)
}

/// How many of `blocks` blocks, spread over `span` places, lie ahead of the place `cursor`.
fn ahead(blocks: u64, cursor: u64, span: u64) -> u64 {
    let places = u128::from(span.saturating_sub(cursor));
    u64::try_from(u128::from(blocks) * places / u128::from(span.max(1))).unwrap_or(u64::MAX)
}

/// What an event will have given back that deletes something: the versions that become the collector's, and how many blocks. `None`: unknown.
pub(super) fn foresee(catalog: &Catalog, event: &Event) -> Vec<(VersionId, Option<u64>)> {
    let alone = |id: DiskId| {
        let disk = catalog.disks.get(&id)?;
        disk.root.mapped.checked_sub(disk.shared?)
    };
    let mapped = |id: DiskId| catalog.disks.get(&id).map(|disk| disk.root.mapped);
    match event {
        Event::DeleteDisk { id, version, .. } => vec![(*version, alone(*id))],
        Event::Reset { versions, .. } => versions.iter().map(|new| (new.version, alone(new.disk))).collect(),
        Event::DeleteServer { id, versions, .. } => {
            // What its disks share with its snapshots goes with them.
            let has_snapshots = !catalog.snapshots_of(*id).is_empty();
            let blocks = |id| if has_snapshots { mapped(id) } else { alone(id) };
            versions.iter().map(|new| (new.version, blocks(new.disk))).collect()
        }
        // Where nobody has counted yet: at most all of it.
        Event::DeleteSnapshot { id } => {
            let versions = catalog.snapshots.get(id).map(|record| record.versions.as_slice());
            let versions = versions.unwrap_or_default().iter().filter_map(|id| catalog.versions.get(id));
            let uncounted = versions.filter(|version| version.exclusive.is_none());
            uncounted.map(|version| (version.id, Some(version.root.mapped))).collect()
        }
        _ => Vec::new(),
    }
}

/// Notes what [`foresee`] said before the event.
pub(super) fn expect(catalog: &mut Catalog, foreseen: Vec<(VersionId, Option<u64>)>) {
    for (id, blocks) in foreseen {
        if let Some(version) = catalog.versions.get_mut(&id) {
            version.exclusive = blocks;
        }
    }
}

/// The collector dropped so many blocks of data that a deleted version held.
pub(super) fn dropped(catalog: &mut Catalog, victim: VersionId, blocks: usize) {
    let expected = catalog.versions.get_mut(&victim).and_then(|version| version.exclusive.as_mut());
    if let Some(expected) = expected.filter(|_| blocks > 0) {
        *expected = expected.saturating_sub(wide(blocks));
        catalog.touch(CatalogKey::Version(victim));
    }
}

/// A deleted version goes. What it has not given back is held by the deleted one below it, or else above it; by none, if more was expected
/// than there is.
pub(super) fn hand_on(catalog: &mut Catalog, victim: VersionId) {
    let Some(version) = catalog.versions.get(&victim) else { return };
    let (rest, parent) = (version.exclusive.unwrap_or(version.root.mapped), version.parent);
    let child = catalog.lineage.children(victim).into_iter().find_map(|child| match child {
        Child::Version(id) => Some(id),
        Child::Head(_) => None,
    });
    let heir = child.into_iter().chain(parent).find(|id| catalog.is_hidden(*id));
    let Some(heir) = heir.filter(|_| rest > 0) else { return };
    if let Some(version) = catalog.versions.get_mut(&heir) {
        version.exclusive = version.exclusive.map(|own| own.saturating_add(rest).min(version.root.mapped));
        catalog.touch(CatalogKey::Version(heir));
    }
}
