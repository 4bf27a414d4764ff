//! What a command says on standard output: JSON, or a table or sentence for people.
//!
//! A reader that stops early (`cowblk snapshot list | head -1`) is no failure: the command did its work.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;

use crate::failure::{Failure, ignore_gone_reader};
use crate::table::Table;

/// Where results go and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

/// The envelope of every list.
#[derive(Serialize)]
struct List<'a, T> {
    count: usize,
    results: &'a [T],
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        Output { json }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Whether someone watches who wants a progress bar.
    pub(crate) fn wants_progress(self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// One object as JSON, or `text` for people.
    pub(crate) fn item<T: Serialize>(self, item: &T, text: &str) -> Result<(), Failure> {
        if self.json { print(&render(item)?) } else { print(text) }
    }

    /// A list as JSON, or `table` for people.
    pub(crate) fn list<T: Serialize>(self, results: &[T], table: &Table) -> Result<(), Failure> {
        self.many(results, table.to_string().trim_end())
    }

    /// A list as JSON, or `text` for people.
    pub(crate) fn many<T: Serialize>(self, results: &[T], text: &str) -> Result<(), Failure> {
        self.item(&List { count: results.len(), results }, text)
    }

    /// The result of a command whose standard output carries an image: it goes to standard error.
    pub(crate) fn beside<T: Serialize>(self, item: &T, text: &str) -> Result<(), Failure> {
        let line = if self.json { render(item)? } else { text.to_owned() };
        finish(writeln!(io::stderr(), "{line}"))
    }
}

/// Text on standard output, as it is.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    finish(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}

fn render<T: Serialize>(item: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(item)
        .map_err(|error| Failure::io("write", Path::new("the result"), &error.into()))
}

fn finish(written: io::Result<()>) -> Result<(), Failure> {
    written
        .or_else(ignore_gone_reader)
        .map_err(|error| Failure::io("write", Path::new("standard output"), &error))
}
