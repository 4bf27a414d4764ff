//! Backups: copies in a store of their own, which outlive what they were made of.

use std::time::Duration;

use cowblk_nbd::codec::Style;
use serde_json::{Value, json};

use crate::client::{Client, noise};
use crate::daemon::{Daemon, Site};

const BLOCK: usize = 4096;

fn start(site: &Site) -> Daemon {
    site.start_with(&["--nbd", &format!("unix:{}", site.path("nbd.sock").display())])
}

fn disk(site: &Site) -> Client {
    Client::open(&site.path("nbd.sock"), Style::Simple, "web/vda", &[]).unwrap()
}

fn fill(site: &Site, seed: u64, at: u64) {
    let mut client = disk(site);
    client.put(at, &noise(seed, BLOCK));
    client.flush();
}

fn holds(site: &Site, seed: u64, at: u64) -> bool {
    disk(site).get(at, BLOCK as u64) == noise(seed, BLOCK)
}

fn make(daemon: &Daemon, server: u64) -> u64 {
    let body = json!({"server_id": server, "description": "d"});
    let made = daemon.post("/api/v1/backups/", &body).expect(201);
    assert_eq!((made["status"].as_str(), &made["size_mb"]), (Some("in_progress"), &Value::Null));
    assert_eq!((made["backup_type"].as_str(), &made["expires_at"]), (Some("manual"), &Value::Null));
    made["id"].as_u64().unwrap()
}

