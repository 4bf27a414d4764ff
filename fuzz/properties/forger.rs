//! Forger: records as an input wants them; mostly such that decode.

use super::format::bincode::Fields;
use super::format::schema::Field::{
    self, Choice, Flag, Labels, Number, Option, OptionRaw, OptionSmall, Raw, Reference, Rows, Size, Small,
    Text, WhenFull,
};
use super::format::schema::Schema;
use super::input::Input;

/// What a forger of records knows: names, and references with the heights that belong to them.
pub(crate) struct Forger<'a> {
    pub(crate) name: &'a dyn Fn(&mut Input<'_>) -> String,
    pub(crate) reference: &'a dyn Fn(&mut Input<'_>) -> ([u8; 16], u64),
}

impl Forger<'_> {
    /// A record as the input wants it; mostly one that decodes.
    pub(crate) fn forge(&self, schema: Schema, input: &mut Input<'_>) -> Vec<u8> {
        let mut fields = Fields::default();
        let variant = input.below(schema.len() + 1);
        fields.integer(variant as u64);
        let Some(wanted) = schema.get(variant) else {
            let count = input.below(40);
            fields.raw(input.bytes(count));
            return fields.0;
        };
        let mut height = None;
        for field in *wanted {
            match field {
                Reference => {
                    let (reference, levels) = (self.reference)(input);
                    fields.raw(&reference);
                    height = Some(levels);
                }
                Small => _ = fields.integer(height.unwrap_or_else(|| input.number())),
                field => self.field(*field, input, &mut fields),
            }
        }
        fields.0
    }

    fn field(&self, field: Field, input: &mut Input<'_>, fields: &mut Fields) {
        match field {
            Number | Small | Reference => _ = fields.integer(input.number()),
            Size => _ = fields.integer(size(input)),
            Text => _ = fields.string(&(self.name)(input)),
            Option | OptionSmall => {
                let value = input.chance().then(|| input.number());
                fields.option(value);
            }
            OptionRaw => {
                let is_some = input.chance();
                fields.raw(&[u8::from(is_some)]);
                if is_some {
                    fields.raw(&[input.byte(); 16]);
                }
            }
            Choice(variants) => _ = fields.integer(u64::from(input.byte()) % variants),
            WhenFull => {
                let waits = input.chance();
                fields.integer(u64::from(waits));
                if waits {
                    fields.integer(input.number());
                }
            }
            Flag => _ = fields.raw(&[input.byte() % 2]),
            Rows(width) => {
                let count = u64::from(input.byte() % 4);
                fields.integer(if input.byte() < 250 { count } else { input.number() });
                (0..count * width).for_each(|_| _ = fields.integer(input.number()));
            }
            Labels => {
                let count = u64::from(input.byte() % 3);
                fields.integer(count);
                (0..count * 2).for_each(|_| _ = fields.string(&(self.name)(input)));
            }
            Raw => _ = fields.raw(&[input.byte(); 16]),
        }
    }
}

fn size(input: &mut Input<'_>) -> u64 {
    match input.byte() {
        blocks @ 0..=200 => u64::from(blocks) << 12,
        201..=220 => 70_000 << 12,
        _ => input.number(),
    }
}
