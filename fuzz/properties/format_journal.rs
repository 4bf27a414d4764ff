//! Format, journal: any records in a sealed batch, without a store.
//!
//! The batch is accepted exactly if it makes sense by docs/format.md. What is written for an accepted one means the same:
//! written again it is the same bytes, and it is no longer than the first.

use cowblk::{Part, again};

use super::format::schema::{self, Reading};
use super::image::BLOCK;
use super::input::Input;

const HEADER: usize = 64;
const BLOCK_NO_MAX: u64 = (1 << 48) - 1;
const EPOCH_MAX: u64 = (1 << 40) - 1;

/// The property.
pub fn run(data: &[u8]) {
    let input = &mut Input(data);
    let inline_blocks = input.below(3);
    let records = input.0;
    let mut batch = b"cowblkJB\0\0\0\0\0\0\0\0".to_vec();
    batch.extend([[7; 8], [1; 8], [6; 8]].as_flattened());
    batch.extend_from_slice(&(records.len() as u32).to_le_bytes());
    batch.extend_from_slice(&(inline_blocks as u32).to_le_bytes());
    batch.extend_from_slice(&[9; 16]);
    batch.extend_from_slice(records);
    batch.resize(batch.len().next_multiple_of(BLOCK) + inline_blocks * BLOCK, 0);
    let seal = crc32fast::hash(&batch).to_le_bytes();
    batch[8..12].copy_from_slice(&seal);

    let part = Part::Batch { block_size: BLOCK as u32 };
    let first = again(part, &batch);
    match read(records, inline_blocks as u64) {
        Reading::Whole => assert!(first.is_some(), "a sound batch is refused"),
        Reading::Senseless => assert!(first.is_none(), "a senseless batch is accepted"),
        Reading::Long => {}
    }
    if let Some(first) = first {
        assert!(first.len() <= batch.len() && first[HEADER - 16..HEADER] == [9; 16]);
        assert_eq!(again(part, &first).as_ref(), Some(&first), "it is written another way the second time");
    }
    // A batch that is torn, or of which a bit flipped, is none.
    let at = records.len() % batch.len();
    batch[at] ^= 1;
    assert_eq!(again(part, &batch), None);
}

fn read(mut rest: &[u8], inline_blocks: u64) -> Reading {
    let mut carried = 0;
    let mut is_long = false;
    while !rest.is_empty() {
        let Some((head, tail)) = rest.split_at_checked(8) else { return Reading::Senseless };
        let Some((body, tail)) = tail.split_at_checked(number(&head[4..8]) as usize) else {
            return Reading::Senseless;
        };
        let is_sound = match number(&head[..4]) {
            1 => is_map(body),
            2 => body.len() == 24,
            3 => match schema::read(schema::EVENTS, body) {
                Reading::Long => {
                    is_long = true;
                    true
                }
                reading => reading == Reading::Whole,
            },
            4 => {
                body.len() == 16 && {
                    let count = number(&body[8..12]);
                    carried += count;
                    count > 0 && body[12..] == [0; 4] && is_run(number(&body[..8]), count)
                }
            }
            _ => false,
        };
        if !is_sound {
            return if is_long { Reading::Long } else { Reading::Senseless };
        }
        rest = tail;
    }
    match (is_long, carried == inline_blocks) {
        (true, _) => Reading::Long,
        (false, true) => Reading::Whole,
        (false, false) => Reading::Senseless,
    }
}

/// Disk, first, physical, birth, count, reserved, and then the seals.
fn is_map(body: &[u8]) -> bool {
    let Some((body, seals)) = body.split_at_checked(40) else { return false };
    let count = number(&body[32..36]);
    count > 0
        && body[36..] == [0; 4]
        && seals.len() as u64 == 4 * count
        && number(&body[8..16]).checked_add(count).is_some()
        && is_run(number(&body[16..24]), count)
        && number(&body[24..32]) <= EPOCH_MAX
}

fn is_run(first: u64, count: u64) -> bool {
    first > 0 && first.checked_add(count).is_some_and(|end| end <= BLOCK_NO_MAX)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
