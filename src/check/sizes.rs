//! Sizes: recounts what each snapshot and each disk alone refers to, and compares.
//!
//! Floor 5. It follows every tree of every snapshot to its last reference, shared or not: memory and time are those of all
//! contents together. So it is no part of a check; tests run it after everything.

use super::catalog::{self, Records};
use super::medium::Medium;
use super::recount::{self, Recount};
use super::report::CheckReport;
use super::roots::Roots;
use super::walk::{Forest, Ledger, Walk};
use crate::defect::Defect;
use crate::device::Device;
use crate::error::Result;
use crate::format::{Place, Reference, Root, node_from_bytes};
use crate::units::{BlockNo, DiskId, Epoch, SnapshotId, wide};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Who refers to a block at a place of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    Snapshot(SnapshotId),
    Disk(DiskId),
    Many,
}

/// Recounts what each snapshot and each disk of the store on `device` alone refers to, and compares it with the counts
/// that the catalog holds, where it holds one. Memory: about 40 bytes for each block that is referred to.
///
/// # Errors
/// Those of [`check_device`](crate::check_device).
pub fn recount_sizes(device: &dyn Device) -> Result<CheckReport> {
    recount_blocks(device).map(|(report, _)| report)
}

/// What a recount finds of a snapshot or a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldBlocks {
    /// Blocks that it refers to, each counted once.
    pub referenced: u64,
    /// Of those, the ones that nothing else refers to.
    pub exclusive: u64,
}

/// What a recount finds.
#[derive(Clone, Debug, Default)]
pub struct Recounted {
    /// By snapshot.
    pub snapshots: BTreeMap<SnapshotId, HeldBlocks>,
    /// By disk.
    pub disks: BTreeMap<DiskId, HeldBlocks>,
}

/// As [`recount_sizes`], and tells for each snapshot and disk how many blocks it refers to and how many would go with it. Memory: about
/// 100 bytes for each reference.
///
/// # Errors
/// Those of [`check_device`](crate::check_device).
pub fn recount_blocks(device: &dyn Device) -> Result<(CheckReport, Recounted)> {
    let mut report = CheckReport::default();
    let Some(Roots { geometry, record, .. }) = Roots::read(device, &mut report)? else {
        return Ok((report, Recounted::default()));
    };
    let Some((record, _)) = record else { return Ok((report, Recounted::default())) };
    let medium = Medium::new(device, geometry, record.zones);
    let mut recount = Recount::new(&geometry);
    let records = catalog::read(&mut Walk::new(&medium, &mut recount, &mut report), &record);
    let mut census = Census { medium: &medium, blocks: HashMap::new(), holders: HashMap::new() };
    for version in records.versions.values() {
        if let Some(snapshot) = version.snapshot {
            census.follow(version.root, Holder::Snapshot(snapshot), &mut report);
        }
    }
    for disk in records.disks.values() {
        census.follow(disk.root, Holder::Disk(disk.id), &mut report);
    }
    census.compare(&records, &mut report);
    let mut all = AllHolders::default();
    let mut ignored = CheckReport::default();
    let mut walk = Walk::new(&medium, &mut all, &mut ignored);
    Forest::new(&records, geometry.block_size()).walk(&mut walk);
    let mut found = census.blocks_of(&all);
    let mut of = |holder| found.remove(&holder).unwrap_or_default();
    let snapshots = records.snapshots.keys().map(|id| (*id, of(Holder::Snapshot(*id)))).collect();
    let disks = records.disks.keys().map(|id| (*id, of(Holder::Disk(*id)))).collect();
    Ok((report, Recounted { snapshots, disks }))
}

/// Everybody who holds a block of data, hidden versions and garbage included.
#[derive(Default)]
struct AllHolders(HashMap<BlockNo, HashSet<recount::Holder>>);

impl Ledger for AllHolders {
    fn data(&mut self, _place: Place, reference: Reference, holder: recount::Holder) {
        self.0.entry(reference.block()).or_default().insert(holder);
    }

    fn metadata(&mut self, _place: Place, _block: BlockNo) {}
}

struct Census<'a> {
    medium: &'a Medium<'a>,
    /// The blocks of each snapshot and disk.
    blocks: HashMap<Holder, HashSet<BlockNo>>,
    /// By place of the disk, block and birth. No two disks stamp the same birth.
    holders: HashMap<(u64, BlockNo, Epoch), Holder>,
}

impl Census<'_> {
    fn follow(&mut self, root: Root, holder: Holder, report: &mut CheckReport) {
        let mut ways = vec![(root.reference, root.height, 0)];
        while let Some((reference, level, first)) = ways.pop() {
            if reference.is_hole() {
                continue;
            }
            if level == 0 {
                self.hold(reference, first, holder);
                continue;
            }
            match self.medium.sealed(reference.block(), reference.crc()) {
                Ok(bytes) => {
                    let span = 1 << ((level - 1) * self.medium.geometry.fanout_bits());
                    let firsts = (0u64..).map(|at| first + at * span);
                    ways.extend(
                        node_from_bytes(&bytes).iter().zip(firsts).map(|(r, at)| (*r, level - 1, at)),
                    );
                }
                Err(error) => report.find(Defect::Node, format!("block {}: {error}", reference.block())),
            }
        }
    }

    fn hold(&mut self, reference: Reference, place: u64, holder: Holder) {
        self.blocks.entry(holder).or_default().insert(reference.block());
        let held = self.holders.entry((place, reference.block(), reference.birth())).or_insert(holder);
        if *held != holder {
            *held = Holder::Many;
        }
    }

    fn blocks_of(&self, all: &AllHolders) -> HashMap<Holder, HeldBlocks> {
        let mut alone: HashMap<(Holder, BlockNo), usize> = HashMap::new();
        for ((_, block, _), holder) in &self.holders {
            *alone.entry((*holder, *block)).or_default() += 1;
        }
        let mut found: HashMap<Holder, HeldBlocks> = HashMap::new();
        for (holder, blocks) in &self.blocks {
            found.entry(*holder).or_default().referenced = wide(blocks.len());
        }
        for ((holder, block), count) in alone {
            if all.0.get(&block).map(HashSet::len) == Some(count) {
                found.entry(holder).or_default().exclusive += 1;
            }
        }
        found
    }

    fn compare(&self, records: &Records, report: &mut CheckReport) {
        let mut alone: HashMap<Holder, u64> = HashMap::new();
        for holder in self.holders.values() {
            *alone.entry(*holder).or_default() += 1;
        }
        let found = |holder| alone.get(&holder).copied().unwrap_or(0);
        for snapshot in records.snapshots.values() {
            let versions = snapshot.versions.iter().filter_map(|id| records.versions.get(id));
            let said: Option<u64> = versions.map(|version| version.exclusive).sum();
            let found = found(Holder::Snapshot(snapshot.id));
            if said.is_some_and(|said| said != found) {
                let said = said.unwrap_or(0);
                let place =
                    format!("snapshot {} says that it alone holds {said}, found {found}", snapshot.id);
                report.find(Defect::SizeCount, place);
            }
        }
        for disk in records.disks.values() {
            let said = disk.shared.and_then(|shared| disk.root.mapped.checked_sub(shared));
            let found = found(Holder::Disk(disk.id));
            if disk.shared.is_some() && said != Some(found) {
                let place = format!("disk {} says that it alone holds {said:?}, found {found}", disk.id);
                report.find(Defect::SizeCount, place);
            }
        }
    }
}
