//! `cowblk trim`: gives the space of free blocks back to whatever lies below the store.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::session::Session;
use crate::sizes::human;

/// What was given back.
#[derive(Serialize, Deserialize)]
pub(crate) struct Trimmed {
    given_back_bytes: u64,
}

pub(crate) fn run(session: &Session) -> Result<(), Failure> {
    let given_back_bytes = session.write(|store| Ok(store.trim()?))?;
    let trimmed = Trimmed { given_back_bytes };
    session.output.item(&trimmed, &trimmed.text())
}

impl Trimmed {
    pub(crate) fn text(&self) -> String {
        format!("gave back {}", human(self.given_back_bytes))
    }
}
