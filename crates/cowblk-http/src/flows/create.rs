//! Creation: a server with its disks and details, whole or not at all.
//!
//! The name is in the journal before the first step; the server's status is the last one. A server that is in the journal and has
//! no status is half-made, and taken away again at the next start.

use crate::app::{Shared, server_of, snapshot_of};
use crate::gate::RequestMark;
use crate::model::{Given, NewDiskView, NewServerView, ServerChangeView, ServerView};
use crate::refusal::{Code, Refusal};
use crate::state::{Details, REQUEST, STATUS, ServerStatus, UPDATED_AT, own_labels, own_labels_of};
use cowblk::{Disk, Server, ServerId, ServerMarks, Store};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Bytes of an image that are copied at a time.
const PART_BYTES: usize = 1 << 20;
const TEXT_BYTES_MAX: usize = 253;
const PLAN_BYTES_MAX: usize = 4096;
const SNAPSHOTS_MAX: u32 = 100_000;
/// Seconds between two snapshots of a schedule, at least: the clock is looked at every five.
const EVERY_MIN: u64 = 10;
/// The lock of those who make servers: no server has this id.
const CREATION: u64 = 0;

/// Makes a server. Durable when this returns.
pub(crate) async fn create(
    app: &Shared,
    view: NewServerView,
    mark: Option<RequestMark>,
) -> Result<ServerView, Refusal> {
    let status = match view.status {
        None | Some(ServerStatus::Stopped) => ServerStatus::Stopped,
        Some(ServerStatus::Active) => ServerStatus::Active,
        Some(_) => return Err(Refusal::invalid("a new server is `stopped` or `active`")),
    };
    check(app, &view.change)?;
    let _lock = app.lock(CREATION).await;
    let shared = app.clone();
    let made = app.engine.run(move |store| {
        if store.server(&view.name).is_ok() {
            let detail = format!("there is a server {:?} already; choose another name", view.name);
            return Err(Refusal::new(Code::NameTaken, detail));
        }
        shared.journal.note_creating(&view.name).map_err(|cause| Refusal::internal(cause.to_string()))?;
        let outcome = build(&shared, store, &view).and_then(|server| {
            finish(&shared, &server, &view, (status, mark.as_ref()))?;
            Ok(shared.view(&server))
        });
        if outcome.is_err() {
            take_back(&shared, store, &view.name)?;
        }
        shared.journal.note_created(&view.name).map_err(|cause| Refusal::internal(cause.to_string()))?;
        outcome
    });
    let view = made.await?;
    app.tell("server.created", Some(view.id), None);
    Ok(view)
}

/// Takes away what was made of a server that is not finished.
pub(crate) fn take_back(app: &Shared, store: &Store, name: &str) -> Result<(), Refusal> {
    let Ok(server) = store.server(name) else { return Ok(()) };
    if server.marks().labels.contains_key(STATUS) {
        return Ok(());
    }
    let id = server.id();
    store.delete_server(id)?;
    app.details.forget(id.0).map_err(|cause| Refusal::internal(cause.to_string()))
}

fn build(app: &Shared, store: &Store, view: &NewServerView) -> Result<Server, Refusal> {
    let template = view.snapshot_id.map(|id| snapshot_of(store, id).map_err(not_a_parameter)).transpose()?;
    let server = match (view.id, &template) {
        (None, Some((snapshot, _))) => snapshot.clone_server(&view.name)?,
        (Some(id), _) => store.create_server_with_id(ServerId(id), &view.name)?,
        (None, None) => store.create_server(&view.name)?,
    };
    if let (Some(_), Some((snapshot, _))) = (view.id, &template) {
        for disk in snapshot.disks() {
            disk.clone_disk(&server, &disk.name())?;
        }
    }
    for disk in &view.disks {
        add_disk(app, store, &server, disk)?;
    }
    Ok(server)
}

