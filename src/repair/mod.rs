//! Repair: makes of a damaged store one in which nothing is wrong, and says what could not be saved.
//!
//! Floor 6. It works on a closed store. Everything is put together in memory first, on top of the damaged store, and
//! checked there by the auditor and by opening it. Only what passes is written:
//!
//! ```text
//! find a beginning ▶ agree on records ▶ save each map ▶ recount ▶ tables ▶ record ▶ cut the journal
//!      └──────────── in memory ──────────────────────────────────────────────────────┘
//! check it ▶ open it ▶ write blocks and tables ▶ sync ▶ superblock A ▶ sync ▶ B ▶ sync ▶ wipe the journal's end ▶ sync
//! ```
//!
//! R3  A store with nothing wrong is not written to.

mod beginning;
mod journal;
mod overlay;
mod plan;
mod records;
mod report;
mod space;
mod tables;
mod trees;

pub use report::{LostRange, RepairOptions, RepairReport};

use crate::check::check_device;
use crate::device::{Access, Device, FileDevice};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{SLOT_OFFSETS, Superblock};
use crate::store::{Options, Store};
use overlay::{Overlay, Writes};
use plan::Plan;
use std::path::Path;
use std::sync::Arc;

/// Repairs the store at `path`, which no process may have open; without [`RepairOptions::apply`], only says what it
/// would do.
///
/// It rebuilds refcounts and free space from the maps, starts from the older superblock where the newer leads nowhere,
/// and takes out what cannot be read. Damaged data is not its business: a block that does not match its checksum stays
/// an error when it is read. Memory: what a [`check`](crate::check()) takes, the tables, and all that it writes.
///
/// # Errors
/// Those of [`FileDevice::open`]; `Corrupt` where not even a superblock and a checkpoint record can be found, or where
/// the repaired store would still have defects; `Full` where it has no room for what must be written anew.
pub fn repair(path: impl AsRef<Path>, options: RepairOptions) -> Result<RepairReport> {
    let path = path.as_ref();
    let access = if options.apply { Access::ReadWrite } else { Access::ReadOnly };
    let device = FileDevice::open(path, access)?;
    let device: Arc<dyn Device> = Arc::new(device);
    repair_device(&device, options)
        .map_err(|error| error.while_doing(format_args!("cannot repair {}", path.display())))
}

/// Repairs the store on `device`.
///
/// # Errors
/// As [`repair`].
pub fn repair_device(device: &Arc<dyn Device>, options: RepairOptions) -> Result<RepairReport> {
    let check = check_device(&**device)?;
    let mut report = RepairReport {
        findings: check.findings.clone(),
        findings_omitted: check.findings_omitted,
        ..RepairReport::default()
    };
    if check.is_clean() {
        return Ok(report);
    }
    let plan = Plan::make(device, &check, options.zero_lost, &mut report)?;
    let last = settle_journal(device, &plan, &mut report)?;
    report.bytes_written = plan.bytes() + last.bytes();
    if options.apply {
        apply(&**device, &plan, &last).map_err(|cause| Error::io("write the repair", cause))?;
        report.applied = true;
    }
    Ok(report)
}

/// What is written last.
struct Last {
    superblock: Superblock,
    wipes: Arc<Writes>,
}

impl Last {
    fn bytes(&self) -> u64 {
        let wiped: usize = self.wipes.values().map(Vec::len).sum();
        crate::units::wide(wiped + 2 * crate::format::SUPERBLOCK_BYTES)
    }
}

/// As many batches of the journal as the repaired store can replay.
fn settle_journal(device: &Arc<dyn Device>, plan: &Plan, report: &mut RepairReport) -> Result<Last> {
    if !plan.is_journal_damaged
        && let Ok(last) = attempt(device, plan, None)
    {
        return Ok(last);
    }
    // Whatever can be replayed is a beginning of the journal: look for the longest.
    let (mut fits, mut fails) = (attempt(device, plan, Some(0))?, plan.journal_batches + 1);
    let mut kept = 0;
    while kept + 1 < fails {
        let middle = if kept == 0 && fails == plan.journal_batches + 1 {
            plan.journal_batches
        } else {
            kept + (fails - kept) / 2
        };
        match attempt(device, plan, Some(middle)) {
            Ok(last) => (kept, fits) = (middle, last),
            Err(_) => fails = middle,
        }
    }
    report.actions.push(format!("end the journal behind its first {kept} batches"));
    report.lost_records.push(format!(
        "changes since the last checkpoint, from journal batch {} on: flushed ones, too",
        plan.superblock.journal_sequence.get() + kept
    ));
    Ok(fits)
}

/// The last writes that keep so many batches (`None`: the journal as it is), if the store is whole with them.
fn attempt(device: &Arc<dyn Device>, plan: &Plan, batches: Option<u64>) -> Result<Last> {
    let mut superblock = plan.superblock.clone();
    let wipes = batches.map_or_else(Writes::new, |batches| {
        let first = superblock.journal_sequence.get() + batches;
        journal::cut(&**device, &plan.geometry, &mut superblock, first)
    });
    let last = Last { superblock, wipes: Arc::new(wipes) };
    let sealed = last.superblock.clone().seal();
    let slots: Writes = SLOT_OFFSETS.iter().map(|offset| (*offset, sealed.clone())).collect();
    let overlay = Overlay {
        device: device.clone(),
        layers: vec![plan.writes.clone(), last.wipes.clone(), Arc::new(slots)],
        len_bytes: plan.len_bytes,
    };
    let check = check_device(&overlay)?;
    if let Some(finding) = check.findings.first() {
        return Err(Error::corrupt(finding.defect, format_args!("{} (after the repair)", finding.place)));
    }
    Store::open_on(Arc::new(overlay), Options::default().background(false)).map(|_| last)
}

/// Writes all of it. Until slot A is written, the store is as damaged as before, and afterwards it is whole: a crash
/// at any moment leaves a store that can be repaired again.
fn apply(device: &dyn Device, plan: &Plan, last: &Last) -> std::io::Result<()> {
    device.grow(plan.len_bytes)?;
    for (offset, bytes) in &*plan.writes {
        device.write_at(bytes, *offset)?;
    }
    device.sync()?;
    let sealed = last.superblock.clone().seal();
    for offset in SLOT_OFFSETS {
        device.write_at(&sealed, offset)?;
        device.sync()?;
    }
    for (offset, bytes) in &*last.wipes {
        device.write_at(bytes, *offset)?;
    }
    device.sync()
}

/// Nothing to start from.
fn hopeless() -> Error {
    let message = "neither superblock leads to a checkpoint record: bring back a copy of the store";
    Error::new(ErrorKind::Corrupt, message)
}
