//! Threads: two on one disk, against one.

use super::Stage;
use crate::figures::Rounds;
use crate::load::Load;
use crate::peers::{CowBlk, Outcome, Peer, Raw, fill};

const LOADS: [Load; 4] = [Load::Read, Load::Write, Load::SyncedWrite(32), Load::SyncedWrite(1)];

pub(super) fn run(stage: &mut Stage) -> Outcome {
    let store = CowBlk::new(stage.dir, CowBlk::NAME, stage.bytes)?;
    fill(&store, stage.bytes)?;
    let raw = Raw::new(stage.dir, stage.bytes)?;
    fill(&raw, stage.bytes)?;
    for load in LOADS {
        let (mut mine, mut theirs) = (Rounds::default(), Rounds::default());
        for round in 1..=stage.arguments.rounds {
            theirs.push(two_by_one(&raw, load, stage.bytes, round)?);
            mine.push(two_by_one(&store, load, stage.bytes, round)?);
        }
        let text = format!("{}, two threads on one disk / one", load.name());
        // A device that syncs for one thread at a time gives no more to two: that load has no target.
        if matches!(load, Load::Read | Load::Write) {
            stage.targets.at_least(&text, &mine, 1.6);
        } else {
            stage.targets.noted(&text, format!("{:.2}", mine.median()));
        }
        stage.targets.noted(format!("raw: {text}"), format!("{:.2}", theirs.median()));
    }
    Ok(())
}

/// The rate of two threads together by that of one.
fn two_by_one(peer: &(dyn Peer + Sync), load: Load, bytes: u64, round: u64) -> Outcome<f64> {
    let amount = load.amount(bytes);
    peer.sync()?;
    let one = load.run(peer, bytes, amount, round)?;
    peer.sync()?;
    let two = std::thread::scope(|scope| {
        let threads = [1, 2].map(|n| scope.spawn(move || load.run(peer, bytes, amount, round + 1000 * n)));
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a thread panicked")?)
            .sum::<Outcome<f64>>()
    })?;
    Ok(two / one)
}
