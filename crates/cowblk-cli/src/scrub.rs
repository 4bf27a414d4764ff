//! `cowblk scrub`: reads every block of data once, and says which disks and snapshots hold the bad ones.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use clap::Args;
use cowblk::{BadBlock, Holding, ScrubOptions, ScrubReport};
use serde::Serialize;

use crate::failure::{Failure, Kind};
use crate::session::Session;
use crate::sizes::{human, parse_nonzero};
use crate::table::{Column, Table, printable};
use crate::transfer::Progress;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store pool.cow scrub
  cowblk --store pool.cow scrub --rate 100M
  cowblk --store pool.cow scrub --seconds 3600 --from 81920")]
pub(crate) struct Arguments {
    /// Read at most so many bytes a second
    #[arg(long, value_name = "SIZE", value_parser = parse_nonzero)]
    rate: Option<u64>,

    /// Begin at this block of the store: the position that a scrub which was stopped has printed
    #[arg(long, value_name = "BLOCK", default_value_t = 0)]
    from: u64,

    /// Stop after so many seconds, and print the position
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

#[derive(Serialize)]
struct Verdict<'a> {
    clean: bool,
    #[serde(flatten)]
    report: &'a ScrubReport,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let options =
        ScrubOptions::default().bytes_per_second(arguments.rate.unwrap_or(0)).position(arguments.from);
    let report = read_all(session, &options, arguments.seconds.map(Duration::from_secs))?;
    let clean = report.is_clean();
    session.output.item(&Verdict { clean, report: &report }, &text(&report))?;
    if clean { Ok(()) } else { Err(Failure::new(Kind::Defects, "the store has defects")) }
}

/// Scrubs the closed store behind a progress bar.
pub(crate) fn read_all(
    session: &Session,
    options: &ScrubOptions,
    limit: Option<Duration>,
) -> Result<ScrubReport, Failure> {
    let bar = Progress::new(session.output, "scrubbing", 0);
    let began = Instant::now();
    let report = cowblk::scrub(session.path()?, options, &mut |progress| {
        bar.set(progress.bytes_done, progress.bytes_total);
        match limit {
            Some(limit) if began.elapsed() >= limit => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    })?;
    Ok(report)
}

/// A bad block, and who holds it.
pub(crate) fn place_of(bad: &BadBlock) -> String {
    let held: Vec<String> = bad.held_by.iter().map(holding).collect();
    format!("store block {}, {}: {}", bad.block, bad.cause, held.join(", "))
}

fn holding(holding: &Holding) -> String {
    let Holding { server, disk, snapshot, offset, .. } = holding;
    match snapshot {
        Some(snapshot) => format!("{server}/{disk}@{snapshot} at byte {offset}"),
        None => format!("{server}/{disk} at byte {offset}"),
    }
}

fn text(report: &ScrubReport) -> String {
    let mut table = Table::new([Column::Left("CODE"), Column::Left("PLACE")]);
    for finding in &report.findings {
        table.row([finding.code().to_owned(), finding.place.clone()]);
    }
    for bad in &report.bad_blocks {
        table.row([cowblk::Defect::Data.code().to_owned(), place_of(bad)]);
    }
    let found = report.findings.len() as u64 + report.findings_omitted + report.bad_blocks.len() as u64;
    let mut text = if found == 0 { String::new() } else { table.to_string() };
    let read = format!("{} of {} of data read", human(report.bytes_read), human(report.bytes_total));
    let end = match found {
        0 => format!("clean: {read}, {} map nodes; no defects", report.nodes),
        1 => format!("not clean: {read}; 1 defect"),
        more => format!("not clean: {read}; {more} defects"),
    };
    text.push_str(&end);
    if let Some(position) = report.position {
        text.push_str(&printable(&format!("; stopped: go on with --from {position}")));
    }
    text
}
