//! Sizes of snapshots, disks and servers in listings: exact, and there at once, though no process counts in the background.

use serde_json::{Value, json};

use crate::harness::{Bench, noise};

const MIB: u64 = 1 << 20;

/// What a listing says of one of its results: mapped, shared and exclusive bytes.
fn sizes(bench: &Bench, list: [&str; 2], name: &str) -> [Value; 3] {
    let list = bench.json(list);
    let results = list["results"].as_array().expect("a list");
    let found = results.iter().find(|one| one["name"] == name).expect("it is listed");
    ["mapped_bytes", "shared_bytes", "exclusive_bytes"].map(|key| found[key].clone())
}

fn alone(bench: &Bench, snapshot: &str) -> Value {
    bench.json(["snapshot", "show", "web", snapshot])["exclusive_bytes"].clone()
}

/// Restores and clones leave counts to be made anew, and each command is a process of its own.
#[test]
fn listings_know_every_size_whatever_came_before() {
    let bench = Bench::with_disk();
    let import = |seed, mib: usize, disk| {
        bench.ok(["disk", "import", &bench.file("image", &noise(seed, mib << 20)), disk]);
    };
    import(1, 4, "web/vda");
    bench.ok(["snapshot", "create", "web", "first"]);
    import(2, 3, "web/vda");
    bench.ok(["snapshot", "create", "web", "second"]);
    assert_eq!((alone(&bench, "first"), alone(&bench, "second")), (json!(4 * MIB), json!(0)));
    bench.ok(["snapshot", "restore", "web", "first"]);
    assert_eq!((alone(&bench, "first"), alone(&bench, "second")), (json!(0), json!(0)), "the undo holds it");
    bench.ok(["snapshot", "restore", "web", "second"]);
    assert_eq!((alone(&bench, "first"), alone(&bench, "second")), (json!(0), json!(0)));
    bench.ok(["snapshot", "restore", "web", "second"]);
    assert_eq!((alone(&bench, "first"), alone(&bench, "second")), (json!(4 * MIB), json!(0)));

    bench.ok(["server", "clone", "web", "first", "copy"]);
    bench.ok(["disk", "create", "copy/vdb", "8M"]);
    import(3, 2, "copy/vdb");
    bench.ok(["disk", "discard", "copy/vda", "--length", "1M"]);
    let [all, both, own] = [5 * MIB, 3 * MIB, 2 * MIB].map(|bytes| json!(bytes));
    assert_eq!(sizes(&bench, ["disk", "list"], "vdb"), [json!(2 * MIB), json!(0), own.clone()]);
    assert_eq!(sizes(&bench, ["server", "list"], "copy"), [all, both, own]);
    let text = bench.ok(["server", "list"]);
    assert!(text.contains("5 MiB   3 MiB  2 MiB"), "{text}");
    let text = bench.ok(["disk", "list", "web"]);
    assert!(text.contains("3 MiB   3 MiB    0 B"), "{text}");
    assert_eq!(alone(&bench, "first"), json!(MIB), "what the clone let go of");
    let said = |server: &str| bench.json(["server", "delete", "--dry-run", server])["data_bytes"].clone();
    assert_eq!((said("copy"), said("web")), (json!(2 * MIB), json!(4 * MIB)), "not what both have");
    bench.ok(["server", "delete", "copy"]);
    assert_eq!(said("web"), json!(7 * MIB), "each block once");
    assert_eq!(alone(&bench, "first"), json!(4 * MIB));
}

/// What a killed process left in the journal counts as well, though a dry run only looks.
#[test]
fn a_dry_run_knows_what_a_killed_process_wrote() {
    let bench = Bench::with_disk();
    bench.ok(["disk", "import", &bench.file("image", &noise(1, 4 << 20)), "web/vda"]);
    bench.ok(["snapshot", "create", "web", "first"]);
    let store = cowblk::Store::open(bench.store(), cowblk::Options::default().background(false));
    let store = store.expect("the store opens");
    let disk = store.server("web").and_then(|server| server.disk("vda")).expect("the disk is there");
    disk.write_at(&vec![7; 1 << 20], 0).expect("a write");
    disk.flush().expect("a flush");
    std::fs::copy(bench.store(), bench.path("as-killed.cow")).expect("a copy");
    drop((disk, store));
    std::fs::rename(bench.path("as-killed.cow"), bench.store()).expect("the copy takes its place");
    let said = bench.json(["snapshot", "delete", "--dry-run", "web", "first"]);
    assert_eq!(said["data_bytes"], json!(MIB));
}
