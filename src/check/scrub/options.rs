//! Options: what a scrub is asked for, and what it answers.
//!
//! Floor 5.

use super::blame::Holding;
use super::sums::Sums;
use crate::check::{CheckReport, Finding};
use serde::Serialize;

/// What a scrub is asked for.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScrubOptions {
    /// Bytes a second that are read of the data, at most; 0 for as fast as the medium goes.
    pub bytes_per_second: u64,
    /// The block of the store to begin with: what a report that was stopped gave as its position.
    pub position: u64,
}

impl ScrubOptions {
    /// Reads at most so many bytes a second of the data.
    #[must_use]
    pub fn bytes_per_second(mut self, rate: u64) -> Self {
        self.bytes_per_second = rate;
        self
    }

    /// Goes on from a report's position.
    #[must_use]
    pub fn position(mut self, block: u64) -> Self {
        self.position = block;
        self
    }
}

/// How far a scrub has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubProgress {
    /// Bytes of data behind it, those before the position that it began with included.
    pub bytes_done: u64,
    /// Bytes of data in the store.
    pub bytes_total: u64,
    /// The block of the store that comes next.
    pub position: u64,
    /// Bad blocks so far.
    pub bad_blocks: u64,
}

/// What a scrub found.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct ScrubReport {
    /// Damage of the maps and of what leads to them, which had to be walked first.
    pub findings: Vec<Finding>,
    /// How many more of these there were.
    pub findings_omitted: u64,
    /// Blocks of data that do not hold what was written.
    pub bad_blocks: Vec<BadBlock>,
    /// Bytes of data that were read.
    pub bytes_read: u64,
    /// Bytes of data in the store; what is shared counts once.
    pub bytes_total: u64,
    /// Nodes of all maps; their seals were compared.
    pub nodes: u64,
    /// Where to go on, for a scrub that was stopped: a block of the store. `None` when it came to the end.
    pub position: Option<u64>,
}

impl ScrubReport {
    /// The report of a scrub that has walked the maps.
    pub(super) fn begin(check: CheckReport, sums: Option<&Sums>) -> Self {
        Self {
            findings: check.findings,
            findings_omitted: check.findings_omitted,
            bytes_total: sums.map_or(0, Sums::bytes),
            nodes: check.nodes,
            ..Self::default()
        }
    }

    /// Whether nothing is wrong in what was read.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.findings_omitted == 0 && self.bad_blocks.is_empty()
    }
}

/// A block of data that does not hold what was written (D013).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BadBlock {
    /// The block of the store.
    pub block: u64,
    /// What reading it gave.
    pub cause: String,
    /// Where it is seen: in which disks and snapshots.
    pub held_by: Vec<Holding>,
}
