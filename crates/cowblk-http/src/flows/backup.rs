//! Backups: copies in a store of their own, made of what changed since the last one.
//!
//! A backup begins as a hidden snapshot in the store of servers, whose id is the backup's. It is complete when the store of backups has a snapshot
//! of the same identity, with the labels that say what it is; the hidden snapshot is marked then. That of the newest one stays: the next backup sends what
//! changed since. So nothing is stuck after a crash: a hidden snapshot without that mark is copied at the next start.

use super::snapshot::{complain, create as snapshot_of_server, wanted_for_backup};
use crate::app::{Shared, backup_of, server_of};
use crate::gate::RequestMark;
use crate::model::{BackupType, BackupView};
use crate::refusal::{Code, Refusal};
use crate::state::{BACKUP, BACKUP_ID, HIDDEN, SERVER_ID, SERVER_NAME};
use cowblk::{ErrorKind, Server, ServerId, Snapshot, SnapshotId, Store};
use cowblk_stream::{HeadPolicy, Receive, Send};
use std::io::{BufReader, BufWriter, Write};

/// Seconds after which automatic backups go: a month of 30 days.
const AUTOMATIC_SECONDS: u64 = 30 * 86_400;
/// The lock of those who copy: one at a time. No server has this id.
const COPYING: u64 = u64::MAX;
/// Bytes that are copied at a time.
const PART_BYTES: u64 = 1 << 20;
const PIPE_BYTES: usize = 1 << 20;

/// The store of backups.
pub(crate) fn storage(app: &Shared) -> Result<Store, Refusal> {
    let missing = || Refusal::new(Code::NoBackups, "the daemon has no storage for backups");
    app.backups.clone().ok_or_else(missing)
}

/// Begins a backup. The answer says `in_progress`; the copy is made behind it.
pub(crate) async fn create(
    app: &Shared,
    server: u64,
    (kind, description): (BackupType, String),
    mark: Option<&RequestMark>,
) -> Result<BackupView, Refusal> {
    storage(app)?;
    let made = snapshot_of_server(app, server, wanted_for_backup(kind, description, mark)).await?;
    let id = made.snapshot.id;
    let view = app.engine.run(move |store| {
        let snapshot = store.snapshot(SnapshotId(id))?;
        BackupView::under_way(&snapshot, &server_of(store, server)?)
            .ok_or_else(|| Refusal::internal("the backup lost its labels"))
    });
    let view = view.await?;
    let app = app.clone();
    tokio::spawn(async move { copy(&app, id).await });
    Ok(view)
}

/// Copies a hidden snapshot into the store of backups.
pub(crate) async fn copy(app: &Shared, id: u64) {
    let _lock = app.lock(COPYING).await;
    let shared = app.clone();
    let copied = app.engine.run(move |store| {
        let backups = storage(&shared)?;
        let outcome = transfer(store, &backups, id);
        if outcome.is_err() {
            // It is no use any more; whoever asked sees that the backup is gone.
            store.delete_snapshot(SnapshotId(id)).or_else(gone_is_fine)?;
        }
        outcome
    });
    match copied.await {
        Ok(server) => app.tell("backup.completed", Some(server), None),
        Err(refusal) => {
            app.metrics.backup_failed();
            app.tell("backup.failed", None, None);
            complain(&refusal);
        }
    }
}

