//! Schema: the fields of catalog records and events, as the tables of docs/format.md have them.
//!
//! Whoever changes those tables changes these two: an independent reading of the same bytes follows from them.

use super::bincode::Reader;
use Field::{
    Choice, Flag, Labels, Number, Option, OptionRaw, OptionSmall, Raw, Reference, Rows, Size, Small, Text,
    WhenFull,
};

/// A field.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Field {
    /// An integer of 64 bits.
    Number,
    /// One that is a disk's size.
    Size,
    /// An integer of 32 bits.
    Small,
    Text,
    /// A byte 0, or a byte 1 and a number.
    Option,
    OptionSmall,
    OptionRaw,
    /// One of so many variants.
    Choice(u64),
    /// 0, or 1 and a small number.
    WhenFull,
    /// A byte 0 or 1.
    Flag,
    /// A list of rows of so many numbers.
    Rows(u64),
    /// A list of pairs of texts.
    Labels,
    /// 16 bytes.
    Raw,
    /// 16 bytes; the height of what it leads to comes next.
    Reference,
}

/// The fields of each variant.
pub(crate) type Schema = &'static [&'static [Field]];

pub(crate) const RECORDS: Schema = &[
    &[Number, Text, Number, Choice(2), Option, OptionSmall, Option, Labels],
    &[Number, Number, Text, Number, Size, Option, Number, Option, WhenFull, Option, Reference, Small, Number],
    &[Number, Number, Text, Text, Number, Choice(2), Raw, OptionRaw, Flag, Option, Labels, Rows(1)],
    &[Number, Number, Text, Size, Option, Number, Number, Option, Flag, Option, Reference, Small, Number],
    &[Number, Reference, Small, Number, Number, Number, Number, Number],
    &[Number, Choice(3), Number],
];

pub(crate) const EVENTS: Schema = &[
    &[Number],
    &[Number, Text, Number, Choice(2)],
    &[Number, Number, Rows(2)],
    &[Number, Number, Text, Size, Number, Number],
    &[Number, Number, Number],
    &[Number, Size],
    &[Number, Number, Text, Text, Number, Raw, Flag, Option, Labels, Number, Rows(2)],
    &[Number],
    &[Number, Number, Number, Raw, Option, Number, Rows(2)],
    &[Number, Number, Text, Choice(2), Number, Number, Rows(2)],
    &[Number, Number, Number, Text, Number, Number],
    &[Number, Rows(2)],
    &[Number, Number, Number, Text, Text, Number, Raw, OptionRaw, Number, Rows(3)],
    &[Number, OptionSmall, Option, Labels],
    &[Number, Flag, Option, Labels],
    &[Number, WhenFull],
];

/// What bytes are, read by a schema.
#[derive(Debug, PartialEq)]
pub(crate) enum Reading {
    Whole,
    Senseless,
    /// The library may refuse it for its length alone.
    Long,
}

/// More numbers and bytes than this, all in all, may be too many.
const LONG: u64 = 200;
const LONG_BYTES: usize = 1500;

/// Reads all of `bytes`.
pub(crate) fn read(schema: Schema, bytes: &[u8]) -> Reading {
    let reader = &mut Reader::new(bytes);
    let mut rows = 0;
    let is_whole = variant(schema, reader)
        .is_some_and(|fields| fields.iter().all(|field| skip(*field, reader, &mut rows).is_some()));
    if rows > LONG || bytes.len() > LONG_BYTES {
        return Reading::Long;
    }
    if is_whole && reader.position() == bytes.len() { Reading::Whole } else { Reading::Senseless }
}

/// Where the reference in a record is, and where the number behind it.
pub(crate) fn reference(schema: Schema, bytes: &[u8]) -> std::option::Option<(usize, usize)> {
    let reader = &mut Reader::new(bytes);
    for field in variant(schema, reader)? {
        let at = reader.position();
        skip(*field, reader, &mut 0)?;
        if *field == Reference {
            return Some((at, reader.position()));
        }
    }
    None
}

fn variant(schema: Schema, reader: &mut Reader<'_>) -> std::option::Option<&'static [Field]> {
    schema.get(usize::try_from(reader.small()?).ok()?).copied()
}

fn skip(field: Field, reader: &mut Reader<'_>, rows: &mut u64) -> std::option::Option<()> {
    match field {
        Number | Size => drop(reader.number()?),
        Small => drop(reader.small()?),
        Text => drop(std::str::from_utf8(reader.text()?).ok()?),
        Option | OptionSmall | OptionRaw => {
            let held =
                [Number, Small, Raw][[Option, OptionSmall, OptionRaw].iter().position(|f| *f == field)?];
            if reader.below(2)? == 1 {
                skip(held, reader, rows)?;
            }
        }
        Choice(variants) => drop(reader.small().filter(|variant| *variant < variants)?),
        WhenFull => {
            if reader.small().filter(|variant| *variant < 2)? == 1 {
                reader.small()?;
            }
        }
        Flag => drop(reader.below(2)?),
        Rows(width) => {
            for _ in 0..reader.number()?.checked_mul(width)? {
                *rows += 1;
                reader.number()?;
            }
        }
        Labels => {
            for _ in 0..reader.number()?.checked_mul(2)? {
                *rows += 1;
                skip(Text, reader, rows)?;
            }
        }
        Raw => drop(reader.raw(16)?),
        Reference => {
            let bytes = reader.raw(16)?;
            let is_hole = bytes[..6] == [0; 6];
            (bytes[11] == 0 && (!is_hole || bytes == [0; 16])).then_some(())?;
        }
    }
    Some(())
}
