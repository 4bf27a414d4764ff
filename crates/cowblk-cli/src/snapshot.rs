//! `cowblk snapshot`: create, list, show, restore, delete; exports live in `transfer`, the tree in `tree`.

use clap::Subcommand;
use cowblk::{Freed, Server, Snapshot, SnapshotId};
use serde::Serialize;

use crate::args::SnapshotPath;
use crate::edit::{self, SnapshotEditArguments};
use crate::failure::{Failure, Kind};
use crate::marks::NewMarks;
use crate::prune;
use crate::session::{self, Session};
use crate::sizes::{human, human_or_dash};
use crate::table::{Column, Table, printable};
use crate::transfer::{self, ExportArguments};
use crate::tree;
use crate::view::{Owner, SnapshotView, servers};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Freeze every disk of a server at one instant
    #[command(
        after_help = "Examples:\n  cowblk --store pool.cow snapshot create web-1 before-upgrade -d 'Before the upgrade to 2.0'\n  cowblk --store pool.cow snapshot create web-1 nightly --expires 7d --label by=cron"
    )]
    Create {
        /// The server's name
        server: String,
        /// 1 to 64 letters, digits, hyphens and underscores; one snapshot of that name a server
        name: String,
        /// A remark for the listing
        #[arg(short, long, default_value = "")]
        description: String,
        #[command(flatten)]
        marks: NewMarks,
    },
    /// Change protection, expiry and labels of a snapshot
    Edit(SnapshotEditArguments),
    /// List the snapshots of one server, or of all, newest first
    #[command(
        after_help = "Examples:\n  cowblk --store pool.cow snapshot list\n  cowblk --store pool.cow snapshot list web-1 --tree"
    )]
    List {
        /// Only the snapshots of this server
        server: Option<String>,
        /// Draw the lineage: what each snapshot descends from, and where the live disks stand
        #[arg(long)]
        tree: bool,
    },
    /// Show one snapshot with its disks
    #[command(after_help = "Examples:\n  cowblk --store pool.cow snapshot show web-1 before-upgrade")]
    Show {
        /// The server's name
        server: String,
        /// Name or id
        snapshot: String,
    },
    /// Put every disk of a server back to a snapshot; newer snapshots stay
    #[command(after_help = "Examples:
  cowblk --store pool.cow snapshot restore web-1 before-upgrade
  cowblk --store pool.cow snapshot restore web-1 17
  cowblk --store pool.cow snapshot restore web-1 --undo

What the disks held before is kept as an automatic snapshot until the next restore, a week has passed or the store is full, so a restore can be undone; and an undo, too.")]
    Restore {
        /// The server's name
        server: String,
        /// Name or id
        #[arg(required_unless_present = "undo", conflicts_with = "undo")]
        snapshot: Option<String>,
        /// Take back the last restore
        #[arg(long)]
        undo: bool,
    },
    /// Delete snapshots and give back the blocks that nothing else holds
    #[command(
        after_help = "Examples:\n  cowblk --store pool.cow snapshot delete web-1 before-upgrade\n  cowblk --store pool.cow snapshot delete web-1 monday tuesday 17\n  cowblk --store pool.cow snapshot delete --dry-run web-1 monday tuesday"
    )]
    Delete {
        /// The server's name
        server: String,
        /// Names or ids; if one does not exist, none is deleted
        #[arg(required = true, value_name = "SNAPSHOT")]
        snapshots: Vec<String>,
        /// Delete nothing; say what deleting them all would free
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete the snapshots that a policy does not keep, and those that have expired
    Prune(prune::Arguments),
    /// Copy a disk as it was at a snapshot into a raw image
    #[command(after_help = transfer::EXPORT_AFTER_HELP)]
    Export {
        /// The disk at the snapshot, as in web-1/vda@before-upgrade
        #[arg(value_name = "SERVER/DISK@SNAPSHOT")]
        disk: SnapshotPath,
        #[command(flatten)]
        arguments: ExportArguments,
    },
}

