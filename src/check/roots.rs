//! Roots: the superblock slots, the geometry, and the checkpoint record.
//!
//! Floor 5. A checkpoint writes slot A, syncs, and writes slot B. So a crash leaves slot A torn, or slot B
//! older or torn: notes. What no crash leaves is a finding:
//!
//! ```text
//! A \ B       sealed                       torn       foreign, all zero    foreign
//! sealed      older B: note                note       note                 finding
//!             older A, or differs: finding
//! torn        note                         damaged    damaged              damaged
//! foreign     finding                      damaged    no store             no store
//! ```

use super::medium::Medium;
use super::report::CheckReport;
use super::{journal, tables};
use crate::defect::Defect;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    CheckpointRecord, FORMAT_VERSION, Geometry, JOURNAL_UNIT, SLOT_OFFSETS, SUPERBLOCK_BYTES, Slot,
    Superblock, seal,
};
use crate::limits::{BLOCK_NO_MAX, COUNTER_MAX};
use crate::units::{BlockNo, BlockRun, index, wide};

/// A superblock's fields lie in its first sector, the unit that a crash keeps or loses.
const SECTOR: usize = 512;

/// Where everything begins.
pub(super) struct Roots {
    pub(super) superblock: Superblock,
    pub(super) geometry: Geometry,
    /// The checkpoint record and its blocks; `None` where it is damaged, or the store is cut short.
    pub(super) record: Option<(CheckpointRecord, BlockRun)>,
}

impl Roots {
    /// Reads them. `None` where the report says why nothing can be followed.
    pub(super) fn read(device: &dyn Device, report: &mut CheckReport) -> Result<Option<Self>> {
        let Some(superblock) = superblock(device, report)? else { return Ok(None) };
        let Some(geometry) = geometry(device, &superblock, report)? else { return Ok(None) };
        let record = checkpoint(device, &geometry, &superblock, report)?;
        Ok(Some(Self { superblock, geometry, record }))
    }

    /// Checks the journal behind the checkpoint.
    pub(super) fn check_journal(&self, device: &dyn Device, report: &mut CheckReport) {
        let zones = self.record.as_ref().map(|(record, _)| record.zones);
        let shares = journal::check(device, (&self.geometry, zones), &self.superblock, report);
        if let Some((record, _)) = &self.record {
            let medium = Medium::new(device, self.geometry, record.zones);
            tables::verify_shares(&medium, record, &shares, report);
        }
    }
}

/// The superblock to go on with; `None` where the report says why there is none.
fn superblock(device: &dyn Device, report: &mut CheckReport) -> Result<Option<Superblock>> {
    let bytes_a = slot_bytes(device, 0)?;
    let bytes_b = slot_bytes(device, 1)?;
    let chosen = match (Superblock::open(&bytes_a), Superblock::open(&bytes_b)) {
        (Slot::Sealed(a), Slot::Sealed(b)) => Some(newer(*a, *b, report)),
        (Slot::Sealed(a), Slot::Torn) => {
            torn("B", &bytes_b, report);
            Some(*a)
        }
        (Slot::Sealed(a), Slot::Foreign) => {
            if bytes_b.iter().all(|&byte| byte == 0) {
                report.note("superblock slot B was never written: a crash came before it");
            } else {
                report.find(Defect::Superblock, "slot B holds something else");
            }
            Some(*a)
        }
        (Slot::Torn, Slot::Sealed(b)) => {
            torn("A", &bytes_a, report);
            Some(*b)
        }
        (Slot::Foreign, Slot::Sealed(b)) => {
            report.find(Defect::Superblock, "slot A holds something else");
            Some(*b)
        }
        (Slot::Foreign, Slot::Foreign) => {
            return Err(Error::new(
                ErrorKind::Invalid,
                "this is not a cowblk store: there is no superblock in either slot; check the path",
            ));
        }
        (Slot::Torn | Slot::Foreign, Slot::Torn | Slot::Foreign) => {
            report.find(Defect::Superblock, "both slots are damaged");
            None
        }
    };
    if let Some(superblock) = &chosen {
        check_version(superblock)?;
    }
    Ok(chosen)
}

fn slot_bytes(device: &dyn Device, slot: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; SUPERBLOCK_BYTES];
    let offset = SLOT_OFFSETS.get(slot).copied().unwrap_or_default();
    match device.read_at(&mut bytes, offset) {
        Err(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => Ok(vec![0; SUPERBLOCK_BYTES]),
        Err(cause) => Err(Error::io("read superblock", cause)),
        Ok(()) => Ok(bytes),
    }
}

