//! `cowblk --url ... diff`.

use serde_json::Value;

use super::{Remote, results};
use crate::args::{NewerPath, OlderPath};
use crate::diff::{Arguments, DiskChanges, found_any, text};
use crate::failure::Failure;

pub(super) fn run(remote: &Remote, Arguments { older, newer }: &Arguments) -> Result<(), Failure> {
    let found = found_any(older, compare(remote, older, newer.as_ref())?)?;
    remote.output.many(&found, &text(&found))
}

fn compare(
    remote: &Remote,
    older: &OlderPath,
    newer: Option<&NewerPath>,
) -> Result<Vec<DiskChanges>, Failure> {
    let server = remote.server(&older.server)?;
    let first = older.snapshot.as_ref().map(|name| remote.snapshot(&server, name)).transpose()?;
    let last = newer.map(|NewerPath(name)| remote.snapshot(&server, name)).transpose()?;
    let path = match &last {
        Some(snapshot) => format!("snapshots/{}/changes/", snapshot.id),
        None => format!("servers/{}/changes/", server.id),
    };
    // Without a snapshot to begin with: the one that the newer one descends from.
    let since = first.map(|snapshot| snapshot.id).or(last.and_then(|snapshot| snapshot.parent));
    let query = since.map_or_else(String::new, |id| format!("?since={id}"));
    let answer: Value = remote.get(&format!("{path}{query}"))?;
    let mut found: Vec<DiskChanges> = results(answer)?;
    found.retain(|changes| older.disk.as_ref().is_none_or(|only| *only == changes.disk));
    Ok(found)
}
