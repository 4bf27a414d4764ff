//! The client that is part of Linux: a disk becomes `/dev/nbd0`.

use std::net::TcpListener;

use serde_json::json;

use crate::House;
use crate::parts::program;

/// Reaches the host from QEMU's own network.
const HOST: &str = "10.0.2.2";

#[test]
fn a_kernel_attaches_a_disk_and_its_snapshot() {
    let Some(house) = House::new() else { return };
    let client = match program("nbd-client") {
        Ok(client) => client,
        Err(missing) => return println!("SKIPPED: {missing}"),
    };
    house.parts.write_initial(&house.site.path("initial"), &[&client]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(); // It is free again.
    let daemon = house.serve_at(&format!("127.0.0.1:{port}"));
    let server = house.make_server(&daemon, 60);
    let network = ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="];
    let mut guest = house.start(&[&network[..], &["-no-reboot"]].concat());
    guest.is_ready();
    guest.does("ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0");
    let attach = format!("nbd-client {HOST} {port} -N");

    guest.does(&format!("{attach} web/vda /dev/nbd0"));
    assert_eq!(guest.does("cat /sys/block/nbd0/size"), ((256 << 20) / 512).to_string());
    guest.does("mkfs.ext4 -q /dev/nbd0 && mount -t ext4 /dev/nbd0 /mnt");
    guest.does("for n in 1 2 3; do head -c $((n << 20)) /dev/urandom >/mnt/$n; done; sync");
    let hash = guest.does("cat /mnt/* 2>/dev/null | sha256sum");
    guest.does("umount /mnt");
    daemon.post("/api/v1/snapshots/", &json!({"server_id": server, "name": "three"})).expect(201);
    guest.does("mount -t ext4 /dev/nbd0 /mnt && rm /mnt/1 && fstrim /mnt && umount /mnt");
    guest.does("e2fsck -fn /dev/nbd0 && nbd-client -d /dev/nbd0");

    guest.does(&format!("{attach} web/vda@three /dev/nbd1"));
    guest.does("mount -t ext4 -o ro /dev/nbd1 /mnt");
    assert_eq!(guest.does("cat /mnt/* 2>/dev/null | sha256sum"), hash, "what the snapshot holds");
    assert_eq!(guest.does("cat /sys/block/nbd1/ro"), "1");
    guest.does("umount /mnt && nbd-client -d /dev/nbd1");
}
