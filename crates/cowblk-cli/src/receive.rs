//! `cowblk receive`: snapshots from streams on standard input.

use std::io::{self, BufRead, BufReader, IsTerminal, Stdin, StdinLock};

use clap::{Args, ValueEnum};
use cowblk::Store;
use cowblk_stream::{HeadPolicy, Receive, Token, abandon, partials};
use serde::Serialize;

use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::session::Session;
use crate::sizes::human;
use crate::table::{Column, Table};
use crate::transfer::Progress;
use crate::view::{Owner, SnapshotView};

/// Bytes that are taken from the pipe at once.
const BUFFER_BYTES: usize = 256 << 10;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store a.cow send web-1@monday | cowblk --store b.cow receive
  cowblk --store b.cow receive web-copy < web-1-monday.cowblk
  cowblk --store b.cow receive --list
  cowblk --store b.cow receive --abandon r1-...

A whole snapshot makes a new server. One that builds on another goes to the server that has that one. Streams may follow on one another. A receive that is cut off leaves no snapshot; what it got is kept for the rest.")]
pub(crate) struct Arguments {
    /// The server to receive into; it is made if it is missing [default: as the stream says]
    server: Option<String>,
    /// Whether the server's disks are taken to the snapshot
    #[arg(long, value_enum, default_value_t = Head::Follow)]
    head: Head,
    /// List the receives that were cut off, and the tokens to go on with
    #[arg(long, conflicts_with_all = ["server", "head", "abandon"])]
    list: bool,
    /// Give up a receive that was cut off, and free what it got
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["server", "head"])]
    abandon: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Head {
    /// If they still hold what the snapshot builds on
    Follow,
    /// No: they stay as they are
    Keep,
    /// Yes; what they hold becomes the before-restore snapshot
    Force,
}

#[derive(Serialize)]
struct ReceivedView {
    snapshot: SnapshotView,
    data_bytes: u64,
    hole_bytes: u64,
    /// Whether the server's disks hold the snapshot now.
    head_moved: bool,
}

#[derive(Serialize)]
struct PartialView {
    /// The identity of the snapshot.
    snapshot: String,
    data_bytes: u64,
    token: String,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.list {
        return list(session);
    }
    if let Some(token) = &arguments.abandon {
        return give_up(session, token);
    }
    if io::stdin().is_terminal() {
        return Err(Failure::new(Kind::Usage, "there is no stream on standard input: pipe or redirect one"));
    }
    let views = session.write(|store| receive_all(store, arguments, session.output))?;
    let text: Vec<String> = views.iter().map(sentence).collect();
    session.output.many(&views, &text.join("\n"))
}

/// Receives one stream after another, until the input ends.
fn receive_all(store: &Store, arguments: &Arguments, output: Output) -> Result<Vec<ReceivedView>, Failure> {
    let stdin: Stdin = io::stdin();
    let mut input: BufReader<StdinLock<'_>> = BufReader::with_capacity(BUFFER_BYTES, stdin.lock());
    let mut views = Vec::new();
    loop {
        views.push(
            receive(store, arguments, output, &mut input).map_err(|failure| said_with(&views, failure))?,
        );
        let rest =
            input.fill_buf().map_err(|error| Failure::new(Kind::Io, format!("read the stream: {error}")))?;
        if rest.is_empty() {
            return Ok(views);
        }
    }
}

fn receive(
    store: &Store,
    arguments: &Arguments,
    output: Output,
    input: &mut impl io::Read,
) -> Result<ReceivedView, Failure> {
    let progress = Progress::new(output, "receiving", 0);
    let receiving =
        Receive::new(store).progress(|done, all| progress.set(done, all)).head(match arguments.head {
            Head::Follow => HeadPolicy::Follow,
            Head::Keep => HeadPolicy::Keep,
            Head::Force => HeadPolicy::Force,
        });
    let receiving = match &arguments.server {
        Some(name) => receiving.server(name),
        None => receiving,
    };
    let received = receiving.read(input).map_err(|error| {
        let token = error.token().map(Token::to_string);
        let failure = Failure::from(error);
        match token {
            None => failure,
            Some(token) => Failure::new(
                failure.kind(),
                format!("{failure}; what came is kept, go on with: cowblk send --resume {token}"),
            ),
        }
    })?;
    // The checkpoint settles the snapshot, so that it is shown with its size.
    store.checkpoint()?;
    Ok(ReceivedView {
        snapshot: SnapshotView::of(&received.snapshot, &Owner::of(&received.server)),
        data_bytes: received.data_bytes,
        hole_bytes: received.hole_bytes,
        head_moved: received.is_head_moved,
    })
}

/// A failure behind streams that were received: those are there, and the failure says so.
fn said_with(received: &[ReceivedView], failure: Failure) -> Failure {
    if received.is_empty() {
        return failure;
    }
    let names: Vec<String> = received.iter().map(name).collect();
    Failure::new(failure.kind(), format!("received {}, and then: {failure}", names.join(", ")))
}

fn name(view: &ReceivedView) -> String {
    format!("{}@{}", view.snapshot.server.name, view.snapshot.name)
}

fn sentence(view: &ReceivedView) -> String {
    let head = if view.head_moved { "the disks hold it now" } else { "the disks stay as they were" };
    format!("received {} (id {}): {} of data; {head}", name(view), view.snapshot.id, human(view.data_bytes))
}

fn list(session: &Session) -> Result<(), Failure> {
    let views = session.read(|store| {
        let view = |partial: cowblk_stream::Partial| PartialView {
            snapshot: partial.token.snapshot.to_string(),
            data_bytes: partial.data_bytes,
            token: partial.token.to_string(),
        };
        Ok(partials(store)?.into_iter().map(view).collect::<Vec<_>>())
    })?;
    let mut table = Table::new([Column::Left("SNAPSHOT"), Column::Right("RECEIVED"), Column::Left("TOKEN")]);
    for view in &views {
        table.row([view.snapshot.clone(), human(view.data_bytes), view.token.clone()]);
    }
    session.output.list(&views, &table)
}

#[derive(Serialize)]
struct Abandoned {
    snapshot: String,
}

fn give_up(session: &Session, token: &str) -> Result<(), Failure> {
    let token: Token = token.parse()?;
    session.write(|store| {
        if !abandon(store, token.snapshot)? {
            return Err(Failure::new(Kind::NotFound, "there is no receive of that snapshot"));
        }
        Ok(store.collect()?)
    })?;
    let view = Abandoned { snapshot: token.snapshot.to_string() };
    session.output.item(&view, &format!("gave up receiving {}", view.snapshot))
}