/// Waits until a backup is complete.
fn complete(daemon: &Daemon, id: u64) -> Value {
    for _ in 0..500 {
        let view = daemon.get(&format!("/api/v1/backups/{id}/")).expect(200);
        if view["status"] == "completed" {
            return view;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("a backup is in progress for ever");
}

#[test]
fn a_backup_outlives_its_snapshot_and_comes_back() {
    let site = Site::new();
    let daemon = start(&site);
    let id = daemon.make_server("web");
    fill(&site, 1, 0);
    let first = make(&daemon, id);
    assert_eq!(complete(&daemon, first)["size_mb"], json!(1));
    fill(&site, 2, 0);
    fill(&site, 3, 1 << 20);
    let second = make(&daemon, id);
    complete(&daemon, second);
    let list = daemon.get(&format!("/api/v1/backups/?server_id={id}&backup_type=manual")).expect(200);
    let ids: Vec<_> = list["results"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, [json!(second), json!(first)], "newest first");
    assert_eq!(daemon.get("/api/v1/backups/?backup_type=automatic").expect(200)["count"], json!(0));
    assert_eq!(daemon.settled(id)["count"], json!(0), "what backups are made of is nobody's snapshot");
    for (backup, seed) in [(first, 1), (second, 2)] {
        fill(&site, 9, 0);
        let path = format!("/api/v1/backups/{backup}/restore/");
        let restored = daemon.ask("POST", &path, None, &[]).expect(200);
        assert_eq!(restored["snapshot"]["id"], json!(backup));
        daemon.rested(id);
        assert!(holds(&site, seed, 0), "backup {backup}");
        daemon.ask("POST", &format!("/api/v1/servers/{id}/undo/"), None, &[]).expect(200);
        daemon.rested(id);
        assert!(holds(&site, 9, 0), "a restore of a backup can be undone");
    }
    assert_eq!(daemon.settled(id)["count"], json!(0));
    assert_eq!(daemon.delete(&format!("/api/v1/backups/{second}/")).status, 204);
    assert_eq!(daemon.delete(&format!("/api/v1/backups/{second}/")).refusal(404), "not_found");
    // Without its base, the next one is whole again.
    let third = make(&daemon, id);
    complete(&daemon, third);
    assert_eq!(daemon.ask("POST", &format!("/api/v1/backups/{first}/restore/"), None, &[]).status, 200);
    daemon.rested(id);
    assert!(holds(&site, 1, 0));
    assert_eq!(daemon.stop(), Some(0));
    for store in ["pool.cow", "pool.cow.serve/backups.cow"] {
        let path = site.path(store);
        let output = site.cowblk(&["check", "--data", "--store"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{store}: {output:?}");
    }
}

#[test]
fn ten_manual_backups_are_ten() {
    let site = Site::new();
    let daemon = site.start();
    let id = daemon.make_server("web");
    let made: Vec<u64> = (0..10).map(|_| make(&daemon, id)).collect();
    let more = daemon.post("/api/v1/backups/", &json!({"server_id": id}));
    assert_eq!(more.refusal(400), "limit_reached");
    for backup in &made {
        complete(&daemon, *backup);
    }
    assert_eq!(daemon.post("/api/v1/backups/", &json!({"server_id": 999})).refusal(404), "not_found");
    assert_eq!(daemon.delete(&format!("/api/v1/backups/{}/", made[3])).status, 204);
    make(&daemon, id);
}

/// Killed while it copies: the backup is complete after the next start, or was never begun.
#[test]
fn a_backup_that_was_cut_off_is_completed_at_the_next_start() {
    let site = Site::new();
    let mut daemon = start(&site);
    let id = daemon.make_server("web");
    for round in 0..6_u64 {
        let mut client = disk(&site);
        for at in 0..32_u64 {
            client.put(at << 18, &noise(round * 100 + at, 1 << 18));
        }
        client.flush();
        let backup = make(&daemon, id);
        std::thread::sleep(Duration::from_millis(round * 7));
        daemon.kill();
        daemon = start(&site);
        complete(&daemon, backup);
        client = disk(&site);
        client.put(0, &[0; BLOCK]);
        daemon.ask("POST", &format!("/api/v1/backups/{backup}/restore/"), None, &[]).expect(200);
        daemon.rested(id);
        let mut client = disk(&site);
        for at in 0..32_u64 {
            assert_eq!(client.get(at << 18, 1 << 18), noise(round * 100 + at, 1 << 18), "round {round}");
        }
    }
}

/// What backups are made of is a snapshot of the store, but none of the API: no policy counts it or deletes it.
#[test]
fn a_policy_does_not_see_what_backups_are_made_of() {
    let site = Site::new();
    let daemon = site.start();
    let id = daemon.make_server("web");
    let snapshot = daemon.make_snapshot(id, "old");
    let first = make(&daemon, id);
    complete(&daemon, first);
    let pruned = daemon.post(&format!("/api/v1/servers/{id}/prune/"), &json!({"last": 1})).expect(200);
    assert_eq!((pruned["count"].as_u64(), &pruned["results"][0]["id"]), (Some(1), &json!(snapshot)));
    assert_eq!(pruned["results"][0]["kept"], json!(true));
    let key = [("Idempotency-Key", "once")];
    let body = json!({"server_id": id});
    let made = daemon.ask("POST", "/api/v1/backups/", Some(&body), &key).expect(201);
    assert_eq!(daemon.ask("POST", "/api/v1/backups/", Some(&body), &key).expect(201), made);
    complete(&daemon, made["id"].as_u64().unwrap());
    assert_eq!(daemon.get("/api/v1/backups/").expect(200)["count"], json!(2));
}

/// Snapshots come and go by a schedule; the policy leaves alone what others made.
#[test]
fn a_schedule_makes_snapshots_and_says_what_it_will_not_do() {
    let site = Site::new();
    let daemon = site.start();
    let id = daemon.make_server("web");
    let path = format!("/api/v1/servers/{id}/");
    let wrong = json!({"schedule": {"every_seconds": 9}});
    assert_eq!(daemon.patch(&path, &wrong).refusal(400), "invalid");
    let change =
        json!({"schedule": {"every_seconds": 10}, "retention": {"last": 1}, "automatic_backups": true});
    let changed = daemon.patch(&path, &change).expect(200);
    assert_eq!(changed["schedule"], json!({"every_seconds": 10}));
    assert_eq!(changed["automatic_backups"], json!(true));
    daemon.kill();
    let daemon = site.start();
    assert_eq!(daemon.get(&path).expect(200)["schedule"], json!({"every_seconds": 10}));
    let off = json!({"schedule": {"every_seconds": 0}, "retention": {}, "automatic_backups": false});
    let changed = daemon.patch(&path, &off).expect(200);
    assert_eq!((&changed["schedule"], &changed["retention"]), (&Value::Null, &Value::Null));
}
