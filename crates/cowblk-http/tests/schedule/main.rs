//! Schedules, the daily backups and retention, on a clock that the test sets: what is due is made, once, and nothing else is.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod world;

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use serde_json::{Value, json};
use world::{DAY, Daemon, HOUR, MIDNIGHT, World};

/// A clock of the test's own, and how to set it.
macro_rules! clock {
    ($at:expr) => {{
        static NOW: AtomicU64 = AtomicU64::new(0);
        NOW.store($at, SeqCst);
        let clock: fn() -> u64 = || NOW.load(SeqCst);
        (clock, |at: u64| NOW.store(at, SeqCst))
    }};
}

/// Waits until all backups of a server are complete; how many there are.
fn completed(daemon: &Daemon, server: u64) -> usize {
    loop {
        let list = daemon.get(&format!("backups/?server_id={server}"));
        let all = list["results"].as_array().unwrap();
        if all.iter().all(|one| one["status"] == "completed") {
            return all.len();
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_schedule_makes_a_snapshot_at_each_of_its_moments_and_at_no_other() {
    let (clock, set) = clock!(MIDNIGHT + 10);
    let world = World::new(clock);
    let daemon = world.start();
    let id = daemon.make_server("web", &json!({"schedule": {"every_seconds": HOUR}}));
    daemon.look();
    assert!(daemon.snapshots(id).is_empty(), "nothing is due yet");
    set(MIDNIGHT + HOUR - 1);
    daemon.look();
    assert!(daemon.snapshots(id).is_empty(), "nor a second before");
    set(MIDNIGHT + HOUR);
    daemon.look();
    assert_eq!(daemon.snapshots(id), ["2030-01-01T01:00:00Z"]);
    set(MIDNIGHT + 2 * HOUR - 1);
    daemon.look();
    assert_eq!(daemon.snapshots(id).len(), 1, "once");
    set(MIDNIGHT + 2 * HOUR + 7);
    daemon.look();
    assert_eq!(daemon.snapshots(id), ["2030-01-01T02:00:07Z", "2030-01-01T01:00:00Z"]);
    let newest = daemon.get(&format!("snapshots/?server_id={id}"))["results"][0].clone();
    assert_eq!((newest["name"].as_str(), &newest["labels"]), (Some("auto-20300101-020007"), &json!({})));
    // Somebody deletes it: its moment is over all the same.
    daemon.delete(&format!("snapshots/{}/", newest["id"]));
    daemon.look();
    assert_eq!(daemon.snapshots(id), ["2030-01-01T01:00:00Z"]);
    // One that was made by hand is not one of the schedule's.
    set(MIDNIGHT + 3 * HOUR - 1);
    daemon.post("snapshots/", &json!({"server_id": id, "name": "by-hand"}));
    set(MIDNIGHT + 3 * HOUR);
    daemon.look();
    assert_eq!(daemon.snapshots(id).first().unwrap(), "2030-01-01T03:00:00Z");
    daemon.change(id, &json!({"schedule": {"every_seconds": 0}}));
    set(MIDNIGHT + 9 * HOUR);
    daemon.look();
    assert_eq!(daemon.snapshots(id).len(), 3, "it was taken away");
    daemon.stop();
}

/// A daemon that was down for days makes one snapshot and one backup when it is up again, not one for each time it missed.
#[test]
fn what_a_daemon_missed_while_it_was_down_is_made_up_for_once() {
    let (clock, set) = clock!(MIDNIGHT + 4 * HOUR);
    let world = World::new(clock);
    let daemon = world.start();
    let wishes = json!({"schedule": {"every_seconds": HOUR}, "automatic_backups": true});
    let id = daemon.make_server("web", &wishes);
    daemon.look();
    assert_eq!((daemon.snapshots(id).len(), daemon.backups(id).len()), (0, 0));
    daemon.stop();
    set(MIDNIGHT + 5 * DAY + 90);
    let daemon = world.start();
    daemon.look();
    let at = ["2030-01-06T00:01:30Z"];
    assert_eq!(
        (daemon.snapshots(id), daemon.backups(id)),
        (at.map(str::to_owned).to_vec(), at.map(str::to_owned).to_vec())
    );
    assert_eq!(completed(&daemon, id), 1);
    daemon.look();
    assert_eq!((daemon.snapshots(id).len(), daemon.backups(id).len()), (1, 1));
    // The next ones come at their own times.
    set(MIDNIGHT + 5 * DAY + 3 * HOUR - 1);
    daemon.look();
    assert_eq!((daemon.snapshots(id).len(), daemon.backups(id).len()), (2, 1));
    set(MIDNIGHT + 5 * DAY + 3 * HOUR);
    daemon.look();
    assert_eq!((daemon.snapshots(id).len(), daemon.backups(id).len()), (3, 2));
    assert_eq!(completed(&daemon, id), 2);
    // A daemon that was down and missed nothing makes nothing.
    daemon.stop();
    let daemon = world.start();
    daemon.look();
    assert_eq!((daemon.snapshots(id).len(), daemon.backups(id).len()), (3, 2));
    daemon.stop();
}

#[test]
fn a_backup_is_made_at_three_each_day_and_goes_after_a_month() {
    let (clock, set) = clock!(MIDNIGHT);
    let world = World::new(clock);
    let daemon = world.start();
    let id = daemon.make_server("web", &json!({"automatic_backups": true}));
    let other = daemon.make_server("other", &json!({}));
    for day in 0..3 {
        set(MIDNIGHT + day * DAY + 3 * HOUR - 1);
        daemon.look();
        assert_eq!(daemon.backups(id).len() as u64, day, "not before three");
        set(MIDNIGHT + day * DAY + 3 * HOUR);
        daemon.look();
        assert_eq!(completed(&daemon, id) as u64, day + 1);
    }
    let times = ["2030-01-03T03:00:00Z", "2030-01-02T03:00:00Z", "2030-01-01T03:00:00Z"];
    assert_eq!(daemon.backups(id), times);
    assert!(daemon.backups(other).is_empty(), "nobody asked for those");
    let oldest = daemon.get(&format!("backups/?server_id={id}"))["results"][2].clone();
    assert_eq!(oldest["expires_at"], "2030-01-31T03:00:00Z");
    assert!(daemon.snapshots(id).is_empty(), "what backups are made of is no snapshot of the user's");
    // Ten manual ones are a limit of their own.
    for _ in 0..10 {
        daemon.post("backups/", &json!({"server_id": id}));
    }
    assert_eq!(completed(&daemon, id), 13);
    assert_eq!(daemon.refused("POST", "backups/", &json!({"server_id": id})), "limit_reached");
    daemon.change(id, &json!({"automatic_backups": false}));
    set(MIDNIGHT + 31 * DAY);
    while daemon.backups(id).len() == 3 {
        std::thread::yield_now(); // the store deletes what has expired when it comes to it
    }
    assert_eq!(daemon.backups(id), times[..2], "the first one has expired, and no other");
    let manual = daemon.get(&format!("backups/?server_id={id}&backup_type=manual"));
    assert_eq!((manual["count"].as_u64(), &manual["results"][0]["expires_at"]), (Some(10), &Value::Null));
    daemon.stop();
}

#[test]
fn a_policy_says_which_snapshots_of_a_schedule_stay() {
    let (clock, set) = clock!(MIDNIGHT);
    let world = World::new(clock);
    let daemon = world.start();
    let wishes = json!({"schedule": {"every_seconds": HOUR}, "retention": {"last": 2, "daily": 2}});
    let id = daemon.make_server("web", &wishes);
    daemon.post("snapshots/", &json!({"server_id": id, "name": "by-hand"}));
    for hour in 1..=50 {
        set(MIDNIGHT + hour * HOUR);
        daemon.look();
    }
    // The two newest; of two days the newest, one of which is the newest of all; and what the policy has no say in.
    assert_eq!(
        daemon.snapshots(id),
        ["2030-01-03T02:00:00Z", "2030-01-03T01:00:00Z", "2030-01-02T23:00:00Z", "2030-01-01T00:00:00Z"]
    );
    daemon.stop();
}

/// Ten minutes of a snapshot every ten seconds: never more than the policy keeps, and not one too few.
#[test]
fn a_schedule_may_be_as_short_as_ten_seconds() {
    let (clock, set) = clock!(MIDNIGHT);
    let world = World::new(clock);
    let daemon = world.start();
    let wishes = json!({"schedule": {"every_seconds": 10}, "retention": {"last": 3, "hourly": 2}});
    let id = daemon.make_server("web", &wishes);
    for step in 1..=60 {
        set(MIDNIGHT + HOUR - 300 + step * 10);
        daemon.look();
        let found = daemon.snapshots(id);
        assert!(found.len() as u64 == step.min(if step > 31 { 4 } else { 3 }), "step {step}: {found:?}");
    }
    let at = ["01:05:00", "01:04:50", "01:04:40", "00:59:50"].map(|time| format!("2030-01-01T{time}Z"));
    assert_eq!(daemon.snapshots(id), at);
    assert_eq!(daemon.counter("cowblk_schedule_failures_total"), 0);
    daemon.stop();
}

/// A schedule without room fails, says so, and does not try all the time; it goes on once there is room.
#[test]
fn a_schedule_that_finds_no_room_tries_again_and_freezes_nobody_for_nothing() {
    let (clock, set) = clock!(MIDNIGHT);
    let world = World::new(clock);
    let log = world.path("log");
    let program = |name: &str| {
        let path = world.path(name);
        std::fs::write(&path, format!("#!/bin/sh\necho {name} >> {}\n", log.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        json!({"command": [path]})
    };
    let hooks = json!({"freeze": program("freeze"), "thaw": program("thaw")});
    let daemon = world.start_with(serde_json::from_value(hooks).unwrap());
    let wishes = json!({"status": "active", "snapshot_limit": 1, "schedule": {"every_seconds": HOUR}});
    let id = daemon.make_server("web", &wishes);
    let by_hand = daemon.post("snapshots/", &json!({"server_id": id, "name": "by-hand"}));
    set(MIDNIGHT + HOUR);
    daemon.look();
    daemon.look();
    let failures = || daemon.counter("cowblk_schedule_failures_total");
    assert_eq!((failures(), daemon.snapshots(id).len()), (1, 1));
    set(MIDNIGHT + HOUR + 299);
    daemon.look();
    assert_eq!(failures(), 1);
    set(MIDNIGHT + HOUR + 300);
    daemon.look();
    assert_eq!(failures(), 2, "tried again");
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(said, "freeze\nthaw\n", "for the one by hand only");
    daemon.delete(&format!("snapshots/{}/", by_hand["id"]));
    set(MIDNIGHT + HOUR + 600);
    daemon.look();
    assert_eq!((failures(), daemon.snapshots(id)), (2, vec!["2030-01-01T01:10:00Z".to_owned()]));
    daemon.stop();
}

#[test]
fn a_server_that_was_put_aside_waits_until_it_is_taken_back() {
    let (clock, set) = clock!(MIDNIGHT);
    let world = World::new(clock);
    let daemon = world.start();
    let wishes = json!({"schedule": {"every_seconds": HOUR}, "automatic_backups": true});
    let id = daemon.make_server("web", &wishes);
    daemon.post(&format!("servers/{id}/suspend/"), &json!({}));
    set(MIDNIGHT + 4 * HOUR);
    daemon.look();
    assert_eq!((daemon.snapshots(id).len(), daemon.backups(id).len()), (0, 0));
    assert_eq!(daemon.counter("cowblk_schedule_failures_total"), 0, "that is no failure");
    daemon.post(&format!("servers/{id}/resume/"), &json!({}));
    daemon.look();
    assert_eq!((daemon.snapshots(id).len(), daemon.backups(id).len()), (1, 1));
    daemon.delete(&format!("servers/{id}/"));
    set(MIDNIGHT + 40 * HOUR);
    daemon.look();
    assert_eq!(daemon.counter("cowblk_schedule_failures_total"), 0, "nor is a server that is gone");
    daemon.stop();
}
