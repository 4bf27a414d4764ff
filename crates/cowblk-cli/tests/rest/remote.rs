//! `cowblk --url`: the same commands, asked of a daemon.

use serde_json::Value;

use crate::daemon::{Daemon, Site};

fn run(site: &Site, daemon: &Daemon, arguments: &[&str]) -> (i32, String) {
    let mut command = site.cowblk(arguments);
    let output = command.env("COWBLK_URL", daemon.url()).env("COWBLK_TOKEN", &site.token).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// The keys of an object, in order.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// What both ways show, without what differs by nature: ids, times, sizes that are being counted, and the status that only a daemon knows.
fn shape(value: &Value) -> Value {
    match value {
        Value::Array(all) => all.iter().map(shape).collect(),
        Value::Object(fields) => {
            let own = ["id", "created_at", "status", "max_snapshots", "max_disk_bytes", "parent"];
            let is_same_both_ways = |key: &str| {
                let is_size_of_disk = key == "size_bytes" && !fields.contains_key("disks");
                let is_counted = key.contains("bytes") || key.contains("mb");
                is_size_of_disk || !(is_counted || own.contains(&key))
            };
            let kept = fields.iter().filter(|(key, _)| is_same_both_ways(key));
            let told = |key: &str, value: &Value| match value {
                Value::String(_) if key == "expires_at" => Value::from("a time"),
                other => shape(other),
            };
            Value::Object(kept.map(|(key, value)| (key.clone(), told(key, value))).collect())
        }
        other => other.clone(),
    }
}

/// Each command twice: asked of a daemon, and then, on a store with the same history, without one. They say the same.
#[test]
fn every_command_says_the_same_with_a_daemon_and_without() {
    let commands: &[&[&str]] = &[
        &["server", "create", "web"],
        &["disk", "create", "web/vda", "8M"],
        &[
            "snapshot",
            "create",
            "web",
            "first",
            "-d",
            "as installed",
            "--label",
            "by=test",
            "--label",
            "odd=a b&c=ä",
        ],
        &["snapshot", "create", "web", "second", "--protect"],
        &["disk", "create", "web/vdb", "1M"],
        &["snapshot", "create", "web", "third", "--label", "by=test"],
        &["server", "list"],
        &["server", "show", "web"],
        &["disk", "list"],
        &["disk", "list", "web"],
        &["snapshot", "show", "web", "first"],
        &["snapshot", "list", "web"],
        &["snapshot", "list", "--tree"],
        &["snapshot", "list", "web", "--tree"],
        &[
            "snapshot",
            "edit",
            "web",
            "second",
            "--unprotect",
            "--expires",
            "2035-01-01T00:00:00Z",
            "--label",
            "a=b",
        ],
        &["snapshot", "edit", "web", "second", "--expires", "never", "--unlabel", "a"],
        &["snapshot", "restore", "web", "first"],
        &["snapshot", "list", "--tree"],
        &["snapshot", "restore", "web", "--undo"],
        &["diff", "web@first", "@third"],
        &["diff", "web@first"],
        &["diff", "web"],
        &["diff", "web/vda@first"],
        &["diff", "web", "--whole"],
        &["diff", "web", "@third", "--whole"],
        &["diff", "web", "@third"],
        &["diff", "web@first", "--reverse"],
        &["snapshot", "prune", "web", "--keep-last", "1", "--label", "by=test", "--dry-run"],
        &["snapshot", "prune", "web", "--keep-last", "1", "--label", "odd=a b&c=ä", "--dry-run"],
        &["snapshot", "prune", "--keep-last", "1", "--label", "by=test"],
        &["server", "clone", "web", "third", "web-2"],
        &["disk", "clone", "web/vda@third", "web-2/vdc"],
        &["diff", "web-2"],
        &["disk", "resize", "web/vda", "16M"],
        &["disk", "resize", "web/vda", "12M"],
        &["disk", "resize", "web/vda", "4M", "--force"],
        &["disk", "edit", "web/vda", "--when-full", "5m"],
        &["disk", "delete", "web-2/vdc"],
        &["server", "edit", "web", "--max-snapshots", "30", "--max-disk-bytes", "1G", "--label", "team=blue"],
        &["server", "edit", "web", "--max-disk-bytes", "none", "--unlabel", "team"],
        &["server", "reset", "web-2"],
        &["snapshot", "delete", "--dry-run", "web", "third", "second"],
        &["snapshot", "delete", "web", "third", "second"],
        &["server", "delete", "--dry-run", "web"],
        &["server", "delete", "web-2"],
        &["collect"],
        &["trim"],
        &["server", "list"],
    ];
    let (with, without) = (Site::new(), Site::new());
    assert!(without.cowblk(&["init"]).output().unwrap().status.success());
    let daemon = with.start();
    for command in commands {
        let arguments = [&["--json"], *command].concat();
        let (code, said) = run(&with, &daemon, &arguments);
        assert_eq!(code, 0, "{command:?}: {said}");
        if command[0] == "snapshot" && command[1] == "restore" {
            daemon.rested(
                daemon.get("/api/v1/servers/?name=web").expect(200)["results"][0]["id"].as_u64().unwrap(),
            );
        }
        let alone = without.cowblk(&arguments).output().unwrap();
        assert!(alone.status.success(), "{command:?}: {alone:?}");
        let asked: Value = serde_json::from_str(&said).unwrap();
        let alone: Value = serde_json::from_slice(&alone.stdout).unwrap();
        assert_eq!(shape(&asked), shape(&alone), "{command:?}");
        if asked["count"].is_null() {
            let only_daemons_know = |key: &&str| *key != "status" || alone.get("status").is_some();
            let found: Vec<&str> = keys(&asked).into_iter().filter(only_daemons_know).collect();
            assert_eq!(found, keys(&alone), "{command:?}");
        }
    }
}

/// What cannot be done beside a daemon says why, and what to do instead.
#[test]
fn what_a_daemon_cannot_be_asked_for_says_so() {
    let site = Site::new();
    let daemon = site.start();
    daemon.make_server("web");
    let image = site.path("image.raw");
    let image = image.to_str().unwrap();
    for (arguments, words) in [
        (&["check"][..], "stop the daemon"),
        (&["scrub"], "stop the daemon"),
        (&["repair"], "stop the daemon"),
        (&["dump"], "stop the daemon"),
        (&["dedup"], "stop the daemon"),
        (&["init"], "makes its store by itself"),
        (&["nbd", "--unix", image], "cowblk serve --nbd"),
        (&["send", "web@first"], "nbdcopy"),
        (&["receive"], "nbdcopy"),
        (&["disk", "import", image, "web/vda"], "nbdcopy"),
        (&["disk", "export", "web/vda", image], "nbdcopy"),
        (&["snapshot", "export", "web/vda@first", image], "nbdcopy"),
        (&["disk", "map", "web/vda"], "nbdcopy"),
        (&["disk", "discard", "web/vda"], "nbdcopy"),
        (&["disk", "sparsify", "web/vda"], "nbdcopy"),
    ] {
        let (code, said) = run(&site, &daemon, arguments);
        assert!(code == 2 && said.contains(words), "{arguments:?}: {code}, {said}");
    }
}

#[test]
fn servers_and_snapshots_are_handled_through_a_daemon_as_without_one() {
    let site = Site::new();
    let daemon = site.start();
    let ok = |arguments: &[&str]| {
        let (code, said) = run(&site, &daemon, arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
        said
    };
    ok(&["server", "create", "web"]);
    ok(&["disk", "create", "web/vda", "8M"]);
    ok(&["snapshot", "create", "web", "first", "-d", "as installed", "--label", "by=test"]);
    ok(&["snapshot", "create", "web", "second"]);
    let list: Value = serde_json::from_str(&ok(&["--json", "snapshot", "list", "web"])).unwrap();
    assert_eq!(list["results"][1]["description"], "as installed");
    assert_eq!(list["results"][1]["labels"]["by"], "test");
    assert!(ok(&["snapshot", "restore", "web", "first"]).contains("restored web to first; to undo"));
    daemon.rested(list["results"][0]["server"]["id"].as_u64().unwrap());
    assert!(ok(&["snapshot", "restore", "web", "--undo"]).contains("took back the last restore"));
    ok(&["server", "clone", "web", "first", "web-2"]);
    assert!(ok(&["snapshot", "delete", "--dry-run", "web", "first"]).contains("would free"));
    ok(&["snapshot", "delete", "web", "first", "second"]);
    assert!(ok(&["server", "list"]).contains("web-2"));
    assert!(ok(&["server", "show", "web"]).contains("vda"));
    ok(&["server", "delete", "web-2"]);
    assert!(ok(&["status"]).contains("servers           1"));
    let stats = ok(&["stats"]);
    for line in ["device sync", "other flushes", "written to the medium"] {
        assert!(stats.lines().any(|found| found.starts_with(line)), "{line} in {stats}");
    }
    let stats: Value = serde_json::from_str(&ok(&["--json", "stats"])).unwrap();
    assert!(stats["latencies"]["flush"]["max_ns"].as_u64().unwrap() > 0, "{stats}");
    for (arguments, code, word) in [
        (&["server", "create", "web"][..], 4, "already"),
        (&["snapshot", "delete", "web", "first"], 3, "no snapshot `first`"),
        (&["server", "show", "../x"], 3, "no server"),
        (&["disk", "delete", "web/vdz"], 3, "its disks: vda"),
        (&["snapshot", "restore", "web-3", "--undo"], 3, "no server `web-3` (servers here: web)"),
        (&["server", "reset", "web"], 2, "was not cloned"),
        (&["--token", "wrong", "server", "list"], 11, "not known"),
        (&["--url", "http://127.0.0.1:1", "server", "list"], 1, "cannot be reached"),
        (&["--url", "elsewhere", "server", "list"], 1, "is no address"),
    ] {
        let (found, said) = run(&site, &daemon, arguments);
        assert!(found == code && said.contains(word), "{arguments:?}: {found}, {said}");
    }
}

#[test]
fn a_daemon_is_asked_through_a_socket_and_through_tls() {
    let site = Site::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(site.path("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(site.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (site.path("cert.pem"), site.path("key.pem"));
    let socket = format!("unix:{}", site.path("http.sock").display());
    let arguments =
        ["--listen", &socket, "--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let daemon = site.start_with(&arguments);
    daemon_answers(&site, &daemon, &["--url", &socket]);
    let secret = format!("https://{}", daemon.address.replace("127.0.0.1", "localhost"));
    daemon_answers(&site, &daemon, &["--url", &secret, "--ca", cert.to_str().unwrap()]);
    let (code, said) = run(&site, &daemon, &["--url", &secret, "status"]);
    assert!(code == 1 && said.contains("certificate"), "a stranger's certificate: {said}");
    assert_eq!(daemon.stop(), Some(0));
    assert!(!site.path("http.sock").exists());
}

fn daemon_answers(site: &Site, daemon: &Daemon, place: &[&str]) {
    let (code, said) = run(site, daemon, &[place, &["status"]].concat());
    assert!(code == 0 && said.contains("servers           0"), "{place:?}: {said}");
}
