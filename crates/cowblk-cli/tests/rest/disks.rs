//! Disks under a daemon: larger and smaller while they are served, and templates whose blocks are not stored again.

use cowblk_nbd::codec::{Command as Request, Style};
use serde_json::{Value, json};

use crate::client::{Client, noise};
use crate::daemon::{Daemon, Site};

const MIB: u64 = 1 << 20;

fn start_with(site: &Site, arguments: &[&str]) -> Daemon {
    let nbd = format!("unix:{}", site.path("nbd.sock").display());
    site.start_with(&[&["--nbd", &nbd], arguments].concat())
}

fn open(site: &Site) -> Client {
    Client::open(&site.path("nbd.sock"), Style::Simple, "web/vda", &[]).unwrap()
}

/// What a client that can tell is answered to a read of a block.
fn is_there(client: &mut Client, offset: u64) -> bool {
    client.ask(Request::Read, 0, (offset, 4096), &[]).error == 0
}

#[test]
fn a_disk_is_made_larger_and_smaller_beside_its_clients() {
    let site = Site::new();
    let daemon = start_with(&site, &[]);
    let id = daemon.make_server("web");
    let path = format!("/api/v1/servers/{id}/disks/vda/");
    let mut before = open(&site);
    before.put(0, &noise(1, 4096));
    before.put(6 * MIB, &noise(2, 4096));
    let snapshot = daemon.make_snapshot(id, "whole");

    let grown = daemon.patch(&path, &json!({"size_bytes": 16 * MIB})).expect(200);
    assert_eq!(grown["size_bytes"], json!(16 * MIB));
    assert!(before.get(6 * MIB, 4096) == noise(2, 4096), "whoever is there stays");
    let mut after = open(&site);
    assert!(
        !is_there(&mut before, 12 * MIB) && is_there(&mut after, 12 * MIB),
        "and finds the size that it found"
    );

    // Smaller: only where nobody uses it, and only what is empty unless told.
    daemon.ask("POST", &format!("/api/v1/servers/{id}/start/"), None, &[]).expect(200);
    assert_eq!(daemon.patch(&path, &json!({"size_bytes": 8 * MIB})).refusal(400), "wrong_state");
    daemon.ask("POST", &format!("/api/v1/servers/{id}/stop/"), None, &[]).expect(200);
    daemon.patch(&path, &json!({"size_bytes": 8 * MIB})).expect(200);
    assert!(before.is_ended() && after.is_ended(), "they have to look at the size again");
    let refused = daemon.patch(&path, &json!({"size_bytes": 4 * MIB}));
    assert!(refused.text.contains("would cut off data"), "{}", refused.text);
    assert_eq!(refused.refusal(400), "invalid");
    assert!(open(&site).get(6 * MIB, 4096) == noise(2, 4096));
    let cut = daemon.patch(&path, &json!({"size_bytes": 4 * MIB, "cut": true})).expect(200);
    assert_eq!(cut["size_bytes"], json!(4 * MIB));
    assert!(!is_there(&mut open(&site), 6 * MIB) && is_there(&mut open(&site), 0));

    daemon.ask("POST", &format!("/api/v1/snapshots/{snapshot}/restore/"), None, &[]).expect(200);
    daemon.rested(id);
    assert!(open(&site).get(6 * MIB, 4096) == noise(2, 4096), "the snapshot brings size and content back");
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_daemon_shares_what_its_templates_hold() {
    let site = Site::new();
    let daemon = start_with(&site, &[]);
    let id = daemon.make_server("web");
    open(&site).put(0, &noise(1, 1 << 20));
    daemon.make_snapshot(id, "golden");
    assert_eq!(daemon.stop(), Some(0));

    let daemon = start_with(&site, &["--template", "web@golden", "--template-memory", "1M"]);
    open(&site).put(4 * MIB, &noise(1, 1 << 20));
    open(&site).put(6 * MIB, &noise(2, 1 << 20));
    assert!(open(&site).get(4 * MIB, MIB) == noise(1, 1 << 20));
    assert_eq!(daemon.stop(), Some(0));
    let status: Value = {
        let said = site.cowblk(&["--json", "status"]).output().unwrap();
        serde_json::from_slice(&said.stdout).unwrap()
    };
    assert_eq!(status["saved_blocks"], json!(256), "{status}");

    let refused = site.cowblk(&["serve", "--template", "web@no"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("golden"), "{refused:?}");
}
