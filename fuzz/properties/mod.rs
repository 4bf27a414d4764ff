//! Properties: what must hold for any input, one file for each fuzz target.
//!
//! `tests/fuzz_regressions.rs` includes this module, too, and replays what was once found.
//!
//! ```text
//! input ─▶ image (a valid store) ─▶ format (mutate, seal again) ─▶ medium ─▶ open, exercise ─▶ content (compare)
//! ```
//!
//! What is written here knows the store from docs/format.md and the public API only: where it and the library disagree,
//! one of the three is wrong.

pub mod catalog_pages;
pub mod journal_records;
pub mod open_mutated;
pub mod operations;
pub mod sizes;

mod bincode;
mod content;
mod exercise;
mod format;
mod image;
mod input;
mod medium;

/// A target: its name, and its property.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 5] = [
    ("open_mutated", open_mutated::run),
    ("journal_records", journal_records::run),
    ("catalog_pages", catalog_pages::run),
    ("operations", operations::run),
    ("sizes", sizes::run),
];
