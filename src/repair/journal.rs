//! Journal: cutting off what cannot be replayed.
//!
//! Floor 6.

use super::overlay::Writes;
use crate::device::Device;
use crate::format::{BatchHeader, Geometry, HEADER_BYTES, JOURNAL_UNIT, Superblock};
use crate::units::index;
use zerocopy::little_endian::U64;

/// The writes that end the journal before batch `first`: its header and all later ones go. The superblock says no more
/// that such a batch was ever accepted.
pub(super) fn cut(
    device: &dyn Device,
    geometry: &Geometry,
    superblock: &mut Superblock,
    first: u64,
) -> Writes {
    let mut writes = Writes::new();
    let mut unit = vec![0; index(JOURNAL_UNIT)];
    for at in (0..geometry.journal_bytes()).step_by(index(JOURNAL_UNIT)) {
        if device.read_at(&mut unit, HEADER_BYTES + at).is_err() {
            writes.insert(HEADER_BYTES + at, vec![0; index(JOURNAL_UNIT)]);
        } else if let Some(header) = BatchHeader::read(&unit, superblock.uuid)
            && header.sequence.get() >= first
        {
            writes.insert(HEADER_BYTES + at, vec![0; index(JOURNAL_UNIT)]);
        }
    }
    superblock.recovered = U64::new(superblock.recovered.get().min(first.saturating_sub(1)));
    writes
}
