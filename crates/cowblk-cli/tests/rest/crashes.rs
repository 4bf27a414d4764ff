//! A daemon that is killed at any moment: every request happened or did not, and nothing is stuck.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, Site, exchange};

/// How often the daemon is killed.
const ROUNDS: u64 = 12;

/// A request that was sent with a key, and what came back, if anything.
#[derive(Clone, Debug)]
struct Sent {
    path: String,
    body: Value,
    key: String,
    answer: Option<(u16, Value)>,
}

fn send(address: &str, token: &str, sent: &mut Sent) -> bool {
    let authorization = format!("Bearer {token}");
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", sent.key.as_str()),
    ];
    match exchange(address, "POST", &sent.path, sent.body.to_string().as_bytes(), &headers) {
        Ok(answer) if answer.status < 500 => {
            sent.answer = Some((answer.status, answer.json()));
            true
        }
        _ => false,
    }
}

/// Makes servers, snapshots, restores, starts and stops until it is told to stop or nobody answers.
fn work(address: &str, token: &str, (round, worker): (u64, u64), stop: &AtomicBool) -> Vec<Sent> {
    let mut all = Vec::new();
    let mut ask = |path: String, body: Value| -> Option<Value> {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let mut sent = Sent { path, body, key: format!("{round}-{worker}-{}", all.len()), answer: None };
        let is_answered = send(address, token, &mut sent);
        let answer = sent.answer.clone().map(|(_, body)| body);
        all.push(sent);
        if is_answered { answer } else { None }
    };
    for nth in 0.. {
        let name = format!("s-{round}-{worker}-{nth}");
        let disks = json!([{"name": "a", "size_bytes": 4096}, {"name": "b", "size_bytes": 4096}]);
        let details = json!({"name": name, "hostname": "h", "status": "active", "disks": disks});
        let Some(server) = ask("/api/v1/servers/".into(), details) else { break };
        let id = &server["id"];
        let body = json!({"server_id": id, "name": "one"});
        let Some(snapshot) = ask("/api/v1/snapshots/".into(), body) else { break };
        let restore = format!("/api/v1/snapshots/{}/restore/", snapshot["id"]);
        if ask(restore, json!({})).is_none()
            || ask(format!("/api/v1/servers/{id}/undo/"), json!({})).is_none()
        {
            break;
        }
    }
    all
}

fn looks_whole(daemon: &Daemon) {
    let servers = daemon.get("/api/v1/servers/").expect(200);
    for server in servers["results"].as_array().unwrap() {
        assert_eq!(server["disks"].as_array().unwrap().len(), 2, "half a server: {server}");
        assert_eq!(server["hostname"], "h", "half a server: {server}");
        let id = server["id"].as_u64().unwrap();
        assert!(["active", "stopped"].contains(&daemon.rested(id).as_str()), "{server}");
        daemon.settled(id);
    }
}

#[test]
fn a_killed_daemon_did_each_request_or_did_not() {
    let site = Site::new();
    let mut daemon = site.start();
    let mut names: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        let (address, token) = (daemon.address.clone(), site.token.clone());
        let sent: Vec<Sent> = std::thread::scope(|scope| {
            let (address, token, stop) = (&address, &token, &stop);
            let workers: Vec<_> = (0..3)
                .map(|worker| scope.spawn(move || work(address, token, (round, worker), stop)))
                .collect();
            std::thread::sleep(Duration::from_millis(20 + round * 37 % 150));
            daemon.kill();
            stop.store(true, Ordering::Relaxed);
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        daemon = site.start();
        looks_whole(&daemon);
        for mut one in sent {
            let before = one.answer.take();
            assert!(send(&daemon.address, &site.token, &mut one), "{one:?}");
            let (status, body) = one.answer.clone().unwrap();
            match before {
                Some((known, answer)) => {
                    assert_eq!((known, &answer), (status, &body), "an answer that was given stays: {one:?}");
                }
                None => assert!(status == 200 || status == 201, "it can be sent again: {one:?} {body}"),
            }
            if one.path == "/api/v1/servers/" {
                let name = body["name"].as_str().unwrap().to_owned();
                assert_eq!(
                    names.insert(name.clone(), body["id"].as_u64().unwrap()),
                    None,
                    "{name} was made twice"
                );
            }
        }
        looks_whole(&daemon);
        let count = daemon.get("/api/v1/servers/?limit=0").expect(200)["count"].as_u64().unwrap();
        assert_eq!(count, names.len() as u64, "each server once");
    }
    println!("{} servers in {ROUNDS} rounds", names.len());
    assert!(names.len() > 5, "the daemon was killed too early to do anything");
    assert_eq!(daemon.stop(), Some(0));
    assert!(site.cowblk(&["check", "--data"]).output().unwrap().status.success());
}

#[test]
fn a_store_that_a_daemon_holds_says_how_to_go_on() {
    let site = Site::new();
    let daemon = site.start();
    let output = site.cowblk(&["server", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--url") && said.contains(&daemon.url()), "{said}");
}
