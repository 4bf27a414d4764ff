//! docs/operations.md: the unit file, the alerts and the hooks in it are taken out and tried.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::daemon::Site;

/// Exposure in tenths, as `systemd-analyze security` counts it: 0 is best, 100 worst.
const EXPOSURE_MAX: &str = "15";

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    std::fs::read_to_string(path).unwrap()
}

/// The blocks of a language below a heading.
fn blocks(document: &str, heading: &str, language: &str) -> Vec<String> {
    let section = document.split(&format!("\n{heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n## ").next().unwrap().split("\n### ").next().unwrap();
    let fence = format!("```{language}\n");
    let parts = section.split(&fence).skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// Runs a program; `None` if it is not there.
fn run(command: &mut Command) -> Option<(bool, String)> {
    match command.output() {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => None,
        output => {
            let output = output.unwrap();
            let said = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
        }
    }
}

#[test]
fn the_unit_file_is_one_and_leaves_little_exposed() {
    let site = Site::new();
    let unit = blocks(&document(), "### Under systemd", "ini").remove(0);
    assert!(unit.contains("/usr/local/bin/cowblk"), "{unit}");
    // `verify` wants the program to be there.
    let unit = unit.replace("/usr/local/bin/cowblk", env!("CARGO_BIN_EXE_cowblk"));
    let path = site.path("cowblk.service");
    std::fs::write(&path, unit).unwrap();
    let analyze = || Command::new("systemd-analyze");
    let Some((is_fine, said)) = run(analyze().arg("verify").arg(&path)) else {
        return println!("skipped: there is no systemd-analyze");
    };
    let about_it: Vec<&str> = said.lines().filter(|line| line.contains("cowblk.service")).collect();
    assert!(is_fine && about_it.is_empty(), "{said}");
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let found = run(analyze().args(["security", "--offline=true", &threshold]).arg(&path));
    let (is_fine, said) = found.unwrap();
    assert!(is_fine, "{said}");
}

/// The names of metrics in an alert's expression.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_word(c)).filter(|word| word.starts_with("cowblk_"));
    words.map(str::to_owned).collect()
}

#[test]
fn every_metric_of_an_alert_is_one_of_the_daemon() {
    let site = Site::new();
    let alerts = blocks(&document(), "### Monitoring", "yaml").remove(0);
    let wanted = metrics_in(&alerts);
    assert!(wanted.len() > 8 && alerts.matches("- alert:").count() > 7, "{wanted:?}");
    // A hook that fails and a size limit: all metrics are there.
    let hooks = json!({"stop": {"command": ["/bin/false"]}});
    std::fs::write(site.path("hooks.json"), hooks.to_string()).unwrap();
    let hooks = site.path("hooks.json");
    let daemon = site.start_with(&["--size-limit", "1G", "--hooks", hooks.to_str().unwrap()]);
    let id = daemon.post("/api/v1/servers/", &json!({"name": "web", "status": "active"})).expect(201)["id"]
        .clone();
    let stopped = daemon.ask("POST", &format!("/api/v1/servers/{id}/stop/"), None, &[]);
    assert_eq!(stopped.refusal(502), "hook_failed");
    let metrics = daemon.get("/metrics").text;
    for name in &wanted {
        assert!(
            metrics.lines().any(|line| line.split(['{', ' ']).next() == Some(name)),
            "{name} in {metrics}"
        );
    }
    for label in ["ok=\"false\"", "status=\"502\"", "le=\"+Inf\""] {
        assert!(metrics.contains(label), "{label}");
    }
    let path = site.path("alerts.yml");
    std::fs::write(&path, alerts).unwrap();
    match run(Command::new("promtool").args(["check", "rules"]).arg(&path)) {
        None => println!("skipped: there is no promtool"),
        Some((is_fine, said)) => assert!(is_fine, "{said}"),
    }
    let path = site.path("metrics.txt");
    std::fs::write(&path, metrics).unwrap();
    let metrics: PathBuf = path;
    let promtool = format!("promtool check metrics < {}", metrics.display());
    match run(Command::new("sh").args(["-c", &promtool])) {
        Some((false, said)) if said.contains("not found") => println!("skipped: there is no promtool"),
        found => assert!(found.as_ref().is_some_and(|(is_fine, _)| *is_fine), "{found:?}"),
    }
}

#[test]
fn the_hooks_of_the_document_are_understood() {
    let site = Site::new();
    let examples = blocks(&document(), "### Hooks", "json");
    assert_eq!(examples.len(), 2);
    std::fs::write(site.path("hooks.json"), &examples[0]).unwrap();
    let hooks = site.path("hooks.json");
    let daemon = site.start_with(&["--hooks", hooks.to_str().unwrap(), "--allow-hook-sockets", "/run/qemu"]);
    let mut body: serde_json::Value = serde_json::from_str(&examples[1]).unwrap();
    body["name"] = json!("web-1");
    daemon.post("/api/v1/servers/", &body).expect(201);
    let script = blocks(&document(), "### Hooks", "sh").remove(0);
    let (is_fine, said) = run(Command::new("sh").args(["-n", "-c", &script])).unwrap();
    assert!(is_fine, "{said}");
}
