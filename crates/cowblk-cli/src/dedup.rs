//! `cowblk dedup`: equal blocks of disks share one.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use clap::Args;
use cowblk::{DedupCursor, DedupOptions, Deduplicated};

use crate::args::ServerSnapshot;
use crate::failure::Failure;
use crate::session::{self, Session};
use crate::sizes::{human, parse_nonzero};
use crate::transfer::Progress;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store pool.cow dedup
  cowblk --store pool.cow dedup --template golden@v7 --memory 64M
  cowblk --store pool.cow dedup --seconds 3600 --from 12:81920

A disk gives up only what it holds alone: what its snapshots hold stays as it is, and can be shared with.")]
pub(crate) struct Arguments {
    /// Memory for the blocks that were seen, 40 bytes each: more finds more in a large store
    #[arg(long, value_name = "SIZE", value_parser = parse_nonzero, default_value = "256M")]
    memory: u64,

    /// Read this snapshot first, so that disks share with it; can be given several times
    #[arg(long, value_name = "SERVER@SNAPSHOT")]
    template: Vec<ServerSnapshot>,

    /// Go on at this place: what a run that was stopped has printed
    #[arg(long, value_name = "DISK:BLOCK", default_value_t)]
    from: DedupCursor,

    /// Stop after so many seconds, and print the place
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let limit = arguments.seconds.map(Duration::from_secs);
    let done = session.write(|store| {
        let mut templates = Vec::new();
        for ServerSnapshot { server, snapshot } in &arguments.template {
            templates.push(session::snapshot(&session::server(store, server)?, snapshot)?.id());
        }
        let options =
            DedupOptions::default().memory_bytes(arguments.memory).from(arguments.from).templates(&templates);
        let progress = Progress::new(session.output, "comparing", 0);
        let began = Instant::now();
        Ok(store.dedup(&options, |done| {
            progress.set(done.done_bytes, done.total_bytes);
            match limit {
                Some(limit) if began.elapsed() >= limit => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })?)
    })?;
    session.output.item(&done, &text(&done))
}

fn text(done: &Deduplicated) -> String {
    let shared = format!("{} read, {} shared", human(done.read_bytes), human(done.shared_bytes));
    let unindexed = match done.unindexed_blocks {
        0 => String::new(),
        blocks => format!("; {blocks} blocks found no memory: give more with --memory"),
    };
    let bad = match done.bad_blocks {
        0 => String::new(),
        blocks => format!("; {blocks} bad blocks left alone: `cowblk scrub` tells whose"),
    };
    let end =
        done.stopped_at.map_or_else(String::new, |place| format!("; stopped: go on with --from {place}"));
    [shared, unindexed, bad, end].concat()
}
