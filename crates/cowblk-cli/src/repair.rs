//! `cowblk repair`: says what a repair would do and what is lost, and does it when told so.

use clap::Args;
use cowblk::{LostRange, RepairOptions, RepairReport};

use crate::failure::{Failure, Kind};
use crate::session::Session;
use crate::sizes::human;
use crate::table::printable;

#[derive(Debug, Args)]
#[command(after_help = "Copy the store before you repair it: what a repair gives up, it gives up for good.

Examples:
  cowblk --store pool.cow repair
  cowblk --store pool.cow repair --yes
  cowblk --store pool.cow repair --yes --zero-lost")]
pub(crate) struct Arguments {
    /// Write the repair; without this, only say what it would do
    #[arg(long)]
    yes: bool,

    /// Let what is lost read as zeros; without this, reading it stays an error until it is written again
    #[arg(long)]
    zero_lost: bool,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let options = RepairOptions::default().apply(arguments.yes).zero_lost(arguments.zero_lost);
    let report = cowblk::repair(session.path()?, options)?;
    session.output.item(&report, &text(&report))?;
    if report.is_clean() || report.applied {
        Ok(())
    } else {
        Err(Failure::new(Kind::Defects, "the store has defects"))
    }
}

fn range(lost: &LostRange) -> String {
    let LostRange { server, disk, snapshot, offset, len, .. } = lost;
    let at = snapshot.as_ref().map_or_else(String::new, |name| format!("@{name}"));
    format!("{server}/{disk}{at}: {len} bytes from byte {offset}")
}

fn text(report: &RepairReport) -> String {
    if report.is_clean() {
        return "nothing to repair".into();
    }
    let found = report.findings.iter().map(|finding| format!("found: {finding}"));
    let mut lines: Vec<String> = found.collect();
    if report.findings_omitted > 0 {
        lines.push(format!("found: {} more", report.findings_omitted));
    }
    lines.extend(report.actions.iter().map(|action| format!("repair: {action}")));
    lines.extend(report.lost.iter().map(|lost| format!("lost: {}", range(lost))));
    lines.extend(report.lost_records.iter().map(|lost| format!("lost: {lost}")));
    let lost = report.lost.len() + report.lost_records.len();
    let lost = if lost == 0 { "nothing is lost".to_owned() } else { format!("{lost} losses") };
    let written = human(report.bytes_written);
    lines.push(if report.applied {
        format!("repaired: {written} written; {lost}")
    } else {
        format!("not written: {written} to write, {lost}; say --yes to repair")
    });
    lines.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n")
}
