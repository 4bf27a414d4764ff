//! cowblk beside what else one could keep disks in: the same loads, in turn, in one run.
//!
//! Prints Markdown, and writes it into docs/performance.md. Run it on a quiet machine, with 25 GB of free space:
//!
//! ```sh
//! cargo run --release --manifest-path crates/cowblk-peers/Cargo.toml -- --write docs/performance.md
//! ```

#![allow(clippy::print_stdout, reason = "tables are what this program is for")]

mod arguments;
mod buffer;
mod contest;
mod figures;
mod load;
mod machine;
mod page;
mod peers;
mod scenes;
#[allow(dead_code, reason = "the benches use more of it")]
#[path = "../../../benches/sparse_device/mod.rs"]
mod sparse_device;
mod targets;

use arguments::Arguments;
use contest::Contest;
use peers::Outcome;
use std::fmt::Write as _;
use targets::Targets;

fn main() -> Outcome {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == "--write-until-killed").is_some() {
        return scenes::write_until_killed(words);
    }
    let arguments = Arguments::parse(words)?;
    let mut text = format!("{}. Medians of {} rounds.\n\n", machine::line(&arguments.dir), arguments.rounds);
    let mut targets = Targets::default();
    if arguments.wants_scene("contest") {
        let contest = contest(&arguments)?;
        scenes::judge(&contest, &mut targets);
        write!(text, "{}\nOperations a second:\n\n{}\n", contest.settings(), contest.table())?;
        write!(text, "Microseconds of processors for one operation:\n\n{}\n", contest.costs())?;
    }
    scenes::run(&arguments, &mut targets)?;
    write!(text, "{}\n{} targets missed.\n", targets.table(), targets.missed())?;
    println!("{text}");
    match &arguments.page {
        Some(page) => page::write(page, &text),
        None => Ok(()),
    }
}

/// Operations a second of every peer under every load.
fn contest(arguments: &Arguments) -> Outcome<Contest> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let bytes = arguments.disk_bytes();
    let peers = peers::all(dir.path(), bytes, |name| arguments.wants(name))?;
    Contest::run(&peers, bytes, arguments.rounds, |load| arguments.wants_load(&load.slug()))
}
