//! A guest that is frozen for its snapshots by QEMU's guest agent.

use std::time::Instant;

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::machine::HANGS;
use crate::{House, make_server};

/// A snapshot for which the guest was frozen; its id. On a busy machine a guest may take longer to freeze than it is
/// given: then the snapshot says so, and is made again.
fn frozen_snapshot(daemon: &Daemon, server: u64) -> Value {
    let begun = Instant::now();
    loop {
        let body = json!({"server_id": server, "name": "frozen"});
        let made = daemon.post("/api/v1/snapshots/", &body).expect(201);
        if made["consistency"] == "filesystem" {
            return made["id"].clone();
        }
        assert!(begun.elapsed() < HANGS, "the guest cannot be frozen: {made}");
        daemon.delete(&format!("/api/v1/snapshots/{}/", made["id"])).expect(204);
    }
}

#[test]
fn a_snapshot_of_a_frozen_guest_holds_what_it_had_not_synced() {
    let Some(house) = House::new() else { return };
    house.parts.write_initial(&house.site.path("initial"), &[&house.parts.agent]);
    let daemon = house.serve();
    let socket = house.socket("agent");
    let hook = json!({"guest_agent": socket});
    let server = make_server(&daemon, &json!({"freeze": hook, "thaw": hook}));
    let channel = format!("socket,id=agent,path={socket},server=on,wait=off");
    let port = "virtserialport,chardev=agent,name=org.qemu.guest_agent.0";
    let serial = ["-chardev", &channel, "-device", "virtio-serial-pci", "-device", port, "-no-reboot"];
    let mut guest = house.boot("", &serial);
    guest.is_ready();
    guest.does("mkfs.ext4 -q /dev/vda && mount -t ext4 /dev/vda /mnt && sync");
    guest.does("qemu-ga -d -m virtio-serial -p /dev/vport*p1 -t /run");
    guest.does("head -c 300000 /dev/urandom >/mnt/file");
    let hash = guest.does("sha256sum /mnt/file");
    let snapshot = frozen_snapshot(&daemon, server);
    guest.does("rm /mnt/file && sync"); // It is thawed: this does not wait.
    guest.run("poweroff -f &");
    guest.end();
    daemon.ask("POST", &format!("/api/v1/snapshots/{snapshot}/restore/"), None, &[]).expect(200);

    let mut guest = house.boot("", &serial);
    guest.is_ready();
    guest.does("mount -t ext4 /dev/vda /mnt");
    assert_eq!(guest.does("sha256sum /mnt/file"), hash);
    assert_eq!(guest.run("dmesg | grep 'EXT4.*recover'"), (1, String::new()), "there was nothing to replay");
    guest.does("umount /mnt && e2fsck -fn /dev/vda");
}
