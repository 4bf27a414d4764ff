//! `cowblk --url`: the same commands, asked of a daemon.

use serde_json::Value;

use crate::daemon::{Daemon, Site};

fn run(site: &Site, daemon: &Daemon, arguments: &[&str]) -> (i32, String) {
    let mut command = site.cowblk(arguments);
    let output = command.env("COWBLK_URL", daemon.url()).env("COWBLK_TOKEN", &site.token).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
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
    assert!(ok(&["snapshot", "restore", "web", "first"]).contains("hold snapshot first"));
    daemon.rested(list["results"][0]["server"]["id"].as_u64().unwrap());
    assert!(ok(&["snapshot", "restore", "web", "--undo"]).contains("hold snapshot"));
    ok(&["server", "clone", "web", "first", "web-2"]);
    assert!(ok(&["snapshot", "delete", "--dry-run", "web", "first"]).contains("would free"));
    ok(&["snapshot", "delete", "web", "first", "second"]);
    assert!(ok(&["server", "list"]).contains("web-2"));
    assert!(ok(&["server", "show", "web"]).contains("vda"));
    ok(&["server", "delete", "web-2"]);
    assert!(ok(&["status"]).contains("1 servers"));
    for (arguments, code, word) in [
        (&["server", "create", "web"][..], 4, "already"),
        (&["snapshot", "delete", "web", "first"], 3, "no snapshot `first`"),
        (&["server", "show", "../x"], 3, "no server"),
        (&["check"], 2, "leave out --url"),
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
    assert!(code == 0 && said.contains("0 servers"), "{place:?}: {said}");
}
