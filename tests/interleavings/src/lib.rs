//! Interleavings: the library's own files, compiled with locks and numbers that hand over to a scheduler at each use.
//!
//! shuttle and not loom. The gate lets a reader and a releaser each write one number and then read the other's, and needs
//! sequential consistency, which its `SeqCst` asks for; loom takes `SeqCst` for `AcqRel` and reports what cannot happen.
//! And loom gives up where a reader may have to try again. shuttle runs everything sequentially consistent, with `parking_lot`'s
//! conditions as threads that are blocked, finds deadlocks, and prints a schedule that replays. It tries
//! schedules by chance from a seed (and, for the smallest cases, all of them). What it does not see is a weaker order than
//! sequential: the numbers of a run that are `Acquire` and `Release` are read and written under locks besides.

#![allow(dead_code, reason = "the files are compiled again for a part of what they can do")]
#![allow(unused_imports, reason = "front doors re-export what only the library uses")]

#[path = "../../../src/commit/buffers.rs"]
mod buffers;
#[path = "../../../src/defect.rs"]
mod defect;
#[path = "../../../src/device/mod.rs"]
mod device;
#[path = "../../../src/error.rs"]
mod error;
#[path = "../../../src/format/mod.rs"]
mod format;
#[path = "../../../src/space/gate.rs"]
mod gate;
#[path = "../../../src/commit/handover.rs"]
mod handover;
#[path = "../../../src/commit/journal.rs"]
mod journal;
#[path = "../../../src/latency.rs"]
mod latency;
#[path = "../../../src/limits.rs"]
mod limits;
#[path = "../../../src/commit/runs.rs"]
mod runs;
mod sync;
#[path = "../../../src/units.rs"]
mod units;

pub mod cases;

pub(crate) use error::Result;
