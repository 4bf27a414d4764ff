//! `cowblk --url ... status`, `collect` and `trim`.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Remote, parsed};
use crate::collect::Collected;
use crate::failure::Failure;
use crate::sizes::human;
use crate::table::{Column, Table};
use crate::trim::Trimmed;

/// What a daemon says of its store.
#[derive(Serialize, Deserialize)]
struct Space {
    file_bytes: u64,
    used_bytes: u64,
    free_bytes: u64,
    reclaimable_bytes: u64,
    metadata_bytes: u64,
    reserve_bytes: u64,
    saved_bytes: u64,
    capacity_bytes: Option<u64>,
    servers: u64,
    disks: u64,
    snapshots: u64,
    block_size: u32,
    halted: bool,
    #[serde(flatten)]
    waiting: Waiting,
}

/// What the collector has still to do.
#[derive(Serialize, Deserialize)]
struct Waiting {
    waiting_versions: u64,
    waiting_bytes: u64,
}

pub(super) fn status(remote: &Remote) -> Result<(), Failure> {
    let (mut space, collector) = (remote.get("space/")?, remote.get("collector/")?);
    for key in ["waiting_versions", "waiting_bytes"] {
        space[key] = collector[key].clone();
    }
    let space: Space = parsed(space)?;
    remote.output.item(&space, table(&space).to_string().trim_end())
}

fn table(space: &Space) -> Table {
    let mut table = Table::new([Column::Left("STORE"), Column::Left("")]);
    let mut line = |title: &str, value: String| table.row([title.to_owned(), value]);
    let halted = "halted after a failed write: only reads work";
    line("state", if space.halted { halted } else { "in order" }.to_owned());
    line("size", human(space.file_bytes));
    line("servers", space.servers.to_string());
    line("disks", space.disks.to_string());
    line("snapshots", space.snapshots.to_string());
    line("used", human(space.used_bytes));
    line("free", human(space.free_bytes));
    line("capacity", space.capacity_bytes.map_or_else(|| "no limit known".into(), human));
    line("fixed metadata", human(space.metadata_bytes));
    line("reserve", human(space.reserve_bytes));
    if space.saved_bytes > 0 {
        line("saved by dedup", human(space.saved_bytes));
    }
    let Waiting { waiting_versions, waiting_bytes } = space.waiting;
    line(
        "still to collect",
        match waiting_versions {
            0 => "nothing".into(),
            1 => format!("1 deleted version, about {}", human(waiting_bytes)),
            many => format!("{many} deleted versions, about {}", human(waiting_bytes)),
        },
    );
    table
}

pub(super) fn collect(remote: &Remote) -> Result<(), Failure> {
    let collected: Collected = parsed(remote.post("collector/", &json!({}))?)?;
    remote.output.item(&collected, &collected.text())
}

pub(super) fn trim(remote: &Remote) -> Result<(), Failure> {
    let trimmed: Trimmed = parsed(remote.post("trim/", &json!({}))?)?;
    remote.output.item(&trimmed, &trimmed.text())
}
