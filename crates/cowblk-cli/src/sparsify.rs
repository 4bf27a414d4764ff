//! `cowblk disk sparsify`: blocks of zeros that a disk holds become holes.

use std::ops::ControlFlow;

use serde::Serialize;

use crate::args::DiskPath;
use crate::failure::Failure;
use crate::session::{self, Session};
use crate::sizes::human;
use crate::transfer::Progress;

#[derive(Serialize)]
struct SparsifiedView {
    /// `SERVER/DISK`.
    disk: String,
    /// How much data was looked at.
    read_bytes: u64,
    /// How much of it was zeros.
    cleared_bytes: u64,
}

pub(crate) fn run(session: &Session, path: &DiskPath) -> Result<(), Failure> {
    let view = session.write(|store| {
        let disk = session::disk(store, path)?;
        let progress = Progress::new(session.output, "looking", disk.size_bytes());
        let done = disk.sparsify(|at, end| {
            progress.set(at, end);
            ControlFlow::Continue(())
        })?;
        Ok(SparsifiedView {
            disk: format!("{}/{}", path.server, path.disk),
            read_bytes: done.read_bytes,
            cleared_bytes: done.cleared_bytes,
        })
    })?;
    let text = format!(
        "{} of the {} that {} holds were zeros, and are holes now",
        human(view.cleared_bytes),
        human(view.read_bytes),
        view.disk
    );
    session.output.item(&view, &text)
}
