//! Contest: every peer under every load, in turn, round after round.

use crate::figures::{Rounds, short};
use crate::load::{LOADS, Load};
use crate::peers::{Outcome, Peer, Raw};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Operations a second, by load and the peer's name.
pub(crate) struct Contest {
    names: Vec<&'static str>,
    settings: Vec<(&'static str, String)>,
    rates: BTreeMap<(Load, &'static str), Rounds>,
}

impl Contest {
    /// Runs all loads on all peers. Within a round, a load goes over all peers before the next load begins.
    pub(crate) fn run(peers: &[Box<dyn Peer>], bytes: u64, rounds: u64) -> Outcome<Self> {
        let mut rates: BTreeMap<(Load, &'static str), Rounds> = BTreeMap::new();
        for round in 1..=rounds {
            for (salt, load) in (round << 8..).zip(LOADS) {
                for peer in peers {
                    // What was left dirty is not part of the next figure.
                    peer.sync()?;
                    let rate = load.run(&**peer, bytes, load.amount(bytes), salt)?;
                    rates.entry((load, peer.name())).or_default().push(rate);
                    eprintln!("round {round} of {rounds}: {}, {}: {}", load.name(), peer.name(), short(rate));
                }
            }
        }
        let names = peers.iter().map(|peer| peer.name()).collect();
        let settings = peers.iter().map(|peer| (peer.name(), peer.setting())).collect();
        Ok(Self { names, settings, rates })
    }

    /// What a peer reached under a load, if both took part.
    pub(crate) fn rate(&self, load: Load, name: &str) -> Option<&Rounds> {
        self.rates.iter().find(|((l, n), _)| *l == load && *n == name).map(|(_, rounds)| rounds)
    }

    /// One peer's rate by another's, round by round.
    pub(crate) fn ratio(&self, load: Load, name: &str, to: &str) -> Option<Rounds> {
        Some(self.rate(load, name)?.by(self.rate(load, to)?))
    }

    /// The table: a median, its ratio to the raw file, and the spread.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from("| load |");
        for name in &self.names {
            let _ = write!(text, " {name} |");
        }
        text += "\n|---|";
        text += &"--:|".repeat(self.names.len());
        text.push('\n');
        for load in LOADS {
            let _ = write!(text, "| {} |", load.name());
            for name in &self.names {
                let rounds = self.rate(load, name).cloned().unwrap_or_default();
                let ratio = self.ratio(load, name, Raw::NAME).map(|r| format!(" **{:.2}**", r.median()));
                let spread = rounds.spread() * 100.0;
                let _ = write!(
                    text,
                    " {}{} ±{:.0}% |",
                    short(rounds.median()),
                    ratio.unwrap_or_default(),
                    spread / 2.0
                );
            }
            text.push('\n');
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
