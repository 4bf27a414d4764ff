//! Power: start, stop, suspend, resume. The status is written when the hook has done its work.

use super::require;
use crate::app::{Shared, server_of};
use crate::hooks::Moment;
use crate::model::{Owner, ServerView};
use crate::refusal::Refusal;
use crate::state::{ServerStatus, set_status};

/// One way from status to status.
struct Way {
    from: &'static [ServerStatus],
    to: ServerStatus,
    doing: &'static str,
}

/// Starts a stopped server.
pub(crate) async fn start(app: &Shared, id: u64) -> Result<ServerView, Refusal> {
    take(app, id, Way { from: &[ServerStatus::Stopped], to: ServerStatus::Active, doing: "start" }).await
}

/// Stops an active server.
pub(crate) async fn stop(app: &Shared, id: u64) -> Result<ServerView, Refusal> {
    take(app, id, Way { from: &[ServerStatus::Active], to: ServerStatus::Stopped, doing: "stop" }).await
}

/// Puts a server aside, stopping it if it is active.
pub(crate) async fn suspend(app: &Shared, id: u64) -> Result<ServerView, Refusal> {
    let from = &[ServerStatus::Active, ServerStatus::Stopped];
    take(app, id, Way { from, to: ServerStatus::Suspended, doing: "suspend" }).await
}

/// Takes a suspended server back into use, stopped.
pub(crate) async fn resume(app: &Shared, id: u64) -> Result<ServerView, Refusal> {
    take(app, id, Way { from: &[ServerStatus::Suspended], to: ServerStatus::Stopped, doing: "resume" }).await
}

async fn take(app: &Shared, id: u64, way: Way) -> Result<ServerView, Refusal> {
    let _lock = app.lock(id).await;
    let shared = app.clone();
    let (owner, status) = app
        .engine
        .run(move |store| {
            let server = server_of(store, id)?;
            Ok((Owner::of(&server), shared.status(&server)))
        })
        .await?;
    require(&owner, status, way.from, way.doing)?;
    if way.to == ServerStatus::Active {
        app.run_hook(&owner, Moment::Start).await?;
    } else if status == ServerStatus::Active {
        app.run_hook(&owner, Moment::Stop).await?;
    }
    let shared = app.clone();
    let view = app.engine.run(move |store| {
        let server = server_of(store, id)?;
        set_status(&server, way.to, shared.now())?;
        Ok(shared.view(&server))
    });
    let view = view.await?;
    app.tell("server.status", Some(id), None);
    Ok(view)
}
