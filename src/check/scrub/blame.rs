//! Blame: which disks and snapshots hold a bad block, and where.
//!
//! Floor 5. Walks every tree, and skips the nodes under which nothing bad was found before.

use super::options::BadBlock;
use super::sweep::Suspect;
use crate::check::catalog::{self, Records};
use crate::check::medium::Medium;
use crate::check::recount::{DISK_BLOCKS_MAX, Holder};
use crate::check::report::CheckReport;
use crate::check::walk::{Ledger, Walk};
use crate::format::{CheckpointRecord, DiskRecord, Place, Reference, Root, VersionRecord, node_from_bytes};
use crate::limits::MAP_HEIGHT_MAX;
use crate::units::BlockNo;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// Places of one block that are listed.
const HOLDINGS_MAX: usize = 100;
/// Nodes that are looked at for each block of the store, at most.
const NODES_PER_ZONE_BLOCK: u64 = 64;

/// Where a block is seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Holding {
    /// The server's name.
    pub server: String,
    /// The disk's name.
    pub disk: String,
    /// The snapshot's name; `None` for the disk as it is now.
    pub snapshot: Option<String>,
    /// The first byte of the disk that the block holds.
    pub offset: u64,
}

struct Nobody;

impl Ledger for Nobody {
    fn data(&mut self, _place: Place, _reference: Reference, _holder: Holder) {}
    fn metadata(&mut self, _place: Place, _block: BlockNo) {}
}

/// Who holds the suspects that are bad when they are read again. One that nobody holds any more, with this seal, is
/// no bad block.
pub(super) fn blame(medium: &Medium<'_>, record: &CheckpointRecord, suspects: &[Suspect]) -> Vec<BadBlock> {
    let mut report = CheckReport::default();
    let mut nobody = Nobody;
    let records = catalog::read(&mut Walk::new(medium, &mut nobody, &mut report), record);
    let mut search = Search {
        medium,
        wanted: suspects.iter().map(|suspect| (*suspect, Vec::new())).collect(),
        is_barren: HashSet::new(),
        budget: NODES_PER_ZONE_BLOCK * record.zones * u64::from(medium.geometry.zone_blocks()),
    };
    for disk in records.disks.values() {
        search.tree(&disk.root, &naming_disk(&records, disk));
    }
    for version in records.versions.values() {
        if let Some(naming) = naming_version(&records, version) {
            search.tree(&version.root, &naming);
        }
    }
    search.bad()
}

/// Names of a holding, but for the offset.
fn naming_disk(records: &Records, disk: &DiskRecord) -> Holding {
    let server = records.servers.get(&disk.server).map_or_else(String::new, |server| server.name.clone());
    Holding { server, disk: disk.name.clone(), snapshot: None, offset: 0 }
}

fn naming_version(records: &Records, version: &VersionRecord) -> Option<Holding> {
    let snapshot = records.snapshots.get(&version.snapshot?)?;
    let server = records.servers.get(&snapshot.server).map_or_else(String::new, |server| server.name.clone());
    Some(Holding {
        server,
        disk: version.disk_name.clone(),
        snapshot: Some(snapshot.name.clone()),
        offset: 0,
    })
}

struct Search<'a> {
    medium: &'a Medium<'a>,
    wanted: BTreeMap<Suspect, Vec<Holding>>,
    /// Nodes under which there is nothing bad.
    is_barren: HashSet<BlockNo>,
    /// Nodes that may still be read: what several trees share is read for each, and no forgery makes that endless.
    budget: u64,
}

impl Search<'_> {
    fn tree(&mut self, root: &Root, naming: &Holding) {
        if root.height <= MAP_HEIGHT_MAX {
            self.subtree(root.reference, root.height, 0, naming);
        }
    }

    /// Whether anything bad is below.
    fn subtree(&mut self, reference: Reference, level: u32, first: u64, naming: &Holding) -> bool {
        if reference.is_hole()
            || first >= DISK_BLOCKS_MAX
            || self.medium.place_of(reference.block()).is_none()
        {
            return false;
        }
        let block = reference.block();
        if level == 0 {
            let Some(holdings) = self.wanted.get_mut(&Suspect { block, crc: reference.crc() }) else {
                return false;
            };
            if holdings.len() < HOLDINGS_MAX {
                let offset = first.saturating_mul(u64::from(self.medium.geometry.block_size()));
                holdings.push(Holding { offset, ..naming.clone() });
            }
            return true;
        }
        if self.budget == 0 || self.is_barren.contains(&block) {
            return false;
        }
        self.budget -= 1;
        let Ok(bytes) = self.medium.sealed(block, reference.crc()) else { return false };
        let span = 1u64.checked_shl((level - 1) * self.medium.geometry.fanout_bits()).unwrap_or(u64::MAX);
        let mut is_bad = false;
        for (nth, entry) in (0..).zip(node_from_bytes(&bytes).iter()) {
            let at = first.saturating_add(span.saturating_mul(nth));
            is_bad |= self.subtree(*entry, level - 1, at, naming);
        }
        if !is_bad {
            self.is_barren.insert(block);
        }
        is_bad
    }

    /// Those that are held and bad.
    fn bad(self) -> Vec<BadBlock> {
        let mut bad = Vec::with_capacity(self.wanted.len());
        for (Suspect { block, crc }, held_by) in self.wanted {
            let Err(cause) = self.medium.sealed(block, crc) else { continue };
            if !held_by.is_empty() {
                bad.push(BadBlock { block: block.0, cause: cause.to_string(), held_by });
            }
        }
        bad
    }
}
