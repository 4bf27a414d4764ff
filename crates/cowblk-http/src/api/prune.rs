//! Prune: what a retention policy keeps of a server's snapshots, and deleting the rest.

use crate::app::{Shared, server_of};
use crate::gate::{Body, Id, Query};
use crate::model::{Fate, List, Owner, RetentionView, is_shown};
use crate::refusal::Refusal;
use crate::times::rfc3339;
use axum::Json;
use axum::extract::State;
use cowblk::{Candidate, ErrorKind, Retention, Server, Snapshot, Store, Verdict};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

/// The most that a label's key and value have together; more is on no snapshot.
const LABEL_BYTES_MAX: usize = 1024;

/// How many snapshots to keep.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Keep {
    /// So many of the newest.
    #[serde(default)]
    last: u32,
    /// The newest of each of so many hours.
    #[serde(default)]
    hourly: u32,
    /// The newest of each of so many days.
    #[serde(default)]
    daily: u32,
    /// The newest of each of so many weeks.
    #[serde(default)]
    weekly: u32,
    /// The newest of each of so many months.
    #[serde(default)]
    monthly: u32,
    /// The newest of each of so many years.
    #[serde(default)]
    yearly: u32,
    /// Look only at snapshots with this label, as in `by=cron`.
    label: Option<String>,
}

/// A policy, and what it looks at.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PruneView {
    #[serde(flatten)]
    policy: RetentionView,
    /// Look only at snapshots with this label, as in `by=cron`.
    #[serde(default)]
    label: Option<String>,
}

/// What a label says, taken apart.
fn label_of(text: Option<String>) -> Result<Option<(String, String)>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || Refusal::invalid("`label` is written KEY=VALUE, as in by=cron");
    let (key, value) = text.split_once('=').ok_or_else(wrong)?;
    if key.is_empty() || text.len() > LABEL_BYTES_MAX || key.starts_with("cowblk.") {
        return Err(wrong());
    }
    Ok(Some((key.to_owned(), value.to_owned())))
}

/// What a retention policy would keep, and why
#[utoipa::path(get, path = "/api/v1/servers/{id}/prune/", tag = "servers", params(("id" = u64, Path), Keep),
    responses((status = 200, body = List<Fate>)))]
pub(super) async fn plan_prune(
    State(app): State<Shared>,
    Id(id): Id,
    Query(keep): Query<Keep>,
) -> Result<Json<List<Fate>>, Refusal> {
    let Keep { last, hourly, daily, weekly, monthly, yearly, label } = keep;
    let policy = RetentionView { last, hourly, daily, weekly, monthly, yearly }.policy(label_of(label)?);
    let at = app.now();
    let act = move |store: &Store| {
        let server = server_of(store, id)?;
        Ok(fates(&Owner::of(&server), &plan(&server, &policy, at)))
    };
    app.engine.run(act).await.map(Json)
}

/// Delete what a retention policy does not keep
///
/// What is protected, and what a restore keeps, stays. A policy without any rule deletes only what has expired.
#[utoipa::path(post, path = "/api/v1/servers/{id}/prune/", tag = "servers", params(("id" = u64, Path)),
    request_body = PruneView, responses((status = 200, body = List<Fate>)))]
pub(super) async fn prune(
    State(app): State<Shared>,
    Id(id): Id,
    Body(wanted): Body<PruneView>,
) -> Result<Json<List<Fate>>, Refusal> {
    let policy = wanted.policy.policy(label_of(wanted.label)?);
    let _lock = app.lock(id).await;
    let at = app.now();
    let act = move |store: &Store| {
        let server = server_of(store, id)?;
        let mut planned = plan(&server, &policy, at);
        for (verdict, _) in planned.iter().filter(|(verdict, _)| !verdict.is_kept()) {
            store.delete_snapshot(verdict.id).or_else(|error| match error.kind() {
                // Somebody deleted or protected it meanwhile.
                ErrorKind::NotFound | ErrorKind::Protected => Ok(()),
                _ => Err(error),
            })?;
        }
        planned.retain(|(verdict, _)| verdict.is_kept() || store.snapshot(verdict.id).is_err());
        Ok(fates(&Owner::of(&server), &planned))
    };
    let list = app.engine.run(act).await?;
    for fate in list.results.iter().filter(|fate| !fate.kept) {
        app.tell("snapshot.deleted", Some(id), Some(fate.id));
    }
    Ok(Json(list))
}

/// What becomes of the snapshots that are for everybody to see, and their names. Those that backups are made of do not count.
fn plan(server: &Server, policy: &Retention, at: u64) -> Vec<(Verdict, String)> {
    let automatic = server.before_restore();
    let mut shown: Vec<Snapshot> = server.snapshots().into_iter().filter(is_shown).chain(automatic).collect();
    shown.dedup_by_key(|one| one.id());
    let candidate = |one: &Snapshot| Candidate {
        id: one.id(),
        created_at: one.created_at(),
        kind: one.kind(),
        marks: one.marks(),
    };
    let candidates: Vec<Candidate> = shown.iter().map(candidate).collect();
    let name = |id| shown.iter().find(|one| one.id() == id).map(Snapshot::name).unwrap_or_default();
    let verdicts = policy.plan(&candidates, at).into_iter();
    verdicts.map(|verdict| (verdict.clone(), name(verdict.id))).collect()
}

fn fates(owner: &Owner, planned: &[(Verdict, String)]) -> List<Fate> {
    let fate = |(verdict, name): &(Verdict, String)| {
        let word = |reason| serde_json::to_value(reason).ok()?.as_str().map(str::to_owned);
        Fate {
            server: owner.clone(),
            id: verdict.id.0,
            name: name.clone(),
            created_at: rfc3339(verdict.created_at),
            kept: verdict.is_kept(),
            expired: verdict.expired,
            reasons: verdict.reasons.iter().filter_map(word).collect(),
        }
    };
    let results: Vec<Fate> = planned.iter().map(fate).collect();
    List { count: results.len(), results }
}
