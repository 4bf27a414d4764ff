//! Snapshot: making, listing, reading, restoring and deleting snapshots.
//!
//! Floor 6. Verbs on the store. Each is one event: nothing here looks at a map, so none costs more on a
//! larger disk or beside more snapshots.

mod adopt;
mod calendar;
mod changes;
mod clone;
#[cfg(test)]
mod count_tests;
mod handle;
mod prune;
mod retention;
#[cfg(test)]
mod tests;
mod verbs;

pub use adopt::AdoptedSnapshot;
pub use handle::{Snapshot, SnapshotDisk, SnapshotStatus};
pub use retention::{Candidate, KeepReason, Retention, Verdict};
