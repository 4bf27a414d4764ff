//! Serve: a daemon from its first line to its last.
//!
//! At the end: listeners close, requests under way are finished, NBD clients are told to go, the store is flushed.

mod listen;
mod notices;
mod settings;
mod work;

pub use settings::{Address, Certificate, Settings};

use crate::api;
use crate::app::{App, Opened, Rules, Shared};
use crate::engine::Engine;
use crate::flows::recover::recover;
use crate::hooks::Allowed;
use crate::state::{Audit, DetailsBook, Journal, Serving, Tokens};
use cowblk::Store;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long requests may take to finish when the daemon is told to stop.
const GOODBYE_TIME: Duration = Duration::from_secs(30);
/// Threads that run asynchronous code: it never blocks, so few do.
const ASYNC_THREADS: usize = 2;

/// What a daemon says once it listens.
#[derive(Debug)]
pub struct Outcome {
    /// Where, as URLs; `unix:` and a path for a socket.
    pub addresses: Vec<String>,
    /// Nobody can come in yet: `cowblk token create` changes that.
    pub has_tokens: bool,
}

/// Serves a store until SIGTERM or SIGINT. `on_ready` is called once it listens. The store stays open; close it afterwards.
///
/// # Errors
/// What the file system or the network says; addresses that would carry tokens in the open.
pub fn serve(
    store: &Store,
    settings: Settings,
    on_ready: impl FnOnce(&Outcome) -> io::Result<()>,
) -> io::Result<()> {
    within(&settings.clone(), async {
        // Before anything else: a signal that comes early is not lost.
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        };
        run(store, settings, stop, on_ready).await
    })
}

/// Serves a store until `stop` is done, and leaves signals alone: for processes that do more than this.
///
/// # Errors
/// As [`serve`].
pub fn serve_until(
    store: &Store,
    settings: Settings,
    stop: impl Future<Output = ()>,
    on_ready: impl FnOnce(&Outcome) -> io::Result<()>,
) -> io::Result<()> {
    within(&settings.clone(), run(store, settings, stop, on_ready))
}

/// Carries out `work` on threads of its own.
fn within(settings: &Settings, work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    settings.check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(ASYNC_THREADS)
        // One more than the engine's, for looking up names.
        .max_blocking_threads(settings.threads + 1)
        .thread_name("cowblk-http")
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(work);
    // Whatever waits for a guest or a client now waits in vain.
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome
}

async fn run(
    store: &Store,
    settings: Settings,
    stop: impl Future<Output = ()>,
    on_ready: impl FnOnce(&Outcome) -> io::Result<()>,
) -> io::Result<()> {
    let app = open(store, &settings)?;
    notices::pass_on(&app)?;
    recover(&app).await.map_err(|refusal| io::Error::other(refusal.to_string()))?;
    let listeners = listen::bind(&settings).await?;
    let addresses: Vec<String> = listeners.iter().map(listen::Listening::name).collect();
    let _serving = Serving::at(&settings.state, &addresses)?;
    on_ready(&Outcome { addresses, has_tokens: !app.tokens.is_empty() })?;
    let router = api::router(&app);
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        tasks.spawn(listen::accept_all(listener, router.clone(), app.closing.subscribe()));
    }
    let mut background = tokio::task::JoinSet::new();
    background.spawn(work::settle_all(app.clone()));
    background.spawn(crate::schedule::run(app.clone()));
    stop.await;
    let _ = app.closing.send(true); // nobody listening is fine
    let goodbye = tokio::time::timeout(GOODBYE_TIME, async { while tasks.join_next().await.is_some() {} });
    let is_late = goodbye.await.is_err();
    background.abort_all();
    if let Some(nbd) = app.nbd.clone() {
        let stopped = tokio::task::spawn_blocking(move || nbd.stop()).await;
        stopped.map_err(io::Error::other)?;
    }
    store.flush()?;
    if is_late {
        Err(io::Error::other("requests were still under way after 30 seconds, and were given up"))
    } else {
        Ok(())
    }
}

fn open(store: &Store, settings: &Settings) -> io::Result<Shared> {
    let folder = &settings.state;
    let tokens = Tokens::open(folder)?;
    let opened = Opened {
        tokens,
        details: DetailsBook::open(folder)?,
        journal: Journal::open(folder, settings.clock)?,
        audit: Audit::open(folder)?,
        backups: settings.backups.clone(),
    };
    let rules = Rules {
        clock: settings.clock,
        look_every: settings.look_every,
        snapshot_limit: settings.snapshot_limit,
        body_bytes_max: settings.body_bytes_max,
        request_time: settings.request_time,
        frozen_time: settings.frozen_time,
        hooks: settings.hooks.clone(),
        allowed: Allowed {
            commands: settings.hook_commands.clone(),
            socket_folders: settings.hook_socket_folders.clone(),
        },
        image_folders: settings.image_folders.clone(),
    };
    let engine = Engine::new(store.clone(), settings.threads);
    Ok(Arc::new(App::new(engine, rules, opened, settings.nbd.clone())))
}
