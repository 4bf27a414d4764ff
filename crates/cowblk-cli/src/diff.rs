//! `cowblk diff`: which ranges of a server's disks changed between two snapshots, or since one.

use clap::Args;
use cowblk::{Change, Point, Server, Snapshot, SnapshotDisk, Store};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

use crate::args::{NewerPath, OlderPath};
use crate::failure::{Failure, Kind};
use crate::session::{self, Session};
use crate::sizes::human;
use crate::table::{Column, Table};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store pool.cow diff web-1@monday @tuesday
  cowblk --store pool.cow diff web-1/vda@monday
  cowblk --store pool.cow diff web-1

Without a second snapshot the live disks are compared; without any, what changed since the snapshot that each disk descends from. The snapshots may be given in any order, and none has to descend from the other. A block is listed if it was written or discarded in between, also if it was written with what it held.")]
pub(crate) struct Arguments {
    /// All disks of a server, or one; and the snapshot to begin with, by name or id
    #[arg(value_name = "SERVER[/DISK][@SNAPSHOT]")]
    pub(crate) older: OlderPath,
    /// The snapshot to end with, by name or id [default: what the disks hold now]
    #[arg(value_name = "@SNAPSHOT")]
    pub(crate) newer: Option<NewerPath>,
}

/// What changed of one disk.
#[derive(Serialize, Deserialize)]
pub(crate) struct DiskChanges {
    pub(crate) disk: String,
    /// The snapshot that it is compared with; null for a disk that is not in one.
    since: Option<u64>,
    /// Null for a disk that the older snapshot does not hold.
    older_size_bytes: Option<u64>,
    /// Null for a disk that is gone.
    size_bytes: Option<u64>,
    data_bytes: u64,
    hole_bytes: u64,
    changes: Vec<ChangeView>,
}

#[derive(Serialize, Deserialize)]
struct ChangeView {
    offset: u64,
    length: u64,
    kind: Cow<'static, str>,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let found = session.read(|store| compare(store, arguments))?;
    session.output.many(&found, &text(&found))
}

fn compare(store: &Store, Arguments { older, newer }: &Arguments) -> Result<Vec<DiskChanges>, Failure> {
    let server = session::server(store, &older.server)?;
    let first = older.snapshot.as_ref().map(|name| session::snapshot(&server, name)).transpose()?;
    let last = newer.as_ref().map(|NewerPath(name)| session::snapshot(&server, name)).transpose()?;
    let mut found = Vec::new();
    for (name, point, parent) in points(&server, last.as_ref()) {
        if older.disk.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let since = match (&first, parent) {
            (Some(first), _) => Some(first.clone()),
            (None, Some(parent)) => Some(store.snapshot(parent)?),
            (None, None) => None,
        };
        found.push(changes(store, name, since.as_ref(), &point)?);
    }
    for gone in first.iter().flat_map(Snapshot::disks) {
        let is_wanted = older.disk.as_ref().is_none_or(|only| *only == gone.name());
        if is_wanted && !found.iter().any(|disk| disk.disk == gone.name()) {
            found.push(DiskChanges {
                disk: gone.name(),
                since: first.as_ref().map(|snapshot| snapshot.id().0),
                older_size_bytes: Some(gone.size_bytes()),
                size_bytes: None,
                data_bytes: 0,
                hole_bytes: 0,
                changes: Vec::new(),
            });
        }
    }
    found_any(older, found)
}

/// Refuses a disk that is nowhere.
pub(crate) fn found_any(older: &OlderPath, found: Vec<DiskChanges>) -> Result<Vec<DiskChanges>, Failure> {
    match &older.disk {
        Some(name) if found.is_empty() => Err(Failure::new(
            Kind::NotFound,
            format!("server `{}` has no disk `{name}`, neither before nor now", older.server),
        )),
        _ => Ok(found),
    }
}

/// The disks to compare: those of the snapshot, or the live ones; and the snapshots that they descend from.
fn points(server: &Server, newer: Option<&Snapshot>) -> Vec<(String, Point, Option<cowblk::SnapshotId>)> {
    match newer {
        Some(snapshot) => {
            let disks = snapshot.disks();
            disks.iter().map(|disk| (disk.name(), Point::from(disk), disk.parent())).collect()
        }
        None => server.disks().iter().map(|disk| (disk.name(), Point::from(disk), disk.parent())).collect(),
    }
}

fn changes(
    store: &Store,
    disk: String,
    since: Option<&Snapshot>,
    newer: &Point,
) -> Result<DiskChanges, Failure> {
    let held: Option<SnapshotDisk> = since.and_then(|snapshot| snapshot.disk(&disk).ok());
    let changes = store.changes(held.as_ref().map(Point::from).as_ref(), newer)?;
    let mut found = DiskChanges {
        disk,
        since: since.filter(|_| held.is_some()).map(|snapshot| snapshot.id().0),
        older_size_bytes: changes.older_size_bytes(),
        size_bytes: Some(changes.newer_size_bytes()),
        data_bytes: 0,
        hole_bytes: 0,
        changes: Vec::new(),
    };
    for change in changes {
        let change = change?;
        if change.is_data() {
            found.data_bytes += change.len;
        } else {
            found.hole_bytes += change.len;
        }
        found.changes.push(view(&change));
    }
    Ok(found)
}

fn view(change: &Change) -> ChangeView {
    let kind = if change.is_data() { "data" } else { "hole" };
    ChangeView { offset: change.offset, length: change.len, kind: kind.into() }
}

pub(crate) fn text(found: &[DiskChanges]) -> String {
    let mut table = Table::new([
        Column::Left("DISK"),
        Column::Right("OFFSET"),
        Column::Right("LENGTH"),
        Column::Left("KIND"),
    ]);
    for disk in found {
        for change in &disk.changes {
            let (offset, length) = (change.offset.to_string(), change.length.to_string());
            table.row([disk.disk.clone(), offset, length, change.kind.clone().into_owned()]);
        }
    }
    let summaries: Vec<String> = found.iter().map(summary).collect();
    if found.iter().all(|disk| disk.changes.is_empty()) {
        return summaries.join("\n");
    }
    format!("{table}\n{}", summaries.join("\n"))
}

fn summary(disk: &DiskChanges) -> String {
    let changed = match (disk.data_bytes, disk.hole_bytes) {
        (0, 0) => "nothing changed".to_owned(),
        (data, 0) => format!("{} written", human(data)),
        (0, holes) => format!("{} discarded", human(holes)),
        (data, holes) => format!("{} written, {} discarded", human(data), human(holes)),
    };
    let size = match (disk.older_size_bytes, disk.size_bytes) {
        (_, None) => return format!("{}: the disk is gone", disk.disk),
        (None, Some(new)) => format!("; a new disk of {}", human(new)),
        (Some(old), Some(new)) if old != new => format!("; resized from {} to {}", human(old), human(new)),
        _ => String::new(),
    };
    format!("{}: {changed}{size}", disk.disk)
}
