//! `cowblk completions SHELL`: a completion script on standard output.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(shell: Shell) -> Result<(), Failure> {
    // Generated into memory first: the generator panics when its target fails, and a pipe may close.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cowblk", &mut script);
    output::print(String::from_utf8_lossy(&script).trim_end())
}
