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

mod catalog;
#[cfg(test)]
mod image;
mod journal;
mod lineage;
mod medium;
mod recount;
mod report;
mod roots;
mod sizes;
mod tables;
#[cfg(test)]
mod tests;
mod walk;

pub use report::{CheckReport, Finding};
pub use sizes::recount_sizes;

use crate::device::{Access, Device, FileDevice};
use crate::error::Result;
use medium::Medium;
use recount::Recount;
use std::path::Path;
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
    let Some(superblock) = roots::superblock(device, &mut report)? else { return Ok(report) };
    let Some(geometry) = roots::geometry(device, &superblock, &mut report)? else { return Ok(report) };
    let record = roots::checkpoint(device, &geometry, &superblock, &mut report)?;
    let zones = record.as_ref().map(|(record, _)| record.zones);
    if let Some((record, run)) = record {
        let medium = Medium::new(device, geometry, record.zones);
        let mut recount = Recount::new(&geometry);
        for nth in 0..run.count {
            if let Some(place) = medium.place_of(run.first.plus(nth)) {
                recount.hold_metadata(place, run.first.plus(nth));
            }
        }
        let mut walk = Walk::new(&medium, &mut recount, &mut report);
        let records = catalog::read(&mut walk, &record);
        catalog::verify(&records, &record, walk.report());
        Forest::new(&records, geometry.block_size()).walk(&mut walk);
        let complete = walk.finish();
        tables::compare(&medium, &record, (recount, complete && records.complete), &mut report);
    }
    journal::check(device, (&geometry, zones), &superblock, &mut report);
    Ok(report)
}