/// Adds a disk to a server; nothing is left of one that fails.
pub(crate) fn add_disk(
    app: &Shared,
    store: &Store,
    server: &Server,
    view: &NewDiskView,
) -> Result<Disk, Refusal> {
    let size = view.bytes().map_err(Refusal::invalid)?;
    match (view.snapshot_id, &view.image) {
        (Some(_), Some(_)) => {
            Err(Refusal::invalid("a disk begins as an image or as a snapshot's disk, not both"))
        }
        (Some(id), None) => {
            let (snapshot, _) = snapshot_of(store, id).map_err(not_a_parameter)?;
            let source = snapshot
                .disk(view.disk.as_ref().unwrap_or(&view.name))
                .map_err(|error| not_a_parameter(error.into()))?;
            let size = size.unwrap_or_else(|| source.size_bytes());
            if size < source.size_bytes() {
                return Err(Refusal::invalid("the disk would be smaller than the one it begins as"));
            }
            let disk = source.clone_disk(server, &view.name)?;
            if size > disk.size_bytes() {
                disk.resize(size).or_else(|error| server.delete_disk(&view.name).and(Err(error)))?;
            }
            Ok(disk)
        }
        (None, Some(image)) => {
            let path = allowed_image(&app.rules.image_folders, image)?;
            let (disk, copied) = from_image(server, view, &path, size)?;
            if let Err(refusal) = copied {
                server.delete_disk(&view.name)?;
                return Err(refusal);
            }
            Ok(disk)
        }
        (None, None) => {
            let size = size.ok_or_else(|| {
                Refusal::invalid(format!(
                    "disk {:?} needs `size_bytes` or `size_gb`, an `image` or a `snapshot_id`",
                    view.name
                ))
            })?;
            Ok(server.create_disk(&view.name, size)?)
        }
    }
}

/// The image's path, if the operator allows it. Links are followed before the folder is looked at.
fn allowed_image(folders: &[PathBuf], image: &str) -> Result<PathBuf, Refusal> {
    let refused = || {
        let detail =
            "the image is not there, or not in a folder that the operator allowed with --allow-images";
        Refusal::new(Code::ImageNotAllowed, detail)
    };
    if folders.is_empty() || !Path::new(image).is_absolute() {
        return Err(refused());
    }
    let path = Path::new(image).canonicalize().map_err(|_| refused())?;
    let is_inside =
        folders.iter().any(|folder| folder.canonicalize().is_ok_and(|folder| path.starts_with(folder)));
    if is_inside && path.is_file() { Ok(path) } else { Err(refused()) }
}

fn from_image(
    server: &Server,
    view: &NewDiskView,
    path: &Path,
    size: Option<u64>,
) -> Result<(Disk, Result<(), Refusal>), Refusal> {
    let unreadable = |cause: std::io::Error| Refusal::invalid(format!("the image cannot be read: {cause}"));
    let mut file = OpenOptions::new().read(true).open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len().next_multiple_of(512);
    let size = size.unwrap_or(length);
    if size < length {
        return Err(Refusal::invalid(format!(
            "the image has {length} bytes, and the disk would have {size}"
        )));
    }
    let disk = server.create_disk(&view.name, size)?;
    let copied = copy(&mut file, &disk, size).and_then(|()| disk.flush().map_err(Refusal::from));
    Ok((disk, copied))
}

fn copy(file: &mut impl Read, disk: &Disk, size: u64) -> Result<(), Refusal> {
    let mut part = vec![0; PART_BYTES];
    let mut at = 0;
    while at < size {
        match file.read(&mut part) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                let bytes = part.get(..length).unwrap_or_default();
                disk.write_at(bytes, at)?;
                at += u64::try_from(length).unwrap_or(0);
            }
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(cause) => return Err(Refusal::invalid(format!("the image cannot be read: {cause}"))),
        }
    }
    Ok(())
}

/// Writes details, then labels: with those, the server is made.
fn finish(
    app: &Shared,
    server: &Server,
    view: &NewServerView,
    (status, mark): (ServerStatus, Option<&RequestMark>),
) -> Result<(), Refusal> {
    let mut details = Details::default();
    change_details(&mut details, &view.change);
    app.details.set(server.id().0, details).map_err(|cause| Refusal::internal(cause.to_string()))?;
    let mut marks = server.marks();
    marks.labels = view.change.labels.clone().unwrap_or_default();
    change_limits(&mut marks, &view.change);
    marks.labels.insert(STATUS.into(), status.word().into());
    marks.labels.insert(UPDATED_AT.into(), app.now().to_string());
    if let Some(RequestMark(mark)) = mark {
        marks.labels.insert(REQUEST.into(), mark.clone());
    }
    Ok(server.set_marks(marks)?)
}

