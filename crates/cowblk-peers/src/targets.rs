//! Targets: what was promised, what was measured, and whether the one meets the other.

use crate::figures::Rounds;
use std::fmt::Write as _;

/// A line of the table of targets.
struct Line {
    load: String,
    figure: String,
    target: String,
    /// Whether it was met; `None` for a figure that has no target.
    is_met: Option<bool>,
}

/// The table of targets, as it grows.
#[derive(Default)]
pub(crate) struct Targets(Vec<Line>);

impl Targets {
    /// A ratio that has to be so large.
    pub(crate) fn at_least(&mut self, load: impl Into<String>, ratio: &Rounds, target: f64) {
        let is_met = ratio.median() >= target;
        self.line(load.into(), range(ratio), format!(">= {target}"), Some(is_met));
    }

    /// A ratio, or a figure, that has to be so small.
    pub(crate) fn at_most(&mut self, load: impl Into<String>, ratio: &Rounds, target: f64) {
        let is_met = ratio.median() <= target;
        self.line(load.into(), range(ratio), format!("<= {target}"), Some(is_met));
    }

    /// A figure whose target is not one number.
    pub(crate) fn judged(
        &mut self,
        load: impl Into<String>,
        figure: impl Into<String>,
        target: &str,
        is_met: bool,
    ) {
        self.line(load.into(), figure.into(), target.into(), Some(is_met));
    }

    /// A figure for comparison.
    pub(crate) fn noted(&mut self, load: impl Into<String>, figure: impl Into<String>) {
        self.line(load.into(), figure.into(), String::new(), None);
    }

    fn line(&mut self, load: String, figure: String, target: String, is_met: Option<bool>) {
        eprintln!("{load}: {figure} {target}");
        self.0.push(Line { load, figure, target, is_met });
    }

    /// How many targets were missed.
    pub(crate) fn missed(&self) -> usize {
        self.0.iter().filter(|line| line.is_met == Some(false)).count()
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from("| load | measured | target | |\n|---|--:|--:|---|\n");
        for Line { load, figure, target, is_met } in &self.0 {
            let verdict = match is_met {
                Some(true) => "met",
                Some(false) => "**missed**",
                None => "",
            };
            let _ = writeln!(text, "| {load} | {figure} | {target} | {verdict} |");
        }
        text
    }
}

/// The median, and between which values the rounds lie.
fn range(ratio: &Rounds) -> String {
    match ratio.bounds() {
        Some((smallest, largest)) if ratio.len() > 1 => {
            format!("{:.2} ({smallest:.2} to {largest:.2})", ratio.median())
        }
        _ => format!("{:.2}", ratio.median()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_by_the_median_of_the_rounds() {
        let mut targets = Targets::default();
        let ratio: Rounds = [0.5, 1.3, 1.2].into_iter().collect();
        targets.at_least("more", &ratio, 1.2);
        targets.at_least("still more", &ratio, 1.25);
        targets.at_most("less", &ratio, 1.2);
        targets.at_most("nothing was measured", &Rounds::default(), 1.0);
        targets.noted("for comparison", "7");
        assert_eq!(targets.missed(), 2, "{}", targets.table());
        assert!(
            targets.table().contains("| more | 1.20 (0.50 to 1.30) | >= 1.2 | met |"),
            "{}",
            targets.table()
        );
    }
}
