//! Commit: how state becomes durable, and how it comes back after a crash.
//!
//! Floor 4. Two ways lead to the medium. A flush appends a batch to the journal: one write, one sync.
//! A checkpoint settles everything that batches said into the trees, and then forgets the batches.
//!
//! ```text
//! flush       runs home, or their blocks inside the batch ─▶ batch ─▶ sync
//! checkpoint  runs home ─▶ nodes ─▶ catalog ─▶ refcounts ─▶ record ─▶ sync ─▶ superblock ─▶ sync
//! ```
//!
//! J1  When a batch is written, each block that its records name is on its way to its place already,
//!     or travels inside the batch.
//! J2  A batch is accepted at recovery only with all batches before it, and, beyond the last one known
//!     durable, only if every block that it names matches its seal.
//! J3  The journal behind a checkpoint's start is not overwritten before that checkpoint is durable.
//! J4  A superblock is written only after everything that it leads to was synced.
//! J5  Before an opening writes its first batch, those that recovery did not accept are wiped: else a later
//!     recovery, which takes batches of earlier terms, could meet two with one number, and take the wrong one.

mod block_writer;
mod buffers;
mod checkpoint;
mod handover;
mod journal;
mod recovery;
mod runs;
mod superblocks;

pub(crate) use block_writer::TakeBlocks;
pub(crate) use checkpoint::{
    CheckpointSpace, Checkpointer, Committed, Frozen, Tally, Target, Unit, read_catalog,
};
pub(crate) use handover::{Handed, Handover, Pressure, Waiting, no_boot_id, read_handover};
pub(crate) use journal::{Flushed, Journal, Lead, Taken, halted};
pub(crate) use recovery::{Accepted, Recovered, recover};
pub(crate) use runs::{Run, RunTable};
pub(crate) use superblocks::{check_length, read_checkpoint, read_superblock, write_superblock};
