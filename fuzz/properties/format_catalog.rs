//! Format, catalog: any bytes as a catalog page, or as an event, without a store.
//!
//! They are accepted exactly if they make sense by docs/format.md. What is written for accepted ones means the same: written
//! again it is the same bytes, and it is no longer than the first.

use cowblk::{Part, again};

use super::format::schema::{self, Reading};
use super::image::BLOCK;
use super::input::Input;

/// The property.
pub fn run(data: &[u8]) {
    let input = &mut Input(data);
    if input.byte() < 128 {
        let reading = schema::read(schema::EVENTS, input.0);
        expect(Part::Event, input.0, &reading);
    } else {
        let mut page = input.0[..input.0.len().min(BLOCK)].to_vec();
        let reading = read(&page);
        page.resize(BLOCK, 0);
        expect(Part::CatalogPage, &page, &reading);
    }
}

fn expect(part: Part, bytes: &[u8], reading: &Reading) {
    let first = again(part, bytes);
    match reading {
        Reading::Whole => assert!(first.is_some(), "{part:?}: sound bytes are refused"),
        Reading::Senseless => assert!(first.is_none(), "{part:?}: senseless bytes are accepted"),
        Reading::Long => {}
    }
    if let Some(first) = first {
        assert!(first.len() <= bytes.len());
        assert_eq!(again(part, &first).as_ref(), Some(&first), "it is written another way the second time");
    }
}

/// Length and record, length and record, and zeros.
fn read(page: &[u8]) -> Reading {
    let mut rest = page;
    let mut is_long = false;
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length));
        if length == 0 {
            break;
        }
        // Where the input ends, the page goes on with zeros.
        let room = BLOCK - (page.len() - tail.len());
        let mut record = tail[..length.min(tail.len())].to_vec();
        if length > room {
            return if is_long { Reading::Long } else { Reading::Senseless };
        }
        record.resize(length, 0);
        match schema::read(schema::RECORDS, &record) {
            Reading::Whole => {}
            Reading::Senseless if !is_long => return Reading::Senseless,
            _ => is_long = true,
        }
        rest = &tail[length.min(tail.len())..];
    }
    let is_ragged = rest.len() == 1 && rest[0] != 0;
    match (is_long || is_ragged, rest.iter().all(|byte| *byte == 0)) {
        (true, _) => Reading::Long,
        (false, true) => Reading::Whole,
        (false, false) => Reading::Senseless,
    }
}
