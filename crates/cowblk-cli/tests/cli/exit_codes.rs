//! The exit code of everything that can be wrong: a promise to scripts.

use std::os::unix::fs::PermissionsExt;

use cowblk::{Options, Store};

use crate::harness::{Bench, Run, noise};

fn assert_fails(run: &Run, code: i32, says: &str) {
    assert_eq!(run.code, code, "{run:?}");
    assert!(run.stderr.starts_with("error: ") && run.stderr.contains(says), "no {says:?} in {run:?}");
    assert!(run.stdout.is_empty(), "{run:?}");
}

#[test]
fn usage_is_2() {
    let bench = Bench::with_disk();
    assert_fails(&bench.run(["no-such-command"]), 2, "no-such-command");
    assert_fails(&bench.run(["disk", "create", "web", "1G"]), 2, "SERVER/DISK");
    assert_fails(&bench.run(["disk", "create", "web/vdb", "10GB"]), 2, "10GB");
    assert_fails(&bench.run(["disk", "create", "web/vdb", "0"]), 2, "zero");
    assert_fails(&bench.run(["disk", "create", "web/vdb", "513"]), 2, "512");
    assert_fails(&bench.run(["server", "create", "a/b"]), 2, "a/b");
    assert_fails(&bench.run(["server", "create", ""]), 2, "name");
    assert_fails(&bench.run(["server", "create", &"x".repeat(1000)]), 2, "name");
    assert_fails(&bench.run(["disk", "discard", "web/vda", "--offset", "9M"]), 2, "");
    assert_fails(&bench.run(["disk", "import", "-", "web/vdb"]), 2, "--size");
    assert_fails(&bench.run(["stats"]), 2, "--url");
}

#[test]
fn a_command_without_a_store_says_how_to_name_one() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cowblk"));
    let output = command.env_remove("COWBLK_STORE").arg("status").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--store"));
}

#[test]
fn not_found_is_3_and_lists_what_exists() {
    let bench = Bench::with_disk();
    bench.ok(["snapshot", "create", "web", "first"]);
    assert_fails(&bench.run(["server", "show", "wbe"]), 3, "web");
    assert_fails(&bench.run(["disk", "delete", "web/vdx"]), 3, "vda");
    assert_fails(&bench.run(["snapshot", "restore", "web", "frist"]), 3, "first");
    assert_fails(&bench.run(["snapshot", "show", "web", "4711"]), 3, "first");
    assert_fails(&bench.run(["disk", "map", "web/vdx@first"]), 3, "vda");
    assert_fails(&bench.run(["disk", "import", "/no/such/image", "web/vda"]), 3, "/no/such/image");
}

#[test]
fn a_missing_store_is_3_and_is_not_created() {
    let bench = Bench::empty();
    for arguments in [&["status"][..], &["server", "create", "web"], &["check"]] {
        assert_fails(&bench.run(arguments), 3, "pool.cow");
        assert!(!bench.store().exists(), "{arguments:?} made a file");
    }
}

#[test]
fn exists_is_4() {
    let bench = Bench::with_disk();
    bench.ok(["snapshot", "create", "web", "first"]);
    assert_fails(&bench.run(["init"]), 4, "pool.cow");
    assert_fails(&bench.run(["server", "create", "web"]), 4, "web");
    assert_fails(&bench.run(["disk", "create", "web/vda", "1G"]), 4, "vda");
    assert_fails(&bench.run(["snapshot", "create", "web", "first"]), 4, "first");
    let target = bench.file("target", b"precious");
    assert_fails(&bench.run(["disk", "export", "web/vda", &target]), 4, "--overwrite");
    assert_eq!(std::fs::read(bench.path("target")).unwrap(), b"precious");
}

#[test]
fn a_store_open_elsewhere_is_5() {
    let bench = Bench::with_disk();
    let held = Store::open(bench.store(), Options::default()).unwrap();
    assert_fails(&bench.run(["server", "create", "other"]), 5, "pool.cow");
    held.close().unwrap();
    bench.ok(["server", "create", "other"]);
}

