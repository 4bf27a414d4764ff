//! Schedule: snapshots and backups that nobody asks for, and the pruning of those snapshots.
//!
//! Whether something is due is a function of the newest one and the clock; nothing is remembered, so that a daemon that was down catches up
//! once, and a crash loses nothing.

use crate::app::{Shared, server_of};
use crate::flows::backup;
use crate::flows::snapshot::{complain, create, wanted_by_schedule};
use crate::model::BackupType;
use crate::refusal::Refusal;
use crate::state::{Details, SCHEDULED};
use crate::times::now;
use cowblk::Store;
use std::time::Duration;

/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const DAY: u64 = 86_400;
/// Seconds behind midnight UTC at which automatic backups are due.
const BACKUP_AT: u64 = 3 * 3600;

/// What is due for one server.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    snapshot: bool,
    backup: bool,
}

/// Runs until the daemon ends.
pub(crate) async fn run(app: Shared) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for id in app.details.servers() {
            let details = app.details.of(id);
            if details.schedule.is_none() && !details.automatic_backups {
                continue;
            }
            if let Err(refusal) = look(&app, id, &details).await {
                complain(&refusal);
            }
        }
    }
}

async fn look(app: &Shared, id: u64, details: &Details) -> Result<(), Refusal> {
    let every = details.schedule.as_ref().map(|schedule| schedule.every_seconds);
    let backups = app.backups.clone().filter(|_| details.automatic_backups);
    let at = now();
    let act = move |store: &Store| {
        let server = server_of(store, id)?;
        let scheduled =
            server.snapshots().into_iter().filter(|one| one.marks().labels.contains_key(SCHEDULED));
        let newest = scheduled.map(|one| one.created_at()).max();
        let newest_backup = backups.as_ref().map(|backups| {
            let own = backup::list(store, backups).into_iter();
            let own = own.filter(|view| view.server.id == id && view.backup_type == BackupType::Automatic);
            own.filter_map(|view| crate::times::parse_rfc3339(&view.created_at)).max()
        });
        let since = server.created_at();
        Ok(Due {
            snapshot: every.is_some_and(|every| is_due(newest.unwrap_or(since), at, every, 0)),
            backup: newest_backup.is_some_and(|newest| is_due(newest.unwrap_or(since), at, DAY, BACKUP_AT)),
        })
    };
    let due = app.engine.run(act).await?;
    if due.backup {
        backup::create(app, id, (BackupType::Automatic, "daily".into()), None).await?;
    }
    if !due.snapshot {
        return Ok(());
    }
    create(app, id, wanted_by_schedule(at)).await?;
    let Some(retention) = details.retention.clone() else { return Ok(()) };
    let policy = retention.policy(Some((SCHEDULED.into(), "1".into())));
    let _lock = app.lock(id).await;
    let pruned = app.engine.run(move |store| Ok(server_of(store, id)?.prune(&policy)?)).await?;
    for verdict in pruned.iter().filter(|verdict| !verdict.is_kept()) {
        app.tell("snapshot.deleted", Some(id), Some(verdict.id.0));
    }
    Ok(())
}

/// Whether one of the moments `shift` behind multiples of `every` lies behind `last`, and not behind `now`.
const fn is_due(last: u64, now: u64, every: u64, shift: u64) -> bool {
    let Some(past) = now.checked_sub(shift) else { return false };
    let moment = past - past % every + shift;
    moment > last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_that_passed_is_due_once() {
        for (last, now, due) in
            [(1000, 1019, false), (1000, 1020, true), (1020, 1021, false), (1000, 9999, true)]
        {
            assert_eq!(is_due(last, now, 60, 0), due, "{last} {now}");
        }
        let three = 20_000 * DAY + BACKUP_AT;
        assert!(!is_due(three - DAY, three - 1, DAY, BACKUP_AT));
        assert!(is_due(three - DAY, three, DAY, BACKUP_AT));
        assert!(is_due(three - 1, three + 5, DAY, BACKUP_AT));
        assert!(!is_due(three + 1, three + 5, DAY, BACKUP_AT));
    }
}
