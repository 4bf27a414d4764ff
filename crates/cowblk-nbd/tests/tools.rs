//! Clients and suites that others wrote: whatever a raw file behind qemu-nbd passes, we pass.
//!
//! Where a tool is missing its test says so and skips; `.ci/run` installs them.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops where it is surprised")]

mod client;

use client::{Bench, noise};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MIB: usize = 1 << 20;

/// Whether all these tools are here; says which one is not.
fn has(tools: &[&str]) -> bool {
    let paths: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .chain(["/sbin".into(), "/usr/sbin".into()])
        .collect();
    let missing = tools.iter().find(|tool| !paths.iter().any(|path| path.join(tool).is_file()));
    if let Some(tool) = missing {
        println!("SKIPPED: {tool} is not installed");
    }
    missing.is_none()
}

fn run(program: &str, arguments: &[&str]) -> Output {
    // nbdsh is for the system's own Python.
    let path = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
    let path = if program == "nbdsh" { "/usr/bin:/bin" } else { path };
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").env("PATH", path).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn text(program: &str, arguments: &[&str]) -> String {
    String::from_utf8(run(program, arguments).stdout).unwrap()
}

/// An image with data, holes, and data that begins and ends nowhere in particular.
fn image(path: &Path) -> Vec<u8> {
    let mut bytes = vec![0; 24 * MIB];
    bytes[..MIB].copy_from_slice(&noise(1, MIB));
    bytes[5 * MIB + 777..9 * MIB].copy_from_slice(&noise(2, 4 * MIB - 777));
    bytes[23 * MIB..].copy_from_slice(&noise(3, MIB));
    fs::write(path, &bytes).unwrap();
    bytes
}

fn disk_bytes(bench: &Bench, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bench.disk().read_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn qemu_img_converts_compares_maps_and_measures() {
    if !has(&["qemu-img"]) {
        return;
    }
    let bench = Bench::new(24 * MIB as u64);
    let path = |name: &str| bench.folder.path().join(name).to_str().unwrap().to_owned();
    let bytes = image(Path::new(&path("in.raw")));
    let uri = bench.uri("web/vda");
    let info = text("qemu-img", &["info", "--output=json", &uri]);
    assert!(info.contains(&format!("\"virtual-size\": {}", 24 * MIB)), "{info}");
    run("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", &path("in.raw"), &uri]);
    assert!(disk_bytes(&bench, bytes.len()) == bytes);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &path("in.raw"), &uri]);
    run("qemu-img", &["convert", "-m", "16", "-W", "-f", "raw", "-O", "qcow2", &uri, &path("out.qcow2")]);
    run("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", &path("out.qcow2"), &uri]);
    run(
        "qemu-img",
        &["convert", "-n", "-m", "16", "-W", "-f", "qcow2", "-O", "raw", &path("out.qcow2"), &uri],
    );
    assert!(disk_bytes(&bench, bytes.len()) == bytes);

    let map = text("qemu-img", &["map", "--output=json", "-f", "raw", &uri]);
    let lines: Vec<&str> = map.lines().collect();
    assert_eq!(lines.len(), 5, "{map}");
    assert!(
        lines[0].contains("\"start\": 0, \"length\": 1048576,") && lines[0].contains("\"data\": true"),
        "{map}"
    );
    assert!(
        lines[1].contains("\"start\": 1048576, \"length\": 4194304,") && lines[1].contains("\"zero\": true"),
        "{map}"
    );

    run(
        "qemu-img",
        &["bench", "-f", "raw", "-w", "-c", "2000", "-d", "32", "-s", "4096", "--flush-interval=100", &uri],
    );
    run("qemu-img", &["bench", "-f", "raw", "-c", "2000", "-d", "32", "-s", "65536", &uri]);
}

