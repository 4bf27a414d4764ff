//! `cowblk diff`: which ranges of a server's disks changed between two snapshots, or since one.

use clap::Args;
use cowblk::{Change, Disk, Point, Server, Snapshot, SnapshotDisk, SnapshotId, Store};
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
  cowblk --store pool.cow diff web-1 @monday --whole
  cowblk --store pool.cow diff web-1@monday --reverse

Without a second snapshot the live disks are compared; without any, what changed since the snapshot that each disk descends from; with --whole, since nothing: all that the disks hold. The snapshots may be given in any order, and none has to descend from the other. A block is listed if it was written or discarded in between, also if it was written with what it held.")]
pub(crate) struct Arguments {
    /// All disks of a server, or one; and the snapshot to begin with, by name or id
    #[arg(value_name = "SERVER[/DISK][@SNAPSHOT]")]
    pub(crate) older: OlderPath,
    /// The snapshot to end with, by name or id [default: what the disks hold now]
    #[arg(value_name = "@SNAPSHOT")]
    pub(crate) newer: Option<NewerPath>,
    /// Begin with nothing: show all that is there, instead of what changed
    #[arg(long, conflicts_with = "reverse")]
    pub(crate) whole: bool,
    /// Show the way back: what would change from where the comparison ends to where it begins
    #[arg(long)]
    pub(crate) reverse: bool,
}

impl Arguments {
    /// A comparison begins with a snapshot or with nothing.
    pub(crate) fn refuse_two_beginnings(&self) -> Result<(), Failure> {
        if self.whole && self.older.snapshot.is_some() {
            let sentence = "--whole begins with nothing: leave the first snapshot out, as in `diff web-1 @monday --whole`";
            return Err(Failure::new(Kind::Usage, sentence));
        }
        Ok(())
    }
}

/// What changed of one disk.
#[derive(Serialize, Deserialize)]
pub(crate) struct DiskChanges {
    pub(crate) disk: String,
    /// The snapshot that the comparison begins with; null if that does not hold the disk, for --whole, and where live disks are begun with.
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

/// A disk on one side of a comparison.
#[derive(Clone)]
struct Side {
    /// What it is called on the newer side.
    name: String,
    point: Point,
    size_bytes: u64,
    snapshot: Option<u64>,
}

impl Side {
    fn held(name: String, disk: &SnapshotDisk, snapshot: &Snapshot) -> Side {
        let (point, size_bytes) = (Point::from(disk), disk.size_bytes());
        Side { name, point, size_bytes, snapshot: Some(snapshot.id().0) }
    }

    fn all_of(snapshot: &Snapshot) -> Vec<Side> {
        snapshot.disks().iter().map(|disk| Side::held(disk.name(), disk, snapshot)).collect()
    }
}

fn compare(store: &Store, arguments: &Arguments) -> Result<Vec<DiskChanges>, Failure> {
    let Arguments { older: path, newer, whole, reverse } = arguments;
    arguments.refuse_two_beginnings()?;
    let server = session::server(store, &path.server)?;
    let first = path.snapshot.as_ref().map(|name| session::snapshot(&server, name)).transpose()?;
    let last = newer.as_ref().map(|NewerPath(name)| session::snapshot(&server, name)).transpose()?;
    let (mut newer, parents) = newer_side(&server, last.as_ref());
    let mut older = match &first {
        Some(first) => Side::all_of(first),
        None if *whole => Vec::new(),
        None => descent(store, &newer, &parents)?,
    };
    if *reverse {
        std::mem::swap(&mut newer, &mut older);
    }
    let is_wanted = |side: &&Side| path.disk.as_ref().is_none_or(|only| *only == side.name);
    let find = |sides: &[Side], name: &str| sides.iter().find(|side| side.name == name).cloned();
    let mut found = Vec::new();
    for side in newer.iter().filter(is_wanted) {
        found.push(changes(store, find(&older, &side.name).as_ref(), side)?);
    }
    for gone in older.iter().filter(is_wanted).filter(|old| find(&newer, &old.name).is_none()) {
        found.push(DiskChanges {
            disk: gone.name.clone(),
            since: gone.snapshot,
            older_size_bytes: Some(gone.size_bytes),
            size_bytes: None,
            data_bytes: 0,
            hole_bytes: 0,
            changes: Vec::new(),
        });
    }
    found_any(path, found)
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

/// The disks of the snapshot, or the live ones; and the snapshots that they descend from.
fn newer_side(server: &Server, newer: Option<&Snapshot>) -> (Vec<Side>, Vec<Option<SnapshotId>>) {
    if let Some(snapshot) = newer {
        return (Side::all_of(snapshot), snapshot.disks().iter().map(SnapshotDisk::parent).collect());
    }
    let live = |disk: &Disk| Side {
        name: disk.name(),
        point: Point::from(disk),
        size_bytes: disk.size_bytes(),
        snapshot: None,
    };
    let disks = server.disks();
    (disks.iter().map(live).collect(), disks.iter().map(Disk::parent).collect())
}

/// Each disk as the snapshot holds it that it descends from, by whatever name.
fn descent(store: &Store, sides: &[Side], parents: &[Option<SnapshotId>]) -> Result<Vec<Side>, Failure> {
    let mut found = Vec::new();
    for (side, parent) in sides.iter().zip(parents) {
        if let Some(parent) = parent {
            let snapshot = store.snapshot(*parent)?;
            found.push(Side::held(side.name.clone(), &snapshot.disk_behind(&side.point)?, &snapshot));
        }
    }
    Ok(found)
}

fn changes(store: &Store, older: Option<&Side>, newer: &Side) -> Result<DiskChanges, Failure> {
    let changes = store.changes(older.map(|side| &side.point), &newer.point)?;
    let mut found = DiskChanges {
        disk: newer.name.clone(),
        since: older.and_then(|side| side.snapshot),
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
