//! Space: what a scattered write of 4 KiB after a snapshot takes, and what metadata takes of a full disk.

use super::Stage;
use crate::buffer::Buffer;
use crate::figures::Rounds;
use crate::load::Scatter;
use crate::peers::{CowBlk, Outcome, Peer, fill};

pub(super) fn run(stage: &mut Stage) -> Outcome {
    let store = CowBlk::new(stage.dir, CowBlk::NAME, stage.bytes)?;
    fill(&store, stage.bytes)?;
    store.store.checkpoint()?;
    store.store.collect()?;
    for share in [8, 64, 512] {
        let (data, all) = blocks_per_write(&store, stage.bytes, stage.bytes / 4096 / share)?;
        let text = format!("space per scattered 4 KiB after a snapshot, one block in {share} written");
        stage.targets.at_most(format!("{text}: blocks of data"), &one(data), 1.1);
        stage.targets.at_most(format!("{text}: with metadata, after a checkpoint"), &one(all), 1.5);
    }
    Ok(())
}

fn one(value: f64) -> Rounds {
    std::iter::once(value).collect()
}

/// Blocks of data, and of everything, that each of so many scattered writes takes behind a snapshot.
#[expect(clippy::cast_precision_loss, reason = "counts of blocks")]
fn blocks_per_write(store: &CowBlk, bytes: u64, writes: u64) -> Outcome<(f64, f64)> {
    let snapshot = store.server.snapshot("space", "")?;
    store.store.collect()?;
    store.store.checkpoint()?;
    let used = store.store.status().used_blocks;
    let (order, mut buf) = (Scatter::new(bytes / 4096, writes), Buffer::noise(4096));
    for n in 0..writes {
        buf.stamp(n + 1);
        store.write_at(&buf, order.place(n) * 4096)?;
    }
    store.store.checkpoint()?;
    // The blocks that the first checkpoint let go of are free after the second.
    store.store.checkpoint()?;
    let all = store.store.status().used_blocks - used;
    let data = snapshot.exclusive_bytes().ok_or("the snapshot is still being counted")? / 4096;
    store.store.delete_snapshot(snapshot.id())?;
    store.store.collect()?;
    Ok((data as f64 / writes as f64, all as f64 / writes as f64))
}
