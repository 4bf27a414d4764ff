//! The command line itself: global options, the list of commands, and the ways to name a disk.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand};

use crate::{
    check, dedup, demo, diff, disk, dump, init, nbd, receive, repair, scrub, send, serve, server, sizes,
    snapshot, token,
};

const AFTER_HELP: &str = "\
Examples:
  cowblk --store pool.cow init
  cowblk --store pool.cow server create web-1
  cowblk --store pool.cow disk create web-1/vda 80G
  cowblk --store pool.cow snapshot create web-1 before-upgrade
  cowblk --store pool.cow snapshot prune web-1 --keep-hourly 24 --keep-daily 7
  COWBLK_STORE=pool.cow cowblk snapshot list --tree
  cowblk demo

Exit codes:
  0  done
  1  the operation failed, or `check`, `scrub` or `repair` found defects
  2  usage: an argument is not acceptable, or names a file that is not a store
  3  not found: no such store, server, disk, snapshot or source file
  4  exists: the name or the target file is already taken
  5  busy: the store is open in another process
  6  full: the store, or the file system below the target, has no room left
  7  corrupt: bytes that fail their checksum, or a store that is cut short
  8  unsupported: a newer format, or something the medium cannot do
  9  limit: the server has as many snapshots, disks or bytes as it may have
  10 protected: a snapshot that cannot be deleted until its protection is taken back
  11 unauthorized: a daemon does not know the token, or it lacks the scope

Errors go to standard error as `error: <sentence>`, with --json as {\"error\": {\"kind\": ..., \"message\": ...}}.";

/// Server disks on a copy-on-write block store: snapshots, restores and deletes that do not copy
#[derive(Debug, Parser)]
#[command(name = "cowblk", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// The store: a file or a block device
    #[arg(long, global = true, env = "COWBLK_STORE", hide_env_values = true, value_name = "PATH")]
    pub(crate) store: Option<PathBuf>,

    /// The store file does not grow beyond this; the store does not record it, so give it every time
    #[arg(long, global = true, env = "COWBLK_SIZE_LIMIT", hide_env_values = true)]
    #[arg(value_name = "SIZE", value_parser = sizes::parse_nonzero)]
    pub(crate) size_limit: Option<u64>,

    /// The handover file, with which a daemon that was killed loses nothing; give it to every command, if it is not
    /// beside the store [default: PATH.handover]
    #[arg(long, global = true, env = "COWBLK_HANDOVER", hide_env_values = true, value_name = "FILE")]
    pub(crate) handover: Option<PathBuf>,

    /// Ask the daemon (`cowblk serve`) at this address instead of opening the store: http://HOST:PORT, https://HOST:PORT or unix:PATH
    #[arg(long, global = true, env = "COWBLK_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// The token to ask it with; better as the variable, which no list of processes shows
    #[arg(long, global = true, env = "COWBLK_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,

    /// Who may have signed its certificate (PEM) [default: whom the system trusts]
    #[arg(long, global = true, env = "COWBLK_CA", hide_env_values = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// Print JSON instead of tables and sentences
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new, empty store
    Init(init::Arguments),
    /// Servers: machines whose disks are snapshotted together, and their clones
    Server {
        #[command(subcommand)]
        command: server::Command,
    },
    /// Disks of servers: create, clone, import, export, inspect
    Disk {
        #[command(subcommand)]
        command: disk::Command,
    },
    /// Snapshots of servers: create, list, restore, delete, prune, export
    Snapshot {
        #[command(subcommand)]
        command: snapshot::Command,
    },
    /// Show which ranges changed between two snapshots, or since one
    Diff(diff::Arguments),
    /// Serve disks and snapshots over NBD: to QEMU, kernels and backup tools
    Nbd(nbd::Arguments),
    /// Serve the REST API and the web page, and NBD if wanted, until told to stop
    Serve(serve::Arguments),
    /// Tokens: who may use the REST API
    Token {
        #[command(subcommand)]
        command: token::Command,
    },
    /// Write a snapshot, or what changed since another one, as a stream to standard output
    Send(send::Arguments),
    /// Make a snapshot of a stream on standard input
    Receive(receive::Arguments),
    /// What the store holds and how full it is
    #[command(
        after_help = "Examples:\n  cowblk --store pool.cow status\n  cowblk --store pool.cow --json status"
    )]
    Status,
    /// What the store of a daemon did since the daemon was started, how long it took, and what writers waited for
    #[command(after_help = "Examples:\n  cowblk --url http://127.0.0.1:8780 stats")]
    Stats,
    /// Give the blocks of deleted content back now, instead of behind later commands
    #[command(after_help = "Examples:\n  cowblk --store pool.cow collect")]
    Collect,
    /// Give the space of free blocks back to the file system or device below the store
    #[command(after_help = "Examples:\n  cowblk --store pool.cow trim")]
    Trim,
    /// Let equal blocks of disks share one
    Dedup(dedup::Arguments),
    /// Audit the whole store; exit code 1 and a list of defects if it is not clean
    Check(check::Arguments),
    /// Read every block of data and compare its checksum; exit code 1 and a list if any is bad
    Scrub(scrub::Arguments),
    /// Say what it takes to repair a damaged store and what is lost; do it with --yes
    Repair(repair::Arguments),
    /// Print superblocks, records, maps and journal as text, damaged or not
    Dump(dump::Arguments),
    /// Show a snapshot, a disaster and a restore in a temporary store, with what each step cost
    Demo(demo::Arguments),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  cowblk completions bash > /etc/bash_completion.d/cowblk")]
    Completions {
        /// The shell to write for
        shell: clap_complete::Shell,
    },
}

