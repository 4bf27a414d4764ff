//! `cowblk diff`: what changed between two snapshots, or since one, for people and for programs.

use serde_json::json;

use crate::harness::{Bench, noise};

/// `web` with `vda` of 8 MiB: written at 0, snapshot `one`, changed at 1 MiB and discarded at 0, snapshot `two`, changed at 2 MiB.
fn history() -> Bench {
    let bench = Bench::with_disk();
    let image = |parts: &[(usize, usize)]| {
        let mut bytes = vec![0; 8 << 20];
        for &(at, len) in parts {
            bytes[at..at + len].copy_from_slice(&noise(at as u64, len));
        }
        bytes
    };
    bench.ok(["disk", "import", &bench.file("a", &image(&[(0, 8192)])), "web/vda"]);
    bench.ok(["snapshot", "create", "web", "one"]);
    bench.ok(["disk", "discard", "web/vda", "--length", "4K"]);
    bench.ok(["disk", "create", "web/vdb", "1M"]);
    bench.ok(["snapshot", "create", "web", "two"]);
    bench.ok(["disk", "resize", "web/vda", "16M"]);
    bench.ok(["disk", "import", &bench.file("b", &image(&[(2 << 20, 4096)])), "web/vda"]);
    bench
}

#[test]
fn what_changed_between_two_snapshots_is_listed() {
    let bench = history();
    let diff = bench.json(["diff", "web@one", "@two"]);
    assert_eq!(diff["count"], 2);
    let vda = &diff["results"][0];
    assert_eq!(vda["changes"], json!([{"offset": 0, "length": 4096, "kind": "hole"}]));
    assert_eq!((&vda["data_bytes"], &vda["hole_bytes"]), (&json!(0), &json!(4096)));
    let vdb = &diff["results"][1];
    assert_eq!((&vdb["older_size_bytes"], &vdb["since"]), (&json!(null), &json!(null)), "a new disk");
    let text = bench.ok(["diff", "web@one", "@two"]);
    assert!(text.contains("vda        0    4096  hole"), "{text}");
    assert!(text.contains("vda: 4 KiB discarded"), "{text}");
    assert!(text.contains("vdb: nothing changed; a new disk of 1 MiB"), "{text}");
}

#[test]
fn without_a_second_snapshot_the_live_disks_are_compared() {
    let bench = history();
    let diff = bench.json(["diff", "web/vda@two"]);
    assert_eq!(diff["count"], 1, "only the disk that was asked for");
    let expected = json!([
        {"offset": 4096, "length": 4096, "kind": "hole"},
        {"offset": 2 << 20, "length": 4096, "kind": "data"},
    ]);
    assert_eq!(diff["results"][0]["changes"], expected);
    assert_eq!(diff["results"][0]["older_size_bytes"], 8 << 20);
    assert_eq!(diff["results"][0]["size_bytes"], 16 << 20);
    assert!(bench.ok(["diff", "web/vda@two"]).contains("resized from 8 MiB to 16 MiB"));
    assert_eq!(bench.json(["diff", "web/vda"]), diff, "it descends from the second one");
}

#[test]
fn backwards_shows_what_a_restore_would_change() {
    let bench = history();
    let diff = bench.json(["diff", "web/vda@two", "@one"]);
    assert_eq!(diff["results"][0]["changes"], json!([{"offset": 0, "length": 4096, "kind": "data"}]));
    let diff = bench.json(["diff", "web@two", "@one"]);
    assert_eq!(diff["results"][1]["size_bytes"], json!(null), "the first one does not hold the second disk");
}

#[test]
fn what_is_not_there_is_not_found() {
    let bench = history();
    for arguments in
        [&["diff", "db"][..], &["diff", "web@x"], &["diff", "web@one", "@x"], &["diff", "web/x@one"]]
    {
        assert_eq!(bench.run(arguments).code, 3, "{arguments:?}");
    }
    for arguments in [&["diff", "web@one", "two"][..], &["diff", "@one"], &["diff"]] {
        assert_eq!(bench.run(arguments).code, 2, "{arguments:?}");
    }
}

/// "None" is a point, too: all that a snapshot or a disk holds.
#[test]
fn a_comparison_may_begin_with_nothing() {
    let bench = history();
    let diff = bench.json(["diff", "web/vda", "@two", "--whole"]);
    let vda = &diff["results"][0];
    assert_eq!(vda["changes"], json!([{"offset": 4096, "length": 4096, "kind": "data"}]));
    assert_eq!((&vda["since"], &vda["older_size_bytes"]), (&json!(null), &json!(null)));
    let diff = bench.json(["diff", "web", "--whole"]);
    assert_eq!(diff["results"][0]["changes"], json!([{"offset": 2 << 20, "length": 4096, "kind": "data"}]));
    assert_eq!(diff["results"][1]["data_bytes"], 0, "an empty disk");
    assert_eq!(bench.run(["diff", "web@one", "--whole"]).code, 2);
}

/// Live disks may be where a comparison begins: what a restore would change.
#[test]
fn the_way_back_is_shown() {
    let bench = history();
    let diff = bench.json(["diff", "web@one", "--reverse"]);
    let vda = &diff["results"][0];
    let expected = json!([
        {"offset": 0, "length": 8192, "kind": "data"},
        {"offset": 2 << 20, "length": 4096, "kind": "hole"},
    ]);
    assert_eq!(vda["changes"], expected);
    assert_eq!((&vda["older_size_bytes"], &vda["size_bytes"]), (&json!(16 << 20), &json!(8 << 20)));
    let vdb = &diff["results"][1];
    assert_eq!(
        (&vdb["disk"], &vdb["size_bytes"]),
        (&json!("vdb"), &json!(null)),
        "the first one does not hold it"
    );
    let (there, back) = (["diff", "web@one", "@two", "--reverse"], ["diff", "web@two", "@one"]);
    assert_eq!(bench.json(there)["results"][0]["changes"], bench.json(back)["results"][0]["changes"]);
    assert_eq!(bench.run(["diff", "web", "--reverse", "--whole"]).code, 2);
}

/// A clone is compared with what it was cloned from, though that has another name, on another server.
#[test]
fn a_clone_is_compared_with_its_origin() {
    let bench = history();
    bench.ok(["server", "create", "lab"]);
    bench.ok(["disk", "clone", "web/vda@two", "lab/copy"]);
    bench.ok(["disk", "discard", "lab/copy", "--offset", "4K", "--length", "4K"]);
    let diff = bench.json(["diff", "lab"]);
    let copy = &diff["results"][0];
    assert_eq!(copy["changes"], json!([{"offset": 4096, "length": 4096, "kind": "hole"}]));
    assert_eq!(copy["older_size_bytes"], 8 << 20);
}
