//! Medians: what one call took, beside the means of Criterion, in which a single slow call of a busy machine shows.

#![allow(clippy::print_stdout, reason = "figures are what a benchmark is for")]

use std::time::Duration;

/// The medians of calls of one kind on several stores.
#[derive(Default)]
pub(crate) struct Medians(Vec<(String, String, Duration)>);

impl Medians {
    /// Notes what calls of `verb` on a store took.
    pub(crate) fn note(&mut self, verb: &str, on: &str, mut times: Vec<Duration>) {
        times.sort_unstable();
        if let Some(median) = times.get(times.len() / 2) {
            self.0.push((verb.to_owned(), on.to_owned(), *median));
        }
    }

    /// Prints a line for each verb, with the ratio between the slowest store and the fastest.
    pub(crate) fn print(&self, claim: &str) {
        let mut verbs: Vec<&str> = self.0.iter().map(|(verb, ..)| verb.as_str()).collect();
        verbs.dedup();
        verbs.sort_unstable();
        verbs.dedup();
        if !verbs.is_empty() {
            println!("\nClaim: {claim}.");
        }
        for verb in verbs {
            let of_verb = || self.0.iter().filter(|(other, ..)| other == verb);
            let texts: Vec<String> = of_verb()
                .map(|(_, on, median)| format!("{on} {:.2} µs", median.as_secs_f64() * 1e6))
                .collect();
            let slowest = of_verb().map(|(.., median)| median.as_secs_f64()).fold(0.0, f64::max);
            let fastest = of_verb().map(|(.., median)| median.as_secs_f64()).fold(f64::INFINITY, f64::min);
            println!(
                "  {verb}, median of a call: {}; slowest / fastest {:.2}",
                texts.join(", "),
                slowest / fastest
            );
        }
    }
}
