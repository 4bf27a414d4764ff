//! Contest: every peer under every load, in turn, round after round.

use crate::buffer::Buffer;
use crate::figures::{Rounds, short};
use crate::load::{LOADS, Load, Pace};
use crate::peers::{Outcome, Peer, Raw};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Operations a second, by load and the peer's name.
pub(crate) struct Contest {
    names: Vec<&'static str>,
    settings: Vec<(&'static str, String)>,
    loads: Vec<Load>,
    rates: BTreeMap<(Load, &'static str), Rounds>,
    /// Microseconds of processors for one operation.
    costs: BTreeMap<(Load, &'static str), Rounds>,
}

/// Reads a disk once: what was written past the page cache is in it then, as what was written through it is.
fn warm(peer: &dyn Peer, bytes: u64) -> Outcome {
    let mut buf = Buffer::noise(1 << 20);
    (0..bytes).step_by(1 << 20).try_for_each(|offset| peer.read_at(&mut buf, offset))
}

impl Contest {
    /// Runs all loads on all peers. Within a round, a load goes over all peers before the next load begins.
    pub(crate) fn run(
        peers: &[Box<dyn Peer>],
        bytes: u64,
        rounds: u64,
        wanted: impl Fn(Load) -> bool,
    ) -> Outcome<Self> {
        let loads: Vec<Load> = LOADS.into_iter().filter(|load| wanted(*load)).collect();
        let (mut rates, mut costs) = (BTreeMap::<_, Rounds>::new(), BTreeMap::<_, Rounds>::new());
        for round in 1..=rounds {
            for (salt, load) in (round << 8..).zip(loads.iter().copied()) {
                for peer in peers {
                    // What was left dirty is not part of the next figure.
                    peer.sync()?;
                    if matches!(load, Load::Read | Load::SequentialRead) {
                        warm(&**peer, bytes)?;
                    }
                    let Pace { rate, cpu_us } = load.run_counted(&**peer, bytes, load.amount(bytes), salt)?;
                    rates.entry((load, peer.name())).or_default().push(rate);
                    costs.entry((load, peer.name())).or_default().push(cpu_us);
                    eprintln!("round {round} of {rounds}: {}, {}: {}", load.name(), peer.name(), short(rate));
                }
            }
        }
        let names = peers.iter().map(|peer| peer.name()).collect();
        let settings = peers.iter().map(|peer| (peer.name(), peer.setting())).collect();
        Ok(Self { names, settings, loads, rates, costs })
    }

    /// What a peer reached under a load, if both took part.
    pub(crate) fn rate(&self, load: Load, name: &str) -> Option<&Rounds> {
        self.rates.iter().find(|((l, n), _)| *l == load && *n == name).map(|(_, rounds)| rounds)
    }

    /// One peer's rate by another's, round by round.
    pub(crate) fn ratio(&self, load: Load, name: &str, to: &str) -> Option<Rounds> {
        Some(self.rate(load, name)?.by(self.rate(load, to)?))
    }

    /// Operations a second: a median, its ratio to the raw file in bold, and half the spread.
    pub(crate) fn table(&self) -> String {
        self.rows(|load, name| {
            let rounds = self.rate(load, name).cloned().unwrap_or_default();
            let ratio = self.ratio(load, name, Raw::NAME).map(|ratio| format!(" **{:.2}**", ratio.median()));
            let half = rounds.spread() * 50.0;
            format!("{}{} ±{half:.0}%", short(rounds.median()), ratio.unwrap_or_default())
        })
    }

    /// Microseconds of processors for an operation: medians. They hardly change when others use the machine, too.
    pub(crate) fn costs(&self) -> String {
        self.rows(|load, name| {
            self.costs.get(&(load, name)).map_or(String::new(), |cost| short(cost.median()))
        })
    }

    /// A table with a line for each load and a column for each peer.
    fn rows(&self, cell: impl Fn(Load, &'static str) -> String) -> String {
        let mut text =
            format!("| load | {} |\n|---|{}\n", self.names.join(" | "), "--:|".repeat(self.names.len()));
        for load in self.loads.iter().copied() {
            let cells: Vec<String> = self.names.iter().map(|name| cell(load, name)).collect();
            let _ = writeln!(text, "| {} | {} |", load.name(), cells.join(" | "));
        }
        text
    }

    /// Who took part, with which settings.
    pub(crate) fn settings(&self) -> String {
        self.settings.iter().fold(String::new(), |mut text, (name, setting)| {
            let _ = writeln!(text, "* **{name}**: {setting}.");
            text
        })
    }
}
