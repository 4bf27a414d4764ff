//! Dump: a store as text, as far as it can be read.
//!
//! Floor 5. It trusts nothing and stops at nothing: what is damaged is said to be, and the next thing follows.

use super::catalog::{self, Records};
use super::medium::Medium;
use super::recount::Holder;
use super::report::CheckReport;
use super::roots::Roots;
use super::walk::{Ledger, Walk};
use crate::device::{Access, Device, FileDevice};
use crate::error::{Error, Result};
use crate::format::{
    Batch, BatchHeader, CatalogRecord, CheckpointRecord, GroupEntry, HEADER_BYTES, JOURNAL_UNIT, MapRecord,
    Place, Record, Reference, Root, SLOT_OFFSETS, SUPERBLOCK_BYTES, Slot, Superblock, decode_summary,
    node_from_bytes,
};
use crate::limits::MAP_HEIGHT_MAX;
use crate::units::{BlockNo, VersionId, index};
use serde::Serialize;
use std::path::Path;

/// What a dump shows.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct DumpOptions {
    /// Levels of each map that are shown: 0 for the roots alone, 1 for the entries of the root node, and so on.
    pub depth: u32,
}

impl DumpOptions {
    /// Shows so many levels of each map.
    #[must_use]
    pub fn depth(mut self, levels: u32) -> Self {
        self.depth = levels;
        self
    }
}

/// One line of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DumpLine {
    /// What it is about: `superblock`, `checkpoint`, `zones`, `catalog`, `lineage`, `map`, `journal`.
    pub section: &'static str,
    /// How far it is indented.
    pub depth: u32,
    /// What it says.
    pub text: String,
}

/// Hears the lines of a dump.
pub type OnLine<'a> = &'a mut dyn FnMut(DumpLine);

/// Shows the store at `path`, which no process may have open for writing.
///
/// # Errors
/// As [`FileDevice::open`], and as [`dump_device`].
pub fn dump(path: impl AsRef<Path>, options: DumpOptions, lines: OnLine<'_>) -> Result<()> {
    let path = path.as_ref();
    dump_device(&FileDevice::open(path, Access::ReadOnly)?, options, lines)
        .map_err(|error| error.while_doing(format_args!("cannot dump {}", path.display())))
}

/// Shows the store on `device`: superblocks, checkpoint record, zones, catalog, lineage, maps, journal. What is
/// damaged is shown as damaged.
///
/// # Errors
/// `Io` where the device does not even tell its length; as [`check_device`](crate::check_device) where it holds no store.
pub fn dump_device(device: &dyn Device, options: DumpOptions, lines: OnLine<'_>) -> Result<()> {
    let mut dump = Dump { device, options, lines };
    let length = device.len_bytes().map_err(|cause| Error::io("read the store's length", cause))?;
    dump.line("superblock", 0, format!("device of {length} bytes"));
    for (name, offset) in ["A", "B"].iter().zip(SLOT_OFFSETS) {
        dump.slot(name, offset);
    }
    let mut damage = CheckReport::default();
    let Some(roots) = Roots::read(device, &mut damage)? else {
        dump.damage(&damage);
        return Ok(());
    };
    dump.damage(&damage);
    if let Some((record, run)) = &roots.record {
        dump.record(record, run.first);
        let medium = Medium::new(device, roots.geometry, record.zones);
        for (number, entry) in (0..).zip(&record.groups) {
            dump.group(&medium, number, *entry);
        }
        let mut damage = CheckReport::default();
        let mut nobody = Nobody;
        let records = catalog::read(&mut Walk::new(&medium, &mut nobody, &mut damage), record);
        dump.damage(&damage);
        dump.records(&medium, &records);
        dump.lineage(&records, None, 0);
    }
    dump.journal(&roots);
    Ok(())
}

struct Nobody;

impl Ledger for Nobody {
    fn data(&mut self, _place: Place, _reference: Reference, _holder: Holder) {}
    fn metadata(&mut self, _place: Place, _block: BlockNo) {}
}

struct Dump<'a> {
    device: &'a dyn Device,
    options: DumpOptions,
    lines: OnLine<'a>,
}

fn shown(reference: &Reference) -> String {
    if reference.is_hole() {
        return "hole".into();
    }
    format!("block {} born {} seal {:08x}", reference.block(), reference.birth(), reference.crc())
}

