//! Check: the auditor. It computes from the roots what the store says of itself, and compares.
//!
//! Floor 5. It uses no code of the engine: what the bytes mean comes from `format`, and everything else
//! (walking, counting, comparing) is its own, so that a mistake of the engine is not made twice.
//!
//! ```text
//! superblock ─▶ checkpoint record ─┬▶ catalog map ─▶ catalog pages ─▶ records ─▶ extent trees ─▶ recount
//!      │                           │                                                               ║ compare
//!      └▶ journal                  └▶ zone summaries ─▶ refcount pages ════════════════════════════╝
//! ```
//!
//! K1  No input makes it panic or run for ever: each block is followed once, and each depth, count and
//!     length is bounded before it is believed.
//! K2  A defect is reported where it is, and once. What only follows from it (blocks that a damaged node
//!     no longer leads to) is not reported again.
//! K3  It changes nothing: the device is only ever read.

pub(crate) mod catalog;
mod dump;
#[cfg(test)]
mod image;
mod journal;
pub(crate) mod lineage;
pub(crate) mod medium;
pub(crate) mod recount;
mod report;
mod roots;
pub(crate) mod scrub;
mod sizes;
mod still;
mod tables;
#[cfg(test)]
mod tests;
pub(crate) mod walk;

pub use dump::{DumpLine, DumpOptions, OnLine, dump, dump_device};
pub use report::{CheckReport, Finding};
pub use sizes::{HeldBlocks, Recounted, recount_blocks, recount_sizes};

use crate::device::{Access, Device, FileDevice};
use crate::error::Result;
use medium::Medium;
use recount::Recount;
use roots::Roots;
use std::path::Path;
use std::sync::Arc;
use still::Still;
use walk::{Forest, Walk};

/// Checks the store at `path`, which no process may have open for writing.
///
/// It reads every node, catalog page and refcount page, and the journal, but no data blocks. Memory: 8 bytes
/// for each block of the store near which anything is referenced (2 GiB for each TiB in use, with
/// blocks of 4 KiB), about 100 bytes for each extent node, and the catalog; more only for blocks that are
/// referenced more than once.
///
/// It reads through a file and not through a memory map, so that a failing medium is a finding and not
/// the end of the process.
///
/// # Errors
/// As [`FileDevice::open`], and as [`check_device`].
pub fn check(path: impl AsRef<Path>) -> Result<CheckReport> {
    let path = path.as_ref();
    check_device(&FileDevice::open(path, Access::ReadOnly)?)
        .map_err(|error| error.while_doing(format_args!("cannot check {}", path.display())))
}

/// Checks the store on `device`. Memory as for [`check`].
///
/// Damage is no error: it stands in the report.
///
/// # Errors
/// `Invalid` where the device holds no store, `Unsupported` where the store needs a newer version of this
/// library, `Io` where not even the superblock can be read.
pub fn check_device(device: &dyn Device) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    if let Some(roots) = Roots::read(device, &mut report)? {
        check_settled(device, &roots, &mut report);
        roots.check_journal(device, &mut report);
    }
    Ok(report)
}

/// Checks everything that the checkpoint record leads to.
fn check_settled(device: &dyn Device, roots: &Roots, report: &mut CheckReport) {
    let Some((record, run)) = &roots.record else { return };
    let medium = Medium::new(device, roots.geometry, record.zones);
    let mut recount = Recount::new(&roots.geometry);
    for nth in 0..run.count {
        if let Some(place) = medium.place_of(run.first.plus(nth)) {
            recount.hold_metadata(place, run.first.plus(nth));
        }
    }
    let mut walk = Walk::new(&medium, &mut recount, report);
    let records = catalog::read(&mut walk, record);
    catalog::verify(&records, record, walk.report());
    Forest::new(&records, roots.geometry.block_size()).walk(&mut walk);
    let complete = walk.finish() && records.complete;
    (report.blocks_in_use, report.data_blocks_mapped) = (recount.blocks, recount.data_references);
    report.data_blocks_in_use = recount.blocks.saturating_sub(recount.metadata);
    tables::compare(&medium, record, (recount, complete), report);
}

/// A check of a store that is open, in two parts: what later checkpoints write over is read while none runs, and what
/// they leave alone is walked beside them.
pub(crate) struct OpenCheck {
    still: Still,
    journal: CheckReport,
}

impl OpenCheck {
    /// Checks the journal, and reads superblocks and tables. Meanwhile nobody may write them. Memory: two bytes for
    /// each block of the zones in use.
    ///
    /// # Errors
    /// As [`check_device`].
    pub(crate) fn begin(device: &Arc<dyn Device>) -> Result<Self> {
        let still = Still::new(device.clone());
        let mut journal = CheckReport::default();
        if let Some(roots) = Roots::read(&still, &mut CheckReport::default())? {
            if let Some((record, _)) = &roots.record {
                tables::read_all(&Medium::new(&still, roots.geometry, record.zones), record);
            }
            roots.check_journal(&**device, &mut journal);
        }
        Ok(Self { still, journal })
    }

    /// Checks the rest, reading from `device`: blocks that the checkpoint at the beginning leads to, which must not
    /// be used again meanwhile.
    ///
    /// # Errors
    /// As [`check_device`].
    pub(crate) fn finish(self, device: Arc<dyn Device>) -> Result<CheckReport> {
        let still = self.still.over(device);
        let mut report = CheckReport::default();
        if let Some(roots) = Roots::read(&still, &mut report)? {
            check_settled(&still, &roots, &mut report);
        }
        report.append(self.journal);
        Ok(report)
    }
}
