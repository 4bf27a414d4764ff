//! Recovery: what a daemon that was killed left half-done is taken back or brought to its end, before anyone is served.

use super::{backup, create, snapshot};
use crate::app::{Shared, server_of, snapshot_of};
use crate::model::{BackupView, CreatedView, DiskView, Owner, RestoredView, is_shown};
use crate::refusal::Refusal;
use crate::state::{Answer, Interrupted, REQUEST};
use cowblk::{Server, ServerId, Snapshot, Store};
use serde::Serialize;
use serde_json::Value;

/// Resolves everything that is in the journal.
pub(crate) async fn recover(app: &Shared) -> Result<(), Refusal> {
    let shared = app.clone();
    app.engine
        .run(move |store| {
            for name in shared.journal.half_made() {
                create::take_back(&shared, store, &name)?;
                shared.journal.note_created(&name).map_err(io)?;
            }
            // Details of servers that another program deleted.
            for id in shared.details.servers() {
                if store.server_by_id(ServerId(id)).is_err() {
                    shared.details.forget(id).map_err(io)?;
                }
            }
            for request in shared.journal.interrupted() {
                match answer_of(&shared, store, &request) {
                    Some(answer) => shared.journal.answer(&request.key, answer).map_err(io)?,
                    None => shared.journal.forget(&request.key).map_err(io)?,
                }
            }
            Ok(())
        })
        .await?;
    if let Some(backups) = app.backups.clone() {
        for id in app.engine.run(move |store| backup::clean_up(store, &backups)).await? {
            let app = app.clone();
            tokio::spawn(async move { backup::copy(&app, id).await });
        }
    }
    for id in app.journal.frozen() {
        let found = app
            .engine
            .run(move |store| Ok(server_of(store, id).ok().map(|server| Owner::of(&server))))
            .await?;
        match found {
            Some(owner) => {
                let app = app.clone();
                tokio::spawn(async move { snapshot::thaw(&app, &owner).await });
            }
            None => app.journal.note_thawed(id).map_err(io)?,
        }
    }
    Ok(())
}

/// What a request was, or would have been, answered; nothing if it did not happen.
fn answer_of(app: &Shared, store: &Store, request: &Interrupted) -> Option<Answer> {
    let words: Vec<&str> = request.path.trim_matches('/').split('/').skip(2).collect();
    match *words.as_slice() {
        ["snapshots"] => {
            let (snapshot, server) = made_snapshot(store, &request.key)?;
            let message = "Snapshot created; its size is being counted.";
            answer(201, &CreatedView::of(&snapshot, &Owner::of(&server), message))
        }
        ["servers"] | ["snapshots", _, "clone"] => {
            let servers = store.servers();
            let server =
                servers.iter().find(|server| server.marks().labels.get(REQUEST) == Some(&request.key))?;
            answer(201, &app.view(server))
        }
        ["backups"] => {
            let made = store.snapshots().into_iter().find(|one| has_mark(one, &request.key))?;
            let server = server_of(store, made.server().0).ok()?;
            answer(201, &BackupView::under_way(&made, &server)?)
        }
        ["servers", id, "disks"] => {
            let server = server_of(store, id.parse().ok()?).ok()?;
            let disk = server.disk(request.name.as_deref()?).ok()?;
            if disk.created_at() >= request.at { answer(201, &DiskView::of(&disk)) } else { None }
        }
        ["snapshots" | "backups", id, "restore"] => restored(app, store, request, id.parse().ok()),
        ["servers", _, "undo"] => restored(app, store, request, request.witness.before_restore),
        ["servers", id, "start" | "stop" | "suspend" | "resume"] => {
            let server = server_of(store, id.parse().ok()?).ok()?;
            let has_changed = request.witness.status.as_deref() != Some(app.status(&server).word());
            if has_changed { answer(200, &app.view(&server)) } else { None }
        }
        _ => None,
    }
}

/// A restore happened if what it replaced is another snapshot than before.
fn restored(app: &Shared, store: &Store, request: &Interrupted, target: Option<u64>) -> Option<Answer> {
    let server = server_of(store, request.witness.server?).ok()?;
    let before = server.before_restore().map(|snapshot| snapshot.id().0);
    if before.is_none() || before == request.witness.before_restore {
        return None;
    }
    let id = target?;
    // An automatic snapshot goes with its restore.
    let is_backup = request.path.starts_with("/api/v1/backups/");
    let known = snapshot_of(store, id).ok().filter(|_| !is_backup);
    let known = known.map(|(one, _)| (id, one.name(), one.created_at()));
    let name = if is_backup { format!("backup-{id}") } else { String::new() };
    let snapshot = known.unwrap_or_else(|| (id, name, server.created_at()));
    let message =
        format!("The disks of {} hold the snapshot; the daemon was restarted since.", server.name());
    let mut view = RestoredView::of(snapshot, &Owner::of(&server), message);
    view.server.status = app.status(&server).word();
    answer(200, &view)
}

fn made_snapshot(store: &Store, key: &str) -> Option<(Snapshot, Server)> {
    let mut snapshots = store.snapshots().into_iter().filter(is_shown);
    let made = snapshots.find(|one| has_mark(one, key))?;
    let server = server_of(store, made.server().0).ok()?;
    Some((made, server))
}

fn has_mark(snapshot: &Snapshot, key: &str) -> bool {
    snapshot.marks().labels.get(REQUEST).is_some_and(|mark| mark == key)
}

fn answer(status: u16, view: &impl Serialize) -> Option<Answer> {
    serde_json::to_value(view).ok().map(|body: Value| Answer { status, body })
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn io(cause: std::io::Error) -> Refusal {
    Refusal::internal(cause.to_string())
}
