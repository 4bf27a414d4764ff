//! `cowblk check`: the offline audit, and its verdict as an exit code.

use serde::Serialize;

use crate::failure::{Failure, Kind};
use crate::session::Session;
use crate::table::{Column, Table};

#[derive(Serialize)]
struct Report {
    clean: bool,
    blocks_in_use: u64,
    count: usize,
    results: Vec<Defect>,
}

#[derive(Serialize)]
struct Defect {
    code: &'static str,
    message: String,
}

pub(crate) fn run(session: &Session) -> Result<(), Failure> {
    let report = cowblk::check(session.path()?)?;
    let defects: Vec<Defect> = report
        .findings
        .iter()
        .map(|finding| Defect { code: finding.code(), message: finding.to_string() })
        .collect();
    let clean = report.is_clean();
    let view = Report { clean, blocks_in_use: report.blocks_in_use, count: defects.len(), results: defects };
    session.output.item(&view, &sentence(&view))?;
    if clean { Ok(()) } else { Err(Failure::new(Kind::Defects, "the store has defects")) }
}

fn sentence(report: &Report) -> String {
    if report.clean {
        return format!("clean: {} blocks in use, no defects", report.blocks_in_use);
    }
    let mut table = Table::new([Column::Left("CODE"), Column::Left("DEFECT")]);
    for defect in &report.results {
        table.row([defect.code.to_owned(), defect.message.clone()]);
    }
    format!("{table}{} blocks in use, {} defects", report.blocks_in_use, report.count)
}