fn transfer(store: &Store, backups: &Store, id: u64) -> Result<u64, Refusal> {
    let snapshot = store.snapshot(SnapshotId(id))?;
    let server = server_of(store, snapshot.server().0)?;
    let known = backups.snapshots();
    let copy_of = |one: &Snapshot| known.iter().find(|copy| copy.identity() == one.identity()).cloned();
    let received = if let Some(copy) = copy_of(&snapshot) {
        copy
    } else {
        let own = server.snapshots().into_iter();
        let mut bases = own.filter(|one| is_base(one) && one.id() != snapshot.id());
        let base = bases.find_map(|base| copy_of(&base).map(|copy| (base, copy)));
        send(store, backups, &snapshot, base.as_ref())?
    };
    let kind = snapshot.marks().labels.get(BACKUP).cloned().unwrap_or_default();
    let mut marks = received.marks();
    let is_automatic = kind == BackupType::Automatic.word();
    marks.expires_at = is_automatic.then(|| snapshot.created_at() + AUTOMATIC_SECONDS);
    let labels = [
        (BACKUP, kind),
        (BACKUP_ID, id.to_string()),
        (SERVER_ID, server.id().0.to_string()),
        (SERVER_NAME, server.name()),
    ];
    marks.labels.extend(labels.map(|(key, value)| (key.to_owned(), value)));
    received.set_marks(marks)?;
    backups.checkpoint()?;
    let mut marks = snapshot.marks();
    marks.labels.insert(BACKUP_ID.into(), id.to_string());
    snapshot.set_marks(marks)?;
    for older in server.snapshots().into_iter().filter(|one| is_base(one) && one.id() < snapshot.id()) {
        store.delete_snapshot(older.id()).or_else(gone_is_fine)?;
    }
    Ok(server.id().0)
}

fn is_base(snapshot: &Snapshot) -> bool {
    snapshot.marks().labels.contains_key(BACKUP)
}

/// Sends a snapshot through a pipe: whole, into a server of its own, or on top of its base.
fn send(
    store: &Store,
    backups: &Store,
    snapshot: &Snapshot,
    base: Option<&(Snapshot, Snapshot)>,
) -> Result<Snapshot, Refusal> {
    let place = match base {
        Some((_, copy)) => backups.server_by_id(copy.server())?.name(),
        None => format!("server-{}-{}", snapshot.server(), snapshot.id()),
    };
    let (reader, writer) =
        std::io::pipe().map_err(|cause| Refusal::internal(format!("make a pipe: {cause}")))?;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut out = BufWriter::with_capacity(PIPE_BYTES, writer);
            let stream = Send::new(store, snapshot);
            let stream = match base {
                Some((base, _)) => stream.since(base),
                None => stream,
            };
            let sent = stream.write(&mut out).map(drop).map_err(Refusal::from);
            sent.and_then(|()| {
                out.flush().map_err(|cause| Refusal::internal(format!("write to a pipe: {cause}")))
            })
        });
        let mut input = BufReader::with_capacity(PIPE_BYTES, reader);
        let received = Receive::new(backups).server(&place).head(HeadPolicy::Keep).read(&mut input);
        drop(input); // a sender that is still writing ends
        let sent = sending
            .join()
            .map_err(|_| Refusal::internal("sending the backup failed on a fault of the daemon"));
        let received = received?;
        sent??;
        Ok(received.snapshot)
    })
}

/// All backups, newest first.
pub(crate) fn list(store: &Store, backups: &Store) -> Vec<BackupView> {
    let hidden = store.snapshots().into_iter().filter(is_under_way);
    let server_of = |one: &Snapshot| store.server_by_id(one.server()).ok();
    let mut all: Vec<BackupView> =
        hidden.filter_map(|one| BackupView::under_way(&one, &server_of(&one)?)).collect();
    // A copy is complete when its hidden snapshot is marked, and not before.
    let complete: Vec<BackupView> = backups.snapshots().iter().filter_map(BackupView::complete).collect();
    let under_way: Vec<u64> = all.iter().map(|view| view.id).collect();
    all.extend(complete.into_iter().filter(|view| !under_way.contains(&view.id)));
    all.sort_by_key(|view| std::cmp::Reverse(view.id));
    all
}

/// Whether the copy of a hidden snapshot is still to be completed.
fn is_under_way(snapshot: &Snapshot) -> bool {
    is_base(snapshot) && !snapshot.marks().labels.contains_key(BACKUP_ID)
}

/// How many backups of a server that requests asked for there are.
pub(crate) fn manual_count(store: &Store, backups: &Store, server: &Server) -> usize {
    let is_counted =
        |view: &&BackupView| view.server.id == server.id().0 && view.backup_type == BackupType::Manual;
    list(store, backups).iter().filter(is_counted).count()
}

/// The complete backup with that id, and the server that it is of.
pub(crate) fn find(backups: &Store, id: u64) -> Result<(Snapshot, ServerId), Refusal> {
    backup_of(backups, id).ok_or_else(|| Refusal::not_found(format!("there is no complete backup {id}")))
}

