//! Flows: verbs that take several steps, and what is left of them after a crash.
//!
//! | | active | stopped | suspended | restoring |
//! |---|---|---|---|---|
//! | snapshot | yes | yes | no | no |
//! | backup | yes | yes | no | no |
//! | restore, undo | stops it first | yes | no | no |
//! | start | no | to active | no | no |
//! | stop | to stopped | no | no | no |
//! | suspend | stops it first | yes | no | no |
//! | resume | no | no | to stopped | no |
//! | disks | yes | yes | no | no |
//! | delete | no | yes | yes | no |

pub(crate) mod backup;
pub(crate) mod create;
pub(crate) mod power;
pub(crate) mod recover;
pub(crate) mod restore;
pub(crate) mod snapshot;

use crate::model::Owner;
use crate::refusal::Refusal;
use crate::state::ServerStatus;

/// Refuses what a server's status does not allow.
fn require(
    owner: &Owner,
    status: ServerStatus,
    allowed: &[ServerStatus],
    doing: &str,
) -> Result<(), Refusal> {
    if allowed.contains(&status) {
        return Ok(());
    }
    let wanted: Vec<&str> = allowed.iter().map(|status| status.word()).collect();
    let (name, word) = (&owner.name, status.word());
    let detail = format!("server {name:?} is {word}; to {doing} it has to be {}", wanted.join(" or "));
    Err(Refusal::wrong_state(detail))
}
