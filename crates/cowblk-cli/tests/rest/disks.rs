//! Disks under a daemon: templates whose blocks are not stored again.

use cowblk_nbd::codec::Style;
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
