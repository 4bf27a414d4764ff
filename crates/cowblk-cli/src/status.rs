//! `cowblk status`: what the store holds and how full it is.

use cowblk::Status;

use crate::failure::{Failure, Kind};
use crate::session::Session;
use crate::sizes::human;
use crate::table::{Column, Table};

pub(crate) fn run(session: &Session) -> Result<(), Failure> {
    let status = session.read(|store| Ok(store.status()))?;
    session.output.item(&status, table(&status).to_string().trim_end())
}

/// The failure of `stats` without a daemon.
pub(crate) fn nobody_to_ask() -> Failure {
    let sentence =
        "`stats` says what the process did that holds the store: ask a daemon (`cowblk serve`) with --url";
    Failure::new(Kind::Usage, sentence)
}

/// Half a sentence about a store, for `init`.
pub(crate) fn summary(status: &Status) -> String {
    format!("uuid {}, blocks of {}", status.uuid, human(u64::from(status.block_size)))
}

fn table(status: &Status) -> Table {
    let blocks =
        |count: u64| format!("{count} ({})", human(count.saturating_mul(u64::from(status.block_size))));
    let mut table = Table::new([Column::Left("STORE"), Column::Left("")]);
    let mut line = |title: &str, value: String| table.row([title.to_owned(), value]);
    line("uuid", status.uuid.clone());
    line("format version", status.format_version.to_string());
    line("state", state(status).to_owned());
    line("size", human(status.file_bytes));
    line("servers", status.servers.to_string());
    line("disks", status.disks.to_string());
    line("snapshots", status.snapshots.to_string());
    line("used blocks", blocks(status.used_blocks));
    line("free blocks", blocks(status.free_blocks));
    line("of them without space", blocks(status.thin_blocks));
    line("capacity", status.capacity_blocks.map_or_else(|| "no limit known".into(), blocks));
    line("fixed metadata", blocks(status.metadata_blocks));
    line("reserve", blocks(status.reserve_blocks));
    if status.saved_blocks > 0 {
        line("saved by dedup", blocks(status.saved_blocks));
    }
    line("still to collect", to_collect(status));
    line("zones", format!("{} of {} blocks", status.zones, status.zone_blocks));
    line(
        "journal",
        format!("{} of {} in use", human(status.journal_used_bytes), human(status.journal_bytes)),
    );
    line("generation", status.generation.to_string());
    table
}

fn to_collect(status: &Status) -> String {
    match status.uncollected_versions {
        0 => "nothing".into(),
        1 => format!("1 deleted version, about {}", human_blocks(status)),
        many => format!("{many} deleted versions, about {}", human_blocks(status)),
    }
}

fn human_blocks(status: &Status) -> String {
    let bytes = status.reclaimable_blocks.saturating_mul(u64::from(status.block_size));
    format!("{} blocks ({})", status.reclaimable_blocks, human(bytes))
}

fn state(status: &Status) -> &'static str {
    if status.halted { "halted after a failed write: only reads work" } else { "in order" }
}
