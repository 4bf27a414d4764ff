//! A guest that nobody here wrote, on a disk of ours: Linux under QEMU, over NBD from `cowblk serve`, snapshots and
//! restores through the REST API, stopped and started through QEMU's monitor.
//!
//! Without QEMU, busybox, a kernel or QEMU's guest agent these tests say so and skip; `.ci/run` brings all of them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test stops where it is surprised, and says so where it skips"
)]

#[allow(dead_code, reason = "this and the tests of the REST API use a part of it each")]
#[path = "../rest/daemon.rs"]
mod daemon;

mod freezing;
mod kernel_client;
mod machine;
mod parts;
mod restarts;
mod restores;

use std::path::Path;

use daemon::{Daemon, Site};
use machine::{HANGS, Machine, Start};
use parts::Parts;
use serde_json::{Value, json};

/// A store with a server `web` and its disk, and what a guest is made of.
struct House {
    site: Site,
    parts: Parts,
}

impl House {
    /// `None`, and a word about it, where something is missing.
    fn new() -> Option<House> {
        let house = House { site: Site::new(), parts: Parts::find()? };
        house.parts.write_initial(&house.site.path("initial"), &[]);
        Some(house)
    }

    /// The daemon, with disks at a socket.
    fn serve(&self) -> Daemon {
        self.serve_at(&format!("unix:{}", self.socket("nbd")))
    }

    fn serve_at(&self, nbd: &str) -> Daemon {
        let seconds = HANGS.as_secs().to_string();
        let folder = self.site.path("");
        self.site.start_with(&[
            "--nbd",
            nbd,
            "--allow-hook-sockets",
            folder.to_str().unwrap().trim_end_matches('/'),
            "--request-time",
            &seconds,
        ])
    }

    fn socket(&self, name: &str) -> String {
        self.site.path(name).to_str().unwrap().to_owned()
    }

    /// An active server with a disk, stopped and started through the monitor of its guest; its id.
    fn make_server(&self, daemon: &Daemon, seconds: u64) -> u64 {
        let hook = json!({"qmp": self.socket("qmp"), "seconds": seconds});
        make_server(daemon, &json!({"stop": hook, "start": hook}))
    }

    /// Starts a guest on the disk.
    fn boot(&self, disk: &str, more: &[&str]) -> Machine {
        let (nbd, qmp) = (self.socket("nbd"), self.socket("qmp"));
        let node = format!(
            "driver=nbd,node-name=vda,server.type=unix,server.path={nbd},export=web/vda,reconnect-delay=600,discard=unmap"
        );
        let monitor = format!("unix:{qmp},server=on,wait=off");
        let device = format!("virtio-blk-pci,drive=vda{disk}");
        let mut arguments = vec!["-blockdev", &node, "-device", &device, "-qmp", &monitor];
        arguments.extend(more);
        self.start(&arguments)
    }

    fn start(&self, arguments: &[&str]) -> Machine {
        Machine::start(&Start {
            kernel: &self.parts.kernel,
            initial: &self.site.path("initial"),
            folder: Path::new(&self.site.path("")),
            arguments,
        })
    }
}

/// An active server with a disk of 256 MiB, and these hooks; its id.
fn make_server(daemon: &Daemon, hooks: &Value) -> u64 {
    let disks = json!([{"name": "vda", "size_bytes": 256 << 20}]);
    let body = json!({"name": "web", "status": "active", "disks": disks, "hooks": hooks});
    daemon.post("/api/v1/servers/", &body).expect(201)["id"].as_u64().unwrap()
}
