//! `cowblk dump`: a store as text, damaged or not.

use std::fmt::Write as _;

use clap::Args;
use cowblk::{DumpLine, DumpOptions};

use crate::failure::Failure;
use crate::session::Session;
use crate::table::printable;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store pool.cow dump
  cowblk --store pool.cow dump --depth 2 | grep damaged
  cowblk --store pool.cow --json dump")]
pub(crate) struct Arguments {
    /// Show so many levels of each map
    #[arg(long, value_name = "LEVELS", default_value_t = 0)]
    depth: u32,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let (mut lines, mut text): (Vec<DumpLine>, String) = (Vec::new(), String::new());
    let is_json = session.output.is_json();
    cowblk::dump(session.path()?, DumpOptions::default().depth(arguments.depth), &mut |line| {
        if is_json {
            lines.push(line);
        } else {
            let indent = "  ".repeat(usize::try_from(line.depth).unwrap_or_default());
            let _ = writeln!(text, "{:<10} {indent}{}", line.section, printable(&line.text));
        }
    })?;
    session.output.many(&lines, text.trim_end())
}