#[test]
fn a_full_store_is_6_and_space_can_still_be_given_back() {
    const LIMIT: [&str; 2] = ["--size-limit", "96M"];
    let bench = Bench::empty();
    bench.ok(["init", "--journal", "16M"]);
    bench.ok(["server", "create", "web"]);
    let small = bench.file("small", &noise(1, 8 << 20));
    bench.ok(["disk", "import", &small, "web/vda"]);
    bench.ok(["snapshot", "create", "web", "first"]);
    let image = bench.file("image", &noise(2, 200 << 20));
    assert_fails(&bench.run(["disk", "import", &image, "web/vdb"].into_iter().chain(LIMIT)), 6, "");
    assert_eq!(bench.json(["disk", "list"])["count"], 1, "the disk that the import made is gone again");
    bench.ok(["disk", "resize", "web/vda", "200M"]);
    assert_fails(&bench.run(["disk", "import", &image, "web/vda"].into_iter().chain(LIMIT)), 6, "");
    bench.ok(["snapshot", "delete", "web", "first"].into_iter().chain(LIMIT));
    bench.ok(["disk", "discard", "web/vda"].into_iter().chain(LIMIT));
    bench.ok(["collect"].into_iter().chain(LIMIT));
    bench.ok(["disk", "import", &small, "web/vda"].into_iter().chain(LIMIT));
    bench.ok(["check"]);
}

#[test]
fn a_file_that_is_not_a_store_is_2_and_is_not_touched() {
    let bench = Bench::empty();
    for content in [noise(2, 1 << 20), Vec::new()] {
        bench.file("pool.cow", &content);
        for arguments in [&["status"][..], &["server", "create", "web"], &["check"]] {
            assert_fails(&bench.run(arguments), 2, "not a cowblk store");
        }
        assert!(std::fs::read(bench.store()).unwrap() == content);
    }
}

#[test]
fn a_store_that_is_cut_short_is_7() {
    let bench = Bench::with_disk();
    bench.ok(["disk", "import", &bench.file("image", &noise(3, 8 << 20)), "web/vda"]);
    let whole = std::fs::metadata(bench.store()).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(bench.store()).unwrap();
    for len in [whole / 2, 5000] {
        file.set_len(len).unwrap();
        assert_fails(&bench.run(["status"]), 7, "cut short");
        assert_fails(&bench.run(["server", "create", "other"]), 7, "cut short");
    }
}

#[test]
fn a_flipped_bit_in_a_block_is_7_when_read_and_1_when_checked() {
    let bench = Bench::with_disk();
    let content = noise(4, 8 << 20);
    bench.ok(["disk", "import", &bench.file("image", &content), "web/vda"]);
    let mut bytes = std::fs::read(bench.store()).unwrap();
    let block = content.get(1 << 20..(1 << 20) + 4096).unwrap();
    let at = bytes.chunks(4096).position(|found| found == block).unwrap() * 4096;
    *bytes.get_mut(at + 1234).unwrap() ^= 4;
    std::fs::write(bench.store(), bytes).unwrap();
    let target = bench.argument("out");
    assert_fails(&bench.run(["disk", "export", "web/vda", &target]), 7, "");
    assert!(!bench.path("out").exists(), "half an image is left behind");
    let check = bench.run(["check", "--data"]);
    assert_eq!(check.code, 1, "{check:?}");
    assert!(check.text().contains("D013") && check.text().contains("; 1 defect\n"), "{check:?}");
}

#[test]
fn a_read_only_file_can_be_read_and_not_changed() {
    let bench = Bench::with_disk();
    std::fs::set_permissions(bench.store(), PermissionsExt::from_mode(0o444)).unwrap();
    assert!(bench.ok(["disk", "list"]).contains("web/vda"));
    bench.ok(["check"]);
    // The superuser may write what the mode forbids: then there is nothing more to see here.
    if std::fs::OpenOptions::new().write(true).open(bench.store()).is_err() {
        assert_fails(&bench.run(["server", "create", "other"]), 1, "pool.cow");
    }
}

#[test]
fn the_store_is_never_the_target_of_an_export() {
    let bench = Bench::with_disk();
    let store = bench.argument("pool.cow");
    assert_fails(&bench.run(["disk", "export", "web/vda", &store, "--overwrite"]), 2, "the store itself");
    bench.ok(["check"]);
}
