//! Verbs: a durable snapshot, restore and delete, against one durable write of 4 KiB.

use super::Stage;
use crate::buffer::Buffer;
use crate::figures::Rounds;
use crate::peers::{CowBlk, Outcome, Peer, Raw, fill};
use std::time::Instant;

/// How often each is done in a round; the median counts.
const REPEATS: u64 = 15;

pub(super) fn run(stage: &mut Stage) -> Outcome {
    let raw = Raw::new(stage.dir, stage.bytes)?;
    fill(&raw, stage.bytes)?;
    for name in [CowBlk::NAME, CowBlk::NAME_THOUSAND] {
        let store = CowBlk::new(stage.dir, name, stage.bytes)?;
        if name == CowBlk::NAME {
            fill(&store, stage.bytes)?;
            store.store.checkpoint()?;
        }
        let mut rounds: [Rounds; 3] = Default::default();
        for round in 1..=stage.arguments.rounds {
            let sync = sync_ms(&raw, round)?;
            for (all, one) in rounds.iter_mut().zip(verbs_ms(&store, round)?) {
                all.push(one / sync);
            }
        }
        for (verb, ratio) in ["create", "restore", "delete"].iter().zip(&rounds) {
            let text = format!("{name}: {verb} a snapshot, durable / one 4 KiB write and fdatasync");
            stage.targets.at_most(text, ratio, 2.0);
        }
    }
    Ok(())
}

/// The median of a few.
fn median_ms(mut one: impl FnMut(u64) -> Outcome<Instant>) -> Outcome<f64> {
    let times =
        (0..REPEATS).map(|n| Ok(one(n)?.elapsed().as_secs_f64() * 1e3)).collect::<Outcome<Rounds>>()?;
    Ok(times.median())
}

fn sync_ms(raw: &Raw, round: u64) -> Outcome<f64> {
    let mut buf = Buffer::noise(4096);
    raw.sync()?;
    median_ms(|n| {
        let start = Instant::now();
        buf.stamp(round << 32 | n);
        raw.write_at(&buf, n * 4096)?;
        raw.sync()?;
        Ok(start)
    })
}

/// Create, restore and delete; each on a disk that was written to since the last one.
fn verbs_ms(store: &CowBlk, round: u64) -> Outcome<[f64; 3]> {
    let mut buf = Buffer::noise(4096);
    let mut dirty = |n: u64| {
        buf.stamp(round << 32 | n);
        store.write_at(&buf, n % 1000 * 4096)
    };
    store.sync()?;
    let mut ids = Vec::new();
    let create = median_ms(|n| {
        dirty(n)?;
        let start = Instant::now();
        ids.push(store.server.snapshot(&format!("verb-{round}-{n}"), "")?.id());
        Ok(start)
    })?;
    let restore = median_ms(|n| {
        dirty(n)?;
        let start = Instant::now();
        store.server.restore(ids[usize::try_from(n)?])?;
        Ok(start)
    })?;
    let delete = median_ms(|n| {
        dirty(n)?;
        let start = Instant::now();
        store.store.delete_snapshot(ids[usize::try_from(n)?])?;
        Ok(start)
    })?;
    store.store.collect()?;
    Ok([create, restore, delete])
}
