//! Collector: how fast it drops blocks, and what the foreground feels beside it.

use super::Stage;
use crate::buffer::Buffer;
use crate::figures::Rounds;
use crate::load::{Scatter, rate};
use crate::peers::Outcome;
use crate::sparse_device::{SparseDevice, block};
use cowblk::{Disk, Options, Store};
use std::time::{Duration, Instant};

pub(super) fn run(stage: &mut Stage) -> Outcome {
    throughput(stage)?;
    beside(stage)
}

fn scatter(disk: &Disk, salt: u64) -> Outcome {
    let (order, mut buf) = (Scatter::new(disk.size_bytes() / 4096, salt), vec![0; 4096]);
    for n in 0..disk.size_bytes() / 4096 {
        block(&mut buf, salt << 40 | n);
        disk.write_at(&buf, order.place(n) * 4096)?;
    }
    Ok(())
}

/// A store in which a deleted snapshot alone holds a full disk of scattered blocks.
fn victim(store: &Store, bytes: u64) -> Outcome {
    let server = store.create_server("web")?;
    let disk = server.create_disk("vda", bytes)?;
    scatter(&disk, 1)?;
    let snapshot = server.snapshot("old", "")?;
    scatter(&disk, 2)?;
    store.checkpoint()?;
    Ok(store.delete_snapshot(snapshot.id())?)
}

fn throughput(stage: &mut Stage) -> Outcome {
    let bytes = if stage.arguments.is_quick { 64 << 20 } else { 4 << 30 };
    let mut rates = Rounds::default();
    for _ in 0..stage.arguments.rounds.min(3) {
        let store =
            Store::create_on(SparseDevice::new(), Options::default().background(false).cache_bytes(1 << 30))?;
        victim(&store, bytes)?;
        let start = Instant::now();
        store.collect()?;
        rates.push(rate(store.stats().collected_blocks, start.elapsed()) / 1e6);
    }
    stage.targets.at_least("collector, millions of 4 KiB blocks a second, warm metadata", &rates, 2.0);
    Ok(())
}

/// The 99th percentile of a write and its flush on another server's disk, beside the collector and without it, in a real file.
fn beside(stage: &mut Stage) -> Outcome {
    let store = Store::create(stage.dir.join("beside.cow"), Options::default())?;
    let busy = store.create_server("busy")?.create_disk("vda", stage.bytes)?;
    let alone = Duration::from_secs(if stage.arguments.is_quick { 1 } else { 8 });
    let start = Instant::now();
    let without = load(&busy, || start.elapsed() > alone)?;
    victim(&store, stage.bytes)?;
    let with = load(&busy, || store.status().reclaimable_versions == 0)?;
    let ratio = with.quantile(0.99) / without.quantile(0.99);
    stage.targets.judged(
        format!(
            "p99 of a 4 KiB write and its flush beside the collector / without ({} and {} writes)",
            with.len(),
            without.len()
        ),
        format!("{ratio:.2} ({:.1} ms / {:.1} ms)", with.quantile(0.99), without.quantile(0.99)),
        "<= 2",
        ratio <= 2.0,
    );
    Ok(())
}

/// Milliseconds of each write and its flush, until it is over.
fn load(disk: &Disk, is_over: impl Fn() -> bool) -> Outcome<Rounds> {
    let (order, mut buf) = (Scatter::new(disk.size_bytes() / 4096, 9), Buffer::noise(4096));
    let (mut times, mut n) = (Rounds::default(), 0);
    while n < 64 || !is_over() {
        buf.stamp(n);
        let start = Instant::now();
        disk.write_at(&buf, order.place(n) * 4096)?;
        disk.flush()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        n += 1;
    }
    Ok(times)
}