pub(crate) fn run(session: &Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { server, name, description, marks } => {
            create(session, &server, (&name, &description), &marks)
        }
        Command::Edit(arguments) => edit::snapshot(session, &arguments),
        Command::List { server, tree: true } => tree::run(session, server.as_deref()),
        Command::List { server, tree: false } => list(session, server.as_deref()),
        Command::Show { server, snapshot } => show(session, &server, &snapshot),
        Command::Restore { server, snapshot, undo: _ } => restore(session, &server, snapshot.as_deref()),
        Command::Delete { server, snapshots, dry_run: true } => would_free(session, &server, &snapshots),
        Command::Delete { server, snapshots, dry_run: false } => delete(session, &server, &snapshots),
        Command::Prune(arguments) => prune::run(session, &arguments),
        Command::Export { disk, arguments } => transfer::export_snapshot(session, &disk, &arguments),
    }
}

/// Snapshots for people: of one server, or of several.
pub(crate) fn table(views: &[SnapshotView]) -> Table {
    let mut table = Table::new([
        Column::Right("ID"),
        Column::Left("SERVER"),
        Column::Left("SNAPSHOT"),
        Column::Left("STATUS"),
        Column::Right("SIZE"),
        Column::Right("ALONE"),
        Column::Right("PARENT"),
        Column::Left("CREATED"),
        Column::Left("DESCRIPTION"),
    ]);
    for view in views {
        table.row([
            view.id.to_string(),
            view.server.name.clone(),
            view.title().to_owned(),
            view.status.clone().into_owned(),
            human_or_dash(view.size_bytes),
            human_or_dash(view.exclusive_bytes),
            view.parent.map_or_else(|| "-".into(), |id| id.to_string()),
            view.created_at.clone(),
            view.description.clone(),
        ]);
    }
    table
}

fn create(
    session: &Session,
    server: &str,
    (name, description): (&str, &str),
    marks: &NewMarks,
) -> Result<(), Failure> {
    let view = session.write(|store| {
        let server = session::server(store, server)?;
        let snapshot = server.snapshot_with(name, description, marks.marks())?;
        // The checkpoint settles the snapshot, so that it is shown with its size.
        store.checkpoint()?;
        Ok(SnapshotView::of(&snapshot, &Owner::of(&server)))
    })?;
    session.output.item(&view, &created(&view))
}

pub(crate) fn created(view: &SnapshotView) -> String {
    format!("created snapshot {} of {} (id {})", view.name, view.server.name, view.id)
}

fn list(session: &Session, server: Option<&str>) -> Result<(), Failure> {
    let mut views: Vec<SnapshotView> = session
        .read(|store| Ok(servers(store, server)?.into_iter().flat_map(|view| view.snapshots).collect()))?;
    views.sort_by_key(|view| std::cmp::Reverse(view.id));
    session.output.list(&views, &table(&views))
}

fn show(session: &Session, server: &str, name: &str) -> Result<(), Failure> {
    let view = session.read(|store| {
        let server = session::server(store, server)?;
        Ok(SnapshotView::of(&session::snapshot(&server, name)?, &Owner::of(&server)))
    })?;
    session.output.item(&view, &details(&view))
}

/// One snapshot for people, with its disks.
pub(crate) fn details(view: &SnapshotView) -> String {
    let mut text = format!(
        "snapshot {} of {} (id {}), created {}, {}, size {}, of which it alone holds {}\n",
        view.title(),
        view.server.name,
        view.id,
        view.created_at,
        view.status.replace('_', " "),
        human_or_dash(view.size_bytes),
        human_or_dash(view.exclusive_bytes)
    );
    for mark in marks_of(view) {
        text = format!("{text}{}\n", printable(&mark));
    }
    if !view.description.is_empty() {
        text = format!("{text}{}\n", printable(&view.description));
    }
    let mut disks = Table::new([Column::Left("DISK"), Column::Right("SIZE"), Column::Right("MAPPED")]);
    for disk in &view.disks {
        disks.row([disk.name.clone(), human(disk.size_bytes), human_or_dash(disk.mapped_bytes)]);
    }
    format!("{text}\n{disks}").trim_end().to_owned()
}

/// What keeps a snapshot and its labels, a line each.
fn marks_of(view: &SnapshotView) -> Vec<String> {
    let protected = view.protected.then(|| "protected".to_owned());
    let expires = view.expires_at.as_ref().map(|at| format!("expires {at}"));
    let labels = view.labels.iter().map(|(key, value)| format!("label {key}={value}"));
    protected.into_iter().chain(expires).chain(labels).collect()
}

