//! Checkpoint: settles everything since the last one, and makes that the store's new beginning.
//!
//! Floor 4. The engine freezes; this writes, without stopping anybody; the engine publishes.

use super::block_writer::{BlockWriter, TakeBlocks};
use super::journal::JournalStart;
use super::superblocks::write_superblock;
use crate::catalog::{PageStore, Watch};
use crate::defect::Defect;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::extent::{
    Cut, CutRoom, DeltaTree, Footprint, Foundation, Limit, NodeSource, Settled, Settler, height_for,
};
use crate::format::{
    CatalogKey, CatalogRecord, CheckpointRecord, Garbage, Geometry, Reference, Root, Superblock, seal,
};
use crate::space::{Group, SpaceChanges, Totals, ZoneTables};
use crate::units::{BlockNo, BlockRun, DiskBlock, DiskId, Epoch, Generation, VersionId, narrow, wide};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use zerocopy::little_endian::{U32, U64};

/// Births of catalog nodes and pages: nobody shares them, so any will do.
const CATALOG_BIRTH: Epoch = Epoch(1);

/// Whose map a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Version(VersionId),
    Head(DiskId),
}

/// What settling all units gave.
#[derive(Default)]
struct SettledUnits {
    roots: Vec<(Target, Root)>,
    tallies: Vec<Tally>,
    /// What was cut off, and how many blocks of data each part gives back, at most.
    garbage: Vec<(Garbage, u64)>,
}

/// One map that a checkpoint settles.
pub(crate) struct Unit {
    pub(crate) target: Target,
    pub(crate) parent: Option<VersionId>,
    pub(crate) limit: Limit,
    pub(crate) birth: Epoch,
    /// What lies under the delta, and the tree that it is.
    pub(crate) foundation: Arc<Foundation>,
    pub(crate) base: Root,
    pub(crate) delta: DeltaTree,
    /// Deleted before it was ever settled, and without children: its delta is dropped instead.
    pub(crate) is_abandoned: bool,
    /// How the parent's count is kept, where adding is enough.
    pub(crate) watch: Option<Watch>,
    /// How many references of the base somebody else holds, where that is known; heads only.
    pub(crate) shared: Option<u64>,
    /// Whether a snapshot shows the parent: then all that is held of it is shared.
    pub(crate) is_parent_shown: bool,
}

/// What settling a unit says of sizes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub(crate) target: Target,
    /// What the target stamped on references then.
    pub(crate) birth: Epoch,
    /// How many references of somebody else it let go of; `None` if all at once.
    pub(crate) lost: Option<u64>,
    /// A version, and how many more references it holds alone now; `None` if that is to be counted.
    pub(crate) left_to: Option<(VersionId, Option<u64>)>,
    /// How many of the target's references somebody else holds; heads only.
    pub(crate) shared: Option<u64>,
}

/// What a checkpoint covers: everything at one instant.
pub(crate) struct Frozen {
    /// Versions from the oldest on, then heads.
    pub(crate) units: Vec<Unit>,
    pub(crate) records: Vec<(CatalogKey, Option<CatalogRecord>)>,
    /// References dropped since the last checkpoint.
    pub(crate) dropped: Vec<BlockNo>,
    pub(crate) epoch: Epoch,
    pub(crate) next_id: u64,
    pub(crate) next_garbage: u64,
    /// What may be cut off, in all.
    pub(crate) room: CutRoom,
    pub(crate) journal: JournalStart,
    /// Nothing is written any more: the store is being closed.
    pub(crate) is_last: bool,
}

/// What a durable checkpoint changed.
pub(crate) struct Committed {
    pub(crate) roots: Vec<(Target, Root)>,
    pub(crate) tallies: Vec<Tally>,
    /// What was cut off, and how many blocks of data each part gives back, at most.
    pub(crate) garbage: Vec<(Garbage, u64)>,
    /// Blocks whose last reference went.
    pub(crate) parked: Vec<BlockRun>,
    pub(crate) groups: Vec<(u64, Group)>,
    /// What all refcounts say, and whether any above one changed.
    pub(crate) counts: (Totals, bool),
}

/// What a checkpoint asks of the space around it.
pub(crate) trait CheckpointSpace: TakeBlocks {
    /// How many zones the store has now.
    fn zones(&self) -> u64;
    /// What was referenced until the freeze, and by the checkpoint since.
    fn taken(&self) -> Vec<BlockRun>;
    /// The references that blocks got until the freeze beyond those that they had.
    fn shared(&self) -> Vec<(BlockNo, u16)>;
}