#[test]
fn qemu_io_writes_patterns_and_finds_them_again() {
    if !has(&["qemu-io"]) {
        return;
    }
    let bench = Bench::new(64 * MIB as u64);
    let uri = bench.uri("web/vda");
    let script = [
        "write -P 0xaa 0 1M",
        "write -P 0xbb 1M 63M",
        "aio_write -P 0x11 64k 64k",
        "aio_write -P 0x22 192k 4k",
        "aio_write -q -P 0x33 1M 3M",
        "aio_flush",
        "write -z 512k 128k",
        "write -z -u 4M 8M",
        "write -f -P 0x44 777 3000",
        "writev -P 0x55 20M 512 4096 65536",
        "discard 40M 1M",
        "flush",
        "read -P 0xaa 0 777",
        "read -P 0x44 777 3000",
        "read -P 0x11 64k 64k",
        "read -P 0x22 192k 4k",
        "read -P 0x33 1M 3M",
        "read -P 0 512k 128k",
        "read -P 0 4M 8M",
        "read -P 0x55 20M 70144",
        "read -P 0xbb 21M 19M",
        "read -P 0 40M 1M",
        "aio_read -P 0xbb 41M 1M",
        "aio_read -P 0xbb 42M 22M",
        "aio_flush",
    ];
    let mut arguments = vec!["-f", "raw"];
    for command in &script {
        arguments.extend(["-c", command]);
    }
    arguments.push(&uri);
    let said = text("qemu-io", &arguments);
    assert!(!said.contains("failed") && !said.contains("error"), "{said}");
    bench.server.stop();
    assert_eq!(bench.after_a_crash(777, 4), [0x44; 4], "what qemu-io flushed is durable");
}

