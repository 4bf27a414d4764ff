//! What the store counts: gauges of what it is made of, counters of what it did, and how long that took.

use super::{head, one, seconds};
use cowblk::{Latencies, LatencyHistogram, Stats, Status, Store, Waits};
use std::fmt::Write;
use std::ops::RangeInclusive;

/// Upper bounds of the histograms, in nanoseconds, as powers of two: from a quarter of a microsecond to half a minute.
const BOUND_BITS: RangeInclusive<u32> = 8..=35;

/// Everything about a store.
pub(super) fn render(out: &mut String, store: &Store) {
    render_status(out, &store.status());
    let stats = store.stats();
    render_stats(out, &stats);
    render_waits(out, &stats.waits);
    render_latencies(out, &store.latencies());
}

fn render_status(out: &mut String, status: &Status) {
    let block = u64::from(status.block_size);
    let gauges: [(&str, &str, u64); 15] = [
        ("cowblk_store_file_bytes", "Length of the store's file or device.", status.file_bytes),
        ("cowblk_store_used_bytes", "Data, extent nodes and catalog.", status.used_blocks * block),
        ("cowblk_store_free_bytes", "What can be written without growing.", status.free_blocks * block),
        (
            "cowblk_store_reclaimable_bytes",
            "Of the used bytes, about what the collector will free.",
            status.reclaimable_blocks * block,
        ),
        (
            "cowblk_store_metadata_bytes",
            "Superblocks, journal and refcount tables.",
            status.metadata_blocks * block,
        ),
        (
            "cowblk_store_reserve_bytes",
            "Of the free bytes, what data never takes.",
            status.reserve_blocks * block,
        ),
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
}

fn render_stats(out: &mut String, done: &Stats) {
    let counters: [(&str, &str, u64); 15] = [
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
        ("cowblk_refused_writes_total", "Writes that failed in a full store.", done.refused_writes),
        ("cowblk_checkpoints_total", "Checkpoints since the start.", done.checkpoints),
        ("cowblk_cache_hits_total", "Extent nodes found in memory.", done.cache_hits),
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
    let collector = ("cowblk_collector_seconds_total", "What the steps of the collector took.");
    one(out, collector.0, "counter", collector.1, seconds(done.collector_ns));
}

fn render_waits(out: &mut String, waits: &Waits) {
    let waits = [
        ("journal", waits.journal),
        ("memory", waits.memory),
        ("write_behind", waits.write_behind),
        ("flush", waits.flush),
        ("freeze", waits.freeze),
        ("space", waits.space),
    ];
    head(out, "cowblk_waits_total", "counter", "How often callers waited, by what for.");
    for (what, spent) in waits {
        let _ = writeln!(out, "cowblk_waits_total{{for=\"{what}\"}} {}", spent.count);
    }
    head(out, "cowblk_wait_seconds_total", "counter", "How long callers waited, by what for.");
    for (what, spent) in waits {
        let _ = writeln!(out, "cowblk_wait_seconds_total{{for=\"{what}\"}} {}", seconds(spent.total_ns));
    }
}

fn render_latencies(out: &mut String, latencies: &Latencies) {
    let histograms = [
        ("cowblk_read_seconds", "Reads of disks and snapshots, one in 16 of them.", &latencies.read),
        ("cowblk_write_seconds", "Writes of disks, one in 16 of them.", &latencies.write),
        ("cowblk_flush_seconds", "Flushes.", &latencies.flush),
        ("cowblk_checkpoint_seconds", "Checkpoints.", &latencies.checkpoint),
        ("cowblk_freeze_seconds", "How long checkpoints kept changes out.", &latencies.freeze),
        ("cowblk_device_read_seconds", "Reads of the medium, one in 16 of them.", &latencies.device_read),
        ("cowblk_device_write_seconds", "Writes of the medium.", &latencies.device_write),
        ("cowblk_device_sync_seconds", "Syncs of the medium.", &latencies.device_sync),
    ];
    for (name, help, histogram) in histograms {
        head(out, name, "histogram", help);
        render_histogram(out, name, histogram);
    }
}

/// The store's buckets end at every power of two, so that the counts below those are exact.
fn render_histogram(out: &mut String, name: &str, histogram: &LatencyHistogram) {
    let (mut buckets, mut below) = (histogram.buckets(), 0);
    for bound in BOUND_BITS.map(|bits| 1_u64 << bits) {
        let within = buckets.partition_point(|bucket| bucket.at_most_ns <= bound);
        let (passed, rest) = buckets.split_at(within);
        below += passed.iter().map(|bucket| bucket.count).sum::<u64>();
        buckets = rest;
        let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {below}", seconds(bound));
    }
    let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", histogram.count());
    let _ = writeln!(out, "{name}_sum {}", seconds(histogram.sum_ns()));
    let _ = writeln!(out, "{name}_count {}", histogram.count());
}

#[cfg(test)]
mod tests {
    use super::*;
    use cowblk::Options;
    use cowblk::device::MemoryDevice;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// Name and labels of each sample, and its value. Every line is one, or says what the next ones are.
    fn samples(text: &str) -> BTreeMap<String, f64> {
        let mut types = BTreeMap::new();
        let mut samples = BTreeMap::new();
        for line in text.lines() {
            if let Some(words) = line.strip_prefix("# TYPE ") {
                let (name, kind) = words.split_once(' ').unwrap();
                assert!(types.insert(name, kind).is_none(), "{name} comes twice");
            } else if !line.starts_with("# HELP ") {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let name = sample.split('{').next().unwrap();
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let kind =
                    types.get(name).or_else(|| types.get(family?).filter(|kind| **kind == "histogram"));
                assert!(kind.is_some(), "{line} has no type");
                assert!(
                    samples.insert(sample.to_owned(), value.parse().unwrap()).is_none(),
                    "{line} comes twice"
                );
            }
        }
        samples
    }

    fn store() -> Store {
        let options = Options::default().journal_bytes(1 << 20).background(false);
        Store::create_on(Arc::new(MemoryDevice::default()), options).unwrap()
    }

    #[test]
    fn histograms_add_up_and_agree_with_the_counters() {
        let store = store();
        let disk = store.create_server("web").unwrap().create_disk("vda", 8 << 20).unwrap();
        for block in 0..512 {
            disk.write_at(&[1; 4096], block << 12).unwrap();
            disk.flush().unwrap();
        }
        store.checkpoint().unwrap();
        let mut text = String::new();
        render(&mut text, &store);
        let (samples, stats) = (samples(&text), store.stats());
        let value = |name: &str| samples.get(name).copied().unwrap_or_else(|| panic!("{name} in {text}"));
        let is = |name: &str, count: u64| assert_eq!(value(name).to_string(), count.to_string(), "{name}");
        let made_of = store.status();
        for (name, blocks) in [
            ("used", made_of.used_blocks),
            ("free", made_of.free_blocks),
            ("reclaimable", made_of.reclaimable_blocks),
            ("metadata", made_of.metadata_blocks),
            ("reserve", made_of.reserve_blocks),
        ] {
            is(&format!("cowblk_store_{name}_bytes"), blocks << 12);
        }
        is("cowblk_flush_seconds_count", stats.flushes);
        is("cowblk_checkpoint_seconds_count", stats.checkpoints);
        is("cowblk_device_sync_seconds_count", stats.device_syncs);
        is("cowblk_device_write_seconds_count", stats.device_writes);
        is("cowblk_waits_total{for=\"write_behind\"}", stats.waits.write_behind.count);
        assert!(value("cowblk_write_seconds_count") > 20.0 && value("cowblk_flush_seconds_sum") > 0.0);
        for name in
            ["read", "write", "flush", "checkpoint", "freeze", "device_read", "device_write", "device_sync"]
        {
            let name = format!("cowblk_{name}_seconds");
            let bound = |bits: u32| format!("{name}_bucket{{le=\"{}\"}}", seconds(1 << bits));
            let mut counts: Vec<f64> = BOUND_BITS.map(|bits| value(&bound(bits))).collect();
            counts.push(value(&format!("{name}_bucket{{le=\"+Inf\"}}")));
            assert!(counts.is_sorted(), "{name}: {counts:?}");
            assert!(counts.last().copied() == Some(value(&format!("{name}_count"))), "{name}: {counts:?}");
        }
    }

    /// Exact though the store's buckets are finer: none of them reaches over a bound.
    #[test]
    fn what_a_bound_allows_is_what_took_no_longer() {
        let store = store();
        (0..200).for_each(|_| store.flush().unwrap());
        let latencies = store.latencies();
        let mut text = String::new();
        render_histogram(&mut text, "x", &latencies.flush);
        let samples = samples(&format!("# TYPE x histogram\n{text}"));
        for bits in BOUND_BITS {
            let fast = latencies.flush.buckets().iter().filter(|bucket| bucket.at_most_ns <= 1 << bits);
            let count: u64 = fast.map(|bucket| bucket.count).sum();
            let told = samples[&format!("x_bucket{{le=\"{}\"}}", seconds(1 << bits))];
            assert_eq!(told.to_string(), count.to_string(), "{bits}");
        }
        assert_eq!(latencies.flush.count(), store.stats().flushes);
    }
}
