//! `cowblk trim`: gives the space of free blocks back to whatever lies below the store.

use serde::Serialize;

use crate::failure::Failure;
use crate::session::Session;
use crate::sizes::human;

#[derive(Serialize)]
struct Trimmed {
    given_back_bytes: u64,
}

pub(crate) fn run(session: &Session) -> Result<(), Failure> {
    let given_back_bytes = session.write(|store| Ok(store.trim()?))?;
    session.output.item(&Trimmed { given_back_bytes }, &format!("gave back {}", human(given_back_bytes)))
}
