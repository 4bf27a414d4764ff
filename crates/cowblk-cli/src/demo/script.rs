//! The story of the demo, step by step. Any comparison that fails ends it with an error.

use std::io;
use std::path::Path;

use cowblk::{Disk, Options, Server, SnapshotId, Store};
use serde::Serialize;

use super::files::{self, Manifest};
use super::ledger::{Cost, Ledger};
use crate::failure::{Failure, Kind};

pub(super) const DISK_BYTES: u64 = 256 << 20;

/// How it went.
#[derive(Debug, Serialize)]
pub(super) struct Story {
    pub(super) steps: Vec<Cost>,
    /// How many times a file was compared with what it should be.
    pub(super) comparisons: usize,
    pub(super) blocks_checked: u64,
    pub(super) block_size: u32,
    /// The store, if it is kept.
    pub(super) store: Option<String>,
}

pub(super) fn run(path: &Path, keep: bool) -> Result<Story, Failure> {
    // Without a thread of its own the store does nothing that no step asked for: costs are where they belong.
    let store = Store::create(path, Options::default().background(false))?;
    let mut comparisons = 0;
    let outcome = tell(&store, &mut comparisons);
    let block_size = store.status().block_size;
    let closed = store.close();
    let steps = outcome?;
    closed?;
    let report = cowblk::check(path)?;
    if let Some(finding) = report.findings.first() {
        return Err(Failure::new(Kind::Corrupt, format!("the check of the demo's store found: {finding}")));
    }
    let store = keep.then(|| path.display().to_string());
    Ok(Story { steps, comparisons, blocks_checked: report.blocks_in_use, block_size, store })
}

fn tell(store: &Store, comparisons: &mut usize) -> Result<Vec<Cost>, Failure> {
    let mut ledger = Ledger::new(store);
    let (server, disk) = ledger.step("create a server with one disk", || {
        let server = store.create_server("demo")?;
        let disk = server.create_disk("vda", DISK_BYTES)?;
        Ok((server, disk))
    })?;
    let clean_files = ledger.step("format it, write the files", || in_files(files::fill(&disk)))?;
    let clean =
        ledger.step("snapshot `clean`", || Ok(server.snapshot("clean", "before the disaster")?.id()))?;
    let ruined_files =
        ledger.step("ruin two files of three", || in_files(files::ruin(&disk, &clean_files)))?;
    let ruined =
        ledger.step("snapshot `ruined`", || Ok(server.snapshot("ruined", "after the disaster")?.id()))?;
    let mut restore = |title: &str, to: SnapshotId, expected: &Manifest| {
        ledger.step(&format!("restore {title}"), || Ok(server.restore(to)?))?;
        *comparisons += ledger.step("read and compare every file", || compare(&disk, expected))?;
        Ok::<(), Failure>(())
    };
    restore("`clean`", clean, &clean_files)?;
    restore("forward, `ruined`", ruined, &ruined_files)?;
    restore("`clean` again", clean, &clean_files)?;
    ledger.step("delete all snapshots", || delete_all(store, &server, [clean, ruined]))?;
    ledger.step("collect what they held", || Ok(store.collect()?))?;
    *comparisons += ledger.step("read and compare every file", || compare(&disk, &clean_files))?;
    Ok(ledger.into_steps())
}

/// Deletes the two snapshots and the automatic one that the last restore left.
fn delete_all(store: &Store, server: &Server, snapshots: [SnapshotId; 2]) -> Result<(), Failure> {
    let automatic = server.before_restore().map(|snapshot| snapshot.id());
    for id in snapshots.into_iter().chain(automatic) {
        store.delete_snapshot(id)?;
    }
    Ok(())
}

/// Reads every file and compares it; returns how many were compared.
fn compare(disk: &Disk, expected: &Manifest) -> Result<usize, Failure> {
    let found = in_files(files::read(disk))?;
    if let Some((path, _)) = expected.iter().find(|(path, hash)| found.get(*path) != Some(hash)) {
        return Err(Failure::new(
            Kind::Mismatch,
            format!("{path} is not what it should be after the restore"),
        ));
    }
    if let Some(path) = found.keys().find(|path| !expected.contains_key(*path)) {
        return Err(Failure::new(Kind::Mismatch, format!("{path} should not be there after the restore")));
    }
    Ok(found.len())
}

fn in_files<T>(outcome: io::Result<T>) -> Result<T, Failure> {
    outcome.map_err(|error| Failure::io("use", Path::new("the demo's file system"), &error))
}