/// The state that goes from checkpoint to checkpoint.
pub(crate) struct Checkpointer {
    pub(crate) geometry: Geometry,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) superblock: Superblock,
    pub(crate) generation: Generation,
    pub(crate) tables: ZoneTables,
    pub(crate) pages: PageStore,
    pub(crate) catalog_root: Root,
    /// The blocks of the current checkpoint record.
    pub(crate) record_run: Option<BlockRun>,
}

impl Checkpointer {
    /// Writes a checkpoint. It is durable when this returns.
    pub(crate) fn write(
        &mut self,
        mut frozen: Frozen,
        nodes: &NodeSource,
        space: &dyn CheckpointSpace,
    ) -> Result<Committed> {
        let device = self.device.clone();
        let mut dropped = std::mem::take(&mut frozen.dropped);
        let mut writer = BlockWriter::new(&*device, self.geometry, space);
        let SettledUnits { roots, tallies, garbage } =
            settle_units(&frozen, nodes, &mut writer, &mut dropped)?;
        patch_records(&mut frozen.records, &roots, &tallies, &garbage);
        self.write_catalog(&frozen.records, nodes, &mut writer, &mut dropped)?;
        writer.finish()?; // what it did not use may be all that is left
        let (record_run, zones) = self.reserve_record(space)?;
        dropped.extend(self.record_run.iter().flat_map(|run| (0..run.count).map(|at| run.first.plus(at))));

        self.tables.grow(zones);
        let changes = SpaceChanges { taken: space.taken(), shared: space.shared(), dropped };
        let parked = self.tables.apply(&changes)?;
        let groups = self.tables.write_summaries()?;
        self.commit(&frozen, zones, record_run)?;
        let counts = (self.tables.totals(), self.tables.take_shared_changed());
        Ok(Committed { roots, tallies, garbage, parked, groups, counts })
    }

    /// Writes the catalog pages that changed, and their map.
    fn write_catalog(
        &mut self,
        records: &[(CatalogKey, Option<CatalogRecord>)],
        nodes: &NodeSource,
        writer: &mut BlockWriter<'_>,
        dropped: &mut Vec<BlockNo>,
    ) -> Result<()> {
        let dirty: BTreeSet<u64> = self.pages.apply(records);
        let bits = self.geometry.fanout_bits();
        let height = height_for(self.pages.page_count(), bits).max(self.catalog_root.height);
        let mut delta = DeltaTree::new(height, bits);
        let mut footprint = Footprint::default();
        for number in dirty {
            let reference = match self.pages.page(number) {
                None => Reference::HOLE,
                Some(bytes) => Reference::new(writer.write(&bytes)?, CATALOG_BIRTH, seal(&bytes)),
            };
            delta.set(DiskBlock(number), &[reference], &mut footprint, &mut |_| {});
        }
        let limit = Limit::uniform(Epoch(0));
        let mut settler = Settler::new(nodes, writer, dropped, limit, CATALOG_BIRTH);
        self.catalog_root = settler.settle(self.catalog_root, &delta, None)?.root;
        Ok(())
    }

    /// Takes blocks for the checkpoint record, and settles how many zones it tells of: writers may add
    /// zones meanwhile.
    fn reserve_record(&self, space: &dyn CheckpointSpace) -> Result<(BlockRun, u64)> {
        let blocks_for = |zones| {
            let bytes = CheckpointRecord::bytes_for(self.geometry.groups_for(zones));
            bytes.div_ceil(u64::from(self.geometry.block_size()))
        };
        loop {
            let count = blocks_for(space.zones() + 1);
            let run = space.take_exactly(count)?.ok_or_else(super::block_writer::full)?;
            let zones = space.zones();
            let needed = blocks_for(zones);
            if needed <= count {
                let used = BlockRun { count: needed, ..run };
                space.used(used);
                space.give_back(BlockRun { first: used.end(), count: count - needed });
                return Ok((used, zones));
            }
            space.give_back(run);
        }
    }

