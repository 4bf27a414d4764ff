//! `cowblk --url ... disk`.

use serde_json::{Value, json};

use super::{Remote, not_here, text};
use crate::disk::Command;
use crate::failure::Failure;
use crate::sizes::human_or_dash;
use crate::table::{Column, Table};

pub(super) fn run(remote: &Remote, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { disk, size } => {
            let server = remote.server(&disk.server)?;
            let body = json!({ "name": disk.disk, "size_bytes": size });
            let made = remote.post(&format!("servers/{}/disks/", server["id"]), &body)?;
            remote.output.item(
                &made,
                &format!("created disk {}/{} (id {})", disk.server, text(&made["name"]), made["id"]),
            )
        }
        _ => Err(not_here("this command of `disk`")),
    }
}

/// The disks of a server.
pub(super) fn table(server: &Value) -> Table {
    let mut table = Table::new([
        Column::Right("ID"),
        Column::Left("DISK"),
        Column::Right("SIZE"),
        Column::Right("MAPPED"),
        Column::Right("PARENT"),
    ]);
    for one in server["disks"].as_array().into_iter().flatten() {
        let parent = if one["parent"].is_null() { "-".into() } else { text(&one["parent"]) };
        let size = |key: &str| human_or_dash(one[key].as_u64());
        table.row([text(&one["id"]), text(&one["name"]), size("size_bytes"), size("mapped_bytes"), parent]);
    }
    table
}
