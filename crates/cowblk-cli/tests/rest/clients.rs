//! Real clients: the examples of the API as its users have them, with nothing changed but host and token.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::daemon::{Daemon, Site};

/// A daemon with server 12345, which the examples name, and snapshot `before`; the snapshot's id.
fn bench() -> (Site, Daemon, u64) {
    let site = Site::new();
    let daemon = site.start();
    let body = json!({"name": "web-server-01", "id": 12345, "status": "active", "disks": [{"name": "vda", "size_gb": 1}]});
    daemon.post("/api/v1/servers/", &body).expect(201);
    let id = daemon.make_snapshot(12345, "before");
    (site, daemon, id)
}

/// Runs an example with a program, if that is there.
fn run(program: &str, option: &str, script: &str, (site, daemon, id): (&Site, &Daemon, u64)) {
    let script = script
        .replace("https://api.example.com", &daemon.url())
        .replace("YOUR_TOKEN", &site.token)
        .replace("SNAPSHOT_ID", &id.to_string());
    let output = match Command::new(program).arg(option).arg(&script).output() {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            return println!("skipped: there is no {program}");
        }
        output => output.unwrap(),
    };
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.starts_with("skipped: ") {
        return println!("{said}");
    }
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.ends_with("done\n"), "{said}\n{errors}");
    // Each example makes a snapshot, restores one and deletes one.
    let list = daemon.settled(12345);
    assert_eq!(list["count"], json!(1), "{list}");
    assert_eq!(list["results"][0]["name"], "before-update-snapshot");
    assert_eq!(daemon.rested(12345), "stopped");
}

#[test]
fn the_examples_for_curl_run_as_they_are() {
    if !Path::new("/usr/bin/curl").exists() {
        return println!("skipped: there is no curl");
    }
    let (site, daemon, id) = bench();
    run("sh", "-euc", include_str!("examples/curl.sh"), (&site, &daemon, id));
}

#[test]
fn the_examples_for_python_run_as_they_are() {
    let (site, daemon, id) = bench();
    run("python3", "-c", include_str!("examples/requests.py"), (&site, &daemon, id));
}

#[test]
fn the_examples_for_javascript_run_as_they_are() {
    let (site, daemon, id) = bench();
    run("node", "-e", include_str!("examples/fetch.js"), (&site, &daemon, id));
}

/// A newcomer pastes what the README says, in its order.
#[test]
fn the_readme_works_as_it_stands() {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap();
    let section = readme.split("\n## The daemon\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let site = Site::new();
    let daemon = site.start();
    let block = |language: &str| {
        let fence = format!("```{language}\n");
        let found: Vec<String> =
            section.split(&fence).skip(1).map(|part| part.split("```").next().unwrap().to_owned()).collect();
        assert!(!found.is_empty(), "{language}");
        found.last().unwrap().replace("http://127.0.0.1:8780", &daemon.url())
    };
    let cowblk = format!("{} --store {}", env!("CARGO_BIN_EXE_cowblk"), site.path("pool.cow").display());
    let commands = block("sh").replace("$(cowblk ", &format!("$({cowblk} ")).replace("curl ", "curl -sSf ");
    let told = |program: &str, option: &str, script: &str| {
        let output = match Command::new(program).arg(option).arg(script).output() {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                println!("skipped: there is no {program}");
                return None;
            }
            output => output.unwrap(),
        };
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if said.contains("No module named 'requests'") {
            println!("skipped: python has no requests");
            return None;
        }
        assert!(output.status.success(), "{program}: {said}");
        Some(said)
    };
    let Some(said) = told("sh", "-euc", &commands) else { return };
    assert!(said.contains("in_progress") && said.contains("\"count\":1"), "{said}");
    let mine = |script: String| script.replace("Bearer TOKEN", &format!("Bearer {}", site.token));
    if let Some(said) = told("python3", "-c", &mine(block("python"))) {
        assert!(said.contains("hold snapshot before-update-snapshot again"), "{said}");
        daemon.rested(12345);
        if let Some(said) = told("node", "-e", &mine(block("js"))) {
            assert!(said.contains("The disks of web-server-01 hold snapshot"), "{said}");
        }
    }
}

/// What happens is told while it happens.
#[test]
fn a_client_hears_what_happens() {
    let (site, daemon, _) = bench();
    let mut curl = Command::new("curl");
    curl.args(["-sN", "--max-time", "20", "-H", &format!("Authorization: Bearer {}", site.token)]);
    curl.arg(format!("{}/api/v1/events", daemon.url())).stdout(std::process::Stdio::piped());
    let Ok(mut child) = curl.spawn() else { return println!("skipped: there is no curl") };
    let mut stream = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stream, &mut line).unwrap();
        line
    };
    assert_eq!(next(), ": listening\n");
    let id = daemon.make_snapshot(12345, "after");
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        let line = next();
        assert_ne!(line, "", "the stream ended early");
        if let Some(text) = line.strip_prefix("data: ") {
            let event: serde_json::Value = serde_json::from_str(text).unwrap();
            if event["snapshot_id"] == json!(id) {
                kinds.push(event["kind"].as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(kinds, ["snapshot.created", "snapshot.completed"]);
    assert_eq!(daemon.stop(), Some(0), "a listener does not hold up a stop");
    child.wait().unwrap();
}
