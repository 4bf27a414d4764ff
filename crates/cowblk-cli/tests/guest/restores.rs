//! Snapshots of a guest that runs, and restores after it lost everything.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::House;
use crate::daemon::{Answer, Daemon};
use crate::machine::{HANGS, Machine};

/// One hash of all files, their names and contents.
const HASH: &str = "(cd /mnt/files && find . -type f | sort | xargs sha256sum) | sha256sum";

/// Makes a file system with files on an empty disk, and something that goes on writing; the files' hash.
fn settle_in(guest: &mut Machine) -> String {
    guest.is_ready();
    guest.does("mkfs.ext4 -q /dev/vda && mount -t ext4 /dev/vda /mnt && mkdir -p /mnt/files/deep");
    guest.does("cat /proc/uptime >/mnt/times");
    guest.does("for n in $(seq 60); do head -c $((n * 5000)) /dev/urandom >/mnt/files/deep/$n; done");
    guest.does("head -c $((16 << 20)) /dev/urandom >/mnt/files/large && sync");
    let hash = guest.does(HASH);
    guest.does("(while cat /proc/uptime >>/mnt/times; do :; done) & echo $! >/run/writer");
    guest.does("while [ $(wc -l </mnt/times) -lt 10 ]; do :; done");
    hash
}

/// Loses the files, and the file system with them.
fn lose_all(guest: &mut Machine) {
    guest.does("rm -r /mnt/files && sync");
    assert_ne!(guest.run("ls /mnt/files/large").0, 0, "they are gone");
    guest.does("kill $(cat /run/writer); head -c $((64 << 20)) /dev/urandom >/dev/vda; sync");
}

/// Finds what [`settle_in`] left.
fn finds_all(guest: &mut Machine, hash: &str) {
    guest.is_ready();
    guest.does("mount -t ext4 /dev/vda /mnt"); // This replays the journal: the guest was running.
    assert_eq!(guest.does(HASH), hash, "the files are back");
    guest.does("test -s /mnt/times && umount /mnt && e2fsck -fn /dev/vda");
}

fn snapshot(daemon: &Daemon, server: u64) -> Value {
    let body = serde_json::json!({"server_id": server, "name": "before"});
    daemon.post("/api/v1/snapshots/", &body).expect(201)["id"].clone()
}

fn restore(daemon: &Daemon, snapshot: &Value, query: &str) -> Answer {
    daemon.ask("POST", &format!("/api/v1/snapshots/{snapshot}/restore/{query}"), None, &[])
}

/// Waits until a server is what it is to be. How long that takes is the guest's business.
fn wait_for(daemon: &Daemon, server: u64, status: &str) {
    let begun = Instant::now();
    while daemon.status_of(server) != status {
        assert!(begun.elapsed() < HANGS, "it does not become {status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The guest is powered down by the restore, which takes its disk back while QEMU is gone.
#[test]
fn a_guest_gets_its_files_back() {
    let Some(house) = House::new() else { return };
    let daemon = house.serve();
    let server = house.make_server(&daemon, HANGS.as_secs());
    let mut guest = house.boot("", &["-no-reboot"]);
    let hash = settle_in(&mut guest);
    let before = snapshot(&daemon, server);
    assert!(guest.is_running());
    lose_all(&mut guest);
    let answer = restore(&daemon, &before, "").expect(200);
    assert!(answer["message"].as_str().unwrap().contains("was stopped first"), "{answer}");
    assert!(guest.console().contains("the power button was pressed"), "{}", guest.console());
    assert!(guest.end().success(), "the guest powered down in order");
    wait_for(&daemon, server, "stopped");

    let mut guest = house.boot("", &["-no-reboot"]);
    finds_all(&mut guest, &hash);
}

/// QEMU stays when its guest is down, its disk is taken back below it, and the guest starts again in the same process.
#[test]
fn a_guest_is_started_again_by_the_restore() {
    let Some(house) = House::new() else { return };
    let daemon = house.serve();
    let server = house.make_server(&daemon, HANGS.as_secs());
    let mut guest = house.boot("", &["-no-shutdown"]);
    let hash = settle_in(&mut guest);
    let before = snapshot(&daemon, server);
    lose_all(&mut guest);
    restore(&daemon, &before, "?start=true").expect(200);
    finds_all(&mut guest, &hash);
    assert!(guest.is_running());
    wait_for(&daemon, server, "active");
}

/// A guest that takes no notice of its power button is left alone, and so is its disk.
#[test]
fn a_guest_that_does_not_power_down_is_not_restored() {
    let Some(house) = House::new() else { return };
    let daemon = house.serve();
    let server = house.make_server(&daemon, 2);
    let mut guest = house.boot("", &["-S"]); // It never begins.
    while !Path::new(&house.socket("qmp")).exists() {
        assert!(guest.is_running());
        std::thread::sleep(Duration::from_millis(5));
    }
    let before = snapshot(&daemon, server);
    let answer = restore(&daemon, &before, "");
    assert_eq!(answer.refusal(502), "hook_failed");
    assert!(answer.text.contains("longer than 2 seconds"), "{}", answer.text);
    wait_for(&daemon, server, "active");
    assert!(guest.is_running(), "it is not killed either");
}
