//! Head: whether a server's disks go along with a snapshot that it received.

use cowblk::{Disk, Server, Snapshot};

use crate::error::Result;

/// What happens to the disks of a server that receives a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HeadPolicy {
    /// They are taken to the snapshot if they still hold what the base holds, or if there are none: a replica
    /// follows, and what somebody wrote since stays.
    #[default]
    Follow,
    /// They stay as they are.
    Keep,
    /// They are taken to the snapshot in any case. What they hold becomes the before-restore snapshot.
    Force,
}

impl HeadPolicy {
    /// Whether the disks of `server` are to be taken to what builds on `base`.
    pub(super) fn moves(self, server: &Server, base: Option<&Snapshot>) -> Result<bool> {
        match self {
            Self::Keep => Ok(false),
            Self::Force => Ok(true),
            Self::Follow => {
                let disks = server.disks();
                let Some(base) = base else { return Ok(disks.is_empty()) };
                if disks.is_empty() {
                    return Ok(server.snapshots().is_empty() || base.disks().is_empty());
                }
                if disks.len() != base.disks().len() {
                    return Ok(false);
                }
                for disk in &disks {
                    if !holds_base(disk, base)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

/// Takes the disks of `server` to `snapshot`. A restore leaves alone what the snapshot does not hold: those of these disks
/// that are still what the base holds were deleted at the sender, and go.
pub(super) fn move_to(server: &Server, snapshot: &Snapshot, base: Option<&Snapshot>) -> Result<()> {
    server.restore(snapshot.id())?;
    let Some(base) = base else { return Ok(()) };
    for disk in server.disks() {
        if snapshot.disk(&disk.name()).is_err() && holds_base(&disk, base)? {
            server.delete_disk(&disk.name())?;
        }
    }
    Ok(())
}

/// Whether a disk is what it was at the base.
fn holds_base(disk: &Disk, base: &Snapshot) -> Result<bool> {
    let Ok(older) = base.disk(&disk.name()) else { return Ok(false) };
    if disk.parent() != Some(base.id()) || disk.size_bytes() != older.size_bytes() {
        return Ok(false);
    }
    match disk.changes_since(base.id())?.next() {
        None => Ok(true),
        Some(Ok(_)) => Ok(false),
        Some(Err(error)) => Err(error.into()),
    }
}
