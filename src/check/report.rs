//! Report: what a check found.
//!
//! Floor 5.

use crate::defect::Defect;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::fmt;

/// Findings that a report holds; what is found beyond is only counted.
pub(crate) const FINDINGS_MAX: usize = 1000;

/// What a check found, and how much it looked at.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// Everything that is wrong, in the order in which it was met; the first thousand of it.
    pub findings: Vec<Finding>,
    /// How many more findings there were.
    pub findings_omitted: u64,
    /// What is unusual but explained, such as the trace of a crash.
    pub notes: Vec<String>,
    /// Blocks that something refers to: data, nodes, catalog and the checkpoint record.
    pub blocks_in_use: u64,
    /// Nodes of all extent maps and of the catalog map, each counted once.
    pub nodes: u64,
    /// Blocks of data, however many references each has.
    pub data_blocks_in_use: u64,
    /// References to data blocks; what versions and heads of one lineage share is counted once.
    pub data_blocks_mapped: u64,
    /// Frozen versions of disks, shown by snapshots or waiting for the collector.
    pub versions: u64,
    /// Sealed journal batches behind the checkpoint.
    pub journal_batches: u64,
}

impl CheckReport {
    /// Whether nothing is wrong. Notes do not count.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.findings_omitted == 0
    }

    /// Adds a finding, or counts it where there are enough.
    pub(crate) fn find(&mut self, defect: Defect, place: impl fmt::Display) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { defect, place: place.to_string() });
        } else {
            self.findings_omitted += 1;
        }
    }

    /// Adds what another part of the check found.
    pub(crate) fn append(&mut self, other: Self) {
        for finding in other.findings {
            self.find(finding.defect, finding.place);
        }
        self.findings_omitted += other.findings_omitted;
        self.notes.extend(other.notes);
        self.journal_batches += other.journal_batches;
    }

    /// Adds a note.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What kind of damage it is.
    pub defect: Defect,
    /// Where it is, and what stands there.
    pub place: String,
}

impl Finding {
    /// The permanent number of the damage, such as `D014`.
    pub fn code(&self) -> &'static str {
        self.defect.code()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code(), self.defect.title(), self.place)
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut finding = serializer.serialize_struct("Finding", 3)?;
        finding.serialize_field("code", self.code())?;
        finding.serialize_field("title", self.defect.title())?;
        finding.serialize_field("place", &self.place)?;
        finding.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_a_sentence() {
        let finding = Finding { defect: Defect::Refcount, place: "block 812 has 2, found 1".into() };
        assert_eq!(
            finding.to_string(),
            "D014 refcount differs from the references found: block 812 has 2, found 1"
        );
    }

    #[test]
    fn more_findings_than_the_limit_are_counted() {
        let mut report = CheckReport::default();
        for nth in 0..FINDINGS_MAX + 7 {
            report.find(Defect::Node, nth);
        }
        assert_eq!((report.findings.len(), report.findings_omitted), (FINDINGS_MAX, 7));
        assert!(!report.is_clean());
    }
}
