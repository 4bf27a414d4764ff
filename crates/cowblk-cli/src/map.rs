//! `cowblk disk map`: the extents of a disk or of a disk at a snapshot, like `qemu-img map`.

use cowblk::{Extent, ExtentKind};
use serde::Serialize;

use crate::args::ImagePath;
use crate::failure::Failure;
use crate::session::{self, Session};
use crate::table::{Column, Table};
use crate::transfer::Image;

#[derive(Serialize)]
struct ExtentView {
    offset: u64,
    length: u64,
    kind: &'static str,
    /// Whether a snapshot holds the same blocks.
    shared: bool,
}

pub(crate) fn run(session: &Session, path: &ImagePath) -> Result<(), Failure> {
    let views = session.read(|store| match path {
        ImagePath::Live(disk) => extents(&session::disk(store, disk)?),
        ImagePath::Frozen(disk) => extents(&session::snapshot_disk(store, disk)?),
    })?;
    session.output.list(&views, &table(&views))
}

fn extents(image: &impl Image) -> Result<Vec<ExtentView>, Failure> {
    image.extents(0..image.size_bytes()).map(|extent| Ok(view(&extent?))).collect()
}

fn view(extent: &Extent) -> ExtentView {
    let (kind, shared) = match extent.kind {
        ExtentKind::Data { shared } => ("data", shared),
        ExtentKind::Hole => ("hole", false),
    };
    ExtentView { offset: extent.offset, length: extent.len, kind, shared }
}

fn table(views: &[ExtentView]) -> Table {
    let mut table = Table::new([
        Column::Right("OFFSET"),
        Column::Right("LENGTH"),
        Column::Left("KIND"),
        Column::Left("SHARED"),
    ]);
    for view in views {
        let shared = if view.shared { "shared" } else { "" };
        table.row([view.offset.to_string(), view.length.to_string(), view.kind.into(), shared.into()]);
    }
    table
}
