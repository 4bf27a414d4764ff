//! `cowblk`: the command line of the block store.
//!
//! Floor 7. An embedder like any other: it uses the library's public API and nothing else. One file
//! per noun (`server`, `disk`, `snapshot`), one per job that nouns share (`transfer`, `output`).
//!
//! Every command has one shape: parse the arguments, open the store for as short a time as the job
//! takes, close it, and only then say what was done. What is printed has therefore happened.

mod args;
mod check;
mod clones;
mod collect;
mod completions;
mod dedup;
mod demo;
mod diff;
mod disk;
mod dump;
mod edit;
mod failure;
mod init;
mod map;
mod marks;
mod nbd;
mod output;
mod prune;
mod receive;
mod remote;
mod repair;
mod scrub;
mod send;
mod serve;
mod server;
mod session;
mod sizes;
mod snapshot;
mod sparsify;
mod status;
mod table;
mod times;
mod token;
mod transfer;
mod tree;
mod trim;
mod upkeep;
mod view;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;
use failure::Failure;
use output::Output;
use session::Session;

fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => {
            let output = Output::new(cli.json);
            run(cli, output).or_else(|failure| failure.report(output))
        }
        Err(refusal) => failure::report_usage(&refusal),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => ExitCode::from(code),
    }
}

fn run(cli: Cli, output: Output) -> Result<(), Failure> {
    // A daemon is asked for what it can do; what needs no store, and the daemon itself, is done here.
    let is_local = matches!(
        cli.command,
        Command::Serve(_) | Command::Token { .. } | Command::Demo(_) | Command::Completions { .. }
    );
    if let Some(url) = cli.url.filter(|_| !is_local) {
        let address = remote::Address { url, token: cli.token, authorities: cli.ca };
        return remote::run(&address, output, cli.command);
    }
    let session = Session::new(cli.store, cli.handover, cli.size_limit, output);
    match cli.command {
        Command::Init(arguments) => init::run(&session, &arguments),
        Command::Server { command } => server::run(&session, command),
        Command::Disk { command } => disk::run(&session, command),
        Command::Snapshot { command } => snapshot::run(&session, command),
        Command::Diff(arguments) => diff::run(&session, &arguments),
        Command::Nbd(arguments) => nbd::run(&session, &arguments),
        Command::Serve(arguments) => serve::run(&session, &arguments),
        Command::Token { command } => token::run(&session, command),
        Command::Send(arguments) => send::run(&session, &arguments),
        Command::Receive(arguments) => receive::run(&session, &arguments),
        Command::Status => status::run(&session),
        Command::Stats => Err(status::nobody_to_ask()),
        Command::Collect => collect::run(&session),
        Command::Trim => trim::run(&session),
        Command::Dedup(arguments) => dedup::run(&session, &arguments),
        Command::Check(arguments) => check::run(&session, &arguments),
        Command::Scrub(arguments) => scrub::run(&session, &arguments),
        Command::Repair(arguments) => repair::run(&session, &arguments),
        Command::Dump(arguments) => dump::run(&session, &arguments),
        Command::Demo(arguments) => demo::run(output, &arguments),
        Command::Completions { shell } => completions::run(shell),
    }
}
