//! Extent maps: from the blocks of a disk to the blocks of the store.
//!
//! Floor 3. A map is a settled radix tree on the medium, and what was written since in memory:
//!
//! ```text
//! view  =  delta (this disk's changes since the last checkpoint)
//!          over a foundation (the tree of the last checkpoint; while one is under way, the
//!          changes that it is settling, over the tree before it)
//! ```
//!
//! A write only ever touches the delta: it needs no node of the tree and no I/O. A checkpoint settles
//! the delta into the tree, and only there are old references dropped (docs/architecture.md, "The life of a write").
//!
//! E1  A node's birth is never below the births of what it holds.
//! E2  A head owns a reference exactly when its birth is above the epoch of the version it descends from.
//! E3  Deltas are persistent: a snapshot shares them, and the writer copies what is shared.

mod census;
mod changes;
mod cut;
mod delta;
mod mix;
mod nodes;
mod reap;
mod scan;
mod settle;
mod view;

pub(crate) use census::Census;
pub(crate) use changes::{Difference, Layers, differences};
pub(crate) use cut::{Cut, CutRoom};
pub(crate) use delta::{DeltaTree, Footprint, height_for};
pub(crate) use nodes::NodeSource;
pub(crate) use reap::{Reaped, Reaper, Victim};
pub(crate) use scan::{Scan, scan};
pub(crate) use settle::{Limit, NodeSink, Settled, Settler};
pub(crate) use view::{Foundation, View};
