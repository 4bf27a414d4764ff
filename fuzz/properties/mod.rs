//! Properties: what must hold for any input, one file for each fuzz target.
//!
//! `tests/fuzz_regressions.rs` includes this module, too, and replays what was once found.
//!
//! ```text
//! input ─▶ bases (a valid store) ─▶ image (mutate, seal again) ─▶ medium ─▶ open, exercise ─▶ content (compare)
//! ```
//!
//! What is written here knows the store from docs/format.md and the public API only: where it and the library disagree,
//! one of the three is wrong.

pub mod catalog_pages;
pub mod format_catalog;
pub mod format_journal;
pub mod format_tables;
pub mod found;
pub mod import;
pub mod journal_records;
pub mod open_mutated;
pub mod operations;
pub mod seeds;
pub mod sizes;
pub mod tree_nodes;

mod bases;
mod content;
mod exercise;
mod forger;
#[allow(dead_code, reason = "tests use the rest")]
mod format;
mod image;
mod input;
mod medium;
mod pages;

/// A target: its name, and its property.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 10] = [
    ("open_mutated", open_mutated::run),
    ("journal_records", journal_records::run),
    ("catalog_pages", catalog_pages::run),
    ("tree_nodes", tree_nodes::run),
    ("operations", operations::run),
    ("format_journal", format_journal::run),
    ("format_catalog", format_catalog::run),
    ("format_tables", format_tables::run),
    ("import", import::run),
    ("sizes", sizes::run),
];