impl Dump<'_> {
    fn line(&mut self, section: &'static str, depth: u32, text: String) {
        (self.lines)(DumpLine { section, depth, text });
    }

    fn damage(&mut self, report: &CheckReport) {
        for finding in &report.findings {
            self.line("damage", 1, finding.to_string());
        }
    }

    fn slot(&mut self, name: &str, offset: u64) {
        let mut bytes = vec![0; SUPERBLOCK_BYTES];
        if let Err(cause) = self.device.read_at(&mut bytes, offset) {
            return self.line("superblock", 0, format!("slot {name}: cannot be read: {cause}"));
        }
        let superblock = match Superblock::open(&bytes) {
            Slot::Sealed(superblock) => superblock,
            Slot::Torn => return self.line("superblock", 0, format!("slot {name}: its seal does not match")),
            Slot::Foreign => return self.line("superblock", 0, format!("slot {name}: something else")),
        };
        self.line("superblock", 0, format!("slot {name}: sealed"));
        let uuid = superblock.uuid.iter().fold(0u128, |uuid, byte| uuid << 8 | u128::from(*byte));
        let Superblock { version, block_size, zone_blocks, journal_blocks, writes, term, recovered, .. } =
            &*superblock;
        self.line("superblock", 1, format!("version {version} uuid {uuid:032x}"));
        self.line(
            "superblock",
            1,
            format!("block_size {block_size} zone_blocks {zone_blocks} journal_blocks {journal_blocks}"),
        );
        self.line("superblock", 1, format!("writes {writes} term {term} recovered {recovered}"));
        let Superblock { checkpoint_block, checkpoint_bytes, checkpoint_crc, .. } = &*superblock;
        self.line(
            "superblock",
            1,
            format!(
                "checkpoint block {checkpoint_block} bytes {checkpoint_bytes} seal {:08x}",
                checkpoint_crc.get()
            ),
        );
        let Superblock { journal_offset, journal_sequence, clean, .. } = &*superblock;
        self.line(
            "superblock",
            1,
            format!("journal offset {journal_offset} batch {journal_sequence} clean {clean}"),
        );
    }

    fn record(&mut self, record: &CheckpointRecord, at: BlockNo) {
        let CheckpointRecord { generation, zones, epoch, next_id, used, shared, extra, .. } = record;
        self.line("checkpoint", 0, format!("generation {generation} at block {at}"));
        self.line("checkpoint", 1, format!("zones {zones} epoch {epoch} next_id {next_id} used {used}"));
        self.line("checkpoint", 1, format!("shared {shared} extra {extra}"));
        let (root, height, pages) =
            (shown(&record.catalog_root), record.catalog_height, record.catalog_pages);
        self.line("checkpoint", 1, format!("catalog root {root} height {height} pages {pages}"));
    }

    fn group(&mut self, medium: &Medium<'_>, number: u64, entry: GroupEntry) {
        let Some(slot) = entry.slot else { return };
        let geometry = medium.geometry;
        let block = geometry.summary_block(number, slot);
        self.line("zones", 0, format!("group {number}: used {} summary at block {block}", entry.used));
        let zones = geometry.zones_per_group();
        let summary = medium.sealed(block, entry.crc).map_err(|why| why.to_string()).and_then(|bytes| {
            decode_summary(&bytes, geometry.pages_per_zone(), zones).ok_or_else(|| "makes no sense".into())
        });
        let summary = match summary {
            Ok(summary) => summary,
            Err(why) => return self.line("zones", 1, format!("damaged: {why}")),
        };
        for (zone, entry) in
            (number * zones..medium.zones).zip(&summary).filter(|(_, zone)| zone.written != 0)
        {
            let pages: Vec<String> = (0..geometry.pages_per_zone())
                .filter_map(|page| Some((page, entry.slot(page)?)))
                .map(|(page, slot)| geometry.refcount_block(zone, page, slot).to_string())
                .collect();
            let (used, shared, pages) = (entry.used, entry.shared, pages.join(" "));
            let text = format!("zone {zone}: used {used} shared {shared} refcounts at blocks {pages}");
            self.line("zones", 1, text);
        }
    }

    fn records(&mut self, medium: &Medium<'_>, records: &Records) {
        for server in records.servers.values() {
            self.line("catalog", 0, format!("{:?}", CatalogRecord::Server(server.clone())));
        }
        for snapshot in records.snapshots.values() {
            self.line("catalog", 0, format!("{:?}", CatalogRecord::Snapshot(snapshot.clone())));
        }
        for disk in records.disks.values() {
            let text = format!(
                "disk {} {:?} of server {}: {} bytes parent {:?} birth {} mapped {}",
                disk.id, disk.name, disk.server, disk.size_bytes, disk.parent, disk.birth, disk.root.mapped
            );
            self.line("catalog", 0, text);
            self.map(medium, &disk.root);
        }
        for version in records.versions.values() {
            let text = format!(
                "version {} of disk {} {:?}: {} bytes parent {:?} epoch {} birth {} snapshot {:?} mapped {}",
                version.id,
                version.disk,
                version.disk_name,
                version.size_bytes,
                version.parent,
                version.epoch,
                version.birth,
                version.snapshot,
                version.root.mapped
            );
            self.line("catalog", 0, text);
            self.map(medium, &version.root);
        }
        for garbage in records.garbage.values() {
            let (id, height, first, cursor) = (garbage.id, garbage.height, garbage.first, garbage.cursor);
            self.line("catalog", 0, format!("garbage {id}: height {height} first {first} cursor {cursor}"));
            self.map(medium, &Root { reference: garbage.reference, height, mapped: 0 });
        }
        if let Some(collection) = records.collection {
            self.line("catalog", 0, format!("{collection:?}"));
        }
    }

    fn map(&mut self, medium: &Medium<'_>, root: &Root) {
        self.line("map", 1, format!("root {} height {}", shown(&root.reference), root.height));
        if root.height <= MAP_HEIGHT_MAX {
            self.node(medium, root.reference, root.height, 0);
        }
    }

    fn node(&mut self, medium: &Medium<'_>, reference: Reference, level: u32, depth: u32) {
        if depth >= self.options.depth || level == 0 || reference.is_hole() {
            return;
        }
        let indent = depth + 2;
        if medium.place_of(reference.block()).is_none() {
            return self.line("map", indent, format!("block {} is no data block", reference.block()));
        }
        let bytes = match medium.sealed(reference.block(), reference.crc()) {
            Ok(bytes) => bytes,
            Err(why) => return self.line("map", indent, format!("damaged: {why}")),
        };
        for (nth, entry) in node_from_bytes(&bytes).iter().enumerate().filter(|(_, entry)| !entry.is_hole()) {
            self.line("map", indent, format!("{nth}: {}", shown(entry)));
            self.node(medium, *entry, level - 1, depth + 1);
        }
    }

    /// Versions and disks below those that they descend from. Parents in a circle are not reached.
    fn lineage(&mut self, records: &Records, parent: Option<VersionId>, depth: u32) {
        for disk in records.disks.values().filter(|disk| disk.parent == parent) {
            self.line("lineage", depth, format!("disk {} {:?}", disk.id, disk.name));
        }
        for version in records.versions.values().filter(|version| version.parent == parent) {
            let text =
                format!("version {} of disk {} snapshot {:?}", version.id, version.disk, version.snapshot);
            self.line("lineage", depth, text);
            if depth < DEPTH_MAX {
                self.lineage(records, Some(version.id), depth + 1);
            }
        }
    }

    /// All that looks like a batch of this store, in the order in which it lies.
    fn journal(&mut self, roots: &Roots) {
        let (geometry, first) = (roots.geometry, roots.superblock.journal_sequence.get());
        let mut unit = vec![0; index(JOURNAL_UNIT)];
        for at in (0..geometry.journal_bytes()).step_by(index(JOURNAL_UNIT)) {
            if let Err(cause) = self.device.read_at(&mut unit, HEADER_BYTES + at) {
                self.line("journal", 0, format!("byte {at} cannot be read: {cause}"));
                continue;
            }
            let Some(header) = BatchHeader::read(&unit, roots.superblock.uuid) else { continue };
            let (sequence, term, durable) = (header.sequence, header.term, header.durable);
            let age = if sequence.get() < first || roots.superblock.clean.get() == 1 { " (old)" } else { "" };
            let batch = header
                .batch_bytes(geometry.block_size())
                .filter(|length| at + length <= geometry.journal_bytes())
                .and_then(|length| {
                    let mut bytes = vec![0; index(length)];
                    self.device.read_at(&mut bytes, HEADER_BYTES + at).ok()?;
                    Batch::open(bytes, header, geometry.block_size())
                });
            let seal = if batch.is_some() { "sealed" } else { "its seal does not match" };
            let text = format!("batch {sequence} at byte {at}: term {term} durable {durable}, {seal}{age}");
            self.line("journal", 0, text);
            if age.is_empty() {
                for record in batch.and_then(|batch| batch.records()).unwrap_or_default() {
                    self.line("journal", 1, told(&record));
                }
            }
        }
    }
}

/// Generations of versions that are shown, each below its parent.
const DEPTH_MAX: u32 = 1000;

fn told_map(what: &str, map: &MapRecord) -> String {
    let MapRecord { disk, first, physical, birth, crcs } = map;
    format!("{what} disk {disk} blocks {first}+{} to block {physical} birth {birth}", crcs.len())
}

fn told(record: &Record) -> String {
    match record {
        Record::Map(map) => told_map("map", map),
        Record::Share(map) => told_map("share", map),
        Record::Clear { disk, first, count } => format!("clear disk {disk} blocks {first}+{count}"),
        Record::Event(event) => format!("{event:?}"),
        Record::Inline { run, .. } => format!("inline blocks {}+{}", run.first, run.count),
    }
}
