//! Metrics: counters and histograms as Prometheus reads them; here what the daemon counts itself.

mod store;

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
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {count}", seconds(bound * 1000));
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", seconds(self.sum_us.saturating_mul(1000)));
        let _ = writeln!(out, "{name}_count{{{labels}}} {}", self.count);
    }
}

/// Nanoseconds as seconds in text, exactly.
fn seconds(ns: u64) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
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
        store::render(&mut out, engine.store());
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
            [seconds(0), seconds(256), seconds(100_000), seconds(2_500_000_000), seconds(60_000_000_000)],
            ["0", "0.000000256", "0.0001", "2.5", "60"]
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
