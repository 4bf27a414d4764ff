//! `cowblk check`: the offline audit, and its verdict as an exit code.

use clap::Args;
use cowblk::{CheckReport, Finding, ScrubOptions, ScrubReport, check};
use serde::Serialize;

use crate::failure::{Failure, Kind};
use crate::scrub;
use crate::session::Session;
use crate::sizes::human;
use crate::table::{Column, Table, printable};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store pool.cow check
  cowblk --store pool.cow check --data
  cowblk --store pool.cow --json check")]
pub(crate) struct Arguments {
    /// Also read every block of data and compare its checksum, as `scrub` does
    #[arg(long)]
    data: bool,
}

#[derive(Serialize)]
struct Verdict {
    clean: bool,
    /// All defects, those beyond the ones listed included.
    count: u64,
    results: Vec<Defect>,
    notes: Vec<String>,
    blocks_in_use: u64,
    nodes: u64,
    data_blocks_mapped: u64,
    /// Read with --data; null without.
    data_bytes_read: Option<u64>,
}

/// One thing that is wrong.
#[derive(Serialize)]
pub(crate) struct Defect {
    code: &'static str,
    title: &'static str,
    place: String,
}

impl Defect {
    /// A block of data that does not hold what was written.
    pub(crate) fn of(bad: &cowblk::BadBlock) -> Defect {
        let kind = cowblk::Defect::Data;
        Defect { code: kind.code(), title: kind.title(), place: scrub::place_of(bad) }
    }
}

impl From<Finding> for Defect {
    fn from(finding: Finding) -> Defect {
        Defect { code: finding.code(), title: finding.defect.title(), place: finding.place }
    }
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let mut verdict = Verdict::from(check(session.path()?)?);
    if arguments.data {
        verdict.add(&scrub::read_all(session, &ScrubOptions::default(), None)?);
    }
    session.output.item(&verdict, &verdict.text())?;
    if verdict.clean { Ok(()) } else { Err(Failure::new(Kind::Defects, "the store has defects")) }
}

impl From<CheckReport> for Verdict {
    fn from(report: CheckReport) -> Verdict {
        Verdict {
            clean: report.is_clean(),
            count: report.findings.len() as u64 + report.findings_omitted,
            results: report.findings.into_iter().map(Defect::from).collect(),
            notes: report.notes,
            blocks_in_use: report.blocks_in_use,
            nodes: report.nodes,
            data_blocks_mapped: report.data_blocks_mapped,
            data_bytes_read: None,
        }
    }
}

impl Verdict {
    /// Adds bad data; what is wrong with the maps, the check has said.
    fn add(&mut self, scrub: &ScrubReport) {
        self.count += scrub.bad_blocks.len() as u64;
        self.clean = self.count == 0;
        self.results.extend(scrub.bad_blocks.iter().map(Defect::of));
        self.data_bytes_read = Some(scrub.bytes_read);
    }

    fn text(&self) -> String {
        let mut table = Table::new([Column::Left("CODE"), Column::Left("DEFECT"), Column::Left("PLACE")]);
        for defect in &self.results {
            table.row([defect.code.to_owned(), defect.title.to_owned(), defect.place.clone()]);
        }
        let mut text = if self.results.is_empty() { String::new() } else { table.to_string() };
        for note in &self.notes {
            text.extend(["note: ", &printable(note), "\n"]);
        }
        let data = match self.data_bytes_read {
            Some(bytes) => format!("{} of data read", human(bytes)),
            None => "data not read".into(),
        };
        let Verdict { blocks_in_use, nodes, .. } = self;
        let walked = format!("{blocks_in_use} blocks in use, {nodes} of them map nodes, {data}");
        let end = match self.count {
            0 => format!("clean: {walked}; no defects"),
            1 => format!("not clean: {walked}; 1 defect"),
            more => format!("not clean: {walked}; {more} defects, {} listed", self.results.len()),
        };
        text.push_str(&end);
        text
    }
}
