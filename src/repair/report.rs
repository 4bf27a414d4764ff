//! Report: what a repair is asked for, and what it answers.
//!
//! Floor 6.

use crate::check::Finding;
use serde::Serialize;

/// What a repair is asked for.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RepairOptions {
    /// Write it. Without this, nothing is written, and the report says what would be.
    pub apply: bool,
    /// What is lost reads as zeros afterwards. Without this, reading it is an error until it is written again.
    pub zero_lost: bool,
}

impl RepairOptions {
    /// Writes the repair.
    #[must_use]
    pub fn apply(mut self, apply: bool) -> Self {
        self.apply = apply;
        self
    }

    /// Lets what is lost read as zeros.
    #[must_use]
    pub fn zero_lost(mut self, zero_lost: bool) -> Self {
        self.zero_lost = zero_lost;
        self
    }
}

/// What a repair found, did, and could not save.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct RepairReport {
    /// What was wrong.
    pub findings: Vec<Finding>,
    /// How many more findings there were.
    pub findings_omitted: u64,
    /// What the repair does, in sentences.
    pub actions: Vec<String>,
    /// Ranges of disks and snapshots whose content is lost.
    pub lost: Vec<LostRange>,
    /// Other things that are lost: names, records, changes in the journal.
    pub lost_records: Vec<String>,
    /// Bytes that the repair writes.
    pub bytes_written: u64,
    /// Whether it was written.
    pub applied: bool,
}

impl RepairReport {
    /// Whether nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.findings_omitted == 0
    }
}

/// A range of a disk, now or at a snapshot, whose content is lost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct LostRange {
    /// The server's name.
    pub server: String,
    /// The disk's name.
    pub disk: String,
    /// The snapshot's name; `None` for the disk as it is now.
    pub snapshot: Option<String>,
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}