/// `SERVER/DISK` on the command line.
#[derive(Clone, Debug)]
pub(crate) struct DiskPath {
    pub(crate) server: String,
    pub(crate) disk: String,
}

impl FromStr for DiskPath {
    type Err = String;

    fn from_str(text: &str) -> Result<DiskPath, String> {
        match text.split_once('/') {
            Some((server, disk)) if !server.is_empty() && !disk.is_empty() && !disk.contains(['/', '@']) => {
                Ok(DiskPath { server: server.into(), disk: disk.into() })
            }
            _ => Err("a disk is named SERVER/DISK, for example web-1/vda".into()),
        }
    }
}

/// `SERVER` or `SERVER/DISK`, with or without `@SNAPSHOT`: what a comparison begins with.
#[derive(Clone, Debug)]
pub(crate) struct OlderPath {
    pub(crate) server: String,
    pub(crate) disk: Option<String>,
    pub(crate) snapshot: Option<String>,
}

impl FromStr for OlderPath {
    type Err = String;

    fn from_str(text: &str) -> Result<OlderPath, String> {
        let (path, snapshot) = match text.split_once('@') {
            Some((path, snapshot)) => (path, Some(snapshot)),
            None => (text, None),
        };
        let (server, disk) = match path.split_once('/') {
            Some((server, disk)) => (server, Some(disk)),
            None => (path, None),
        };
        let is_name = |name: &str| !name.is_empty() && !name.contains(['/', '@']);
        if is_name(server) && disk.is_none_or(is_name) && snapshot.is_none_or(is_name) {
            let (disk, snapshot) = (disk.map(Into::into), snapshot.map(Into::into));
            return Ok(OlderPath { server: server.into(), disk, snapshot });
        }
        Err("write SERVER[/DISK][@SNAPSHOT], for example web-1@monday".into())
    }
}

/// `@SNAPSHOT` on the command line: what a comparison ends with.
#[derive(Clone, Debug)]
pub(crate) struct NewerPath(pub(crate) String);

impl FromStr for NewerPath {
    type Err = String;