/// A slot that is not sealed, beside one that is.
fn torn(name: &str, bytes: &[u8], report: &mut CheckReport) {
    let behind_fields = bytes.get(SECTOR..).unwrap_or_default();
    if behind_fields.iter().all(|&byte| byte == 0) {
        report
            .note(format!("superblock slot {name} is torn, as a crash may leave it; the other one is whole"));
    } else {
        report.find(Defect::Superblock, format!("slot {name} has bytes that no write puts there"));
    }
}

fn newer(a: Superblock, b: Superblock, report: &mut CheckReport) -> Superblock {
    if a.uuid != b.uuid {
        report.find(Defect::Superblock, "the two slots belong to different stores");
        return a;
    }
    let (writes_a, writes_b) = (a.writes.get(), b.writes.get());
    if writes_b > writes_a {
        report.find(
            Defect::Superblock,
            format!("slot A has write {writes_a}, slot B {writes_b}, though A is written first"),
        );
        return b;
    }
    if writes_b < writes_a {
        report.note(format!(
            "superblock slot B is older ({writes_b}, A has {writes_a}), as a crash may leave it"
        ));
    } else if a != b {
        report.find(Defect::Superblock, "the two slots say different things of the same write");
    }
    a
}

fn check_version(superblock: &Superblock) -> Result<()> {
    let (version, features) = (superblock.version.get(), superblock.incompatible.get());
    if version == FORMAT_VERSION && features == 0 {
        return Ok(());
    }
    let message = format!(
        "the store has format version {version} and features {features:#x}, and this is version {FORMAT_VERSION} of the format without such features; use a newer cowblk"
    );
    Err(Error::new(ErrorKind::Unsupported, message))
}

/// The geometry; `None` where it is impossible.
fn geometry(
    device: &dyn Device,
    superblock: &Superblock,
    report: &mut CheckReport,
) -> Result<Option<Geometry>> {
    let geometry = match superblock.geometry() {
        Ok(geometry) => geometry,
        Err(wrong) => {
            report.find(Defect::Geometry, wrong);
            return Ok(None);
        }
    };
    if !superblock.reserved_is_zero() {
        report.find(Defect::Geometry, "reserved bytes of the superblock are set");
    }
    let counters = [superblock.writes, superblock.term, superblock.recovered, superblock.journal_sequence];
    if counters.iter().any(|counter| counter.get() > COUNTER_MAX) || superblock.journal_sequence.get() == 0 {
        report.find(Defect::Geometry, "a counter of the superblock has a value that no store comes to");
    }
    let offset = superblock.journal_offset.get();
    if offset >= geometry.journal_bytes() || !offset.is_multiple_of(JOURNAL_UNIT) {
        report.find(Defect::Geometry, format!("no journal batch can start at byte {offset} of the journal"));
        return Ok(None);
    }
    let (has, needs) = (device_bytes(device)?, geometry.length_bytes(0));
    if has < needs {
        report.find(Defect::Truncated, format!("{has} bytes; superblocks and journal alone take {needs}"));
        return Ok(None);
    }
    Ok(Some(geometry))
}

/// The checkpoint record and its blocks; `None` where it is damaged, or the store is cut short.
fn checkpoint(
    device: &dyn Device,
    geometry: &Geometry,
    superblock: &Superblock,
    report: &mut CheckReport,
) -> Result<Option<(CheckpointRecord, BlockRun)>> {
    let has = device_bytes(device)?;
    let first = BlockNo(superblock.checkpoint_block.get());
    let length = u64::from(superblock.checkpoint_bytes.get());
    let run = BlockRun { first, count: length.div_ceil(u64::from(geometry.block_size())) };
    let place = geometry.place_of(first).filter(|_| first.0 <= BLOCK_NO_MAX);
    let fits = place.is_some_and(|place| {
        run.count > 0 && run.count <= u64::from(geometry.data_blocks_per_zone() - place.index)
    });
    if !fits {
        report.find(
            Defect::Checkpoint,
            format!("{} blocks from block {first} on are no data blocks", run.count),
        );
        return Ok(None);
    }
    if geometry.offset_bytes(run.end()) > has {
        report.find(
            Defect::Truncated,
            format!("{has} bytes; the checkpoint record at block {first} is beyond"),
        );
        return Ok(None);
    }
    let mut bytes = vec![0; index(length)];
    if let Err(cause) = device.read_at(&mut bytes, geometry.offset_bytes(first)) {
        report.find(Defect::Checkpoint, format!("block {first} cannot be read: {cause}"));
        return Ok(None);
    }
    if seal(&bytes) != superblock.checkpoint_crc.get() {
        report.find(Defect::Checkpoint, format!("block {first}: its seal does not match"));
        return Ok(None);
    }
    let Some(record) = CheckpointRecord::decode(&bytes) else {
        report.find(Defect::Checkpoint, format!("block {first}: sealed, but makes no sense"));
        return Ok(None);
    };
    Ok(sense(&record, (geometry, has), place.map(|place| place.zone), report).then_some((record, run)))
}

