//! `cowblk server clone`, `cowblk server reset` and `cowblk disk clone`: copies that share everything until they are written.

use clap::Args;

use crate::args::{DiskPath, SnapshotPath};
use crate::failure::Failure;
use crate::session::{self, Session};
use crate::view::{DiskView, Owner, ServerView};

/// `cowblk server clone`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store pool.cow server clone template golden web-7
  cowblk --store pool.cow server reset web-7

A clone costs the same for disks of any size. It is independent: snapshot and clone can be deleted in any order.")]
pub(crate) struct ServerCloneArguments {
    /// The server that the snapshot is of
    pub(crate) server: String,
    /// Name or id of the snapshot
    pub(crate) snapshot: String,
    /// The new server's name
    pub(crate) name: String,
}

pub(crate) fn server(session: &Session, arguments: &ServerCloneArguments) -> Result<(), Failure> {
    let ServerCloneArguments { server, snapshot, name } = arguments;
    let view = session.write(|store| {
        let snapshot = session::snapshot(&session::server(store, server)?, snapshot)?;
        Ok(ServerView::of(&snapshot.clone_server(name)?))
    })?;
    session.output.item(&view, &cloned_server(arguments, &view))
}

pub(crate) fn cloned_server(arguments: &ServerCloneArguments, view: &ServerView) -> String {
    let ServerCloneArguments { server, snapshot, .. } = arguments;
    format!(
        "created server {} (id {}) with {} disks, a clone of {server} at {snapshot}",
        view.name,
        view.id,
        view.disks.len()
    )
}

pub(crate) fn reset(session: &Session, name: &str) -> Result<(), Failure> {
    let view = session.write(|store| {
        let server = session::server(store, name)?;
        server.reset()?;
        store.collect()?;
        Ok(ServerView::of(&server))
    })?;
    session.output.item(&view, &reset_done(name))
}

pub(crate) fn reset_done(name: &str) -> String {
    format!("reset server {name} to what it was cloned from")
}

/// `cowblk disk clone`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cowblk --store pool.cow disk clone web-1/vda@before-upgrade rescue/vdb")]
pub(crate) struct DiskCloneArguments {
    /// The disk at the snapshot, as in web-1/vda@before-upgrade
    #[arg(value_name = "SERVER/DISK@SNAPSHOT")]
    pub(crate) source: SnapshotPath,
    /// The new disk, of the same or another server
    #[arg(value_name = "SERVER/DISK")]
    pub(crate) target: DiskPath,
}

pub(crate) fn disk(session: &Session, arguments: &DiskCloneArguments) -> Result<(), Failure> {
    let DiskCloneArguments { source, target } = arguments;
    let view = session.write(|store| {
        let server = session::server(store, &target.server)?;
        let disk = session::snapshot_disk(store, source)?.clone_disk(&server, &target.disk)?;
        Ok(DiskView::of(&disk, &Owner::of(&server)))
    })?;
    session.output.item(&view, &cloned_disk(arguments, &view))
}

pub(crate) fn cloned_disk(arguments: &DiskCloneArguments, view: &DiskView) -> String {
    let DiskCloneArguments { source, target } = arguments;
    format!(
        "created disk {}/{} (id {}), a clone of {}/{} at {}",
        target.server, target.disk, view.id, source.disk.server, source.disk.disk, source.snapshot
    )
}
