//! Format, tables: any bytes as a superblock, a checkpoint record, a node, a summary or a refcount page, without a store.
//!
//! What is accepted is written again as the same bytes, but for the slot of a summary page that was never written; and
//! what stands in reserved places is refused.

use cowblk::{Part, again};

use super::image::{BLOCK, superblock};
use super::input::Input;

/// The property.
pub fn run(data: &[u8]) {
    let input = &mut Input(data);
    let kind = input.byte();
    let mut bytes = input.0[..input.0.len().min(BLOCK)].to_vec();
    match kind % 5 {
        0 => superblock(input, bytes),
        1 => checkpoint(bytes),
        2 => {
            bytes.truncate(bytes.len() / 16 * 16);
            let is_valid =
                |reference: &[u8]| reference[11] == 0 && (reference[..6] != [0; 6] || reference == [0; 16]);
            expect(Part::Node, &bytes, bytes.chunks(16).all(is_valid));
        }
        3 => {
            let (zones, pages) = (u64::from(kind / 5 % 10), 1 + u32::from(kind / 50));
            let entry = 24 + 4 * pages as usize;
            bytes.resize(BLOCK, 0);
            let is_sound = bytes[entry * zones as usize..].iter().all(|byte| *byte == 0);
            expect(Part::Summary { zones, pages }, &bytes, is_sound);
        }
        _ => {
            bytes.truncate(bytes.len() / 2 * 2);
            expect(Part::Counts, &bytes, true);
        }
    }
}

fn expect(part: Part, bytes: &[u8], is_sound: bool) {
    let written = again(part, bytes);
    assert_eq!(written.as_deref(), is_sound.then_some(bytes), "{part:?}");
}

/// The fields of a superblock, changed from those of a sound one, sealed.
fn superblock(input: &mut Input<'_>, changes: Vec<u8>) {
    let mut bytes = vec![0; BLOCK];
    bytes[..16].copy_from_slice(b"cowblk\x1a\n\x01\0\0\0\0\0\0\0");
    for (at, value) in [(56, 4096), (60, 64), (64, 16)] {
        bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    let at = usize::from(input.byte());
    for (place, change) in bytes[at..].iter_mut().zip(changes) {
        *place ^= change;
    }
    bytes[superblock::CRC..superblock::CRC + 4].fill(0);
    let seal = crc32fast::hash(&bytes).to_le_bytes();
    bytes[superblock::CRC..superblock::CRC + 4].copy_from_slice(&seal);
    if let Some(written) = again(Part::Superblock, &bytes) {
        assert_eq!(written, bytes);
        assert!(bytes[superblock::RESERVED..].iter().all(|byte| *byte == 0));
    }
    let flip = at * 8 % BLOCK;
    bytes[flip] ^= 1 << (at % 8);
    assert_eq!(again(Part::Superblock, &bytes), None, "a bit flipped in byte {flip}");
}

fn checkpoint(mut bytes: Vec<u8>) {
    // The groups are counted, so that the count is seldom what a record is refused for.
    if let Some(entries) = bytes.len().checked_sub(96) {
        bytes.truncate(96 + entries / 12 * 12);
        bytes[..8].copy_from_slice(b"cowblkCP");
        bytes[68..72].copy_from_slice(&u32::to_le_bytes((entries / 12) as u32));
    }
    let Some(written) = again(Part::Checkpoint, &bytes) else { return };
    for entry in bytes[96..].chunks_mut(12).filter(|entry| entry[8] & 2 == 0) {
        entry[8] = 0;
    }
    assert_eq!(written, bytes);
}
