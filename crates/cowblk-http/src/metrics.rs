//! Metrics: counters and histograms as Prometheus reads them.

use crate::engine::Engine;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Upper bounds of the histograms, in microseconds.
const BOUNDS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000,
    60_000_000,
];

#[derive(Clone, Default)]
struct Histogram {
    counts: [u64; BOUNDS_US.len()],
    count: u64,
    sum_us: u64,
}

impl Histogram {
    fn add(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        for (count, bound) in self.counts.iter_mut().zip(BOUNDS_US) {
            *count += u64::from(us <= bound);
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        for (count, bound) in self.counts.iter().zip(BOUNDS_US) {
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {count}", seconds(bound));
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", seconds(self.sum_us));
        let _ = writeln!(out, "{name}_count{{{labels}}} {}", self.count);
    }
}

/// Seconds as text, exactly.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[derive(Default)]
struct Counts {
    requests: BTreeMap<(String, String), Histogram>,
    answers: BTreeMap<(String, String, u16), u64>,
    hooks: BTreeMap<(&'static str, bool), Histogram>,
    refused_signins: u64,
    looks: u64,
    schedule_failures: u64,
    backup_failures: u64,
}

/// What the daemon counts.
#[derive(Default)]
pub(crate) struct Metrics {
    counts: Mutex<Counts>,
}

impl Metrics {
    /// A request was answered. `route` is its pattern, not its path, so that there are few.
    pub(crate) fn request(&self, method: &str, route: &str, status: u16, time: Duration) {
        let mut counts = self.counts.lock();
        counts.requests.entry((method.into(), route.into())).or_default().add(time);
        *counts.answers.entry((method.into(), route.into(), status)).or_default() += 1;
    }

    pub(crate) fn hook(&self, moment: &'static str, is_ok: bool, time: Duration) {
        self.counts.lock().hooks.entry((moment, is_ok)).or_default().add(time);
    }

    pub(crate) fn refused_signin(&self) {
        self.counts.lock().refused_signins += 1;
    }

    /// The clock was looked at for what is due.
    pub(crate) fn looked(&self) {
        self.counts.lock().looks += 1;
    }

    /// A snapshot or backup that was due could not be made.
    pub(crate) fn schedule_failed(&self) {
        self.counts.lock().schedule_failures += 1;
    }

    /// The copy of a backup failed.
    pub(crate) fn backup_failed(&self) {
        self.counts.lock().backup_failures += 1;
    }

    /// Everything as text.
    pub(crate) fn render(&self, engine: &Engine, nbd_connections: Option<usize>) -> String {
        let mut out = String::new();
        render_store(&mut out, engine);
        if let Some(count) = nbd_connections {
            one(&mut out, "cowblk_nbd_connections", "gauge", "Connections of NBD clients.", count);
        }
        one(
            &mut out,
            "cowblk_http_waiting",
            "gauge",
            "Requests that wait for a thread of the store.",
            engine.waiting(),
        );
        let counts = self.counts.lock();
        let totals: [(&str, &str, u64); 4] = [
            (
                "cowblk_http_refused_signins_total",
                "Requests without a token that is known.",
                counts.refused_signins,
            ),
            ("cowblk_schedule_looks_total", "Looks at the clock for what is due.", counts.looks),
            (
                "cowblk_schedule_failures_total",
                "Snapshots and backups that were due and could not be made.",
                counts.schedule_failures,
            ),
            ("cowblk_backup_failures_total", "Backups whose copy failed.", counts.backup_failures),
        ];
        for (name, help, value) in totals {
            one(&mut out, name, "counter", help, value);
        }
        head(&mut out, "cowblk_http_answers_total", "counter", "Requests by their answer.");
        for ((method, route, status), count) in &counts.answers {
            let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
            let _ = writeln!(out, "cowblk_http_answers_total{{{labels}}} {count}");
        }
        head(&mut out, "cowblk_http_request_seconds", "histogram", "How long requests took.");
        for ((method, route), histogram) in &counts.requests {
            histogram.write(
                &mut out,
                "cowblk_http_request_seconds",
                &format!("method=\"{method}\",route=\"{route}\""),
            );
        }
        head(&mut out, "cowblk_hook_seconds", "histogram", "How long hooks took.");
        for ((moment, is_ok), histogram) in &counts.hooks {
            histogram.write(&mut out, "cowblk_hook_seconds", &format!("hook=\"{moment}\",ok=\"{is_ok}\""));
        }
        out
    }
}

fn render_store(out: &mut String, engine: &Engine) {
    let (status, done) = (engine.store().status(), engine.store().stats());
    let block = u64::from(status.block_size);
    let gauges: [(&str, &str, u64); 12] = [
        ("cowblk_store_file_bytes", "Length of the store's file or device.", status.file_bytes),
        ("cowblk_store_used_bytes", "Data, extent nodes and catalog.", status.used_blocks * block),
        ("cowblk_store_free_bytes", "What can be written without growing.", status.free_blocks * block),
        ("cowblk_store_journal_bytes", "Size of the store's journal.", status.journal_bytes),
        ("cowblk_store_journal_used_bytes", "What a recovery would have to read.", status.journal_used_bytes),
        ("cowblk_store_dirty_bytes", "Memory that changed extent maps take.", status.dirty_bytes),
        ("cowblk_store_servers", "Servers.", status.servers),
        ("cowblk_store_disks", "Disks.", status.disks),
        ("cowblk_store_snapshots", "Snapshots.", status.snapshots),
        (
            "cowblk_collector_waiting_versions",
            "Deleted contents to be collected.",
            status.uncollected_versions,
        ),
        ("cowblk_store_halted", "1 after a write or sync failed.", u64::from(status.halted)),
        ("cowblk_store_generation", "Checkpoints that the store has seen.", status.generation),
    ];
    for (name, help, value) in gauges {
        one(out, name, "gauge", help, value);
    }
    if let Some(blocks) = status.capacity_blocks {
        one(out, "cowblk_store_capacity_bytes", "gauge", "What data can come to take.", blocks * block);
    }
    let counters: [(&str, &str, u64); 13] = [
        ("cowblk_reads_total", "Reads of disks.", done.reads),
        ("cowblk_writes_total", "Writes of disks.", done.writes),
        ("cowblk_flushes_total", "Flushes.", done.flushes),
        ("cowblk_read_bytes_total", "Bytes read from disks.", done.bytes_read),
        ("cowblk_written_bytes_total", "Bytes written to disks.", done.bytes_written),
        ("cowblk_device_reads_total", "Reads of the store's medium.", done.device_reads),
        ("cowblk_device_writes_total", "Writes of the store's medium.", done.device_writes),
        ("cowblk_device_read_bytes_total", "Bytes read from the medium.", done.device_bytes_read),
        ("cowblk_device_written_bytes_total", "Bytes written to the medium.", done.device_bytes_written),
        ("cowblk_device_syncs_total", "Syncs of the medium.", done.device_syncs),
        ("cowblk_checkpoints_total", "Checkpoints since the start.", done.checkpoints),
        ("cowblk_cache_misses_total", "Extent nodes read from the medium.", done.cache_misses),
        (
            "cowblk_collector_collected_blocks_total",
            "References that the collector dropped.",
            done.collected_blocks,
        ),
    ];
    for (name, help, value) in counters {
        one(out, name, "counter", help, value);
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn one(out: &mut String, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
    head(out, name, kind, help);
    let _ = writeln!(out, "{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        assert_eq!(
            [seconds(0), seconds(100), seconds(2_500_000), seconds(60_000_000)],
            ["0", "0.0001", "2.5", "60"]
        );
    }

    #[test]
    fn a_histogram_counts_what_is_not_above_each_bound() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::from_micros(100));
        histogram.add(Duration::from_micros(101));
        histogram.add(Duration::from_secs(100));
        assert_eq!(
            (histogram.counts[0], histogram.counts[1], histogram.counts[13], histogram.count),
            (1, 2, 2, 3)
        );
    }
}
