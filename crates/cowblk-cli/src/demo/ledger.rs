//! What each step of the demo cost: time, blocks, and bytes written to the device.

use std::time::{Duration, Instant};

use cowblk::Store;
use serde::Serialize;

use crate::failure::Failure;
use crate::sizes::human;
use crate::table::{Column, Table};

/// The costs so far.
pub(super) struct Ledger<'a> {
    store: &'a Store,
    steps: Vec<Cost>,
}

/// One step and its cost.
#[derive(Debug, Serialize)]
pub(super) struct Cost {
    step: String,
    microseconds: u64,
    used_blocks_before: u64,
    used_blocks_after: u64,
    device_bytes_written: u64,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(store: &'a Store) -> Ledger<'a> {
        Ledger { store, steps: Vec::new() }
    }

    /// Does a step and writes down what it cost.
    pub(super) fn step<T>(
        &mut self,
        step: &str,
        act: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (before, written) = (self.store.status().used_blocks, self.store.stats().device_bytes_written);
        let start = Instant::now();
        let value = act()?;
        let elapsed = start.elapsed();
        self.steps.push(Cost {
            step: step.to_owned(),
            microseconds: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            used_blocks_before: before,
            used_blocks_after: self.store.status().used_blocks,
            device_bytes_written: self.store.stats().device_bytes_written.saturating_sub(written),
        });
        Ok(value)
    }

    pub(super) fn into_steps(self) -> Vec<Cost> {
        self.steps
    }
}

pub(super) fn table(steps: &[Cost]) -> Table {
    let mut table = Table::new([
        Column::Left("STEP"),
        Column::Right("TIME"),
        Column::Right("BLOCKS USED"),
        Column::Right("CHANGE"),
        Column::Right("DEVICE WRITES"),
    ]);
    for cost in steps {
        table.row([
            cost.step.clone(),
            duration(cost.microseconds),
            cost.used_blocks_after.to_string(),
            change(cost.used_blocks_before, cost.used_blocks_after),
            human(cost.device_bytes_written),
        ]);
    }
    table
}

fn duration(microseconds: u64) -> String {
    let duration = Duration::from_micros(microseconds);
    if duration < Duration::from_secs(1) {
        format!("{}.{:02} ms", microseconds / 1000, microseconds % 1000 / 10)
    } else {
        format!("{:.2} s", duration.as_secs_f64())
    }
}

fn change(before: u64, after: u64) -> String {
    match after.checked_sub(before) {
        Some(0) => "0".into(),
        Some(more) => format!("+{more}"),
        None => format!("-{}", before - after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_written_with_their_units() {
        assert_eq!(duration(1_234), "1.23 ms");
        assert_eq!(duration(2_500_000), "2.50 s");
        assert_eq!((change(1, 4), change(4, 1), change(4, 4)), ("+3".into(), "-3".into(), "0".into()));
    }
}
