//! A daemon that is killed under a guest that writes.

use std::time::Duration;

use crate::House;

/// How often the daemon is killed.
const KILLS: u64 = 5;

/// Writes files for ever, and notes the hash of each once it is on the disk.
const WRITER: &str = "n=0; while [ ! -e /run/stop ]; do n=$((n + 1)); \
    head -c 300000 /dev/urandom >/run/file && cp /run/file /mnt/$n && sync && \
    echo \"$(sha256sum </run/file | cut -c1-64)  /mnt/$n\" >>/run/sums; done";

/// Nothing is lost, however often the daemon dies, and the guest does not even notice: what was written and not flushed is
/// in the handover file, which the next daemon takes over.
#[test]
fn a_guest_goes_on_when_the_daemon_is_killed() {
    let Some(house) = House::new() else { return };
    let mut daemon = house.serve();
    house.make_server(&daemon, 60);
    let mut guest = house.boot("", &["-no-reboot"]);
    guest.is_ready();
    guest.does("mkfs.ext4 -q /dev/vda && mount -t ext4 /dev/vda /mnt && touch /run/sums");
    guest.does(&format!("({WRITER}; touch /run/stopped) &"));
    for kill in 1..=KILLS {
        guest.does(&format!("while [ $(wc -l </run/sums) -lt {} ]; do sleep 0.1; done", kill * 3));
        std::thread::sleep(Duration::from_millis(kill * 977 % 300)); // somewhere in the midst of it
        daemon.kill();
        daemon = house.serve();
    }
    guest.does("touch /run/stop; while [ ! -e /run/stopped ]; do sleep 0.1; done");
    let count: u64 = guest.does("wc -l </run/sums").parse().unwrap();
    assert!(count > KILLS * 3, "{count} files");
    guest.does("echo 3 >/proc/sys/vm/drop_caches");
    let (code, lost) = guest.run("sha256sum -c /run/sums 2>&1 | grep -v ': OK$'");
    assert_eq!((code, lost.as_str()), (1, ""), "files that are not what they were");
    guest.does("umount /mnt && e2fsck -fn /dev/vda");
    let console = guest.console();
    assert!(!console.contains("I/O error") && !console.contains("EXT4-fs error"), "{console}");
    println!("{count} files, {KILLS} kills");
}
