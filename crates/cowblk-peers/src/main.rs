//! cowblk beside what else one could keep disks in: the same loads, in turn, in one run.
//!
//! Prints Markdown: docs/performance.md holds what it printed. Run it on a quiet machine:
//!
//! ```sh
//! cargo run --release --manifest-path crates/cowblk-peers/Cargo.toml
//! ```

#![allow(clippy::print_stdout, reason = "tables are what this program is for")]

mod arguments;
mod buffer;
mod contest;
mod figures;
mod load;
mod peers;

use arguments::Arguments;
use contest::Contest;
use peers::Outcome;

fn main() -> Outcome {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let bytes = arguments.disk_bytes();
    let peers = peers::all(dir.path(), bytes, |name| arguments.wants(name))?;
    let contest = Contest::run(&peers, bytes, arguments.rounds)?;
    println!("{}\n{}", contest.settings(), contest.table());
    Ok(())
}
