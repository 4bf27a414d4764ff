//! Restores: stop the guest, keep NBD clients out, swap the roots, leave the server stopped or start it again.
//!
//! The answer is sent once the disks hold the snapshot; the server is `restoring` until what follows is done, too. That status is
//! in memory only, so none is left by a crash: the server is `stopped` then, with the disks as before or as after.

use super::{backup, power, require};
use crate::app::{App, Restoring, Shared, server_of, snapshot_of};
use crate::flows::snapshot::complain;
use crate::hooks::Moment;
use crate::model::{Owner, RestoredView, ServerView};
use crate::refusal::Refusal;
use crate::state::{ServerStatus, set_status};
use cowblk::{Server, Snapshot, SnapshotId, Store};

/// What to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The snapshot with this id.
    Snapshot(u64),
    /// The backup with this id.
    Backup(u64),
    /// What the last restore of the server with this id replaced.
    Undo(u64),
}

struct Found {
    owner: Owner,
    status: ServerStatus,
    snapshot: (u64, String, u64),
}

/// Takes a server back. Durable when this returns.
pub(crate) async fn restore(app: &Shared, target: Target, start: bool) -> Result<RestoredView, Refusal> {
    let shared = app.clone();
    let id =
        app.engine.run(move |store| target.find(&shared, store).map(|(_, server)| server.id().0)).await?;
    let lock = app.lock(id).await;
    let shared = app.clone();
    let found = app.engine.run(move |store| {
        let (snapshot, server) = target.find(&shared, store)?;
        Ok(Found {
            owner: Owner::of(&server),
            status: shared.status(&server),
            snapshot: match target {
                Target::Backup(id) => (id, format!("backup-{id}"), snapshot.created_at()),
                Target::Snapshot(_) | Target::Undo(_) => {
                    (snapshot.id().0, snapshot.name(), snapshot.created_at())
                }
            },
        })
    });
    let Found { owner, status, snapshot } = found.await?;
    require(&owner, status, &[ServerStatus::Active, ServerStatus::Stopped], "restore a snapshot")?;
    let restoring = app.begin_restoring(id);
    drop(lock);
    stop_first(app, &owner, status).await?;
    let (shared, snapshot_id) = (app.clone(), snapshot.0);
    let swapped = app.engine.run(move |store| {
        let server = server_of(store, id)?;
        let (snapshot_id, is_brought) = target.bring(&shared, store, (&server, snapshot_id))?;
        let restored = alone(&shared, (&server, status), || Ok(server.restore(snapshot_id)?));
        if is_brought {
            store.delete_snapshot(snapshot_id)?;
        }
        restored
    });
    swapped.await?;
    app.tell("server.restored", Some(id), Some(snapshot_id));
    app.unsettled.notify_one();
    let then = if start { "it is being started" } else { "start it when you are ready" };
    let stopped = if status == ServerStatus::Active { "was stopped first" } else { "was stopped already" };
    let message = format!(
        "The disks of {} hold snapshot {} again; the server {stopped}, {then}. POST /api/v1/servers/{id}/undo/ takes this back.",
        owner.name, snapshot.1
    );
    let view = RestoredView::of(snapshot, &owner, message);
    go_on(app, restoring, start);
    Ok(view)
}

/// Takes a clone back to what it was cloned from. Durable when this returns.
pub(crate) async fn reset(app: &Shared, id: u64, start: bool) -> Result<ServerView, Refusal> {
    let lock = app.lock(id).await;
    let shared = app.clone();
    let found = app.engine.run(move |store| {
        let server = server_of(store, id)?;
        if server.origin().is_none() {
            let name = server.name();
            let detail = format!("server {name:?} was not cloned from a snapshot, or that is gone");
            return Err(Refusal::wrong_state(detail));
        }
        Ok((Owner::of(&server), shared.status(&server)))
    });
    let (owner, status) = found.await?;
    require(&owner, status, &[ServerStatus::Active, ServerStatus::Stopped], "reset it")?;
    let restoring = app.begin_restoring(id);
    drop(lock);
    stop_first(app, &owner, status).await?;
    let shared = app.clone();
    let swapped = app.engine.run(move |store| {
        let server = server_of(store, id)?;
        alone(&shared, (&server, status), || Ok(server.reset()?))?;
        Ok(shared.view(&server))
    });
    let view = swapped.await?;
    app.tell("server.restored", Some(id), view.origin);
    go_on(app, restoring, start);
    Ok(view)
}

/// Stops the guest of an active server.
async fn stop_first(app: &Shared, owner: &Owner, status: ServerStatus) -> Result<(), Refusal> {
    if status == ServerStatus::Active {
        app.run_hook(owner, Moment::Stop).await?;
    }
    Ok(())
}

/// Changes the disks of a server that is stopped from here on, while no client of NBD uses them.
fn alone(
    app: &App,
    (server, status): (&Server, ServerStatus),
    act: impl FnOnce() -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    if status == ServerStatus::Active {
        set_status(server, ServerStatus::Stopped, app.now())?;
    }
    let _hold = app.nbd.as_ref().map(|nbd| nbd.hold(server.id(), "its disks are being restored"));
    act()
}

/// Behind the answer: the server is no longer being restored, and started if that is wanted.
fn go_on(app: &Shared, restoring: Restoring, start: bool) {
    let app = app.clone();
    tokio::spawn(async move {
        let id = restoring.server();
        drop(restoring);
        if start && let Err(refusal) = power::start(&app, id).await {
            complain(&refusal);
        }
        app.tell("server.status", Some(id), None);
    });
}

impl Target {
    /// The snapshot to restore, in the store of servers. Whether it is to be deleted afterwards.
    fn bring(
        self,
        app: &Shared,
        store: &Store,
        (server, snapshot): (&Server, u64),
    ) -> Result<(SnapshotId, bool), Refusal> {
        match self {
            Self::Backup(id) => backup::bring(store, &backup::storage(app)?, server, id),
            Self::Snapshot(_) | Self::Undo(_) => Ok((SnapshotId(snapshot), false)),
        }
    }

    fn find(self, app: &Shared, store: &Store) -> Result<(Snapshot, Server), Refusal> {
        match self {
            Self::Snapshot(id) => snapshot_of(store, id),
            Self::Backup(id) => {
                let (copy, server) = backup::find(&backup::storage(app)?, id)?;
                let server = server_of(store, server.0).map_err(|_| {
                    Refusal::wrong_state(format!(
                        "the server of backup {id} is gone; make one with its id first"
                    ))
                })?;
                Ok((copy, server))
            }
            Self::Undo(id) => {
                let server = server_of(store, id)?;
                let nothing = || {
                    Refusal::wrong_state(format!("server {:?} has no restore to take back", server.name()))
                };
                let before = server.before_restore().ok_or_else(nothing)?;
                Ok((before, server))
            }
        }
    }
}
