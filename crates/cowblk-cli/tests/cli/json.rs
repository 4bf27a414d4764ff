//! The shape of JSON results: keys, integers for ids, UTC times, envelopes of lists, errors.

use serde_json::Value;

use crate::harness::{Bench, noise};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn assert_is_utc(value: &Value) {
    let text = value.as_str().expect("a time");
    assert!(text.len() == 20 && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T'), "{text}");
}

#[test]
fn lists_are_counted_envelopes() {
    let bench = Bench::with_disk();
    bench.ok(["snapshot", "create", "web", "first"]);
    for list in [
        &["server", "list"][..],
        &["disk", "list"],
        &["disk", "map", "web/vda"],
        &["snapshot", "list"],
        &["snapshot", "list", "--tree"],
        &["snapshot", "prune", "web", "--keep-last", "3", "--dry-run"],
    ] {
        let value = bench.json(list);
        assert_eq!(keys(&value), ["count", "results"], "{list:?}");
        assert_eq!(value["count"].as_u64(), value["results"].as_array().map(|results| results.len() as u64));
    }
}

#[test]
fn a_server_holds_its_disks_and_snapshots() {
    let bench = Bench::with_disk();
    let server = bench.json(["server", "show", "web"]);
    let expected = [
        "created_at",
        "disks",
        "exclusive_bytes",
        "id",
        "labels",
        "mapped_bytes",
        "max_disk_bytes",
        "max_snapshots",
        "name",
        "origin",
        "shared_bytes",
        "snapshots",
    ];
    assert_eq!(keys(&server), expected);
    assert!(server["id"].is_u64());
    assert_is_utc(&server["created_at"]);
    assert_eq!(server["disks"][0]["name"], "vda");
}

#[test]
fn a_disk_names_its_server_its_size_and_its_parent() {
    let bench = Bench::with_disk();
    let snapshot = bench.json(["snapshot", "create", "web", "first"]);
    let disk = &bench.json(["disk", "list"])["results"][0];
    let expected = [
        "created_at",
        "exclusive_bytes",
        "id",
        "mapped_bytes",
        "name",
        "parent",
        "server",
        "shared_bytes",
        "size_bytes",
        "when_full_wait_seconds",
    ];
    assert_eq!(keys(disk), expected);
    assert_eq!(disk["server"]["name"], "web");
    assert_eq!(disk["size_bytes"], 8 << 20);
    assert_eq!(disk["parent"], snapshot["id"]);
    assert_is_utc(&disk["created_at"]);
}

#[test]
fn a_snapshot_says_what_the_rest_api_says() {
    let bench = Bench::with_disk();
    bench.ok(["disk", "import", &bench.file("image", &noise(1, 100_000)), "web/vda"]);
    let snapshot = bench.json(["snapshot", "create", "web", "first", "-d", "before it"]);
    let expected = [
        "created_at",
        "description",
        "disks",
        "exclusive_bytes",
        "exclusive_mb",
        "expires_at",
        "id",
        "kind",
        "labels",
        "name",
        "parent",
        "protected",
        "server",
        "size_bytes",
        "size_mb",
        "status",
    ];
    assert_eq!(keys(&snapshot), expected);
    assert_eq!(snapshot["kind"], "user");
    assert_eq!(snapshot["status"], "completed");
    assert_eq!(snapshot["size_mb"], 1);
    assert_eq!(snapshot["exclusive_bytes"], 0, "the disk holds all of it, too");
    assert_eq!(snapshot["description"], "before it");
    assert_eq!(snapshot["disks"][0]["name"], "vda");
    assert!(snapshot["parent"].is_null());
    assert_is_utc(&snapshot["created_at"]);
    assert_eq!(bench.json(["snapshot", "show", "web", "first"]), snapshot);
}

#[test]
fn status_and_check_are_objects() {
    let bench = Bench::with_disk();
    let status = bench.json(["status"]);
    for key in [
        "uuid",
        "block_size",
        "used_blocks",
        "free_blocks",
        "reclaimable_versions",
        "reclaimable_blocks",
        "reserve_blocks",
        "metadata_blocks",
        "thin_blocks",
        "halted",
    ] {
        assert!(!status[key].is_null(), "{key} in {status}");
    }
    assert!(
        status["capacity_blocks"].is_null(),
        "the file may grow, though not by who looks at it: {status}"
    );
    let limited = bench.json(["status", "--size-limit", "256M"]);
    assert_eq!(limited["capacity_blocks"], 2 * 16_384, "two zones: {limited}");
    let check = bench.json(["check"]);
    assert_eq!(
        keys(&check),
        [
            "blocks_in_use",
            "clean",
            "count",
            "data_blocks_mapped",
            "data_bytes_read",
            "nodes",
            "notes",
            "results"
        ]
    );
    assert_eq!(check["clean"], true);
}

#[test]
fn an_import_says_what_it_read_and_that_it_is_there() {
    let bench = Bench::with_disk();
    let content = noise(2, 300_000);
    let done = bench.json(["disk", "import", &bench.file("image", &content), "web/vda"]);
    assert_eq!(keys(&done), ["blake3", "data_bytes", "disk", "file", "image_bytes", "verified"]);
    assert_eq!(done["image_bytes"], 300_000);
    assert_eq!(done["blake3"], blake3::hash(&content).to_string());
    assert_eq!(done["verified"], true);
}

#[test]
fn errors_are_objects_on_standard_error() {
    let bench = Bench::new();
    for (arguments, kind) in [
        (&["--json", "server", "show", "nope"][..], "not_found"),
        (&["--json", "server", "create", "a/b"], "invalid"),
        (&["--json", "no-such-command"], "usage"),
        (&["--json", "disk", "create", "web", "1G"], "usage"),
    ] {
        let run = bench.run(arguments);
        let error: Value = serde_json::from_str(&run.stderr).expect("JSON on standard error");
        assert_eq!(error["error"]["kind"], kind, "{run:?}");
        assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert!(run.stdout.is_empty());
    }
}
