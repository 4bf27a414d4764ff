//! App: what all requests share.

use crate::engine::Engine;
use crate::gate::Failures;
use crate::hooks::{Allowed, HookSettings, HookSpec, Moment, Subject};
use crate::metrics::Metrics;
use crate::model::{Owner, ServerView};
use crate::refusal::Refusal;
use crate::state::{Audit, BACKUP_ID, DetailsBook, Journal, SERVER_ID, ServerStatus, Tokens, status_of};
use cowblk::{ErrorKind, Server, ServerId, ServerKind, Snapshot, SnapshotId, Store};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedMutexGuard, broadcast};

/// Events that wait for one listener, at most.
const EVENTS_MAX: usize = 256;

/// What can be set about the requests.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) clock: fn() -> u64,
    pub(crate) look_every: Duration,
    pub(crate) snapshot_limit: u32,
    pub(crate) body_bytes_max: usize,
    pub(crate) request_time: Duration,
    pub(crate) frozen_time: Duration,
    pub(crate) hooks: HookSettings,
    pub(crate) allowed: Allowed,
    pub(crate) image_folders: Vec<PathBuf>,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EventView {
    pub(crate) kind: &'static str,
    pub(crate) server_id: Option<u64>,
    pub(crate) snapshot_id: Option<u64>,
    pub(crate) at: String,
    /// What only some kinds have.
    #[serde(flatten)]
    pub(crate) more: EventMore,
}

/// What only some kinds of events have.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct EventMore {
    /// The name of a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<String>,
    /// Why it happened unasked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    #[serde(flatten)]
    pub(crate) space: Option<EventSpace>,
}

/// How full the store is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct EventSpace {
    /// The watermark that was passed.
    pub(crate) percent: u8,
    pub(crate) used_bytes: u64,
    pub(crate) capacity_bytes: u64,
}

/// What all requests share.
pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) rules: Rules,
    pub(crate) tokens: Tokens,
    pub(crate) failures: Failures,
    pub(crate) details: DetailsBook,
    pub(crate) journal: Journal,
    pub(crate) audit: Audit,
    pub(crate) metrics: Metrics,
    pub(crate) nbd: Option<Arc<cowblk_nbd::Server>>,
    pub(crate) backups: Option<Store>,
    /// Something waits for a checkpoint: snapshots, for their sizes.
    pub(crate) unsettled: Notify,
    /// Those snapshots: server and snapshot.
    pub(crate) uncounted: Mutex<Vec<(u64, u64)>>,
    /// No new work is begun.
    pub(crate) closing: tokio::sync::watch::Sender<bool>,
    events: broadcast::Sender<EventView>,
    restoring: Mutex<BTreeSet<u64>>,
    locks: Mutex<BTreeMap<u64, Arc<tokio::sync::Mutex<()>>>>,
}

/// A handle of what all requests share.
pub(crate) type Shared = Arc<App>;

/// What is opened from the state folder.
pub(crate) struct Opened {
    pub(crate) tokens: Tokens,
    pub(crate) details: DetailsBook,
    pub(crate) journal: Journal,
    pub(crate) audit: Audit,
    pub(crate) backups: Option<Store>,
}

/// Marks a server as being restored, until dropped.
pub(crate) struct Restoring {
    app: Shared,
    server: u64,
}

impl Restoring {
    /// Whose disks are being replaced.
    pub(crate) fn server(&self) -> u64 {
        self.server
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        self.app.restoring.lock().remove(&self.server);
    }
}

impl App {
    pub(crate) fn new(
        engine: Engine,
        rules: Rules,
        opened: Opened,
        nbd: Option<Arc<cowblk_nbd::Server>>,
    ) -> Self {
        let Opened { tokens, details, journal, audit, backups } = opened;
        Self {
            engine,
            rules,
            tokens,
            failures: Failures::default(),
            details,
            journal,
            audit,
            metrics: Metrics::default(),
            nbd,
            backups,
            unsettled: Notify::new(),
            uncounted: Mutex::default(),
            closing: tokio::sync::watch::Sender::new(false),
            events: broadcast::Sender::new(EVENTS_MAX),
            restoring: Mutex::default(),
            locks: Mutex::default(),
        }
    }