    /// Writes the record, syncs, and lets the superblock point at it.
    fn commit(&mut self, frozen: &Frozen, zones: u64, run: BlockRun) -> Result<()> {
        let generation = Generation(self.generation.0 + 1);
        let totals = self.tables.totals();
        let record = CheckpointRecord {
            generation,
            zones,
            epoch: frozen.epoch,
            next_id: frozen.next_id,
            used: totals.used,
            shared: totals.shared,
            extra: totals.extra,
            catalog_root: self.catalog_root.reference,
            catalog_height: self.catalog_root.height,
            catalog_pages: self.pages.page_count(),
            groups: self.tables.entries(),
        };
        let bytes = record.encode();
        assert!(
            wide(bytes.len()) <= run.count * u64::from(self.geometry.block_size()),
            "the record fits the blocks taken for it"
        );
        let failed = |cause| Error::io(format!("write checkpoint {generation}"), cause);
        self.device.write_at(&bytes, self.geometry.offset_bytes(run.first)).map_err(failed)?;
        self.device.sync().map_err(failed)?;
        let superblock = Superblock {
            writes: U64::new(self.superblock.writes.get() + 1),
            checkpoint_block: U64::new(run.first.0),
            checkpoint_bytes: U32::new(narrow(bytes.len())),
            checkpoint_crc: U32::new(seal(&bytes)),
            journal_offset: U64::new(frozen.journal.offset),
            journal_sequence: U64::new(frozen.journal.sequence.0),
            clean: U64::new(u64::from(frozen.is_last)),
            ..self.superblock.clone()
        };
        write_superblock(&*self.device, &superblock)?;
        self.superblock = superblock;
        self.generation = generation;
        self.record_run = Some(run);
        Ok(())
    }
}

/// Settles every unit: parents before those that descend from them.
fn settle_units(
    frozen: &Frozen,
    nodes: &NodeSource,
    writer: &mut BlockWriter<'_>,
    dropped: &mut Vec<BlockNo>,
) -> Result<SettledUnits> {
    let mut done = SettledUnits::default();
    let mut settled: HashMap<VersionId, (Root, &Unit)> = HashMap::new();
    for unit in &frozen.units {
        // A unit that was split off its parent since the last checkpoint has the parent's foundation, and its delta
        // holds all that the parent's does. A version that the collector trims has a tree of its own.
        let parent = unit
            .parent
            .and_then(|parent| settled.get(&parent))
            .filter(|(_, parent)| Arc::ptr_eq(&parent.foundation, &unit.foundation));
        let (base, older) = parent.map_or((unit.base, None), |(root, parent)| (*root, Some(&parent.delta)));
        let root = if unit.is_abandoned {
            drop_delta(unit, older, dropped);
            base
        } else {
            let mut settler = Settler::new(nodes, writer, dropped, unit.limit, unit.birth);
            let count = frozen.room.count.saturating_sub(done.garbage.len());
            settler.room = CutRoom { count, ..frozen.room };
            settler.inherited_after = unit.watch.map_or(Epoch(0), |watch| watch.inherited_after);
            let one = settler.settle(base, &unit.delta, older)?;
            let all_of_parent = parent.filter(|_| unit.is_parent_shown).map(|(root, _)| root.mapped);
            let shared = all_of_parent.or(unit.shared);
            done.tallies.push(tally(unit, shared, &one));
            let next_garbage = frozen.next_garbage + wide(done.garbage.len());
            let garbage = (next_garbage..).zip(&one.cuts);
            done.garbage.extend(garbage.map(|(id, cut)| (detach(cut, unit.limit, id), cut.blocks)));
            one.root
        };
        done.roots.push((unit.target, root));
        if let Target::Version(id) = unit.target {
            settled.insert(id, (root, unit));
        }
    }
    Ok(done)
}

/// What settling a unit says of sizes, where so many references of its base somebody else held.
fn tally(unit: &Unit, shared: Option<u64>, settled: &Settled) -> Tally {
    let is_cut = settled.is_all;
    let left = (!is_cut).then_some(settled.lost.of_parent);
    let shared =
        if is_cut { Some(0) } else { shared.and_then(|shared| shared.checked_sub(settled.lost.count)) };
    Tally {
        target: unit.target,
        birth: unit.birth,
        lost: (!is_cut).then_some(settled.lost.count),
        left_to: unit.watch.map(|watch| (watch.parent, left)),
        shared,
    }
}

/// Drops what an abandoned unit wrote itself.
fn drop_delta(unit: &Unit, older: Option<&DeltaTree>, dropped: &mut Vec<BlockNo>) {
    unit.delta.each_since(older, &mut |reference| {
        if !reference.is_hole() && reference.birth() > unit.limit.above {
            dropped.push(reference.block());
        }
    });
}

fn detach(cut: &Cut, limit: Limit, id: u64) -> Garbage {
    Garbage {
        id,
        reference: cut.reference,
        height: cut.height,
        first: cut.first,
        limit_below: limit.below,
        limit_above: limit.above,
        split: limit.split,
        cursor: DiskBlock(0),
    }
}

