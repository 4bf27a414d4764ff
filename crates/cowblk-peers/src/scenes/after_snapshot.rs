//! After a snapshot: the first writes to blocks that a snapshot holds, against writes to blocks that none does.

use super::Stage;
use crate::figures::Rounds;
use crate::load::{LOADS, Load};
use crate::peers::{self, CowBlk, Imago, Outcome, Peer, Redb};

pub(super) fn run(stage: &mut Stage) -> Outcome {
    let takes_part = [CowBlk::NAME, Imago::NAME, Redb::NAME];
    let wanted = |name: &str| takes_part.contains(&name) && stage.arguments.wants(name);
    let mut peers = peers::all(stage.dir, stage.bytes, wanted)?;
    for peer in &mut peers {
        let name = peer.name();
        let loads = if name == CowBlk::NAME { &LOADS[..] } else { &[Load::Write, Load::SyncedWrite(32)] };
        for load in loads {
            let ratio = (1..=stage.arguments.rounds)
                .map(|round| after_by_before(&mut **peer, *load, stage.bytes, round))
                .collect::<Outcome<Rounds>>()?;
            let text = format!("{}, after a snapshot / before it", load.name());
            if name == CowBlk::NAME {
                stage.targets.at_least(text, &ratio, 0.95);
            } else {
                stage.targets.noted(format!("{name}: {text}"), format!("{:.2}", ratio.median()));
            }
        }
    }
    Ok(())
}

/// The rate behind a snapshot by the rate before it, in one round.
fn after_by_before(peer: &mut dyn Peer, load: Load, bytes: u64, round: u64) -> Outcome<f64> {
    let amount = load.amount_of_first_writes(bytes);
    peer.sync()?;
    let before = load.run(peer, bytes, amount, round)?;
    peer.sync()?;
    peer.snapshots().ok_or("no snapshots")?.take()?;
    let after = load.run(peer, bytes, amount, round + 1000)?;
    peer.sync()?;
    peer.snapshots().ok_or("no snapshots")?.forget()?;
    Ok(after / before)
}
