//! Hooks: guests are stopped, started, frozen and thawed as promised, and NBD clients kept out of a restore.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use cowblk_nbd::codec::Style;

use crate::client::Client;
use crate::daemon::{Daemon, Site};

/// A program that writes what it is told into a file, and does `more`.
fn program(site: &Site, name: &str, more: &str) -> PathBuf {
    let (path, log) = (site.path(name), site.path("log"));
    let text = format!("#!/bin/sh\necho \"{name} $*\" >> {}\n{more}\n", log.display());
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn log(site: &Site) -> Vec<String> {
    let text = std::fs::read_to_string(site.path("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Starts a daemon with these hooks for all.
fn start(site: &Site, hooks: &Value) -> Daemon {
    std::fs::write(site.path("hooks.json"), hooks.to_string()).unwrap();
    site.start_with(&["--hooks", site.path("hooks.json").to_str().unwrap()])
}

fn active_server(daemon: &Daemon) -> u64 {
    let body = json!({"name": "web", "status": "active", "disks": [{"name": "vda", "size_bytes": 8 << 20}]});
    daemon.post("/api/v1/servers/", &body).expect(201)["id"].as_u64().unwrap()
}

#[test]
fn a_restore_stops_the_guest_and_starts_it_again() {
    let site = Site::new();
    let (stop, go) = (program(&site, "stop", ""), program(&site, "start", ""));
    let hooks = json!({"stop": {"command": [stop, "{server}", "{id}", "$HOME;x"]}, "start": {"command": [go, "{server}"]}});
    let daemon = start(&site, &hooks);
    let id = active_server(&daemon);
    let snapshot = daemon.make_snapshot(id, "a");
    daemon.ask("POST", &format!("/api/v1/snapshots/{snapshot}/restore/?start=true"), None, &[]).expect(200);
    while daemon.status_of(id) != "active" {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(log(&site), [format!("stop web {id} $HOME;x"), "start web".into()], "arguments, and no shell");
}

#[test]
fn a_guest_that_does_not_stop_is_not_restored() {
    let site = Site::new();
    let stop = program(&site, "stop", "echo 'no such domain' >&2; exit 3");
    let daemon = start(&site, &json!({"stop": {"command": [stop]}}));
    let id = active_server(&daemon);
    let snapshot = daemon.make_snapshot(id, "a");
    let answer = daemon.ask("POST", &format!("/api/v1/snapshots/{snapshot}/restore/"), None, &[]);
    assert_eq!(answer.refusal(502), "hook_failed");
    assert!(answer.text.contains("no such domain"), "{}", answer.text);
    assert_eq!(daemon.rested(id), "active", "as it was");
}

#[test]
fn a_hook_that_takes_too_long_is_ended_with_all_it_started() {
    let site = Site::new();
    let stop =
        program(&site, "stop", &format!("(sleep 3; echo late >> {}) & wait", site.path("log").display()));
    let daemon = start(&site, &json!({"stop": {"command": [stop], "seconds": 1}}));
    let id = active_server(&daemon);
    let answer = daemon.ask("POST", &format!("/api/v1/servers/{id}/stop/"), None, &[]);
    assert_eq!(answer.refusal(502), "hook_failed");
    assert_eq!(daemon.status_of(id), "active");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(log(&site), ["stop "]);
}

#[test]
fn a_frozen_guest_makes_a_better_snapshot_and_is_thawed() {
    let site = Site::new();
    let (freeze, thaw) = (program(&site, "freeze", ""), program(&site, "thaw", ""));
    let daemon = start(&site, &json!({"freeze": {"command": [freeze]}, "thaw": {"command": [thaw]}}));
    let id = active_server(&daemon);
    let made = daemon.post("/api/v1/snapshots/", &json!({"server_id": id, "name": "a"})).expect(201);
    assert_eq!(made["consistency"], "filesystem");
    assert_eq!(log(&site), ["freeze ", "thaw "]);
    daemon.ask("POST", &format!("/api/v1/servers/{id}/stop/"), None, &[]).expect(200);
    let made = daemon.post("/api/v1/snapshots/", &json!({"server_id": id, "name": "b"})).expect(201);
    assert_eq!(made["consistency"], "crash", "nobody is there to be frozen");
    assert_eq!(log(&site).len(), 2);
}

#[test]
fn a_guest_that_cannot_be_frozen_is_thawed_all_the_same() {
    let site = Site::new();
    let (freeze, thaw) = (program(&site, "freeze", "exit 1"), program(&site, "thaw", ""));
    let daemon = start(&site, &json!({"freeze": {"command": [freeze]}, "thaw": {"command": [thaw]}}));
    let id = active_server(&daemon);
    let made = daemon.post("/api/v1/snapshots/", &json!({"server_id": id, "name": "a"})).expect(201);
    assert_eq!(made["consistency"], "crash");
    assert!(made["message"].as_str().unwrap().contains("could not be frozen"), "{made}");
    assert_eq!(log(&site), ["freeze ", "thaw "]);
    // The snapshot itself fails: the guest is thawed, too.
    let again = daemon.post("/api/v1/snapshots/", &json!({"server_id": id, "name": "a"}));
    assert_eq!(again.refusal(400), "name_taken");
    assert_eq!(log(&site), ["freeze ", "thaw ", "freeze ", "thaw "]);
}

/// The only thread of the store is busy with an image when the guest is frozen: the watchdog does not wait for the snapshot. That says
/// that it is no better than what a crash leaves.
#[test]
fn a_guest_is_not_frozen_for_longer_than_it_may_be() {
    let site = Site::new();
    std::fs::create_dir(site.path("images")).unwrap();
    let image = site.path("images/zeros.raw");
    std::fs::File::create_new(&image).unwrap().set_len(2 << 30).unwrap();
    let go = site.path("go");
    let freeze = program(&site, "freeze", &format!("until [ -e {} ]; do sleep 0.01; done", go.display()));
    let thaw = program(&site, "thaw", "");
    let hooks = json!({"freeze": {"command": [freeze]}, "thaw": {"command": [thaw]}});
    std::fs::write(site.path("hooks.json"), hooks.to_string()).unwrap();
    let (hooks, images) = (site.path("hooks.json"), site.path("images"));
    let daemon = site.start_with(&[
        "--threads",
        "1",
        "--frozen-time",
        "1",
        "--hooks",
        hooks.to_str().unwrap(),
        "--allow-images",
        images.to_str().unwrap(),
    ]);
    let id = active_server(&daemon);
    std::thread::scope(|scope| {
        let asking =
            scope.spawn(|| daemon.post("/api/v1/snapshots/", &json!({"server_id": id, "name": "a"})));
        while log(&site).is_empty() {
            std::thread::sleep(Duration::from_millis(5)); // the guest is being frozen
        }
        let (address, authorization) = (daemon.address.clone(), format!("Bearer {}", site.token));
        let disks = json!([{"name": "vda", "image": image}]);
        let body = json!({"name": "large", "disks": disks}).to_string();
        // Nobody waits for its answer: it is under way once others wait for the thread.
        let filling = scope.spawn(move || {
            let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
            crate::daemon::exchange(&address, "POST", "/api/v1/servers/", body.as_bytes(), &headers)
        });
        let journal = site.path("pool.cow.serve/requests.journal");
        while !std::fs::read_to_string(&journal).unwrap().contains("\"large\"") {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::write(&go, "").unwrap();
        while log(&site).len() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(log(&site), ["freeze ", "thaw "]);
        assert!(!asking.is_finished(), "the guest runs again, and the snapshot is still waiting");
        let made = asking.join().unwrap().expect(201);
        assert_eq!(made["consistency"], "crash", "{made}");
        filling.join().unwrap().unwrap();
    });
}

#[test]
fn a_request_that_takes_too_long_is_answered_and_goes_on() {
    let site = Site::new();
    let go = site.path("go");
    let stop = program(&site, "stop", &format!("until [ -e {} ]; do sleep 0.01; done", go.display()));
    std::fs::write(site.path("hooks.json"), json!({"stop": {"command": [stop]}}).to_string()).unwrap();
    let hooks = site.path("hooks.json");
    let daemon = site.start_with(&["--request-time", "1", "--hooks", hooks.to_str().unwrap()]);
    let id = active_server(&daemon);
    let key = [("Idempotency-Key", "stop-it")];
    let path = format!("/api/v1/servers/{id}/stop/");
    assert_eq!(daemon.ask("POST", &path, None, &key).refusal(504), "timed_out");
    assert_eq!(daemon.ask("POST", &path, None, &key).refusal(409), "under_way");
    assert_eq!(daemon.status_of(id), "active", "it is still being stopped");
    std::fs::write(&go, "").unwrap();
    while daemon.status_of(id) != "stopped" {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Whoever asks again with the same key hears how it ended.
    let answer = loop {
        let answer = daemon.ask("POST", &path, None, &key);
        if answer.status != 409 {
            break answer;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(answer.expect(200)["status"], "stopped");
    assert_eq!(log(&site), ["stop "], "once");
}

#[test]
fn a_daemon_that_is_killed_while_a_guest_is_frozen_thaws_it_at_its_next_start() {
    let site = Site::new();
    let frozen = site.path("frozen");
    let freeze = program(&site, "freeze", &format!("touch {}; sleep 60", frozen.display()));
    let thaw = program(&site, "thaw", "");
    let daemon = start(&site, &json!({"freeze": {"command": [freeze]}, "thaw": {"command": [thaw]}}));
    let id = active_server(&daemon);
    let (address, body) = (daemon.address.clone(), json!({"server_id": id, "name": "a"}).to_string());
    let authorization = format!("Bearer {}", site.token);
    let asking = std::thread::spawn(move || {
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        crate::daemon::exchange(&address, "POST", "/api/v1/snapshots/", body.as_bytes(), &headers)
    });
    while !frozen.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    daemon.kill();
    assert!(asking.join().unwrap().is_err());
    assert_eq!(log(&site), ["freeze "]);
    let daemon = site.start_with(&["--hooks", site.path("hooks.json").to_str().unwrap()]);
    while log(&site).len() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(log(&site), ["freeze ", "thaw "]);
    assert_eq!(daemon.settled(id)["count"], json!(0), "the snapshot did not happen");
}

#[test]
fn hooks_of_requests_are_those_that_the_operator_allowed() {
    let site = Site::new();
    let (stop, other) = (program(&site, "stop", ""), program(&site, "other", ""));
    let daemon = site.start_with(&["--allow-hook-command", stop.to_str().unwrap()]);
    let body = |path: &PathBuf| json!({"name": "web", "status": "active", "hooks": {"stop": {"command": [path, "now"]}}});
    assert_eq!(daemon.post("/api/v1/servers/", &body(&other)).refusal(400), "hook_not_allowed");
    let id = daemon.post("/api/v1/servers/", &body(&stop)).expect(201)["id"].as_u64().unwrap();
    daemon.ask("POST", &format!("/api/v1/servers/{id}/stop/"), None, &[]).expect(200);
    assert_eq!(log(&site), ["stop now"]);
}

/// A QEMU of which only the sockets are real.
fn pretend(path: PathBuf, answer: impl Fn(&str) -> Vec<Value> + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = UnixListener::bind(&path).unwrap();
    let said = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if path.ends_with("qmp") {
                writeln!(stream, "{}", json!({"QMP": {"version": {}, "capabilities": []}})).unwrap();
            } else {
                write!(stream, "{{\"return\": {{\"half").unwrap(); // of an answer to somebody else
            }
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while let Some(Ok(line)) = lines.next() {
                let asked: Value = serde_json::from_str(&line).unwrap();
                let word = asked["execute"].as_str().unwrap();
                said.lock().unwrap().push(word.to_owned());
                if word == "guest-sync-delimited" {
                    stream.write_all(b"\n\xff").unwrap();
                    writeln!(stream, "{}", json!({"return": asked["arguments"]["id"]})).unwrap();
                }
                for value in answer(word) {
                    writeln!(stream, "{value}").unwrap();
                }
            }
        }
    });
    heard
}

#[test]
fn qemu_is_powered_down_frozen_and_thawed_through_its_sockets() {
    let site = Site::new();
    let monitor = pretend(site.path("qmp"), |word| match word {
        "query-status" => vec![json!({"return": {"status": "running"}})],
        "system_powerdown" => vec![
            json!({"event": "POWERDOWN"}),
            json!({"return": {}}),
            json!({"event": "SHUTDOWN", "data": {"guest": true}}),
        ],
        _ => vec![json!({"return": {}})],
    });
    let agent = pretend(site.path("agent"), |word| match word {
        "guest-sync-delimited" => vec![],
        _ => vec![json!({"return": 2})],
    });
    let hooks = json!({
        "stop": {"qmp": site.path("qmp")}, "start": {"qmp": site.path("qmp")},
        "freeze": {"guest_agent": site.path("agent")}, "thaw": {"guest_agent": site.path("agent")},
    });
    let daemon = start(&site, &hooks);
    let id = active_server(&daemon);
    let made = daemon.post("/api/v1/snapshots/", &json!({"server_id": id, "name": "a"})).expect(201);
    assert_eq!(made["consistency"], "filesystem", "{made}");
    daemon.ask("POST", &format!("/api/v1/servers/{id}/stop/"), None, &[]).expect(200);
    daemon.ask("POST", &format!("/api/v1/servers/{id}/start/"), None, &[]).expect(200);
    let sync = "guest-sync-delimited";
    assert_eq!(*agent.lock().unwrap(), [sync, "guest-fsfreeze-freeze", sync, "guest-fsfreeze-thaw"]);
    let heard = monitor.lock().unwrap().clone();
    assert_eq!(
        heard,
        ["qmp_capabilities", "query-status", "system_powerdown", "qmp_capabilities", "query-status", "cont"]
    );
}

/// A client of the disk is told to go before a restore, and sees the snapshot when it comes back.
#[test]
fn a_restore_keeps_nbd_clients_out() {
    let site = Site::new();
    let socket = site.path("nbd.sock");
    let daemon = site.start_with(&["--nbd", &format!("unix:{}", socket.display())]);
    let id = daemon.make_server("web");
    let snapshot = daemon.make_snapshot(id, "empty");
    let connect = || Client::open(&socket, Style::Simple, "web/vda", &[]).unwrap();
    let mut client = connect();
    client.put(0, &[7; 4096]);
    daemon.ask("POST", &format!("/api/v1/snapshots/{snapshot}/restore/"), None, &[]).expect(200);
    assert!(client.is_ended(), "the connection ended");
    assert_eq!(connect().get(0, 4096), [0; 4096]);
    daemon.ask("POST", &format!("/api/v1/servers/{id}/undo/"), None, &[]).expect(200);
    assert_eq!(connect().get(0, 4096), [7; 4096], "what the client wrote before it was told to go");
}