/// Enters the settled roots into the records that go to the medium.
fn patch_records(
    records: &mut Vec<(CatalogKey, Option<CatalogRecord>)>,
    roots: &[(Target, Root)],
    tallies: &[Tally],
    garbage: &[(Garbage, u64)],
) {
    let roots: HashMap<Target, Root> = roots.iter().copied().collect();
    let left: HashMap<VersionId, Option<u64>> = tallies.iter().filter_map(|tally| tally.left_to).collect();
    let shared: HashMap<Target, Option<u64>> =
        tallies.iter().map(|tally| (tally.target, tally.shared)).collect();
    for (_, record) in records.iter_mut() {
        match record {
            Some(CatalogRecord::Disk(disk)) => {
                if let Some(root) = roots.get(&Target::Head(disk.id)) {
                    disk.root = *root;
                }
                if let Some(shared) = shared.get(&Target::Head(disk.id)) {
                    disk.shared = *shared;
                }
            }
            Some(CatalogRecord::Version(version)) => {
                if let Some(root) = roots.get(&Target::Version(version.id)) {
                    version.root = *root;
                }
                if let Some(left) = left.get(&version.id) {
                    version.exclusive = version.exclusive.zip(*left).map(|(had, more)| had + more);
                }
            }
            _ => {}
        }
    }
    records.extend(garbage.iter().map(|(garbage, _)| {
        (CatalogKey::Garbage(garbage.id), Some(CatalogRecord::Garbage(garbage.clone())))
    }));
}

/// Reads the catalog's pages, as a checkpoint record leads to them.
pub(crate) fn read_catalog(
    device: &dyn Device,
    geometry: &Geometry,
    nodes: &NodeSource,
    record: &CheckpointRecord,
) -> Result<(Root, Vec<Vec<CatalogRecord>>)> {
    let root = Root { reference: record.catalog_root, height: record.catalog_height, mapped: 0 };
    let view = crate::extent::View {
        foundation: Foundation::settled(root),
        delta: DeltaTree::new(root.height.max(1), geometry.fanout_bits()),
    };
    let mut pages = Vec::new();
    let mut mapped = 0;
    for number in 0..record.catalog_pages {
        let mut reference = [Reference::HOLE];
        view.lookup(nodes, DiskBlock(number), &mut reference)?;
        let [reference] = reference;
        pages.push(if reference.is_hole() {
            Vec::new()
        } else {
            mapped += 1;
            read_page(device, geometry, reference)?
        });
    }
    Ok((Root { mapped, ..root }, pages))
}

fn read_page(device: &dyn Device, geometry: &Geometry, reference: Reference) -> Result<Vec<CatalogRecord>> {
    let block = reference.block();
    let mut bytes = vec![0; geometry.block_bytes()];
    device
        .read_at(&mut bytes, geometry.offset_bytes(block))
        .map_err(|cause| Error::io(format!("read catalog page at block {block}"), cause))?;
    let damaged = || Error::corrupt(Defect::CatalogPage, format!("block {block}"));
    if seal(&bytes) != reference.crc() {
        return Err(damaged());
    }
    crate::format::decode_page(&bytes).ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_version_drops_what_it_owns_and_nothing_older() {
        let mut delta = DeltaTree::new(1, 8);
        let old = Reference::new(BlockNo(100), Epoch(5), 0);
        let own = Reference::new(BlockNo(101), Epoch(15), 0);
        delta.set(DiskBlock(3), &[old, own, Reference::HOLE], &mut Footprint::default(), &mut |_| {});
        let unit = Unit {
            target: Target::Version(VersionId(1)),
            parent: None,
            limit: Limit::uniform(Epoch(10)),
            birth: Epoch(15),
            foundation: Foundation::settled(Root::default()),
            base: Root::default(),
            delta,
            watch: None,
            shared: None,
            is_parent_shown: false,
            is_abandoned: true,
        };
        let mut dropped = Vec::new();
        drop_delta(&unit, None, &mut dropped);
        assert_eq!(dropped, [BlockNo(101)]);
        drop_delta(&unit, Some(&unit.delta.clone()), &mut dropped);
        assert_eq!(dropped, [BlockNo(101)], "what the parent's delta holds, too, is the parent's");
    }

    #[test]
    fn what_is_cut_off_keeps_both_its_limits() {
        let limit = Limit { below: Epoch(3), above: Epoch(9), split: DiskBlock(77) };
        let reference = Reference::new(BlockNo(100), Epoch(12), 4);
        let cut = Cut { reference, height: 3, first: DiskBlock(7), blocks: 5 };
        let garbage = detach(&cut, limit, 42);
        assert_eq!((garbage.id, garbage.reference, garbage.height), (42, reference, 3));
        assert_eq!(
            (garbage.limit_below, garbage.limit_above, garbage.split),
            (Epoch(3), Epoch(9), DiskBlock(77))
        );
        assert_eq!((garbage.first, garbage.cursor), (DiskBlock(7), DiskBlock(0)));
    }
}
