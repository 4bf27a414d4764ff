//! `cowblk server`: create, list, show, delete.

use clap::Subcommand;
use cowblk::{Freed, Store};
use serde::Serialize;

use crate::clones::{self, ServerCloneArguments};
use crate::edit::{self, ServerEditArguments};
use crate::failure::Failure;
use crate::session::{self, Session};
use crate::sizes::{human, human_or_dash};
use crate::table::{Column, Table, printable};
use crate::view::{ServerView, servers};
use crate::{disk, snapshot};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a server without disks
    #[command(after_help = "Examples:\n  cowblk --store pool.cow server create web-1")]
    Create {
        /// 1 to 64 letters, digits, hyphens and underscores
        name: String,
    },
    /// Make a server whose disks begin as a snapshot of another one holds them
    Clone(ServerCloneArguments),
    /// Take a clone back to what it was cloned from; what its disks hold is not kept
    #[command(after_help = "Examples:\n  cowblk --store pool.cow server reset web-7")]
    Reset {
        /// The server's name
        name: String,
    },
    /// Change limits and labels of a server
    Edit(ServerEditArguments),
    /// List the servers
    #[command(
        after_help = "Examples:\n  cowblk --store pool.cow server list\n  cowblk --store pool.cow --json server list"
    )]
    List,
    /// Show one server with its disks and snapshots
    #[command(after_help = "Examples:\n  cowblk --store pool.cow server show web-1")]
    Show {
        /// The server's name
        name: String,
    },
    /// Delete a server with all its disks and snapshots
    #[command(
        after_help = "Examples:\n  cowblk --store pool.cow server delete web-1\n  cowblk --store pool.cow server delete --dry-run web-1"
    )]
    Delete {
        /// The server's name
        name: String,
        /// Say what that would free, and delete nothing
        #[arg(long)]
        dry_run: bool,
    },
}

pub(crate) fn run(session: &Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { name } => create(session, &name),
        Command::Clone(arguments) => clones::server(session, &arguments),
        Command::Reset { name } => clones::reset(session, &name),
        Command::Edit(arguments) => edit::server(session, &arguments),
        Command::List => list(session),
        Command::Show { name } => show(session, &name),
        Command::Delete { name, dry_run: true } => would_free(session, &name),
        Command::Delete { name, dry_run: false } => delete(session, &name),
    }
}

fn create(session: &Session, name: &str) -> Result<(), Failure> {
    let view = session.write(|store| Ok(ServerView::of(&store.create_server(name)?)))?;
    session.output.item(&view, &created(&view))
}

pub(crate) fn created(view: &ServerView) -> String {
    format!("created server {} (id {})", printable(&view.name), view.id)
}

fn list(session: &Session) -> Result<(), Failure> {
    let views = session.read(|store| servers(store, None))?;
    session.output.list(&views, &table(&views))
}

/// Servers for people.
pub(crate) fn table(views: &[ServerView]) -> Table {
    let mut table = Table::new([
        Column::Right("ID"),
        Column::Left("NAME"),
        Column::Right("DISKS"),
        Column::Right("SNAPSHOTS"),
        Column::Right("MAPPED"),
        Column::Right("SHARED"),
        Column::Right("ALONE"),
        Column::Left("CREATED"),
    ]);
    for view in views {
        table.row([
            view.id.to_string(),
            view.name.clone(),
            view.disks.len().to_string(),
            view.snapshots.len().to_string(),
            human_or_dash(view.mapped_bytes),
            human_or_dash(view.shared_bytes),
            human_or_dash(view.exclusive_bytes),
            view.created_at.clone(),
        ]);
    }
    table
}

fn show(session: &Session, name: &str) -> Result<(), Failure> {
    let view = session.read(|store| one(store, name))?;
    session.output.item(&view, &details(&view))
}

/// One server for people, with all that it has.
pub(crate) fn details(view: &ServerView) -> String {
    let status = view.status.as_ref().map_or_else(String::new, |status| format!(", {}", printable(status)));
    let text = format!(
        "server {} (id {}){status}, created {}\n{}\n{}\n{}",
        view.name,
        view.id,
        view.created_at,
        marks_of(view),
        disk::table(&view.disks),
        snapshot::table(&view.snapshots),
    );
    text.trim_end().to_owned()
}

/// Origin, limits and labels, a line each.
fn marks_of(view: &ServerView) -> String {
    let origin = view.origin.map(|id| format!("cloned from snapshot {id}"));
    let count = view.max_snapshots.map(|count| format!("at most {count} snapshots"));
    let bytes = view.max_disk_bytes.map(|bytes| format!("at most {} of disks", human(bytes)));
    let labels = view.labels.iter().map(|(key, value)| format!("label {key}={value}"));
    let lines = origin.into_iter().chain(count).chain(bytes).chain(labels);
    lines.map(|line| printable(&line) + "\n").collect()
}

/// What deleting a server would free.
#[derive(Debug, Serialize)]
pub(crate) struct ServerWouldFree {
    pub(crate) server: ServerView,
    #[serde(flatten)]
    pub(crate) freed: Freed,
}

impl ServerWouldFree {
    pub(crate) fn text(&self) -> String {
        let (data, maps) = (human(self.freed.data_bytes), human(self.freed.metadata_bytes));
        let ServerView { name, disks, snapshots, .. } = &self.server;
        let (disks, snapshots) = (counted(disks.len(), "disk"), counted(snapshots.len(), "snapshot"));
        format!(
            "deleting server {} with {disks} and {snapshots} would free {data} of data, and {maps} of maps at most",
            printable(name)
        )
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn would_free(session: &Session, name: &str) -> Result<(), Failure> {
    let would_free = session.count(|store| {
        let freed = session::server(store, name)?.would_free()?;
        Ok(ServerWouldFree { server: one(store, name)?, freed })
    })?;
    session.output.item(&would_free, &would_free.text())
}

fn delete(session: &Session, name: &str) -> Result<(), Failure> {
    let view = session.write(|store| {
        let view = one(store, name)?;
        store.delete_server(cowblk::ServerId(view.id))?;
        store.collect()?;
        Ok(view)
    })?;
    session.output.item(&view, &deleted(&view))
}

pub(crate) fn deleted(view: &ServerView) -> String {
    format!(
        "deleted server {} with {} disks (mapped: {}) and {} snapshots",
        view.name,
        view.disks.len(),
        human_or_dash(view.mapped_bytes),
        view.snapshots.len()
    )
}

fn one(store: &Store, name: &str) -> Result<ServerView, Failure> {
    Ok(ServerView::of(&session::server(store, name)?))
}