    /// The time, in UTC seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        (self.rules.clock)()
    }

    /// Tells whoever listens.
    pub(crate) fn tell(&self, kind: &'static str, server_id: Option<u64>, snapshot_id: Option<u64>) {
        self.tell_more(kind, server_id, snapshot_id, EventMore::default());
    }

    /// The same, with what only some kinds have.
    pub(crate) fn tell_more(
        &self,
        kind: &'static str,
        server_id: Option<u64>,
        snapshot_id: Option<u64>,
        more: EventMore,
    ) {
        let at = crate::times::rfc3339(self.now());
        // Nobody may be listening.
        let _ = self.events.send(EventView { kind, server_id, snapshot_id, at, more });
    }

    pub(crate) fn listen(&self) -> broadcast::Receiver<EventView> {
        self.events.subscribe()
    }

    /// Keeps other changes of a server waiting until the guard is dropped.
    pub(crate) async fn lock(&self, server: u64) -> OwnedMutexGuard<()> {
        let own = {
            let mut locks = self.locks.lock();
            if locks.len() > 1024 {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            locks.entry(server).or_default().clone()
        };
        own.lock_owned().await
    }

    /// Marks a server as being restored.
    pub(crate) fn begin_restoring(self: &Arc<Self>, server: u64) -> Restoring {
        self.restoring.lock().insert(server);
        Restoring { app: self.clone(), server }
    }

    /// What a server is doing.
    pub(crate) fn status(&self, server: &Server) -> ServerStatus {
        let is_restoring = self.restoring.lock().contains(&server.id().0);
        if is_restoring { ServerStatus::Restoring } else { status_of(&server.marks()) }
    }

    pub(crate) fn view(&self, server: &Server) -> ServerView {
        let details = self.details.of(server.id().0);
        ServerView::of(server, self.status(server), &details, self.rules.snapshot_limit)
    }

    /// Runs a server's hook of a moment, if it has one. Whether it has.
    pub(crate) async fn run_hook(&self, owner: &Owner, moment: Moment) -> Result<bool, Refusal> {
        let Some(hook) = self.hook(owner.id, moment) else { return Ok(false) };
        let begun = std::time::Instant::now();
        let outcome = hook.run(moment, &Subject { id: owner.id, name: owner.name.clone() }).await;
        self.metrics.hook(moment.word(), outcome.is_ok(), begun.elapsed());
        outcome.map(|()| true)
    }

    pub(crate) fn hook(&self, server: u64, moment: Moment) -> Option<HookSpec> {
        self.details.of(server).hooks.hook(&self.rules.hooks, moment).cloned()
    }
}

/// The server with that id, which anyone may see.
pub(crate) fn server_of(store: &Store, id: u64) -> Result<Server, Refusal> {
    let missing = || Refusal::not_found(format!("there is no server {id}"));
    let server = store.server_by_id(ServerId(id)).map_err(|error| match error.kind() {
        ErrorKind::NotFound => missing(),
        _ => error.into(),
    })?;
    // Servers that no listing shows are somebody's work in progress.
    if server.kind() == ServerKind::Staging { Err(missing()) } else { Ok(server) }
}

/// The snapshot with that id, and its server.
pub(crate) fn snapshot_of(store: &Store, id: u64) -> Result<(Snapshot, Server), Refusal> {
    let missing = || Refusal::not_found(format!("there is no snapshot {id}"));
    let snapshot = store.snapshot(SnapshotId(id)).map_err(|error| match error.kind() {
        ErrorKind::NotFound => missing(),
        _ => error.into(),
    })?;
    if !crate::model::is_shown(&snapshot) {
        return Err(missing());
    }
    let server = server_of(store, snapshot.server().0).map_err(|_| missing())?;
    Ok((snapshot, server))
}

/// The copy of the backup with that id, and the server that it is of.
pub(crate) fn backup_of(backups: &Store, id: u64) -> Option<(Snapshot, ServerId)> {
    let text = id.to_string();
    let has_id = |one: &Snapshot| one.marks().labels.get(BACKUP_ID) == Some(&text);
    let copy = backups.snapshots().into_iter().find(has_id)?;
    let server = copy.marks().labels.get(SERVER_ID)?.parse().ok()?;
    Some((copy, ServerId(server)))
}
