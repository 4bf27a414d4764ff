//! Superblocks: which of the two slots to trust, and in which order they are written.
//!
//! Floor 4.

use crate::defect::Defect;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    CheckpointRecord, FORMAT_VERSION, Geometry, SLOT_OFFSETS, SUPERBLOCK_BYTES, Slot, Superblock, seal,
};
use crate::limits::{BLOCK_NO_MAX, COUNTER_MAX};
use crate::units::{BlockNo, BlockRun, index, wide};

/// Which slot to trust. The rows are lettered; the tests below have one for each letter.
fn choose(a: Slot, b: Slot) -> Result<Superblock> {
    match (a, b) {
        /* A */
        (Slot::Sealed(a), Slot::Sealed(b)) if a.uuid != b.uuid => {
            Err(Error::corrupt(Defect::Superblock, "the two slots belong to different stores"))
        }
        /* B */
        (Slot::Sealed(a), Slot::Sealed(b)) => Ok(if b.writes.get() > a.writes.get() { *b } else { *a }),
        /* C */
        (Slot::Sealed(only), _) | (_, Slot::Sealed(only)) => Ok(*only),
        /* D */
        (Slot::Foreign, Slot::Foreign) => Err(Error::new(
            ErrorKind::Invalid,
            "this is not a cowblk store: there is no superblock in either slot; check the path, or make a store with `cowblk init`",
        )),
        /* E */
        (Slot::Torn | Slot::Foreign, Slot::Torn | Slot::Foreign) => {
            Err(Error::corrupt(Defect::Superblock, "both slots are damaged"))
        }
    }
}

/// Reads the superblock and checks that this version may use the store.
pub(crate) fn read_superblock(device: &dyn Device) -> Result<(Superblock, Geometry)> {
    let superblock = choose(read_slot(device, SLOT_OFFSETS[0])?, read_slot(device, SLOT_OFFSETS[1])?)?;
    check_version(&superblock, device.is_read_only())?;
    let geometry = superblock.geometry().map_err(|wrong| Error::corrupt(Defect::Geometry, wrong))?;
    let counters = [superblock.writes, superblock.term, superblock.recovered, superblock.journal_sequence];
    let sound = superblock.reserved_is_zero()
        && counters.iter().all(|counter| counter.get() <= COUNTER_MAX)
        && superblock.journal_sequence.get() > 0
        && superblock.journal_offset.get() < geometry.journal_bytes()
        && superblock.journal_offset.get().is_multiple_of(crate::format::JOURNAL_UNIT);
    if sound {
        Ok((superblock, geometry))
    } else {
        Err(Error::corrupt(Defect::Geometry, "superblock fields are out of range"))
    }
}

