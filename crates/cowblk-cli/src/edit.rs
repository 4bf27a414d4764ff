//! `cowblk server edit`, `cowblk disk edit` and `cowblk snapshot edit`: limits, labels, protection, expiry, patience.

use clap::Args;
use cowblk::WhenFull;

use crate::args::DiskPath;
use crate::failure::Failure;
use crate::marks::{
    ChangedMarks, Label, Limit, change_labels, parse_count_limit, parse_size_limit, parse_when_full,
};
use crate::session::{self, Session};
use crate::view::{DiskView, Owner, ServerView, SnapshotView};

/// `cowblk server edit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store pool.cow server edit web-1 --max-snapshots 30 --max-disk-bytes 500G
  cowblk --store pool.cow server edit web-1 --max-snapshots none --label team=blue")]
pub(crate) struct ServerEditArguments {
    /// The server's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) changes: ServerChanges,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct ServerChanges {
    /// The most snapshots that can be made of it, or none; those that a restore keeps do not count
    #[arg(long, value_name = "COUNT", value_parser = parse_count_limit)]
    pub(crate) max_snapshots: Option<Limit<u32>>,
    /// The most that the sizes of its disks can add up to, or none
    #[arg(long, value_name = "SIZE", value_parser = parse_size_limit)]
    pub(crate) max_disk_bytes: Option<Limit<u64>>,
    /// Set a label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<Label>,
    /// Take a label away; may be given several times
    #[arg(long = "unlabel", value_name = "KEY")]
    pub(crate) unlabels: Vec<String>,
}

pub(crate) fn server(session: &Session, arguments: &ServerEditArguments) -> Result<(), Failure> {
    let view = session.write(|store| {
        let server = session::server(store, &arguments.name)?;
        let mut marks = server.marks();
        let ServerChanges { max_snapshots, max_disk_bytes, labels, unlabels } = &arguments.changes;
        if let Some(Limit(limit)) = max_snapshots {
            marks.max_snapshots = *limit;
        }
        if let Some(Limit(limit)) = max_disk_bytes {
            marks.max_disk_bytes = *limit;
        }
        change_labels(&mut marks.labels, labels, unlabels);
        server.set_marks(marks)?;
        Ok(ServerView::of(&server))
    })?;
    session.output.item(&view, &format!("edited server {}", view.name))
}

/// `cowblk disk edit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store pool.cow disk edit web-1/vda --when-full 5m
  cowblk --store pool.cow disk edit web-1/vda --when-full fail")]
pub(crate) struct DiskEditArguments {
    /// The disk, as in web-1/vda
    #[arg(value_name = "SERVER/DISK")]
    pub(crate) disk: DiskPath,
    /// What writes do when the store is full: fail, or wait so long for space (30s, 5m) and fail then
    #[arg(long, required = true, value_name = "fail|DURATION", value_parser = parse_when_full)]
    pub(crate) when_full: Option<WhenFull>,
}

pub(crate) fn disk(session: &Session, arguments: &DiskEditArguments) -> Result<(), Failure> {
    let DiskEditArguments { disk: path, when_full } = arguments;
    let view = session.write(|store| {
        let server = session::server(store, &path.server)?;
        let disk = session::disk(store, path)?;
        if let Some(when_full) = when_full {
            disk.set_when_full(*when_full)?;
        }
        Ok(DiskView::of(&disk, &Owner::of(&server)))
    })?;
    session.output.item(&view, &format!("edited disk {}/{}", path.server, path.disk))
}

/// `cowblk snapshot edit`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store pool.cow snapshot edit web-1 before-upgrade --protect
  cowblk --store pool.cow snapshot edit web-1 before-upgrade --unprotect --expires 7d --label purpose=upgrade")]
pub(crate) struct SnapshotEditArguments {
    /// The server's name
    pub(crate) server: String,
    /// Name or id
    pub(crate) snapshot: String,
    #[command(flatten)]
    pub(crate) changes: ChangedMarks,
}

pub(crate) fn snapshot(session: &Session, arguments: &SnapshotEditArguments) -> Result<(), Failure> {
    let view = session.write(|store| {
        let server = session::server(store, &arguments.server)?;
        let snapshot = session::snapshot(&server, &arguments.snapshot)?;
        let mut marks = snapshot.marks();
        arguments.changes.apply(&mut marks);
        snapshot.set_marks(marks)?;
        Ok(SnapshotView::of(&snapshot, &Owner::of(&server)))
    })?;
    session.output.item(&view, &format!("edited snapshot {} of {}", view.title(), view.server.name))
}
