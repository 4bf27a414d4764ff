//! Stall: how long single writes take while checkpoints run under full random load.

use super::Stage;
use crate::buffer::Buffer;
use crate::figures::Rounds;
use crate::load::Scatter;
use crate::peers::{CowBlk, Direct, Outcome, Peer, fill};
use std::time::{Duration, Instant};

pub(super) fn run(stage: &mut Stage) -> Outcome {
    let synced = Direct::new(stage.dir, stage.bytes, true)?;
    let store = CowBlk::new(stage.dir, CowBlk::NAME, stage.bytes)?;
    fill(&store, stage.bytes)?;
    store.store.checkpoint()?;
    let (wanted, most) = if stage.arguments.is_quick { (1, 6) } else { (4, 30) };
    let before = store.store.stats().checkpoints;
    let (order, mut buf) = (Scatter::new(stage.bytes / 4096, 7), Buffer::noise(4096));
    let (start, mut times, mut n) = (Instant::now(), Rounds::default(), 0);
    while store.store.stats().checkpoints < before + wanted && start.elapsed() < Duration::from_secs(most) {
        for _ in 0..256 {
            buf.stamp(n);
            let write = Instant::now();
            store.write_at(&buf, order.place(n) * 4096)?;
            times.push(write.elapsed().as_secs_f64() * 1e3);
            n += 1;
        }
    }
    let checkpoints = store.store.stats().checkpoints - before;
    let mut device = Rounds::default();
    for n in 0..100 {
        let write = Instant::now();
        synced.write_at(&buf, order.place(n) * 4096)?;
        device.push(write.elapsed().as_secs_f64() * 1e3);
    }
    let (stall, limit) = (times.quantile(0.999), 5.0 + device.median());
    stage.targets.judged(
        format!("p99.9 of a 4 KiB write, {} writes, {checkpoints} checkpoints", times.len()),
        format!(
            "{stall:.2} ms (p50 {:.4}, p99 {:.3}, max {:.0})",
            times.quantile(0.5),
            times.quantile(0.99),
            times.quantile(1.0)
        ),
        &format!("<= {limit:.2} ms: 5 ms and one device write"),
        checkpoints > 0 && stall <= limit,
    );
    Ok(())
}