fn read_slot(device: &dyn Device, offset: u64) -> Result<Slot> {
    let mut bytes = vec![0; SUPERBLOCK_BYTES];
    match device.read_at(&mut bytes, offset) {
        Ok(()) => Ok(Superblock::open(&bytes)),
        Err(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => Ok(Slot::Foreign),
        Err(cause) => Err(Error::io("read superblock", cause)),
    }
}

fn check_version(superblock: &Superblock, read_only: bool) -> Result<()> {
    let unsupported = |what: String| Err(Error::new(ErrorKind::Unsupported, what));
    let version = superblock.version.get();
    if version != FORMAT_VERSION {
        return unsupported(format!(
            "the store has format version {version}, and this is version {FORMAT_VERSION} of the format; use a newer cowblk"
        ));
    }
    let (incompatible, read_only_compatible) =
        (superblock.incompatible.get(), superblock.read_only_compatible.get());
    if incompatible != 0 {
        return unsupported(format!(
            "the store uses incompatible features {incompatible:#x} that this version does not know; use a newer cowblk"
        ));
    }
    if read_only_compatible != 0 && !read_only {
        return unsupported(format!(
            "the store uses features {read_only_compatible:#x} that this version can only read; open it read-only, or use a newer cowblk"
        ));
    }
    Ok(())
}

/// Writes the superblock: slot A, a sync, then slot B. Slot B reaches the medium with the next sync,
/// and is not needed before: until then, slot A is whole.
pub(crate) fn write_superblock(device: &dyn Device, superblock: &Superblock) -> Result<()> {
    let failed = |cause| Error::io("write superblock", cause);
    let bytes = superblock.clone().seal();
    device.write_at(&bytes, SLOT_OFFSETS[0]).map_err(failed)?;
    device.sync().map_err(failed)?;
    device.write_at(&bytes, SLOT_OFFSETS[1]).map_err(failed)
}

/// Reads the checkpoint record that a superblock points at. Returns its blocks, too.
pub(crate) fn read_checkpoint(
    device: &dyn Device,
    geometry: &Geometry,
    superblock: &Superblock,
) -> Result<(CheckpointRecord, BlockRun)> {
    let damaged = |what: &str| Error::corrupt(Defect::Checkpoint, what);
    let first = BlockNo(superblock.checkpoint_block.get());
    let length = u64::from(superblock.checkpoint_bytes.get());
    let run = BlockRun { first, count: length.div_ceil(u64::from(geometry.block_size())) };
    let device_bytes = device.len_bytes().map_err(|cause| Error::io("read the store's length", cause))?;
    let possible = first.0 <= BLOCK_NO_MAX
        && geometry.place_of(first).is_some()
        && run.count <= u64::from(geometry.data_blocks_per_zone());
    if !possible {
        return Err(damaged("superblock points outside the data blocks"));
    }
    if geometry.offset_bytes(run.end()) > device_bytes {
        return Err(Error::corrupt(
            Defect::Truncated,
            format!("the store has {device_bytes} bytes, and its checkpoint record lies beyond"),
        ));
    }
    let mut bytes = vec![0; index(length)];
    device
        .read_at(&mut bytes, geometry.offset_bytes(first))
        .map_err(|cause| Error::io("read checkpoint record", cause))?;
    if seal(&bytes) != superblock.checkpoint_crc.get() {
        return Err(damaged("its seal does not match"));
    }
    let record = CheckpointRecord::decode(&bytes).ok_or_else(|| damaged("it makes no sense"))?;
    if !geometry.is_map_height(record.catalog_height) {
        return Err(damaged("its catalog map is impossibly high"));
    }
    if record.generation.0 > COUNTER_MAX {
        return Err(damaged("its generation is impossibly large"));
    }
    if record.catalog_height == 0 && !record.catalog_root.is_hole() {
        return Err(damaged("its catalog map has a root and no levels"));
    }
    if record.zones > geometry.zones_in(BLOCK_NO_MAX * u64::from(geometry.block_size()) / 2)
        || wide(record.groups.len()) != geometry.groups_for(record.zones)
    {
        return Err(damaged("its zones and groups do not fit together"));
    }
    if record.catalog_pages > device_bytes / u64::from(geometry.block_size()) {
        return Err(damaged("it has more catalog pages than the store has blocks"));
    }
    check_length(device, geometry.length_bytes(record.zones))?;
    Ok((record, run))
}

/// Refuses a store that lost its end: one that was durably longer.
pub(crate) fn check_length(device: &dyn Device, needed: u64) -> Result<()> {
    let has = device.len_bytes().map_err(|cause| Error::io("read the store's length", cause))?;
    if has >= needed {
        return Ok(());
    }
    Err(Error::corrupt(
        Defect::Truncated,
        format!("the store has {has} bytes and needs {needed}; bring back the missing end from a copy"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::little_endian::U64;

    fn sealed(uuid: u8, writes: u64) -> Slot {
        let geometry = Geometry::new(4096, 64, 16).unwrap();
        let superblock = Superblock { writes: U64::new(writes), ..Superblock::first(&geometry, [uuid; 16]) };
        Slot::Sealed(Box::new(superblock))
    }

    #[test]
    fn row_a_slots_of_two_stores_are_refused() {
        assert_eq!(choose(sealed(1, 1), sealed(2, 1)).unwrap_err().defect(), Some(Defect::Superblock));
    }

    #[test]
    fn row_b_the_newer_slot_wins_wherever_it_is() {
        assert_eq!(choose(sealed(1, 4), sealed(1, 5)).unwrap().writes.get(), 5);
        assert_eq!(choose(sealed(1, 6), sealed(1, 5)).unwrap().writes.get(), 6);
    }

    #[test]
    fn row_c_one_whole_slot_is_enough() {
        assert_eq!(choose(Slot::Torn, sealed(1, 5)).unwrap().writes.get(), 5);
        assert_eq!(choose(sealed(1, 5), Slot::Foreign).unwrap().writes.get(), 5);
    }

    #[test]
    fn row_d_something_else_is_no_store() {
        assert_eq!(choose(Slot::Foreign, Slot::Foreign).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn row_e_two_damaged_slots_are_damage() {
        assert_eq!(choose(Slot::Torn, Slot::Foreign).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
