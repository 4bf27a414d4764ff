//! `cowblk disk`: create, list, resize, discard, delete; import, export and map live in rooms of their own.

use clap::Subcommand;
use cowblk::{Disk, Store};

use crate::args::{DiskPath, ImagePath};
use crate::clones::{self, DiskCloneArguments};
use crate::edit::{self, DiskEditArguments};
use crate::failure::Failure;
use crate::map;
use crate::session::{self, Session};
use crate::sizes::{self, human, human_or_dash};
use crate::sparsify;
use crate::table::{Column, Table};
use crate::transfer::{self, ExportArguments, ImportArguments};
use crate::view::{DiskView, Owner, servers};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add an empty disk to a server; it takes space only as it is written
    #[command(after_help = "Examples:\n  cowblk --store pool.cow disk create web-1/vda 80G")]
    Create {
        /// The disk, as in web-1/vda
        #[arg(value_name = "SERVER/DISK")]
        disk: DiskPath,
        /// A multiple of 512 bytes, as in 512, 4K, 10G, 20GiB
        #[arg(value_parser = sizes::parse_nonzero)]
        size: u64,
    },
    /// List the disks of one server, or of all
    #[command(
        after_help = "Examples:\n  cowblk --store pool.cow disk list\n  cowblk --store pool.cow disk list web-1"
    )]
    List {
        /// Only the disks of this server
        server: Option<String>,
    },
    /// Copy a raw image into a disk, which is created if it is missing
    Import(ImportArguments),
    /// Copy a disk into a raw image
    #[command(after_help = transfer::EXPORT_AFTER_HELP)]
    Export {
        /// The disk, as in web-1/vda
        #[arg(value_name = "SERVER/DISK")]
        disk: DiskPath,
        #[command(flatten)]
        arguments: ExportArguments,
    },
    /// Make a disk that begins as a snapshot holds another one
    Clone(DiskCloneArguments),
    /// Change what writes to a disk do when the store is full
    Edit(DiskEditArguments),
    /// Change the size of a disk; shrinking refuses to cut off data
    #[command(
        after_help = "Examples:\n  cowblk --store pool.cow disk resize web-1/vda 120G\n  cowblk --store pool.cow disk resize web-1/vda 40G --force"
    )]
    Resize {
        /// The disk, as in web-1/vda
        #[arg(value_name = "SERVER/DISK")]
        disk: DiskPath,
        /// The new size, a multiple of 512 bytes
        #[arg(value_parser = sizes::parse_nonzero)]
        size: u64,
        /// Cut off what data lies behind a smaller size; snapshots keep what they hold of it
        #[arg(long)]
        force: bool,
    },
    /// Forget the content of a range, which then reads as zeros
    #[command(
        after_help = "Examples:\n  cowblk --store pool.cow disk discard web-1/vda\n  cowblk --store pool.cow disk discard web-1/vda --offset 1G --length 512M"
    )]
    Discard {
        /// The disk, as in web-1/vda
        #[arg(value_name = "SERVER/DISK")]
        disk: DiskPath,
        /// Where the range starts
        #[arg(long, value_name = "SIZE", value_parser = sizes::parse, default_value = "0")]
        offset: u64,
        /// How long it is [default: to the end of the disk]
        #[arg(long, value_name = "SIZE", value_parser = sizes::parse_nonzero)]
        length: Option<u64>,
    },
    /// Turn blocks that hold only zeros into holes
    #[command(
        after_help = "Examples:\n  cowblk --store pool.cow disk sparsify web-1/vda\n\nImports and writes never store a block of zeros, so this finds something only in stores that another program wrote. Snapshots keep what they hold."
    )]
    Sparsify {
        /// The disk, as in web-1/vda
        #[arg(value_name = "SERVER/DISK")]
        disk: DiskPath,
    },
    /// Delete a disk; snapshots keep what they hold of it
    #[command(after_help = "Examples:\n  cowblk --store pool.cow disk delete web-1/vda")]
    Delete {
        /// The disk, as in web-1/vda
        #[arg(value_name = "SERVER/DISK")]
        disk: DiskPath,
    },
    /// Show which ranges of a disk hold data and which are holes
    #[command(
        after_help = "Examples:\n  cowblk --store pool.cow disk map web-1/vda\n  cowblk --store pool.cow disk map web-1/vda@before-upgrade"
    )]
    Map {
        /// A live disk, or with @SNAPSHOT what it was then
        #[arg(value_name = "SERVER/DISK[@SNAPSHOT]")]
        image: ImagePath,
    },
}

