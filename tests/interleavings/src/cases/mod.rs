//! Cases: each one a few threads and what must hold whatever the scheduler does. Called by `tests/all.rs`.

pub mod gate;
pub mod journal;
mod medium;
pub mod runs;
