//! `cowblk --url ... server`.

use serde_json::{Map, Value, json};

use super::{Remote, not_here, text};
use crate::failure::Failure;
use crate::server::Command;
use crate::table::{Column, Table};

pub(super) fn run(remote: &Remote, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { name } => {
            let made = remote.post("servers/", &json!({ "name": name }))?;
            remote.output.item(&made, &format!("created server {} (id {})", text(&made["name"]), made["id"]))
        }
        Command::Clone(arguments) => {
            let server = remote.server(&arguments.server)?;
            let snapshot = remote.snapshot(&server, &arguments.snapshot)?;
            let path = format!("snapshots/{}/clone/", snapshot["id"]);
            let made = remote.post(&path, &json!({ "name": arguments.name }))?;
            let sentence = format!(
                "created server {} (id {}) from snapshot {}",
                text(&made["name"]),
                made["id"],
                text(&snapshot["name"])
            );
            remote.output.item(&made, &sentence)
        }
        Command::List => list(remote),
        Command::Show { name } => show(remote, &name),
        Command::Delete { name } => {
            let server = remote.server(&name)?;
            remote.client.ask("DELETE", &format!("servers/{}/", server["id"]), None)?;
            remote.output.item(&server, &format!("deleted server {}", text(&server["name"])))
        }
        Command::Edit(_) => Err(not_here("`server edit`")),
        Command::Reset { .. } => Err(not_here("`server reset`")),
    }
}

fn list(remote: &Remote) -> Result<(), Failure> {
    let servers = remote.get("servers/")?;
    let mut table = Table::new([
        Column::Right("ID"),
        Column::Left("NAME"),
        Column::Left("STATUS"),
        Column::Right("DISKS"),
        Column::Left("CREATED"),
    ]);
    for one in servers["results"].as_array().into_iter().flatten() {
        let disks = one["disks"].as_array().map_or(0, Vec::len);
        table.row([
            text(&one["id"]),
            text(&one["name"]),
            text(&one["status"]),
            disks.to_string(),
            text(&one["created_at"]),
        ]);
    }
    remote.output.item(&servers, table.to_string().trim_end())
}

fn show(remote: &Remote, name: &str) -> Result<(), Failure> {
    let server = remote.server(name)?;
    let snapshots = remote.snapshots(&server)?;
    let sentence = format!(
        "server {} (id {}), {}, created {}\n\n{}\n{}",
        text(&server["name"]),
        server["id"],
        text(&server["status"]),
        text(&server["created_at"]),
        super::disks::table(&server),
        super::snapshots::table(&snapshots)
    );
    let mut whole: Map<String, Value> = server.as_object().cloned().unwrap_or_default();
    whole.insert("snapshots".into(), snapshots.into());
    remote.output.item(&whole, sentence.trim_end())
}