/// Whether the record's numbers fit together and into the device. What is only impossible is reported, and followed.
fn sense(
    record: &CheckpointRecord,
    (geometry, has): (&Geometry, u64),
    own_zone: Option<u64>,
    report: &mut CheckReport,
) -> bool {
    let zones = record.zones;
    let zones_max = geometry.zones_in(BLOCK_NO_MAX.saturating_mul(u64::from(geometry.block_size())));
    if zones > zones_max || wide(record.groups.len()) != geometry.groups_for(zones) {
        let groups = record.groups.len();
        report.find(Defect::Checkpoint, format!("{zones} zones and {groups} groups do not fit together"));
        return false;
    }
    if zones > geometry.zones_in(has) {
        let needs = geometry.length_bytes(zones);
        report.find(Defect::Truncated, format!("{has} bytes; {zones} zones need {needs}"));
        return false;
    }
    if record.generation.0 > COUNTER_MAX || record.next_id > COUNTER_MAX {
        let (generation, next_id) = (record.generation, record.next_id);
        report.find(
            Defect::Checkpoint,
            format!("generation {generation} or next id {next_id} is more than any store comes to"),
        );
    }
    if record.catalog_pages > has / u64::from(geometry.block_size()) {
        report
            .find(Defect::Checkpoint, format!("{} catalog pages are more than blocks", record.catalog_pages));
    }
    if !geometry.is_map_height(record.catalog_height) {
        report.find(Defect::Checkpoint, format!("a catalog map of {} levels", record.catalog_height));
    }
    if own_zone.is_none_or(|zone| zone >= zones) {
        report.find(Defect::Checkpoint, format!("it lies behind the {zones} zones that it speaks of"));
        return false;
    }
    true
}

fn device_bytes(device: &dyn Device) -> Result<u64> {
    device.len_bytes().map_err(|cause| Error::io("read the store's length", cause))
}

#[cfg(test)]
mod tests {
    use crate::check::check_device;
    use crate::check::image::{Finished, Image};
    use crate::defect::Defect;
    use crate::format::{CheckpointRecord, seal};
    use crate::limits::COUNTER_MAX;
    use crate::units::{Generation, index};
    use zerocopy::little_endian::{U32, U64};

    /// A store without disks, with a change of its checkpoint record that is sealed.
    fn with_record(change: impl FnOnce(&mut CheckpointRecord)) -> Finished {
        let mut finished = Image::new().finish();
        let at = index(finished.geometry.offset_bytes(finished.record));
        let length = index(u64::from(finished.superblock.checkpoint_bytes.get()));
        let mut record = CheckpointRecord::decode(&finished.bytes[at..at + length]).unwrap();
        change(&mut record);
        let bytes = record.encode();
        finished.bytes[at..at + length].copy_from_slice(&bytes);
        finished.superblock.checkpoint_crc = U32::new(seal(&bytes));
        finished.set_superblocks(|_| ());
        finished
    }

    fn found(finished: Finished) -> Vec<Defect> {
        let report = check_device(&finished.device()).unwrap();
        report.findings.iter().map(|finding| finding.defect).collect()
    }

    #[test]
    fn a_record_with_a_number_that_no_store_comes_to_is_found() {
        assert_eq!(found(with_record(|_| ())), []);
        assert_eq!(found(with_record(|record| record.next_id = COUNTER_MAX + 1)), [Defect::Checkpoint]);
        assert_eq!(
            found(with_record(|record| record.generation = Generation(COUNTER_MAX + 1))),
            [Defect::Checkpoint]
        );
        assert_eq!(found(with_record(|record| record.catalog_pages = 1 << 40)), [Defect::Checkpoint]);
    }

    #[test]
    fn a_superblock_with_a_number_that_no_store_comes_to_is_found() {
        let mut finished = Image::new().finish();
        finished.set_superblocks(|superblock| superblock.term = U64::new(COUNTER_MAX + 1));
        assert_eq!(found(finished), [Defect::Geometry]);
    }
}
