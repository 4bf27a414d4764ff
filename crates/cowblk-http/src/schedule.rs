//! Schedule: snapshots and backups that nobody asks for, and the pruning of those snapshots.
//!
//! Whether something is due is a function of the newest one and the clock, so that a daemon that was down catches up once, and a
//! crash loses nothing. What is kept in memory spares looks into the store, and holds back what failed.

use crate::app::{Shared, server_of};
use crate::flows::backup;
use crate::flows::snapshot::{complain, create, wanted_by_schedule};
use crate::model::BackupType;
use crate::refusal::Refusal;
use crate::state::{Details, SCHEDULED, ServerStatus};
use cowblk::Store;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const DAY: u64 = 86_400;
/// Seconds behind midnight UTC at which automatic backups are due.
const BACKUP_AT: u64 = 3 * 3600;
/// Seconds after which what failed is tried again.
const RETRY_SECONDS: u64 = 300;
/// Servers that are taken care of at a time: a guest that cannot be frozen does not hold up the others.
const SERVERS_AT_ONCE: usize = 8;

/// What a schedule makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Snapshot,
    Backup,
}

/// One wish: something of a server, every so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wish {
    server: u64,
    kind: Kind,
    every: u64,
}

/// What is known of a wish, in UTC seconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The newest that there is, or when the server was made.
    newest: Option<u64>,
    /// When it was last tried.
    tried: Option<u64>,
}

type Memory = BTreeMap<Wish, Known>;

impl Wish {
    /// Seconds behind multiples of `every` at which it is due.
    const fn shift(&self) -> u64 {
        match self.kind {
            Kind::Snapshot => 0,
            Kind::Backup => BACKUP_AT,
        }
    }

    fn is_due(&self, known: &Known, now: u64) -> bool {
        let is_held_back = known.tried.is_some_and(|tried| now.abs_diff(tried) < RETRY_SECONDS);
        let newest = known.newest.is_none_or(|newest| is_due(newest, now, self.every, self.shift()));
        newest && !is_held_back
    }
}

/// Runs until the daemon ends.
pub(crate) async fn run(app: Shared) {
    let mut memory = Memory::new();
    loop {
        tokio::time::sleep(app.rules.look_every).await;
        if let Err(refusal) = look(&app, &mut memory).await {
            complain(&refusal);
        }
        app.metrics.looked();
    }
}

/// Makes what is due.
async fn look(app: &Shared, memory: &mut Memory) -> Result<(), Refusal> {
    let wishes = wishes(app);
    memory.retain(|wish, _| wishes.binary_search(wish).is_ok());
    let now = app.now();
    let is_due = |wish: &Wish| wish.is_due(&memory.get(wish).copied().unwrap_or_default(), now);
    let doubtful: Vec<Wish> = wishes.into_iter().filter(is_due).collect();
    if doubtful.is_empty() {
        return Ok(());
    }
    let shared = app.clone();
    let found = app.engine.run(move |store| Ok(newest_of(&shared, store, &doubtful))).await?;
    let slots = Arc::new(Semaphore::new(SERVERS_AT_ONCE));
    let mut work = JoinSet::new();
    for (wish, newest) in found {
        let entry = memory.entry(wish).or_default();
        entry.newest = entry.newest.max(Some(newest));
        if wish.is_due(entry, now) {
            entry.tried = Some(now);
            let (app, slots) = (app.clone(), slots.clone());
            work.spawn(async move {
                let _slot = slots.acquire_owned().await;
                (wish, make(&app, wish, now).await)
            });
        }
    }
    while let Some(done) = work.join_next().await {
        // A panic there has been printed.
        let Ok((wish, outcome)) = done else { continue };
        match (outcome, wish.kind) {
            (Ok(()), Kind::Snapshot) => drop(memory.insert(wish, Known { newest: Some(now), tried: None })),
            // Whether the copy succeeds shows when it is looked at again.
            (Ok(()), Kind::Backup) => {}
            (Err(refusal), _) => {
                complain(&refusal);
                app.metrics.schedule_failed();
                app.tell("schedule.failed", Some(wish.server), None);
            }
        }
    }
    Ok(())
}

/// What all servers wish for, in order.
fn wishes(app: &Shared) -> Vec<Wish> {
    let mut all = Vec::new();
    for server in app.details.servers() {
        let details = app.details.of(server);
        if let Some(schedule) = &details.schedule {
            all.push(Wish { server, kind: Kind::Snapshot, every: schedule.every_seconds });
        }
        if details.automatic_backups && app.backups.is_some() {
            all.push(Wish { server, kind: Kind::Backup, every: DAY });
        }
    }
    all
}

/// The newest of each, in UTC seconds since 1970. Servers that are suspended or being restored are left out, until they are not.
fn newest_of(app: &Shared, store: &Store, wishes: &[Wish]) -> Vec<(Wish, u64)> {
    let mut backups = BTreeMap::<u64, u64>::new();
    if let Some(copies) = app.backups.as_ref().filter(|_| wishes.iter().any(|wish| wish.kind == Kind::Backup))
    {
        for view in backup::list(store, copies) {
            let at = crate::times::parse_rfc3339(&view.created_at).unwrap_or(0);
            if view.backup_type == BackupType::Automatic {
                let newest = backups.entry(view.server.id).or_default();
                *newest = at.max(*newest);
            }
        }
    }
    let newest = |wish: &Wish| {
        let server = server_of(store, wish.server).ok()?;
        if !matches!(app.status(&server), ServerStatus::Active | ServerStatus::Stopped) {
            return None;
        }
        let found = match wish.kind {
            Kind::Backup => backups.get(&wish.server).copied(),
            Kind::Snapshot => {
                let is_own = |one: &cowblk::Snapshot| one.marks().labels.contains_key(SCHEDULED);
                server.snapshots().into_iter().filter(is_own).map(|one| one.created_at()).max()
            }
        };
        Some((*wish, found.unwrap_or_else(|| server.created_at())))
    };
    wishes.iter().filter_map(newest).collect()
}

async fn make(app: &Shared, wish: Wish, now: u64) -> Result<(), Refusal> {
    match wish.kind {
        Kind::Backup => {
            backup::create(app, wish.server, (BackupType::Automatic, "daily".into()), None).await?;
        }
        Kind::Snapshot => {
            create(app, wish.server, wanted_by_schedule(now)).await?;
            // The snapshot is there; what fails here is done again behind the next one.
            if let Err(refusal) = prune(app, wish.server, &app.details.of(wish.server)).await {
                complain(&refusal);
            }
        }
    }
    Ok(())
}

/// Deletes what the policy does not keep of what schedules made.
async fn prune(app: &Shared, id: u64, details: &Details) -> Result<(), Refusal> {
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

    #[test]
    fn what_failed_is_held_back_for_a_while_also_if_the_clock_was_set_back() {
        let wish = Wish { server: 1, kind: Kind::Snapshot, every: 60 };
        let known = |tried| Known { newest: Some(0), tried };
        assert!(wish.is_due(&known(None), 1000));
        for (now, due) in [(1000, false), (1299, false), (1300, true), (701, false), (700, true)] {
            assert_eq!(wish.is_due(&known(Some(1000)), now), due, "{now}");
        }
        assert!(!wish.is_due(&Known { newest: Some(1000), tried: None }, 1019));
        assert!(wish.is_due(&Known::default(), 5), "nothing is known: look");
    }
}