/// What a restore did.
#[derive(Serialize)]
pub(crate) struct Restored {
    pub(crate) snapshot: SnapshotView,
    /// What the disks held until now.
    pub(crate) before_restore: Option<SnapshotView>,
}

impl Restored {
    pub(crate) fn text(&self, is_undo: bool) -> String {
        let server = &self.snapshot.server.name;
        let text = if is_undo {
            format!("took back the last restore of {server}")
        } else {
            format!("restored {server} to {}", self.snapshot.title())
        };
        match self.before_restore {
            Some(_) => format!("{text}; to undo: snapshot restore {server} --undo"),
            None => text,
        }
    }
}

/// Restores a snapshot or, without a name, takes back the last restore.
fn restore(session: &Session, server: &str, name: Option<&str>) -> Result<(), Failure> {
    let restored = session.write(|store| {
        let server = session::server(store, server)?;
        let owner = Owner::of(&server);
        let snapshot = match name {
            Some(name) => session::snapshot(&server, name)?,
            None => server.before_restore().ok_or_else(|| nothing_to_undo(&owner))?,
        };
        let view = SnapshotView::of(&snapshot, &owner);
        server.restore(snapshot.id())?;
        let before_restore = server.before_restore().map(|snapshot| SnapshotView::of(&snapshot, &owner));
        Ok(Restored { snapshot: view, before_restore })
    })?;
    session.output.item(&restored, &restored.text(name.is_none()))
}

pub(crate) fn nothing_to_undo(server: &Owner) -> Failure {
    Failure::new(Kind::NotFound, format!("server `{}` has no restore to take back", server.name))
}

/// Snapshots of a server by name or id, each once.
fn named(server: &Server, names: &[String]) -> Result<Vec<Snapshot>, Failure> {
    let mut snapshots: Vec<Snapshot> =
        names.iter().map(|name| session::snapshot(server, name)).collect::<Result<_, _>>()?;
    snapshots.sort_by_key(Snapshot::id);
    snapshots.dedup_by_key(|snapshot| snapshot.id());
    Ok(snapshots)
}

/// What deleting would free.
#[derive(Serialize)]
pub(crate) struct WouldFree {
    pub(crate) snapshots: Vec<SnapshotView>,
    #[serde(flatten)]
    pub(crate) freed: Freed,
}

impl WouldFree {
    pub(crate) fn text(&self, server: &str) -> String {
        format!(
            "deleting {} of {server} would free {} of data",
            titles(&self.snapshots),
            human(self.freed.data_bytes)
        )
    }
}

/// The snapshots by what they are called.
fn titles(views: &[SnapshotView]) -> String {
    let titles: Vec<&str> = views.iter().map(SnapshotView::title).collect();
    titles.join(", ")
}

fn would_free(session: &Session, server: &str, names: &[String]) -> Result<(), Failure> {
    let would_free = session.count(|store| {
        let server = session::server(store, server)?;
        let snapshots = named(&server, names)?;
        let ids: Vec<SnapshotId> = snapshots.iter().map(Snapshot::id).collect();
        let owner = Owner::of(&server);
        let views = snapshots.iter().map(|snapshot| SnapshotView::of(snapshot, &owner)).collect();
        Ok(WouldFree { snapshots: views, freed: store.would_free(&ids)? })
    })?;
    session.output.item(&would_free, &would_free.text(server))
}

fn delete(session: &Session, server: &str, names: &[String]) -> Result<(), Failure> {
    let views = session.write(|store| {
        let server = session::server(store, server)?;
        let snapshots = named(&server, names)?;
        let owner = Owner::of(&server);
        let views: Vec<_> = snapshots.iter().map(|snapshot| SnapshotView::of(snapshot, &owner)).collect();
        snapshots.iter().try_for_each(|snapshot| store.delete_snapshot(snapshot.id()))?;
        store.collect()?;
        Ok(views)
    })?;
    session.output.many(&views, &deleted(server, &views))
}

pub(crate) fn deleted(server: &str, views: &[SnapshotView]) -> String {
    format!("deleted {} of {server}", titles(views))
}
