//! `cowblk collect`: runs the collector until nothing deleted is left to walk.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::session::Session;
use crate::sizes::human;

/// What collecting freed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Collected {
    used_blocks_before: u64,
    used_blocks_after: u64,
    freed_bytes: u64,
}

pub(crate) fn run(session: &Session) -> Result<(), Failure> {
    let collected = session.write(|store| {
        let before = store.status();
        store.collect()?;
        let after = store.status();
        let freed = before.used_blocks.saturating_sub(after.used_blocks);
        Ok(Collected {
            used_blocks_before: before.used_blocks,
            used_blocks_after: after.used_blocks,
            freed_bytes: freed.saturating_mul(u64::from(after.block_size)),
        })
    })?;
    session.output.item(&collected, &collected.text())
}

impl Collected {
    pub(crate) fn text(&self) -> String {
        format!("freed {}", human(self.freed_bytes))
    }
}
