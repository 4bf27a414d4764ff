//! Space over the REST API: the numbers of the store, of servers and of disks; and what the daemon does with deleted content.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, Site};

const MIB: u64 = 1 << 20;

/// A site with a server whose disk holds `mib` mebibytes; a daemon with these options, and the server's id.
fn site_with_data(mib: u64, options: &[&str]) -> (Site, Daemon, u64) {
    let site = Site::new();
    std::fs::create_dir(site.path("images")).unwrap();
    let mut image = vec![0; usize::try_from(mib * MIB).unwrap()];
    blake3::Hasher::new().finalize_xof().fill(&mut image);
    std::fs::write(site.path("images/a.raw"), image).unwrap();
    let images = site.path("images");
    let daemon = site.start_with(&[options, &["--allow-images", images.to_str().unwrap()]].concat());
    let disk = json!({"name": "vda", "image": site.path("images/a.raw"), "size_bytes": 256 * MIB});
    let made = daemon.post("/api/v1/servers/", &json!({"name": "web", "disks": [disk]})).expect(201);
    (site, daemon, made["id"].as_u64().unwrap())
}

/// Asks until the answer is as wanted.
fn wait_for(daemon: &Daemon, path: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1000 {
        let answer = daemon.get(path).expect(200);
        if is_wanted(&answer) {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{path} stays {}", daemon.get(path).text)
}

/// The value of a sample of `/metrics`.
fn metric(daemon: &Daemon, name: &str) -> u64 {
    let text = daemon.get("/metrics").text;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

#[test]
fn a_store_a_server_and_a_disk_tell_what_they_hold() {
    // The collector is to be seen at work.
    let (_site, daemon, id) = site_with_data(16, &["--collect-rate", "100"]);
    let path = format!("/api/v1/servers/{id}/");
    let is_counted = |mapped: u64, shared: u64, alone: u64| {
        move |server: &Value| {
            let sizes = |of: &Value| {
                let keys = ["mapped_bytes", "shared_bytes", "exclusive_bytes"];
                keys.map(|key| of[key].as_u64()) == [mapped, shared, alone].map(|mib| Some(mib * MIB))
            };
            sizes(server) && sizes(&server["disks"][0])
        }
    };
    wait_for(&daemon, &path, is_counted(16, 0, 16));
    let snapshot = daemon.make_snapshot(id, "first");
    wait_for(&daemon, &path, is_counted(16, 16, 0));

    let space = daemon.get("/api/v1/space/").expect(200);
    for key in ["used", "free", "metadata", "reserve"] {
        let bytes = space[format!("{key}_bytes")].as_u64().unwrap();
        assert!(bytes > 0, "{key} in {space}");
        assert_eq!(metric(&daemon, &format!("cowblk_store_{key}_bytes")) > 0, bytes > 0);
    }
    assert_eq!((&space["reclaimable_bytes"], &space["saved_bytes"]), (&json!(0), &json!(0)));

    daemon.delete(&format!("{path}disks/vda/")).expect(204);
    assert_eq!(daemon.delete(&format!("/api/v1/snapshots/{snapshot}/")).status, 204);
    let is_waiting = |space: &Value| space["reclaimable_bytes"].as_u64().unwrap() > 0;
    let waiting = wait_for(&daemon, "/api/v1/space/", is_waiting)["reclaimable_bytes"].as_u64().unwrap();
    assert!(waiting <= 17 * MIB, "{waiting} bytes");
    assert!(metric(&daemon, "cowblk_store_reclaimable_bytes") > 0);
    let collected = daemon.get("/api/v1/collector/").expect(200)["collected_blocks"].as_u64().unwrap();
    assert!(collected < 4096, "100 blocks a second: {collected}");
    daemon.ask("POST", "/api/v1/collector/", None, &[]).expect(200);
    assert_eq!(daemon.get("/api/v1/space/").expect(200)["reclaimable_bytes"], json!(0));
}

#[test]
fn the_daemon_gives_space_back_if_it_is_told_to() {
    let (site, daemon, id) = site_with_data(128, &["--punch-holes"]);
    let taken = || std::fs::metadata(site.path("pool.cow")).unwrap().blocks() * 512;
    let full = taken();
    daemon.delete(&format!("/api/v1/servers/{id}/disks/vda/")).expect(204);
    daemon.ask("POST", "/api/v1/collector/", None, &[]).expect(200);
    if taken() == full && daemon.ask("POST", "/api/v1/trim/", None, &[]).status != 200 {
        return println!("skipped: the file system cannot punch holes");
    }
    assert!(taken() + 60 * MIB < full, "{} of {full} bytes", taken());
}

#[test]
fn how_long_a_restore_can_be_taken_back_is_a_setting() {
    let site = Site::new();
    let daemon = site.start_with(&["--keep-replaced", "90s"]);
    let id = daemon.make_server("web");
    let snapshot = daemon.make_snapshot(id, "first");
    daemon.ask("POST", &format!("/api/v1/snapshots/{snapshot}/restore/"), None, &[]).expect(200);
    daemon.rested(id);
    let list = daemon.get("/api/v1/snapshots/?automatic=true").expect(200);
    let kept =
        list["results"].as_array().unwrap().iter().find(|one| one["kind"] == "before_restore").unwrap();
    let time = |key: &str| kept[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    assert_eq!(time("expires_at") - time("created_at"), 90, "{kept}");
}