#[test]
fn nbdinfo_lists_exports_and_maps_contexts() {
    if !has(&["nbdinfo"]) {
        return;
    }
    let bench = Bench::new(4 * MIB as u64);
    bench.disk().write_at(&noise(1, MIB), MIB as u64).unwrap();
    bench.store.server("web").unwrap().snapshot("clean", "as installed").unwrap();
    bench.disk().write_at(&noise(2, 4096), MIB as u64).unwrap();
    let list = text("nbdinfo", &["--list", &bench.uri("")]);
    for expected in ["export=\"web/vda\":", "export=\"web/vda@clean\":", "as installed", "is_read_only: true"]
    {
        assert!(list.contains(expected), "{expected} is not in {list}");
    }
    let columns = |context: &str| {
        let map = text("nbdinfo", &[&format!("--map={context}"), &bench.uri("web/vda")]);
        map.lines()
            .map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(columns("base:allocation"), ["0 1048576 3", "1048576 1048576 0", "2097152 2097152 3"]);
    assert_eq!(
        columns("qemu:allocation-depth"),
        ["0 1048576 0", "1048576 4096 1", "1052672 1044480 2", "2097152 2097152 0"]
    );
    let size = text("nbdinfo", &["--size", &bench.uri("web/vda@clean")]);
    assert_eq!(size.trim(), (4 * MIB).to_string());
}

#[test]
fn backup_tools_find_what_changed() {
    if !has(&["nbdinfo", "qemu-img"]) {
        return;
    }
    let bench = Bench::new(4 * MIB as u64);
    let web = bench.store.server("web").unwrap();
    bench.disk().write_at(&noise(1, 2 * MIB), 0).unwrap();
    web.snapshot("monday", "").unwrap();
    bench.disk().write_at(&noise(2, 65_536), MIB as u64).unwrap();
    web.snapshot("tuesday", "").unwrap();
    bench.disk().write_at(&noise(3, 65_536), 0).unwrap();

    let map = text("nbdinfo", &["--map=qemu:dirty-bitmap:monday", &bench.uri("web/vda@tuesday")]);
    let columns: Vec<Vec<&str>> = map.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    assert_eq!(
        columns,
        [["0", "1048576", "0"], ["1048576", "65536", "1"], ["1114112", "3080192", "0"]],
        "{map}"
    );

    let options = format!(
        "driver=nbd,server.type=unix,server.path={},export=web/vda@tuesday,x-dirty-bitmap=qemu:dirty-bitmap:monday",
        bench.socket().display()
    );
    let map = text("qemu-img", &["map", "--output=json", "--image-opts", &options]);
    assert!(map.contains("\"start\": 1048576, \"length\": 65536,"), "{map}");
    let list = text("nbdinfo", &["--list", &bench.uri("")]);
    assert!(list.contains("cowblk:changed-since/monday"), "{list}");

    let copy = bench.folder.path().join("scratch.raw");
    fs::write(&copy, b"").unwrap();
    run("nbdcopy", &[&bench.uri("web/vda@monday%3Fscratch"), copy.to_str().unwrap()]);
    assert!(fs::read(&copy).unwrap()[..2 * MIB] == noise(1, 2 * MIB), "a URI spells the question mark %3F");
}

/// The script of docs/operations.md: a chain of backups, each of which gives back what its snapshot held.
#[test]
fn a_chain_of_incremental_backups_gives_back_each_snapshot() {
    if !has(&["nbdinfo", "nbdcopy", "qemu-img", "qemu-io"]) {
        return;
    }
    let bench = Bench::new(64 * MIB as u64);
    let web = bench.store.server("web").unwrap();
    let (socket, folder) = (bench.socket(), bench.folder.path().to_str().unwrap().to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/nbd-backup.sh");
    let mut since = None;
    let mut contents = Vec::new();
    let days = ["monday", "tuesday", "wednesday"];
    for (seed, day) in (1..).zip(days) {
        match day {
            "monday" => bench.disk().write_at(&noise(seed, 40 * MIB), 0).unwrap(),
            "tuesday" => {
                bench.disk().write_at(&noise(seed, 33 * MIB), 2 * MIB as u64).unwrap();
                bench.disk().write_at(&noise(seed, 512), 60 * MIB as u64 + 512).unwrap();
            }
            _ => {
                bench.disk().discard(5 * MIB as u64 + 4096, 3 * MIB as u64).unwrap();
                bench.disk().resize(66 * MIB as u64).unwrap();
                bench.disk().write_at(&noise(seed, 5000), 65 * MIB as u64).unwrap();
            }
        }
        web.snapshot(day, "").unwrap();
        bench.disk().write_at(&noise(99, 4096), 30 * MIB as u64).unwrap(); // Not part of that snapshot.
        let mut arguments = vec![socket.to_str().unwrap(), "web/vda", day, &folder];
        arguments.extend(since.replace(day));
        run(script, &arguments);
        contents.push(bench.folder.path().join(format!("{day}.raw")));
        fs::write(contents.last().unwrap(), b"").unwrap();
        run("nbdcopy", &[&bench.uri(&format!("web/vda@{day}")), contents.last().unwrap().to_str().unwrap()]);
    }
    for (day, content) in days.into_iter().zip(contents) {
        let image = format!("{folder}/{day}.qcow2");
        run("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", &image, content.to_str().unwrap()]);
    }
    let tuesday = fs::metadata(format!("{folder}/tuesday.qcow2")).unwrap().len();
    assert!(tuesday < 36 * MIB as u64, "only what changed: {tuesday} bytes");
    let (image, uri) = (format!("{folder}/tuesday.qcow2"), bench.uri("web/vda"));
    run("qemu-img", &["convert", "-n", "-f", "qcow2", "-O", "raw", &image, &uri]);
    let expected = fs::read(format!("{folder}/tuesday.raw")).unwrap();
    assert!(disk_bytes(&bench, expected.len()) == expected, "a disk comes back");
}

#[test]
fn nbdcopy_copies_both_ways() {
    if !has(&["nbdcopy"]) {
        return;
    }
    let bench = Bench::new(24 * MIB as u64);
    let path = |name: &str| bench.folder.path().join(name).to_str().unwrap().to_owned();
    let bytes = image(Path::new(&path("in.raw")));
    let uri = bench.uri("web/vda");
    for extra in [&["--flush"][..], &["--flush", "--destination-is-zero"], &["--synchronous", "--allocated"]]
    {
        bench.disk().discard(0, 24 * MIB as u64).unwrap();
        let (input, output) = (path("in.raw"), path("out.raw"));
        run("nbdcopy", &[extra, &[&input, &uri]].concat());
        assert!(disk_bytes(&bench, bytes.len()) == bytes, "{extra:?}");
        fs::write(&output, b"").unwrap();
        run("nbdcopy", &["--connections=4", "--requests=32", &uri, &output]);
        assert!(fs::read(&output).unwrap() == bytes, "{extra:?}");
    }
    bench.store.server("web").unwrap().snapshot("s", "").unwrap();
    bench.disk().write_zeroes(0, 24 * MIB as u64).unwrap();
    run("nbdcopy", &[&bench.uri("web/vda@s"), &uri]);
    assert!(disk_bytes(&bench, bytes.len()) == bytes, "from a snapshot to its own disk");
}

#[test]
fn nbdsh_tries_every_command_and_every_bad_argument() {
    if !has(&["nbdsh"]) {
        return;
    }
    let bench = Bench::new(64 * MIB as u64);
    let socket = format!("socket = {:?}", bench.socket().to_str().unwrap());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/everything.py");
    run("nbdsh", &["-c", &socket, "-c", &format!("exec(open({script:?}).read())")]);
}

#[test]
fn fio_verifies_what_it_wrote() {
    if !has(&["fio"]) {
        return;
    }
    let bench = Bench::new(64 * MIB as u64);
    let uri = bench.uri("web/vda");
    for mode in [
        &["--rw=randwrite", "--bsrange=512-128k", "--bs_unaligned=0"][..],
        &["--rw=randtrimwrite", "--bs=4k"],
        &["--rw=write", "--bs=1m"],
    ] {
        let mut arguments = vec![
            "--name=verify",
            "--ioengine=nbd",
            "--size=64m",
            "--iodepth=32",
            "--verify=crc32c",
            "--do_verify=1",
            "--verify_fatal=1",
            "--fsync=100",
            "--blockalign=512",
            "--randrepeat=0",
            "--verify_state_save=0",
        ];
        let uri = format!("--uri={uri}");
        arguments.push(&uri);
        arguments.extend(mode);
        run("fio", &arguments);
    }
}

/// A file system is made and checked on the disk itself, as a file that nbdfuse shows.
#[test]
fn ext4_is_made_and_checked_on_the_disk() {
    if !has(&["mkfs.ext4", "e2fsck", "debugfs", "nbdfuse", "umount"]) {
        return;
    }
    let bench = Bench::new(64 * MIB as u64);
    let folder = bench.folder.path().join("mounted");
    fs::create_dir(&folder).unwrap();
    let mut fuse = Command::new("nbdfuse").arg(&folder).arg(bench.uri("web/vda")).spawn().unwrap();
    let disk = folder.join("nbd");
    while !disk.exists() {
        if let Some(status) = fuse.try_wait().unwrap() {
            println!("SKIPPED: nbdfuse cannot mount here: {status}");
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let disk = disk.to_str().unwrap();
    run("mkfs.ext4", &["-q", "-F", disk]);
    let file = bench.folder.path().join("file");
    fs::write(&file, noise(9, 3 * MIB)).unwrap();
    run("debugfs", &["-w", "-R", &format!("write {} inside", file.display()), disk]);
    run("e2fsck", &["-f", "-n", disk]);
    bench.store.server("web").unwrap().snapshot("made", "").unwrap();
    run("mkfs.ext4", &["-q", "-F", disk]);
    run("umount", &[folder.to_str().unwrap()]);
    assert!(fuse.wait().unwrap().success());

    let (out, back) = (bench.folder.path().join("out.raw"), bench.folder.path().join("back"));
    fs::write(&out, b"").unwrap();
    run("nbdcopy", &[&bench.uri("web/vda@made"), out.to_str().unwrap()]);
    run("e2fsck", &["-f", "-n", out.to_str().unwrap()]);
    run("debugfs", &["-R", &format!("dump inside {}", back.display()), out.to_str().unwrap()]);
    assert!(fs::read(&back).unwrap() == noise(9, 3 * MIB));
}

/// A file system from elsewhere comes in whole, is frozen, changed, and found whole in both states.
#[test]
fn ext4_survives_the_way_in_and_out() {
    if !has(&["mkfs.ext4", "e2fsck", "debugfs", "nbdcopy"]) {
        return;
    }
    let bench = Bench::new(64 * MIB as u64);
    let path = |name: &str| bench.folder.path().join(name).to_str().unwrap().to_owned();
    let (image, out) = (path("fs.raw"), path("out.raw"));
    fs::File::create_new(&image).unwrap().set_len(64 * MIB as u64).unwrap();
    run("mkfs.ext4", &["-q", &image]);
    fs::write(path("file"), noise(9, 3 * MIB)).unwrap();
    run("debugfs", &["-w", "-R", &format!("write {} before", path("file")), &image]);
    run("nbdcopy", &["--flush", &image, &bench.uri("web/vda")]);
    bench.store.server("web").unwrap().snapshot("before", "").unwrap();
    run("debugfs", &["-w", "-R", "rm before", &image]);
    run("debugfs", &["-w", "-R", &format!("write {} after", path("file")), &image]);
    run("nbdcopy", &["--flush", &image, &bench.uri("web/vda")]);
    for (export, name) in [("web/vda@before", "before"), ("web/vda", "after")] {
        fs::write(&out, b"").unwrap();
        run("nbdcopy", &[&bench.uri(export), &out]);
        run("e2fsck", &["-f", "-n", &out]);
        run("debugfs", &["-R", &format!("dump {name} {}", path("back")), &out]);
        assert!(fs::read(path("back")).unwrap() == noise(9, 3 * MIB), "{export}");
    }
}