    fn from_str(text: &str) -> Result<NewerPath, String> {
        match text.strip_prefix('@') {
            Some(snapshot) if !snapshot.is_empty() => Ok(NewerPath(snapshot.into())),
            _ => Err("the newer snapshot is written @SNAPSHOT, for example @tuesday".into()),
        }
    }
}

/// `SERVER@SNAPSHOT` on the command line: all disks of a server at a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct ServerSnapshot {
    pub(crate) server: String,
    pub(crate) snapshot: String,
}

impl FromStr for ServerSnapshot {
    type Err = String;

    fn from_str(text: &str) -> Result<ServerSnapshot, String> {
        match text.parse()? {
            OlderPath { server, disk: None, snapshot: Some(snapshot) } => {
                Ok(ServerSnapshot { server, snapshot })
            }
            _ => Err("a snapshot is named SERVER@SNAPSHOT, for example web-1@monday".into()),
        }
    }
}

/// `SERVER/DISK@SNAPSHOT` on the command line.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotPath {
    pub(crate) disk: DiskPath,
    pub(crate) snapshot: String,
}

impl FromStr for SnapshotPath {
    type Err = String;

    fn from_str(text: &str) -> Result<SnapshotPath, String> {
        match text.split_once('@') {
            Some((disk, snapshot)) if !snapshot.is_empty() => {
                Ok(SnapshotPath { disk: disk.parse()?, snapshot: snapshot.into() })
            }
            _ => {
                Err("a disk of a snapshot is named SERVER/DISK@SNAPSHOT, for example web-1/vda@clean".into())
            }
        }
    }
}

/// `SERVER/DISK` or `SERVER/DISK@SNAPSHOT`: a live disk, or what it was at a snapshot.
#[derive(Clone, Debug)]
pub(crate) enum ImagePath {
    Live(DiskPath),
    Frozen(SnapshotPath),
}

impl FromStr for ImagePath {
    type Err = String;

    fn from_str(text: &str) -> Result<ImagePath, String> {
        if text.contains('@') {
            text.parse().map(ImagePath::Frozen)
        } else {
            text.parse().map(ImagePath::Live)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_that_does_something_shows_examples() {
        fn visit(command: &clap::Command) {
            if command.has_subcommands() {
                command.get_subcommands().for_each(visit);
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:"), "no examples in `{} --help`", command.get_name());
            }
        }
        visit(&Cli::command());
    }

    #[test]
    fn a_disk_is_named_by_server_and_disk() {
        let path: DiskPath = "web-1/vda".parse().unwrap();
        assert_eq!((path.server.as_str(), path.disk.as_str()), ("web-1", "vda"));
        for wrong in ["", "web-1", "/vda", "web-1/", "a/b/c", "a/b@c"] {
            assert!(wrong.parse::<DiskPath>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_comparison_is_of_a_server_or_a_disk() {
        let path: OlderPath = "web-1/vda@monday".parse().unwrap();
        assert_eq!((path.server.as_str(), path.disk.as_deref()), ("web-1", Some("vda")));
        assert_eq!(path.snapshot.as_deref(), Some("monday"));
        let path: OlderPath = "web-1".parse().unwrap();
        assert!(path.disk.is_none() && path.snapshot.is_none());
        for wrong in ["", "@a", "/a", "a/", "a@", "a/b/c", "a@b@c"] {
            assert!(wrong.parse::<OlderPath>().is_err(), "{wrong:?}");
        }
        assert!("@b".parse::<NewerPath>().is_ok());
        assert!("b".parse::<NewerPath>().is_err() && "@".parse::<NewerPath>().is_err());
    }

    #[test]
    fn an_image_is_a_disk_now_or_at_a_snapshot() {
        assert!(matches!("a/b".parse(), Ok(ImagePath::Live(_))));
        assert!(matches!("a/b@c".parse(), Ok(ImagePath::Frozen(_))));
        for wrong in ["a@c", "a/b@", "@"] {
            assert!(wrong.parse::<ImagePath>().is_err(), "{wrong:?}");
        }
    }
}
