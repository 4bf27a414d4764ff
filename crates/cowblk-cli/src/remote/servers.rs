//! `cowblk --url ... server`.

use serde_json::json;

use super::Remote;
use super::snapshots::freed_in;
use crate::clones::{self, ServerCloneArguments};
use crate::edit::ServerEditArguments;
use crate::failure::Failure;
use crate::marks::{Limit, change_labels};
use crate::server::{self, Command, ServerWouldFree};
use crate::view::ServerView;

pub(super) fn run(remote: &Remote, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { name } => {
            let view = Remote::server_in(remote.post("servers/", &json!({ "name": name }))?)?;
            remote.output.item(&view, &server::created(&view))
        }
        Command::Clone(arguments) => clone(remote, &arguments),
        Command::Reset { name } => {
            let id = remote.server(&name)?.id;
            // An answer comes at the end of it, but calls the server `restoring`.
            let mut view = Remote::server_in(remote.post(&format!("servers/{id}/reset/"), &json!({}))?)?;
            view.status = Some("stopped".into());
            view.snapshots = remote.snapshots(&view)?;
            remote.output.item(&view, &clones::reset_done(&name))
        }
        Command::Edit(arguments) => edit(remote, &arguments),
        Command::List => {
            let views = remote.servers(None)?;
            remote.output.list(&views, &server::table(&views))
        }
        Command::Show { name } => {
            let views = remote.servers(Some(&name))?;
            views.iter().try_for_each(|view| remote.output.item(view, &server::details(view)))
        }
        Command::Delete { name, dry_run: true } => would_free(remote, &name),
        Command::Delete { name, dry_run: false } => {
            let views = remote.servers(Some(&name))?;
            views.iter().try_for_each(|view| {
                remote.delete(&format!("servers/{}/", view.id))?;
                remote.output.item(view, &server::deleted(view))
            })
        }
    }
}

fn would_free(remote: &Remote, name: &str) -> Result<(), Failure> {
    let mut server = remote.server(name)?;
    server.snapshots = remote.snapshots(&server)?;
    let answer = remote.get(&format!("would-free/?server_id={}", server.id))?;
    let would_free = ServerWouldFree { server, freed: freed_in(&answer) };
    remote.output.item(&would_free, &would_free.text())
}

fn clone(remote: &Remote, arguments: &ServerCloneArguments) -> Result<(), Failure> {
    let server = remote.server(&arguments.server)?;
    let snapshot = remote.snapshot(&server, &arguments.snapshot)?;
    let path = format!("snapshots/{}/clone/", snapshot.id);
    let view = Remote::server_in(remote.post(&path, &json!({ "name": arguments.name }))?)?;
    remote.output.item(&view, &clones::cloned_server(arguments, &view))
}

fn edit(remote: &Remote, arguments: &ServerEditArguments) -> Result<(), Failure> {
    let server: ServerView = remote.server(&arguments.name)?;
    let changes = &arguments.changes;
    let mut body = json!({});
    // Null takes a limit away.
    if let Some(Limit(limit)) = changes.max_snapshots {
        body["snapshot_limit"] = limit.into();
    }
    if let Some(Limit(limit)) = changes.max_disk_bytes {
        body["max_disk_bytes"] = limit.into();
    }
    if !changes.labels.is_empty() || !changes.unlabels.is_empty() {
        let mut labels = server.labels;
        change_labels(&mut labels, &changes.labels, &changes.unlabels);
        body["labels"] = json!(labels);
    }
    let mut view = Remote::server_in(remote.patch(&format!("servers/{}/", server.id), &body)?)?;
    view.snapshots = remote.snapshots(&view)?;
    remote.output.item(&view, &format!("edited server {}", view.name))
}
