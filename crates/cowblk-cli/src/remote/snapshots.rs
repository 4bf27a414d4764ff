//! `cowblk --url ... snapshot`.

use serde_json::{Value, json};

use super::{Remote, not_here, text};
use crate::failure::Failure;
use crate::sizes::human;
use crate::snapshot::Command;
use crate::table::{Column, Table};

pub(super) fn run(remote: &Remote, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { server, name, description, marks } => {
            let marks = marks.marks();
            let body = json!({
                "server_id": remote.server(&server)?["id"], "name": name, "description": description,
                "protected": marks.protected, "expires_at": marks.expires_at.map(crate::times::rfc3339), "labels": marks.labels,
            });
            let made = remote.post("snapshots/", &body)?;
            let sentence =
                format!("created snapshot {} (id {}) of {server}", text(&made["name"]), made["id"]);
            remote.output.item(&made, &sentence)
        }
        Command::List { tree: true, .. } => Err(not_here("`snapshot list --tree`")),
        Command::List { server, tree: false } => {
            let filter = match server {
                Some(name) => format!("&server_id={}", remote.server(&name)?["id"]),
                None => String::new(),
            };
            let list = remote.get(&format!("snapshots/?automatic=true{filter}"))?;
            let all = list["results"].as_array().map_or(&[][..], Vec::as_slice);
            remote.output.item(&list, table(all).to_string().trim_end())
        }
        Command::Show { server, snapshot } => {
            let one = remote.snapshot(&remote.server(&server)?, &snapshot)?;
            remote.output.item(&one, table(std::slice::from_ref(&one)).to_string().trim_end())
        }
        Command::Restore { server, snapshot, undo: _ } => restore(remote, &server, snapshot.as_deref()),
        Command::Delete { server, snapshots, dry_run } => delete(remote, &server, &snapshots, dry_run),
        Command::Edit(_) => Err(not_here("`snapshot edit`")),
        Command::Prune(_) => Err(not_here("`snapshot prune`")),
        Command::Export { .. } => Err(not_here("`snapshot export`")),
    }
}

fn restore(remote: &Remote, server: &str, snapshot: Option<&str>) -> Result<(), Failure> {
    let server = remote.server(server)?;
    let path = match snapshot {
        Some(name) => format!("snapshots/{}/restore/", remote.snapshot(&server, name)?["id"]),
        None => format!("servers/{}/undo/", server["id"]),
    };
    let done = remote.post(&path, &json!({}))?;
    remote.output.item(&done, &text(&done["message"]))
}

fn delete(remote: &Remote, server: &str, names: &[String], is_dry_run: bool) -> Result<(), Failure> {
    let server = remote.server(server)?;
    // All are looked up first: if one does not exist, none is deleted.
    let found = names.iter().map(|name| remote.snapshot(&server, name)).collect::<Result<Vec<Value>, _>>()?;
    if is_dry_run {
        let ids: Vec<String> = found.iter().map(|one| one["id"].to_string()).collect();
        let freed = remote.get(&format!("would-free/?ids={}", ids.join(",")))?;
        let bytes = freed["data_bytes"].as_u64().unwrap_or(0);
        return remote.output.item(&freed, &format!("deleting them would free {}", human(bytes)));
    }
    for one in &found {
        remote.client.ask("DELETE", &format!("snapshots/{}/", one["id"]), None)?;
    }
    let shown: Vec<String> =
        found.iter().map(|one| format!("{} (id {})", text(&one["name"]), one["id"])).collect();
    remote.output.many(&found, &format!("deleted {}", shown.join(", ")))
}

/// A list of snapshots.
pub(super) fn table(snapshots: &[Value]) -> Table {
    let mut table = Table::new([
        Column::Right("ID"),
        Column::Left("SERVER"),
        Column::Left("NAME"),
        Column::Left("STATUS"),
        Column::Right("SIZE MB"),
        Column::Left("CREATED"),
    ]);
    for one in snapshots {
        let size = if one["size_mb"].is_null() { "-".into() } else { text(&one["size_mb"]) };
        table.row([
            text(&one["id"]),
            text(&one["server"]["name"]),
            text(&one["name"]),
            text(&one["status"]),
            size,
            text(&one["created_at"]),
        ]);
    }
    table
}