pub(crate) fn run(session: &Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { disk, size } => create(session, &disk, size),
        Command::List { server } => list(session, server.as_deref()),
        Command::Import(arguments) => transfer::import(session, &arguments),
        Command::Export { disk, arguments } => transfer::export_disk(session, &disk, &arguments),
        Command::Clone(arguments) => clones::disk(session, &arguments),
        Command::Edit(arguments) => edit::disk(session, &arguments),
        Command::Resize { disk, size, force } => resize(session, &disk, size, force),
        Command::Discard { disk, offset, length } => discard(session, &disk, offset, length),
        Command::Sparsify { disk } => sparsify::run(session, &disk),
        Command::Delete { disk } => delete(session, &disk),
        Command::Map { image } => map::run(session, &image),
    }
}

/// Disks for people: of one server, or of several.
pub(crate) fn table(views: &[DiskView]) -> Table {
    let mut table = Table::new([
        Column::Right("ID"),
        Column::Left("DISK"),
        Column::Right("SIZE"),
        Column::Right("MAPPED"),
        Column::Right("SHARED"),
        Column::Right("ALONE"),
        Column::Right("PARENT"),
        Column::Left("CREATED"),
    ]);
    for view in views {
        table.row([
            view.id.to_string(),
            format!("{}/{}", view.server.name, view.name),
            human(view.size_bytes),
            human_or_dash(view.mapped_bytes),
            human_or_dash(view.shared_bytes),
            human_or_dash(view.exclusive_bytes),
            view.parent.map_or_else(|| "-".into(), |id| id.to_string()),
            view.created_at.clone(),
        ]);
    }
    table
}

fn create(session: &Session, path: &DiskPath, size: u64) -> Result<(), Failure> {
    let view = session.write(|store| {
        let server = session::server(store, &path.server)?;
        let disk = server.create_disk(&path.disk, size)?;
        Ok(DiskView::of(&disk, &Owner::of(&server)))
    })?;
    session.output.item(&view, &created(path, &view))
}

pub(crate) fn created(path: &DiskPath, view: &DiskView) -> String {
    format!("created disk {}/{} of {} (id {})", path.server, path.disk, human(view.size_bytes), view.id)
}

fn list(session: &Session, server: Option<&str>) -> Result<(), Failure> {
    let views: Vec<DiskView> = session
        .read(|store| Ok(servers(store, server)?.into_iter().flat_map(|view| view.disks).collect()))?;
    session.output.list(&views, &table(&views))
}

fn resize(session: &Session, path: &DiskPath, size: u64, force: bool) -> Result<(), Failure> {
    let view = change(session, path, |disk| {
        let resized = if force { disk.resize_cutting(size) } else { disk.resize(size) };
        Ok(resized?)
    })?;
    session.output.item(&view, &resized(path, size))
}

pub(crate) fn resized(path: &DiskPath, size: u64) -> String {
    format!("disk {}/{} is now {}", path.server, path.disk, human(size))
}

fn discard(session: &Session, path: &DiskPath, offset: u64, length: Option<u64>) -> Result<(), Failure> {
    let mut discarded = 0;
    let view = change(session, path, |disk| {
        discarded = length.unwrap_or_else(|| disk.size_bytes().saturating_sub(offset));
        disk.discard(offset, discarded)?;
        Ok(disk.flush()?)
    })?;
    let text = format!("discarded {} at {offset} of {}/{}", human(discarded), path.server, path.disk);
    session.output.item(&view, &text)
}

fn delete(session: &Session, path: &DiskPath) -> Result<(), Failure> {
    let view = session.write(|store| {
        let server = session::server(store, &path.server)?;
        let view = DiskView::of(&session::disk(store, path)?, &Owner::of(&server));
        server.delete_disk(&path.disk)?;
        store.collect()?;
        Ok(view)
    })?;
    session.output.item(&view, &format!("deleted disk {}/{}", path.server, path.disk))
}

/// Does something to one disk and returns what listings say about it afterwards.
fn change(
    session: &Session,
    path: &DiskPath,
    act: impl FnOnce(&Disk) -> Result<(), Failure>,
) -> Result<DiskView, Failure> {
    session.write(|store: &Store| {
        let server = session::server(store, &path.server)?;
        let disk = session::disk(store, path)?;
        act(&disk)?;
        Ok(DiskView::of(&disk, &Owner::of(&server)))
    })
}