/// Changes what can be changed about a server.
pub(crate) async fn change(app: &Shared, id: u64, change: ServerChangeView) -> Result<ServerView, Refusal> {
    check(app, &change)?;
    let _lock = app.lock(id).await;
    let shared = app.clone();
    let view = app.engine.run(move |store| {
        let server = server_of(store, id)?;
        let mut marks = server.marks();
        if let Some(labels) = &change.labels {
            let own = own_labels_of(marks.labels.clone());
            marks.labels.retain(|key, _| !own.contains_key(key));
            marks.labels.extend(labels.clone());
        }
        change_limits(&mut marks, &change);
        marks.labels.insert(UPDATED_AT.into(), shared.now().to_string());
        let mut details = (*shared.details.of(id)).clone();
        change_details(&mut details, &change);
        shared.details.set(id, details).map_err(|cause| Refusal::internal(cause.to_string()))?;
        server.set_marks(marks)?;
        Ok(shared.view(&server))
    });
    let view = view.await?;
    app.tell("server.changed", Some(id), None);
    Ok(view)
}

fn check(app: &Shared, change: &ServerChangeView) -> Result<(), Refusal> {
    let texts = [&change.hostname, &change.ip_address, &change.location, &change.os];
    if texts
        .into_iter()
        .flatten()
        .any(|text| text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control))
    {
        let detail = format!(
            "hostname, ip_address, location and os have at most {TEXT_BYTES_MAX} bytes, all printable"
        );
        return Err(Refusal::invalid(detail));
    }
    let plan_bytes = change
        .plan
        .as_ref()
        .map_or(0, |plan| serde_json::to_string(plan).map_or(usize::MAX, |text| text.len()));
    if plan_bytes > PLAN_BYTES_MAX {
        return Err(Refusal::invalid(format!("a plan has at most {PLAN_BYTES_MAX} bytes")));
    }
    if matches!(change.snapshot_limit, Given::Value(limit) if limit > SNAPSHOTS_MAX) {
        return Err(Refusal::invalid(format!("`snapshot_limit` is at most {SNAPSHOTS_MAX}")));
    }
    if change.schedule.as_ref().is_some_and(|schedule| (1..EVERY_MIN).contains(&schedule.every_seconds)) {
        return Err(Refusal::invalid(format!("`every_seconds` is at least {EVERY_MIN}, or 0 for never")));
    }
    if change.automatic_backups == Some(true) && app.backups.is_none() {
        return Err(Refusal::new(Code::NoBackups, "the daemon has no storage for backups"));
    }
    change.labels.as_ref().map_or(Ok(()), own_labels).map_err(Refusal::invalid)?;
    change.hooks.as_ref().map_or(Ok(()), |hooks| hooks.check_allowed(&app.rules.allowed))
}

/// Limits that the store itself keeps. That of snapshots is the daemon's: the store would count those of backups.
fn change_limits(marks: &mut ServerMarks, change: &ServerChangeView) {
    marks.max_disk_bytes = change.max_disk_bytes.or(marks.max_disk_bytes);
    if change.snapshot_limit != Given::Nothing {
        marks.max_snapshots = None;
    }
}

fn change_details(details: &mut Details, change: &ServerChangeView) {
    let change = change.clone();
    details.hostname = change.hostname.or(details.hostname.take());
    details.ip_address = change.ip_address.or(details.ip_address.take());
    details.location = change.location.or(details.location.take());
    details.os = change.os.or(details.os.take());
    details.snapshot_limit = change.snapshot_limit.or(details.snapshot_limit.take());
    if let Some(plan) = change.plan {
        details.plan = plan;
    }
    if let Some(hooks) = change.hooks {
        details.hooks = hooks;
    }
    if let Some(retention) = change.retention {
        details.retention =
            Some(retention).filter(|policy| *policy != crate::model::RetentionView::default());
    }
    if let Some(schedule) = change.schedule {
        details.schedule = Some(schedule).filter(|schedule| schedule.every_seconds > 0);
    }
    details.automatic_backups = change.automatic_backups.unwrap_or(details.automatic_backups);
}

/// What a body names and is not there is a wrong parameter, not a wrong address.
fn not_a_parameter(refusal: Refusal) -> Refusal {
    if refusal.code == Code::NotFound { Refusal::invalid(refusal.detail) } else { refusal }
}
