//! `cowblk send`: a snapshot, or what changed since another one, as a stream on standard output.

use std::io::{self, BufWriter, IsTerminal};

use clap::Args;
use cowblk::{Snapshot, Store};
use cowblk_stream::{Send, Token};
use serde::Serialize;

use crate::args::ServerSnapshot;
use crate::failure::{Failure, Kind};
use crate::session::{self, Session};
use crate::sizes::human;
use crate::transfer::Progress;

/// Bytes that are gathered for the pipe.
const BUFFER_BYTES: usize = 256 << 10;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store a.cow send web-1@monday | cowblk --store b.cow receive
  cowblk --store a.cow send web-1@tuesday --since monday | ssh host cowblk --store b.cow receive
  cowblk --store a.cow send web-1@monday | zstd > web-1-monday.cowblk.zst
  cowblk --store a.cow send --resume r1-... | ssh host cowblk --store b.cow receive

The receiver makes the same snapshot: bit by bit, with its name and its time. What is printed goes to standard error. A receiver that was cut off prints the token to go on with.")]
pub(crate) struct Arguments {
    /// The snapshot, by name or id
    #[arg(value_name = "SERVER@SNAPSHOT", required_unless_present = "resume")]
    snapshot: Option<ServerSnapshot>,
    /// Send only what changed since this snapshot of the server, or since SERVER@SNAPSHOT; the receiver must hold it
    #[arg(long, value_name = "SNAPSHOT")]
    since: Option<String>,
    /// Send the rest of a stream that was cut off
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["snapshot", "since"])]
    resume: Option<String>,
}

#[derive(Serialize)]
struct SentView {
    snapshot: String,
    /// Null for a whole snapshot.
    since: Option<String>,
    data_bytes: u64,
    hole_bytes: u64,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        return Err(Failure::new(Kind::Usage, "a stream is nothing to look at: send it to a file or a pipe"));
    }
    let view = session.read(|store| {
        let sending = sending(store, arguments)?;
        let snapshot = title(store, sending.snapshot())?;
        let since = sending.base().map(|base| title(store, base)).transpose()?;
        let progress = Progress::new(session.output, "sending", 0);
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        let sent = sending.progress(|done, all| progress.set(done, all)).write(&mut out)?;
        Ok(SentView { snapshot, since, data_bytes: sent.data_bytes, hole_bytes: sent.hole_bytes })
    })?;
    let since = view.since.as_ref().map_or_else(String::new, |since| format!(" since {since}"));
    let text = format!("sent {}{since}: {} of data", view.snapshot, human(view.data_bytes));
    session.output.beside(&view, &text)
}

fn sending<'a>(store: &'a Store, arguments: &Arguments) -> Result<Send<'a>, Failure> {
    if let Some(token) = &arguments.resume {
        let token: Token = token.parse()?;
        return Ok(Send::resume(store, &token)?);
    }
    let Some(ServerSnapshot { server, snapshot }) = &arguments.snapshot else {
        return Err(Failure::new(Kind::Usage, "name a snapshot, as in web-1@monday"));
    };
    let of = session::server(store, server)?;
    let sending = Send::new(store, &session::snapshot(&of, snapshot)?);
    let Some(since) = &arguments.since else { return Ok(sending) };
    let base = match since.parse::<ServerSnapshot>() {
        Ok(ServerSnapshot { server, snapshot }) => {
            session::snapshot(&session::server(store, &server)?, &snapshot)?
        }
        Err(_) => session::snapshot(&of, since.trim_start_matches('@'))?,
    };
    if base.id() == sending.snapshot().id() {
        return Err(Failure::new(Kind::Invalid, "nothing changed from a snapshot to itself"));
    }
    Ok(sending.since(&base))
}

/// `SERVER@SNAPSHOT`.
fn title(store: &Store, snapshot: &Snapshot) -> Result<String, Failure> {
    Ok(format!("{}@{}", store.server_by_id(snapshot.server())?.name(), snapshot.name()))
}
