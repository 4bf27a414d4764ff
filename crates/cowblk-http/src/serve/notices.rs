//! Notices: what the store does or meets unasked becomes events, and lines of the log.

use crate::app::{App, EventMore, EventSpace, Shared};
use crate::notice_log::NoticeLog;
use cowblk::{Notice, Notices};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long the thread rests behind what it passed on. The store repeats nothing about a disk that still waits to be
/// taken, so that a guest which goes on writing to a full store is one event in that time.
const REST: Duration = Duration::from_secs(1);
/// How long the thread outlives a daemon that has ended, at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// Passes notices on until the daemon ends.
pub(super) fn pass_on(app: &Shared) -> io::Result<()> {
    let notices = app.engine.store().notices();
    let app = Arc::downgrade(app);
    std::thread::Builder::new().name("cowblk-notices".into()).spawn(move || listen(&notices, &app)).map(drop)
}

fn listen(notices: &Notices, app: &Weak<App>) {
    let mut log = NoticeLog::default();
    while !notices.is_over() {
        let first = notices.next_within(PATIENCE);
        let Some(app) = app.upgrade() else { return };
        let Some(first) = first else { continue };
        for notice in std::iter::once(first).chain(std::iter::from_fn(|| notices.next_now())) {
            log.write(app.engine.store(), &notice);
            tell(&app, &notice);
        }
        // Whoever closes the daemon meanwhile does not wait for us.
        drop(app);
        std::thread::sleep(REST);
    }
}

fn tell(app: &App, notice: &Notice) {
    let store = app.engine.store();
    let block = u64::from(store.status().block_size);
    let space = |percent, used_blocks: u64, capacity_blocks: u64| {
        let space = EventSpace {
            percent,
            used_bytes: used_blocks.saturating_mul(block),
            capacity_bytes: capacity_blocks.saturating_mul(block),
        };
        EventMore { space: Some(space), ..EventMore::default() }
    };
    let write = |kind, id| {
        let disk = store.disk_by_id(id).ok();
        let server = disk.as_ref().map(|disk| disk.server().0);
        app.tell_more(
            kind,
            server,
            None,
            EventMore { disk: disk.map(|disk| disk.name()), ..EventMore::default() },
        );
    };
    let deleted = |server: cowblk::ServerId, snapshot: cowblk::SnapshotId, reason| {
        let more = EventMore { reason: Some(reason), ..EventMore::default() };
        app.tell_more("snapshot.deleted", Some(server.0), Some(snapshot.0), more);
    };
    match *notice {
        Notice::SpaceAbove { percent, used_blocks, capacity_blocks } => {
            app.tell_more("store.space_above", None, None, space(percent, used_blocks, capacity_blocks));
        }
        Notice::SpaceBelow { percent, used_blocks, capacity_blocks } => {
            app.tell_more("store.space_below", None, None, space(percent, used_blocks, capacity_blocks));
        }
        Notice::WriteWaits { disk } => write("disk.write_waits", disk),
        Notice::WriteRefused { disk } => write("disk.write_refused", disk),
        Notice::SnapshotExpired { server, snapshot } => deleted(server, snapshot, "expired"),
        Notice::UndoGivenUp { server, snapshot } => deleted(server, snapshot, "no_space"),
        _ => app.tell("missed", None, None),
    }
}
