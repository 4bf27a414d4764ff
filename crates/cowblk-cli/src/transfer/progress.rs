//! A progress bar on standard error, where someone is watching.

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

const TEMPLATE: &str =
    "{msg:>10} [{bar:40}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";

/// How far a transfer has come. Dropping it removes the bar.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(output: Output, doing: &'static str, len_bytes: u64) -> Progress {
        if !output.wants_progress() {
            return Progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(len_bytes).with_message(doing);
        bar.set_style(
            ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Progress(bar)
    }

    /// How far it is, where the whole length may show late.
    pub(crate) fn set(&self, bytes: u64, len_bytes: u64) {
        self.0.set_length(len_bytes);
        self.0.set_position(bytes);
    }

    pub(crate) fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
