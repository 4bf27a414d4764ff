//! Depth: one thread on cowblk, a flush every 32 writes, against 32 writes in flight past the page cache, a sync behind each 32.

use super::Stage;
use crate::figures::Rounds;
use crate::load::{Amount, Load};
use crate::peers::{CowBlk, Direct, Outcome, Peer, fill, write_at_depth};

const LOAD: &str = "random 4 KiB write, durable every 32, against O_DIRECT at depth 32 (`io_uring`)";

pub(super) fn run(stage: &mut Stage) -> Outcome {
    let load = Load::SyncedWrite(32);
    let amount = load.amount(stage.bytes);
    let direct = Direct::new(stage.dir, stage.bytes, false)?;
    let store = CowBlk::new(stage.dir, CowBlk::NAME, stage.bytes)?;
    fill(&store, stage.bytes)?;
    if let Err(error) = write_at_depth(direct.file(), stage.bytes, 32, Amount { operations: 32, ..amount }, 0)
    {
        stage.targets.noted(LOAD, format!("not measured: {error}"));
        return Ok(());
    }
    let (mut mine, mut theirs) = (Rounds::default(), Rounds::default());
    for round in 1..=stage.arguments.rounds {
        store.sync()?;
        theirs.push(write_at_depth(direct.file(), stage.bytes, 32, amount, round)?);
        mine.push(load.run(&store, stage.bytes, amount, round)?);
    }
    stage.targets.at_least(LOAD, &mine.by(&theirs), 2.0);
    Ok(())
}
