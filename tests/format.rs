//! docs/format.md says what the code does: its tables of fixed structures are held against `LAYOUT`,
//! and its list of defects against `Defect::ALL`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use cowblk::{Defect, LAYOUT};

fn document() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/format.md")).unwrap()
}

/// The rows (offset, field) and the length of the table that the document marks with this name.
fn table(document: &str, name: &str) -> (Vec<(usize, String)>, usize) {
    let start =
        document.find(&format!("<!-- layout: {name} -->")).unwrap_or_else(|| panic!("no table of {name}"));
    let rest = &document[start..];
    let (rows, behind) = rest.split_once("<!-- bytes: ").unwrap();
    let bytes = behind.split_once(' ').unwrap().0.parse().unwrap();
    let rows = rows.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let offset = cells.next()?.parse().ok()?;
        Some((offset, cells.next()?.to_owned()))
    });
    (rows.collect(), bytes)
}

#[test]
fn the_document_lists_every_field_at_its_place() {
    let document = document();
    for layout in LAYOUT {
        let (rows, bytes) = table(&document, layout.name);
        let expected: Vec<_> =
            layout.fields.iter().map(|field| (field.offset, field.name.to_owned())).collect();
        assert_eq!(rows, expected, "{}", layout.name);
        assert_eq!(bytes, layout.bytes, "{}", layout.name);
    }
}

#[test]
fn the_document_lists_every_defect() {
    let document = document();
    let listed: Vec<_> =
        document.lines().filter(|line| line.starts_with("| D0")).map(|line| &line[2..6]).collect();
    let expected: Vec<_> = Defect::ALL.iter().map(|defect| defect.code()).collect();
    assert_eq!(listed, expected);
}
