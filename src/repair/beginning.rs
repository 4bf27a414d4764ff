//! Beginning: a superblock and a checkpoint record to start from, where the newest ones are damaged.
//!
//! Floor 6. Whatever is taken proves itself by its seal: nothing is guessed.

use crate::device::Device;
use crate::format::{CheckpointRecord, Geometry, SLOT_OFFSETS, SUPERBLOCK_BYTES, Slot, Superblock, seal};
use crate::limits::BLOCK_NO_MAX;
use crate::units::{BlockNo, BlockRun, index, wide};

/// So many bytes may differ between two damaged slots for every mixture of them to be tried.
const DIFFERING_MAX: usize = 12;
/// A record up to so many bytes is tried with each of its bits flipped.
const RECORD_BYTES_MAX: usize = 8 << 10;

/// What a repair starts from.
pub(super) struct Beginning {
    pub(super) superblock: Superblock,
    pub(super) geometry: Geometry,
    pub(super) record: CheckpointRecord,
    pub(super) run: BlockRun,
}

/// The newest superblock that leads to a record, and what had to be done to find it.
pub(super) fn find(device: &dyn Device, actions: &mut Vec<String>) -> Option<Beginning> {
    let slots: Vec<Vec<u8>> = SLOT_OFFSETS
        .iter()
        .map(|offset| {
            let mut bytes = vec![0; SUPERBLOCK_BYTES];
            device.read_at(&mut bytes, *offset).map_or_else(|_| vec![0; SUPERBLOCK_BYTES], |()| bytes)
        })
        .collect();
    let mut candidates: Vec<Superblock> = slots.iter().filter_map(|bytes| sealed(bytes)).collect();
    candidates.sort_by_key(|superblock| std::cmp::Reverse(superblock.writes.get()));
    if candidates.is_empty()
        && let Some(mended) = mend(&slots)
    {
        actions
            .push("both superblock slots are damaged: put together a superblock whose seal matches".into());
        candidates.push(mended);
    }
    for (nth, superblock) in candidates.into_iter().enumerate() {
        if let Some(beginning) = with_record(device, superblock, actions) {
            if nth > 0 {
                actions.push(format!(
                    "fall back to the older superblock, of checkpoint {}",
                    beginning.record.generation
                ));
            }
            return Some(beginning);
        }
    }
    None
}

fn sealed(bytes: &[u8]) -> Option<Superblock> {
    match Superblock::open(bytes) {
        Slot::Sealed(superblock) => Some(*superblock),
        Slot::Torn | Slot::Foreign => None,
    }
}

/// The superblock that was in both slots: a mixture of them, or one of them with a bit flipped.
fn mend(slots: &[Vec<u8>]) -> Option<Superblock> {
    let [a, b] = slots else { return None };
    let differing: Vec<usize> = (0..a.len()).filter(|at| a.get(*at) != b.get(*at)).collect();
    if differing.len() <= DIFFERING_MAX {
        let mixtures = (0..1u32 << differing.len()).find_map(|choice| {
            let mut mixture = a.clone();
            for (nth, &at) in differing.iter().enumerate() {
                if choice >> nth & 1 == 1
                    && let (Some(place), Some(byte)) = (mixture.get_mut(at), b.get(at))
                {
                    *place = *byte;
                }
            }
            sealed(&mixture)
        });
        if mixtures.is_some() {
            return mixtures;
        }
    }
    slots.iter().find_map(|slot| flipped(slot, sealed))
}

/// What `accept` makes of the bytes with one bit flipped.
fn flipped<T>(bytes: &[u8], accept: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let mut bytes = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Some(found) = accept(&bytes) {
            return Some(found);
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    None
}

fn with_record(device: &dyn Device, superblock: Superblock, actions: &mut Vec<String>) -> Option<Beginning> {
    let geometry = superblock.geometry().ok()?;
    let first = BlockNo(superblock.checkpoint_block.get());
    let length = u64::from(superblock.checkpoint_bytes.get());
    let run = BlockRun { first, count: length.div_ceil(u64::from(geometry.block_size())) };
    let place = geometry.place_of(first).filter(|_| first.0 <= BLOCK_NO_MAX)?;
    if run.count == 0 || run.count > u64::from(geometry.data_blocks_per_zone() - place.index) {
        return None;
    }
    let mut bytes = vec![0; index(length)];
    device.read_at(&mut bytes, geometry.offset_bytes(first)).ok()?;
    let crc = superblock.checkpoint_crc.get();
    let open = |bytes: &[u8]| (seal(bytes) == crc).then(|| CheckpointRecord::decode(bytes)).flatten();
    let record = match open(&bytes) {
        Some(record) => record,
        None if bytes.len() <= RECORD_BYTES_MAX => {
            let record = flipped(&bytes, open)?;
            actions.push("flip back one bit of the checkpoint record: then its seal matches".into());
            record
        }
        None => return None,
    };
    let fits = wide(record.groups.len()) == geometry.groups_for(record.zones) && place.zone < record.zones;
    fits.then_some(Beginning { superblock, geometry, record, run })
}
