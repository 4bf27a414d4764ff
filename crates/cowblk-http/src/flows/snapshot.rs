//! Snapshots: freeze the guest if it can be, snapshot, and thaw it whatever happens.
//!
//! The guest is thawed by a watchdog, a task of its own: when the snapshot is made, when it failed, and when it takes too long. A
//! daemon that is killed meanwhile finds the server in its journal, and thaws it at its next start.

use super::backup::{manual_count, storage};
use super::require;
use crate::app::{Shared, server_of};
use crate::gate::RequestMark;
use crate::hooks::Moment;
use crate::model::{BackupType, CreatedView, NewSnapshotView, Owner, is_shown};
use crate::refusal::{Code, Refusal};
use crate::state::{BACKUP, CONSISTENCY, HIDDEN, REQUEST, SCHEDULED, ServerStatus, own_labels};
use crate::times::{parse_rfc3339, rfc3339};
use cowblk::{Server, Snapshot, SnapshotMarks, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How often thawing is tried.
const THAW_TRIES: u32 = 5;
/// Backups of one server that requests may ask for.
const MANUAL_BACKUPS_MAX: u32 = 10;

/// What a snapshot is asked to be.
pub(crate) struct Wanted {
    name: String,
    description: String,
    marks: SnapshotMarks,
}

/// Checks what a request asks for.
pub(crate) fn wanted(view: NewSnapshotView, mark: Option<&RequestMark>) -> Result<Wanted, Refusal> {
    own_labels(&view.labels).map_err(Refusal::invalid)?;
    let mut labels = view.labels;
    if let Some(RequestMark(mark)) = mark {
        labels.insert(REQUEST.into(), mark.clone());
    }
    let expires_at = view.expires_at.as_deref().map(parse_time).transpose()?;
    let marks = SnapshotMarks { protected: view.protected, expires_at, labels };
    Ok(Wanted { name: view.name, description: view.description.unwrap_or_default(), marks })
}

/// What a backup begins as.
pub(crate) fn wanted_for_backup(kind: BackupType, description: String, mark: Option<&RequestMark>) -> Wanted {
    let labels = [(HIDDEN, "backup"), (BACKUP, kind.word())];
    let mark = mark.map(|RequestMark(mark)| (REQUEST, mark.as_str()));
    let labels = labels.into_iter().chain(mark);
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let marks = SnapshotMarks { labels, ..SnapshotMarks::default() };
    Wanted { name: format!("cowblk-backup-{}", unique()), description, marks }
}

/// A name that nothing else has: a random one, in hexadecimal.
fn unique() -> String {
    let mut number = [0; 32];
    // Where there are no random numbers, the store refuses the snapshot, too.
    let _ = getrandom::fill(&mut number);
    blake3::Hash::from(number).to_hex().as_str().chars().take(32).collect()
}

/// What a schedule makes at a time.
pub(crate) fn wanted_by_schedule(at: u64) -> Wanted {
    let name = rfc3339(at).replace(['-', ':', 'Z'], "").replace('T', "-");
    let marks =
        SnapshotMarks { labels: [(SCHEDULED.to_owned(), "1".to_owned())].into(), ..SnapshotMarks::default() };
    Wanted { name: format!("auto-{name}"), description: "by schedule".into(), marks }
}

pub(crate) fn parse_time(text: &str) -> Result<u64, Refusal> {
    let wrong = || Refusal::invalid(format!("{text:?} is not a time, as 2025-01-15T18:30:00Z is"));
    parse_rfc3339(text).ok_or_else(wrong)
}

/// Makes a snapshot of a server. Durable when this returns.
pub(crate) async fn create(app: &Shared, id: u64, wanted: Wanted) -> Result<CreatedView, Refusal> {
    let _lock = app.lock(id).await;
    let (shared, backup) = (app.clone(), wanted.marks.labels.get(BACKUP).cloned());
    let look = move |store: &Store| {
        let server = server_of(store, id)?;
        let (owner, status) = (Owner::of(&server), shared.status(&server));
        require(&owner, status, &[ServerStatus::Active, ServerStatus::Stopped], "make a snapshot")?;
        // Nobody else adds any while we have the lock; and no guest is frozen for nothing.
        match backup.as_deref() {
            None => refuse_more(&shared, &server)?,
            Some("manual") => refuse_more_backups(&shared, store, &server)?,
            Some(_) => {}
        }
        Ok((owner, status))
    };
    let (owner, status) = app.engine.run(look).await?;
    let frozen = if status == ServerStatus::Active { freeze(app, &owner).await } else { None };
    let is_frozen = frozen.as_ref().map(|frozen| frozen.flag.clone());
    let snapshot_owner = owner.clone();
    let made = app.engine.run(move |store| {
        let (snapshot, message) = take(&server_of(store, id)?, wanted, is_frozen.as_deref())?;
        Ok((snapshot.id().0, CreatedView::of(&snapshot, &snapshot_owner, &message)))
    });
    let made = made.await;
    if let Some(frozen) = frozen {
        frozen.thaw().await;
    }
    let (snapshot, view) = made?;
    app.tell("snapshot.created", Some(id), Some(snapshot));
    app.uncounted.lock().push((id, snapshot));
    app.unsettled.notify_one();
    Ok(view)
}

fn take(
    server: &Server,
    wanted: Wanted,
    is_frozen: Option<&AtomicBool>,
) -> Result<(Snapshot, String), Refusal> {
    let Wanted { name, description, mut marks } = wanted;
    let holds = || is_frozen.is_some_and(|flag| flag.load(Ordering::SeqCst));
    let begins_frozen = holds();
    if begins_frozen {
        marks.labels.insert(CONSISTENCY.into(), "filesystem".into());
    }
    let snapshot = server.snapshot_with(&name, &description, marks)?;
    if !begins_frozen {
        let message = match is_frozen {
            None => "Snapshot created; its size is being counted.",
            Some(_) => {
                "Snapshot created; the guest could not be frozen, so it is what a power cut would have left."
            }
        };
        return Ok((snapshot, message.into()));
    }
    if holds() {
        return Ok((snapshot, "Snapshot created while the guest's file systems were frozen.".into()));
    }
    // The watchdog came first: whatever the guest wrote since may be in it.
    let mut marks = snapshot.marks();
    marks.labels.remove(CONSISTENCY);
    snapshot.set_marks(marks)?;
    Ok((
        snapshot,
        "Snapshot created; the guest was thawed before it was, so it is what a power cut would have left."
            .into(),
    ))
}

/// Refuses one more snapshot where the server has as many as it may have.
fn refuse_more(app: &Shared, server: &Server) -> Result<(), Refusal> {
    let own = app.details.of(server.id().0).snapshot_limit.or(server.marks().max_snapshots);
    let limit = own.unwrap_or(app.rules.snapshot_limit);
    let count = server.snapshots().iter().filter(|one| is_shown(one)).count();
    refuse_count(server, count, limit, "snapshots")
}

fn refuse_more_backups(app: &Shared, store: &Store, server: &Server) -> Result<(), Refusal> {
    let count = manual_count(store, &storage(app)?, server);
    refuse_count(server, count, MANUAL_BACKUPS_MAX, "manual backups")
}

fn refuse_count(server: &Server, count: usize, limit: u32, what: &str) -> Result<(), Refusal> {
    if count < usize::try_from(limit).unwrap_or(usize::MAX) {
        return Ok(());
    }
    let detail =
        format!("server {:?} has {count} {what}, and may have {limit}; delete one first", server.name());
    Err(Refusal::new(Code::LimitReached, detail))
}

/// A guest that is frozen, and the watchdog that thaws it.
struct Frozen {
    flag: Arc<AtomicBool>,
    done: oneshot::Sender<()>,
    watchdog: JoinHandle<()>,
}

impl Frozen {
    async fn thaw(self) {
        drop(self.done);
        // A panic there has been printed.
        let _ = self.watchdog.await;
    }
}

/// Freezes a guest, if there are hooks for that. From here on it is thawed whatever happens to this request.
async fn freeze(app: &Shared, owner: &Owner) -> Option<Frozen> {
    app.hook(owner.id, Moment::Freeze)?;
    let (shared, id) = (app.clone(), owner.id);
    let noted = app
        .engine
        .run(move |_| shared.journal.note_frozen(id).map_err(|cause| Refusal::internal(cause.to_string())))
        .await;
    let is_frozen = Arc::new(AtomicBool::new(false));
    let (done, over) = oneshot::channel::<()>();
    let (frozen_in, frozen_out) = oneshot::channel::<()>();
    let (shared, flag, subject) = (app.clone(), is_frozen.clone(), owner.clone());
    let watchdog = tokio::spawn(async move {
        // Without a note for the next start, nothing is frozen.
        if noted.is_ok() {
            match shared.run_hook(&subject, Moment::Freeze).await {
                Ok(_) => flag.store(true, Ordering::SeqCst),
                Err(refusal) => complain(&refusal),
            }
        }
        drop(frozen_in);
        if flag.load(Ordering::SeqCst) {
            // Either way: the request is done with it, or took too long, or is gone.
            let _ = tokio::time::timeout(shared.rules.frozen_time, over).await;
            flag.store(false, Ordering::SeqCst);
        }
        thaw(&shared, &subject).await;
    });
    // It is dropped when the freezing is over.
    let _ = frozen_out.await;
    Some(Frozen { flag: is_frozen, done, watchdog })
}

/// Thaws a guest, trying again if it fails. Also after a freeze that failed: it may have got half-way.
pub(crate) async fn thaw(app: &Shared, owner: &Owner) {
    for attempt in 0..THAW_TRIES {
        match app.run_hook(owner, Moment::Thaw).await {
            Ok(_) => {
                let (shared, id) = (app.clone(), owner.id);
                let noted = app.engine.run(move |_| Ok(shared.journal.note_thawed(id))).await;
                if let Ok(Err(cause)) = noted {
                    complain(&Refusal::internal(cause.to_string()));
                }
                return;
            }
            Err(refusal) => complain(&refusal),
        }
        tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
    }
}

/// Says on standard error what no client waits for.
pub(crate) fn complain(refusal: &Refusal) {
    use std::io::Write;
    // Nothing is left to do when even standard error is closed.
    let _ = writeln!(std::io::stderr(), "{refusal}");
}
