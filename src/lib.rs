//! An embeddable copy-on-write block store: server disks with snapshots, restores and deletes whose
//! cost does not depend on size.
//!
//! A [`Store`] is one file or block device. It holds [`Server`]s; a server owns [`Disk`]s, and all its
//! disks are frozen at one instant by a [`Snapshot`]. See [`Store`] for a first program.
//!
//! The floors of the house; imports point down (docs/architecture.md):
//!
//! ```text
//! 6  snapshot  audit  repair      verbs │ checks of an open store │ what to do about what they find
//! 5  store        check           the engine, and the auditor that never asks it
//! 4  commit                       journal, checkpoint, recovery
//! 3  extent       catalog         from disk blocks to store blocks; who descends from whom
//! 2  space                        which blocks are free, who holds the others
//! 1  device       format          bytes and what durable means; what the bytes say
//! 0  units  limits  error  defect  sync  latency  vocabulary
//! ```

mod audit;
mod catalog;
mod check;
mod commit;
mod defect;
pub mod device;
mod error;
mod extent;
mod format;
mod latency;
mod limits;
mod repair;
mod snapshot;
mod space;
mod store;
mod sync;
mod units;

pub use check::scrub::{
    BadBlock, Holding, OnProgress, ScrubOptions, ScrubProgress, ScrubReport, scrub, scrub_device,
};
pub use check::{
    CheckReport, DumpLine, DumpOptions, Finding, HeldBlocks, OnLine, Recounted, check, check_device, dump,
    dump_device, recount_blocks, recount_sizes,
};
pub use defect::Defect;
pub use error::{Error, ErrorKind, Result};
pub use format::{
    Field, LAYOUT, Labels, Layout, ServerKind, ServerMarks, SnapshotKind, SnapshotMarks, WhenFull,
};
#[cfg(feature = "fuzz")]
pub use format::{Part, again};
pub use latency::{LatencyBucket, LatencyHistogram, Spent};
pub use repair::{LostRange, RepairOptions, RepairReport, repair, repair_device};
pub use snapshot::{
    AdoptedSnapshot, Candidate, KeepReason, Retention, Snapshot, SnapshotDisk, SnapshotStatus, Verdict,
};
pub use store::{
    Change, ChangeKind, Changes, DedupCursor, DedupOptions, Deduplicated, Disk, DiskIo, Extent, ExtentKind,
    Extents, Freed, Latencies, Notice, Notices, Options, Point, Server, Space, Sparsified, Stats, Status,
    Store, Template, Waits,
};
pub use units::{BlockCount, DiskId, ServerId, SnapshotId};
