//! Model: what a store must hold, kept in plain maps, and the tools that compare a store with it after a crash.
//!
//! ```text
//! verb ─┬▶ store ─▶ recorder ─▶ simulated device ─▶ crash ─▶ reopened store ─┐
//!       └▶ model: one state after each block and each verb ───────────────▶ is it one of these?
//! ```
//!
//! A state is compared by its fingerprint: a sum of hashes over all that can be seen from outside (names, sizes,
//! contents, snapshots). A view, block by block, is only made to explain a failure.

#![allow(
    dead_code,
    unused_imports,
    reason = "every test file compiles its own copy and uses only a part of it"
)]
#![allow(unreachable_pub, reason = "a test crate has no outside")]
#![allow(missing_docs, reason = "a test crate has no readers but those of its files")]
#![allow(clippy::print_stdout, reason = "a failure tells how to replay it")]
#![allow(clippy::similar_names, reason = "a store has a story")]
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::missing_panics_doc, clippy::missing_errors_doc, reason = "a test crate has no outside")]

mod content;
mod history;
mod judge;
mod plain;
mod recorder;
mod shape;
mod story;
mod verb;
mod view;

pub use content::{ALIKE, BLOCK, Content, Fill};
pub use history::run_history;
pub use judge::{Judge, Tally, states_wanted};
pub use plain::{Model, Snap};
pub use recorder::{CrashPoint, Moment, Recorder};
pub use shape::{Limit, Shape};
pub use story::Story;
pub use verb::{Dice, Verb};
pub use view::{View, damage_of, fingerprint_of, observe};
