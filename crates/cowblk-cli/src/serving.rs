//! Serving: what `nbd` and `serve` have in common: templates, the collector's rate, holes, and what the store says unasked.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use cowblk::{Options, Store};
use cowblk_http::NoticeLog;

use crate::args::ServerSnapshot;
use crate::failure::{Failure, Kind};
use crate::session::{self, HandoverArguments, Session};
use crate::sizes::parse_nonzero;
use crate::transfer::Progress;

/// How long the log rests behind what the store said: it repeats nothing about a disk before that was taken.
const REST: Duration = Duration::from_secs(2);

/// How a store behaves while it is served.
#[derive(Debug, Args)]
pub(crate) struct ServingArguments {
    /// Do not store again what this snapshot holds: writes of the same bytes share its blocks. It is read before
    /// serving begins; can be given several times
    #[arg(long, value_name = "SERVER@SNAPSHOT")]
    template: Vec<ServerSnapshot>,
    /// Memory for the blocks of templates, 32 bytes each
    #[arg(long, value_name = "SIZE", value_parser = parse_nonzero, default_value = "64M", requires = "template")]
    template_memory: u64,
    /// Blocks of deleted content that the collector gives back in a second, at most [default: as many as it comes to
    /// beside the clients]
    #[arg(long, value_name = "BLOCKS", value_parser = clap::value_parser!(u64).range(1..))]
    collect_rate: Option<u64>,
    /// Give the space of blocks that become free back to the file system or device below the store
    #[arg(long)]
    punch_holes: bool,
    #[command(flatten)]
    handover: HandoverArguments,
}

impl ServingArguments {
    /// What the store at `path` is opened with.
    pub(crate) fn options(&self, session: &Session, path: &Path) -> Options {
        let memory = if self.template.is_empty() { 0 } else { self.template_memory };
        session
            .options_for_serving(path, self.handover)
            .collect_rate(self.collect_rate)
            .punch_holes(self.punch_holes)
            .dedup_memory_bytes(memory)
    }

    /// Reads the templates.
    pub(crate) fn register(&self, session: &Session, store: &Store) -> Result<(), Failure> {
        for ServerSnapshot { server, snapshot } in &self.template {
            let id = session::snapshot(&session::server(store, server)?, snapshot)?.id();
            let progress = Progress::new(session.output, "reading", 0);
            let registered = store.register_template(id, |done, total| {
                progress.set(done, total);
                ControlFlow::Continue(())
            })?;
            drop(progress);
            if registered.left_out_blocks > 0 {
                let blocks = registered.left_out_blocks;
                let text = format!(
                    "{blocks} blocks of {server}@{snapshot} found no memory: give more with --template-memory"
                );
                // Nothing is left to do when even standard error is closed.
                let _ = writeln!(io::stderr(), "{text}");
            }
        }
        Ok(())
    }
}

/// Writes what the store says unasked to standard error, until it is closed.
pub(crate) fn log_notices(store: &Store) -> Result<(), Failure> {
    let (store, notices) = (store.clone(), store.notices());
    let listen = move || {
        let mut log = NoticeLog::default();
        while let Some(first) = notices.next_within(Duration::MAX) {
            for notice in std::iter::once(first).chain(std::iter::from_fn(|| notices.next_now())) {
                log.write(&store, &notice);
            }
            std::thread::sleep(REST);
        }
    };
    let started = std::thread::Builder::new().name("cowblk-notices".into()).spawn(listen);
    let failed = |cause: io::Error| Failure::new(Kind::Io, format!("start a thread: {cause}"));
    started.map(drop).map_err(failed)
}
