//! `cowblk --url ... disk`.

use serde_json::{Value, json};

use super::{Remote, not_over_http, parsed};
use crate::args::DiskPath;
use crate::clones::{self, DiskCloneArguments};
use crate::disk::{self, Command};
use crate::failure::Failure;
use crate::session::missing;
use crate::view::{DiskView, Owner};

pub(super) fn run(remote: &Remote, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { disk: path, size } => {
            let view = make(remote, &path, &json!({ "name": path.disk, "size_bytes": size }))?;
            remote.output.item(&view, &disk::created(&path, &view))
        }
        Command::List { server } => {
            let servers = remote.servers(server.as_deref())?;
            let views: Vec<DiskView> = servers.into_iter().flat_map(|server| server.disks).collect();
            remote.output.list(&views, &disk::table(&views))
        }
        Command::Clone(arguments) => clone(remote, &arguments),
        Command::Edit(arguments) => {
            let path = &arguments.disk;
            let patience = arguments.when_full.unwrap_or_default().patience().as_secs();
            let view = change(remote, path, &json!({ "when_full_wait_seconds": patience }))?;
            remote.output.item(&view, &format!("edited disk {}/{}", path.server, path.disk))
        }
        Command::Resize { disk: path, size, force } => {
            let view = change(remote, &path, &json!({ "size_bytes": size, "cut": force }))?;
            remote.output.item(&view, &disk::resized(&path, size))
        }
        Command::Delete { disk: path } => {
            let view = known(remote, &path)?;
            remote.delete(&format!("servers/{}/disks/{}/", view.server.id, view.name))?;
            remote.output.item(&view, &format!("deleted disk {}/{}", path.server, path.disk))
        }
        Command::Import(_) => Err(not_over_http("`disk import`")),
        Command::Export { .. } => Err(not_over_http("`disk export`")),
        Command::Discard { .. } => Err(not_over_http("`disk discard`")),
        Command::Sparsify { .. } => Err(not_over_http("`disk sparsify`")),
        Command::Map { .. } => Err(not_over_http("`disk map`")),
    }
}

fn make(remote: &Remote, path: &DiskPath, body: &Value) -> Result<DiskView, Failure> {
    let server = remote.server(&path.server)?;
    let mut view: DiskView = parsed(remote.post(&format!("servers/{}/disks/", server.id), body)?)?;
    view.server = Owner { id: server.id, name: server.name };
    Ok(view)
}

fn clone(remote: &Remote, arguments: &DiskCloneArguments) -> Result<(), Failure> {
    let DiskCloneArguments { source, target } = arguments;
    let server = remote.server(&source.disk.server)?;
    let snapshot = remote.snapshot(&server, &source.snapshot)?;
    let body = json!({ "name": target.disk, "snapshot_id": snapshot.id, "disk": source.disk.disk });
    let view = make(remote, target, &body)?;
    remote.output.item(&view, &clones::cloned_disk(arguments, &view))
}

/// The disk at that path.
fn known(remote: &Remote, path: &DiskPath) -> Result<DiskView, Failure> {
    let server = remote.server(&path.server)?;
    let names = server.disks.iter().map(|disk| disk.name.clone()).collect();
    let found = server.disks.into_iter().find(|disk| disk.name == path.disk);
    found.ok_or_else(|| {
        missing(&format!("server `{}` has no disk `{}`", path.server, path.disk), "its disks", names)
    })
}

fn change(remote: &Remote, path: &DiskPath, body: &Value) -> Result<DiskView, Failure> {
    let known = known(remote, path)?;
    let address = format!("servers/{}/disks/{}/", known.server.id, known.name);
    let mut view: DiskView = parsed(remote.patch(&address, body)?)?;
    view.server = known.server;
    Ok(view)
}
