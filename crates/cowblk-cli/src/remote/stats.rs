//! `cowblk --url ... stats`: what a daemon's store did, and how long it took.

use serde::Deserialize;

use super::{Remote, parsed};
use crate::failure::Failure;
use crate::sizes::human;
use crate::table::{Column, Table};

/// What a daemon says. What this program does not know goes on to `--json` as it came.
#[derive(Deserialize)]
struct Stats {
    bytes_read: u64,
    bytes_written: u64,
    device_bytes_read: u64,
    device_bytes_written: u64,
    reads: u64,
    writes: u64,
    flushes: u64,
    device_reads: u64,
    device_writes: u64,
    device_syncs: u64,
    checkpoints: u64,
    cache_hits: u64,
    cache_misses: u64,
    collector_ns: u64,
    latencies: Latencies,
    waits: Waits,
}

#[derive(Deserialize)]
struct Latencies {
    read: Latency,
    write: Latency,
    flush: Latency,
    checkpoint: Latency,
    freeze: Latency,
    device_read: Latency,
    device_write: Latency,
    device_sync: Latency,
}

#[derive(Deserialize)]
struct Latency {
    count: u64,
    mean_ns: u64,
    p50_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
}

#[derive(Deserialize)]
struct Waits {
    journal: Wait,
    memory: Wait,
    write_behind: Wait,
    flush: Wait,
    freeze: Wait,
    space: Wait,
}

#[derive(Deserialize)]
struct Wait {
    count: u64,
    total_ns: u64,
}

pub(super) fn run(remote: &Remote) -> Result<(), Failure> {
    let answer = remote.get("stats/")?;
    let stats: Stats = parsed(answer.clone())?;
    let text = format!("{}\n{}\n{}", calls(&stats), waits(&stats), totals(&stats));
    remote.output.item(&answer, text.trim_end())
}

fn calls(stats: &Stats) -> Table {
    let mut table = Table::new([
        Column::Left("CALLS"),
        Column::Right("COUNT"),
        Column::Right("TIMED"),
        Column::Right("MEAN"),
        Column::Right("50 %"),
        Column::Right("99 %"),
        Column::Right("99.9 %"),
        Column::Right("MAX"),
    ]);
    let latencies = &stats.latencies;
    let rows = [
        ("read", stats.reads, &latencies.read),
        ("write", stats.writes, &latencies.write),
        ("flush", stats.flushes, &latencies.flush),
        ("checkpoint", stats.checkpoints, &latencies.checkpoint),
        ("freeze", stats.checkpoints, &latencies.freeze),
        ("device read", stats.device_reads, &latencies.device_read),
        ("device write", stats.device_writes, &latencies.device_write),
        ("device sync", stats.device_syncs, &latencies.device_sync),
    ];
    for (name, count, latency) in rows {
        let [mean, median, most, nearly_all, max] =
            [latency.mean_ns, latency.p50_ns, latency.p99_ns, latency.p999_ns, latency.max_ns].map(duration);
        let counts = [count, latency.count].map(|count| count.to_string());
        let [count, timed] = counts;
        table.row([name.into(), count, timed, mean, median, most, nearly_all, max]);
    }
    table
}

fn waits(stats: &Stats) -> Table {
    let mut table = Table::new([Column::Left("WAITS FOR"), Column::Right("COUNT"), Column::Right("IN ALL")]);
    let waits = &stats.waits;
    let rows = [
        ("journal", &waits.journal),
        ("memory", &waits.memory),
        ("write-behind", &waits.write_behind),
        ("other flushes", &waits.flush),
        ("freeze", &waits.freeze),
        ("space", &waits.space),
    ];
    for (name, wait) in rows {
        table.row([name.into(), wait.count.to_string(), duration(wait.total_ns)]);
    }
    table
}

fn totals(stats: &Stats) -> Table {
    let mut table = Table::new([Column::Left("IN ALL"), Column::Right("")]);
    let mut line = |title: &str, value: String| table.row([title.to_owned(), value]);
    line("read", human(stats.bytes_read));
    line("written", human(stats.bytes_written));
    line("read from the medium", human(stats.device_bytes_read));
    line("written to the medium", human(stats.device_bytes_written));
    line("nodes in memory", stats.cache_hits.to_string());
    line("nodes read", stats.cache_misses.to_string());
    line("collector", duration(stats.collector_ns));
    table
}

/// A time in three digits or so.
fn duration(ns: u64) -> String {
    let in_units = |unit: u64, name: &str| {
        let (whole, tenth) = (ns / unit, ns % unit / (unit / 10));
        if whole < 100 { format!("{whole}.{tenth} {name}") } else { format!("{whole} {name}") }
    };
    match ns {
        0 => "0".into(),
        1..=999 => format!("{ns} ns"),
        1_000..=999_999 => in_units(1_000, "µs"),
        1_000_000..=999_999_999 => in_units(1_000_000, "ms"),
        _ => in_units(1_000_000_000, "s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_suits_them() {
        let told = [0, 999, 1_000, 99_950, 100_000, 2_340_000, 999_999_999, 61_000_000_000].map(duration);
        assert_eq!(told, ["0", "999 ns", "1.0 µs", "99.9 µs", "100 µs", "2.3 ms", "999 ms", "61.0 s"]);
    }
}
