//! Scrub: reads every block that anything refers to, once, and compares it with its checksum.
//!
//! Floor 5. Three passes, of which the last is only made where something is wrong:
//!
//! ```text
//! gather   walks the maps as a check does, and remembers the seal of each data block     (4 bytes a block)
//! sweep    reads the blocks in the order in which they lie, in large reads, at a rate
//! blame    looks up who holds the bad ones
//! ```

mod blame;
mod options;
mod sums;
mod sweep;

pub use blame::Holding;
pub use options::{BadBlock, ScrubOptions, ScrubProgress, ScrubReport};

use super::roots::Roots;
use super::still::Still;
use super::walk::{Forest, Walk};
use super::{CheckReport, catalog};
use crate::check::medium::Medium;
use crate::device::{Access, Device, FileDevice};
use crate::error::Result;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use sums::Sums;
pub(crate) use sweep::Suspect;
use sweep::Sweep;

/// Hears how far a scrub has come; [`Break`](ControlFlow::Break) ends it, and it can go on another time.
pub type OnProgress<'a> = &'a mut dyn FnMut(&ScrubProgress) -> ControlFlow<()>;

/// Reads every block of the store at `path` that anything refers to, and compares it with its checksum. No process
/// may have the store open for writing; [`Store::scrub`](crate::Store::scrub) is for a store that is open.
///
/// What several snapshots share is read once. Memory: four bytes for each block of the store near which there is
/// data (1 GiB for each TiB), and about 100 bytes for each extent node.
///
/// # Errors
/// As [`FileDevice::open`], and as [`check_device`](crate::check_device). Damage is no error: it stands in the report.
pub fn scrub(
    path: impl AsRef<Path>,
    options: &ScrubOptions,
    progress: OnProgress<'_>,
) -> Result<ScrubReport> {
    let path = path.as_ref();
    scrub_device(&FileDevice::open(path, Access::ReadOnly)?, options, progress)
        .map_err(|error| error.while_doing(format_args!("cannot scrub {}", path.display())))
}

/// Scrubs the store on `device`.
///
/// # Errors
/// As [`check_device`](crate::check_device).
pub fn scrub_device(
    device: &dyn Device,
    options: &ScrubOptions,
    progress: OnProgress<'_>,
) -> Result<ScrubReport> {
    let Gathered { mut report, sums } = gather(device)?;
    let Some(sums) = sums else { return Ok(report) };
    let suspects = Sweep::new(device, &sums, options).run(&mut report, progress);
    if !suspects.is_empty() {
        report.bad_blocks = blame(device, &suspects)?;
    }
    Ok(report)
}

/// What the maps say.
pub(crate) struct Gathered {
    /// With the defects of the maps themselves.
    pub(crate) report: ScrubReport,
    /// The seals of all data blocks; `None` where the store has no beginning.
    pub(crate) sums: Option<Sums>,
}

/// Walks the maps.
pub(crate) fn gather(device: &dyn Device) -> Result<Gathered> {
    let mut check = CheckReport::default();
    let sums = match Roots::read(device, &mut check)? {
        Some(Roots { geometry, record: Some((record, _)), .. }) => {
            let medium = Medium::new(device, geometry, record.zones);
            let mut sums = Sums::new(geometry);
            let mut walk = Walk::new(&medium, &mut sums, &mut check);
            let records = catalog::read(&mut walk, &record);
            Forest::new(&records, geometry.block_size()).walk(&mut walk);
            walk.finish();
            Some(sums)
        }
        _ => None,
    };
    let report = ScrubReport::begin(check, sums.as_ref());
    Ok(Gathered { report, sums })
}

/// Reads what the maps led to.
pub(crate) fn sweep(
    device: &dyn Device,
    sums: &Sums,
    options: &ScrubOptions,
    report: &mut ScrubReport,
    progress: OnProgress<'_>,
) -> Vec<Suspect> {
    Sweep::new(device, sums, options).run(report, progress)
}

/// Reads the suspects again, and finds who holds those that are bad.
///
/// # Errors
/// As [`check_device`](crate::check_device).
pub(crate) fn blame(device: &dyn Device, suspects: &[Suspect]) -> Result<Vec<BadBlock>> {
    match Roots::read(device, &mut CheckReport::default())? {
        Some(Roots { geometry, record: Some((record, _)), .. }) => {
            Ok(blame::blame(&Medium::new(device, geometry, record.zones), &record, suspects))
        }
        _ => Ok(Vec::new()),
    }
}

/// Where a scrub of an open store begins: superblock and record as they are at one moment.
pub(crate) struct OpenScrub(Still);

impl OpenScrub {
    /// Reads them. Meanwhile nobody may write them.
    ///
    /// # Errors
    /// As [`check_device`](crate::check_device).
    pub(crate) fn begin(device: &Arc<dyn Device>) -> Result<Self> {
        let still = Still::new(device.clone());
        Roots::read(&still, &mut CheckReport::default())?;
        Ok(Self(still))
    }

    /// A device that shows them so, and the rest as `device` does.
    pub(crate) fn over(self, device: Arc<dyn Device>) -> impl Device {
        self.0.over(device)
    }
}
