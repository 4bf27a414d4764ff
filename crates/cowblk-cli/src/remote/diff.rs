//! `cowblk --url ... diff`.

use serde_json::Value;

use super::{Remote, results};
use crate::args::NewerPath;
use crate::diff::{Arguments, DiskChanges, found_any, text};
use crate::failure::Failure;

pub(super) fn run(remote: &Remote, arguments: &Arguments) -> Result<(), Failure> {
    arguments.refuse_two_beginnings()?;
    let found = found_any(&arguments.older, compare(remote, arguments)?)?;
    remote.output.many(&found, &text(&found))
}

fn compare(remote: &Remote, arguments: &Arguments) -> Result<Vec<DiskChanges>, Failure> {
    let Arguments { older, newer, whole, reverse } = arguments;
    let server = remote.server(&older.server)?;
    let first = older.snapshot.as_ref().map(|name| remote.snapshot(&server, name)).transpose()?;
    let last = newer.as_ref().map(|NewerPath(name)| remote.snapshot(&server, name)).transpose()?;
    let path = match &last {
        Some(snapshot) => format!("snapshots/{}/changes/", snapshot.id),
        None => format!("servers/{}/changes/", server.id),
    };
    // Without a snapshot to begin with: the one that each disk descends from.
    let begin = first.map_or_else(|| format!("whole={whole}"), |snapshot| format!("since={}", snapshot.id));
    let answer: Value = remote.get(&format!("{path}?{begin}&reverse={reverse}"))?;
    let mut found: Vec<DiskChanges> = results(answer)?;
    found.retain(|changes| older.disk.as_ref().is_none_or(|only| *only == changes.disk));
    Ok(found)
}