/// Deletes a backup.
pub(crate) fn delete(store: &Store, backups: &Store, id: u64) -> Result<(), Refusal> {
    if store.snapshot(SnapshotId(id)).is_ok_and(|hidden| is_under_way(&hidden)) {
        return Err(Refusal::wrong_state(format!(
            "backup {id} is in progress; delete it when it is completed"
        )));
    }
    let (copy, server) = find(backups, id)?;
    // Its hidden snapshot is of no use to the next backup without it.
    if let Ok(server) = store.server_by_id(server) {
        for base in
            server.snapshots().into_iter().filter(|one| is_base(one) && one.identity() == copy.identity())
        {
            store.delete_snapshot(base.id()).or_else(gone_is_fine)?;
        }
    }
    Ok(backups.delete_snapshot(copy.id())?)
}

/// Brings a backup into the store of servers, as a snapshot to restore. Whether it is to be deleted afterwards.
pub(crate) fn bring(
    store: &Store,
    backups: &Store,
    server: &Server,
    id: u64,
) -> Result<(SnapshotId, bool), Refusal> {
    let (copy, _) = find(backups, id)?;
    if let Some(here) = server.snapshots().into_iter().find(|one| one.identity() == copy.identity()) {
        return Ok((here.id(), false));
    }
    let name = brought_name(id);
    forget_brought(store, server, &name)?;
    let staging = store.create_staging_server(&name)?;
    for disk in copy.disks() {
        let target = staging.create_disk(&disk.name(), disk.size_bytes())?;
        for extent in disk.extents(0..disk.size_bytes()) {
            let extent = extent?;
            let end = extent.offset + extent.len;
            let mut at = extent.offset;
            while extent.is_data() && at < end {
                let length = PART_BYTES.min(end - at);
                let mut part = vec![0; usize::try_from(length).unwrap_or(0)];
                disk.read_at(&mut part, at)?;
                target.write_at(&part, at)?;
                at += length;
            }
        }
    }
    let spec = cowblk::AdoptedSnapshot {
        name,
        description: String::new(),
        created_at: copy.created_at(),
        identity: copy.identity(),
        origin: None,
    };
    let snapshot = store.adopt_snapshot(staging.id(), server.id(), spec)?;
    hide(&snapshot)?;
    Ok((snapshot.id(), true))
}

fn hide(snapshot: &Snapshot) -> cowblk::Result<()> {
    let mut marks = snapshot.marks();
    marks.labels.insert(HIDDEN.into(), "restore".into());
    snapshot.set_marks(marks)
}

fn brought_name(id: u64) -> String {
    format!("cowblk-restore-{id}")
}

fn forget_brought(store: &Store, server: &Server, name: &str) -> Result<(), Refusal> {
    if let Some(staging) = store.staging_servers().into_iter().find(|one| one.name() == name) {
        store.delete_server(staging.id())?;
    }
    for old in server.snapshots().into_iter().filter(|one| one.name() == name) {
        store.delete_snapshot(old.id()).or_else(gone_is_fine)?;
    }
    Ok(())
}

/// What a killed daemon left: what was brought for a restore goes, what was being copied is returned.
pub(crate) fn clean_up(store: &Store, backups: &Store) -> Result<Vec<u64>, Refusal> {
    for staging in store.staging_servers().into_iter().filter(|one| one.name().starts_with("cowblk-restore-"))
    {
        store.delete_server(staging.id())?;
    }
    for partial in cowblk_stream::partials(backups)? {
        cowblk_stream::abandon(backups, partial.token.snapshot)?;
    }
    let mut unfinished = Vec::new();
    for snapshot in store.snapshots() {
        if snapshot.name().starts_with("cowblk-restore-") {
            store.delete_snapshot(snapshot.id()).or_else(gone_is_fine)?;
        } else if is_under_way(&snapshot) {
            unfinished.push(snapshot.id().0);
        }
    }
    Ok(unfinished)
}

fn gone_is_fine(error: cowblk::Error) -> cowblk::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
