//! Undo, clones, marks, limits and pruning, from outside.

use serde_json::Value;

use crate::harness::{Bench, noise};

fn import(bench: &Bench, disk: &str, content: &[u8]) {
    bench.ok(["disk", "import", &bench.file("image", content), disk]);
}

fn export(bench: &Bench, disk: &str) -> Vec<u8> {
    bench.ok(["disk", "export", disk, &bench.argument("out"), "--overwrite"]);
    std::fs::read(bench.path("out")).expect("the exported image")
}

fn names(list: &Value) -> Vec<&str> {
    let results = list["results"].as_array().expect("a list");
    results.iter().map(|item| item["name"].as_str().expect("a name")).collect()
}

#[test]
fn a_restore_is_undone_and_the_undo_undone() {
    let bench = Bench::with_disk();
    assert_eq!(bench.run(["snapshot", "restore", "web", "--undo"]).code, 3);
    assert_eq!(bench.run(["snapshot", "restore", "web"]).code, 2);
    let (old, new) = (noise(1, 8 << 20), noise(2, 8 << 20));
    import(&bench, "web/vda", &old);
    bench.ok(["snapshot", "create", "web", "first"]);
    import(&bench, "web/vda", &new);
    assert_eq!(bench.run(["snapshot", "restore", "web", "first", "--undo"]).code, 2);
    let text = bench.ok(["snapshot", "restore", "web", "first"]);
    assert!(text.contains("snapshot restore web --undo"), "{text}");
    assert!(export(&bench, "web/vda") == old);
    let undone = bench.json(["snapshot", "restore", "web", "--undo"]);
    assert_eq!(undone["snapshot"]["kind"], "before_restore");
    assert!(export(&bench, "web/vda") == new);
    bench.ok(["snapshot", "restore", "web", "--undo"]);
    assert!(export(&bench, "web/vda") == old);
}

#[test]
fn a_server_is_cloned_changed_and_reset() {
    let bench = Bench::with_disk();
    let (golden, own) = (noise(3, 8 << 20), noise(4, 8 << 20));
    import(&bench, "web/vda", &golden);
    let snapshot = bench.json(["snapshot", "create", "web", "golden"]);
    let clone = bench.json(["server", "clone", "web", "golden", "copy"]);
    assert_eq!((&clone["name"], &clone["origin"]), (&"copy".into(), &snapshot["id"]));
    assert_eq!(bench.run(["server", "clone", "web", "golden", "copy"]).code, 4);
    assert_eq!(bench.run(["server", "clone", "web", "silver", "other"]).code, 3);
    import(&bench, "copy/vda", &own);
    assert!(export(&bench, "copy/vda") == own && export(&bench, "web/vda") == golden);
    let reset = bench.ok(["server", "reset", "copy"]);
    assert!(reset.contains("reset server copy"), "{reset}");
    assert!(export(&bench, "copy/vda") == golden);
    assert_eq!(bench.run(["server", "reset", "web"]).code, 3, "no disk of it was cloned");

    bench.ok(["disk", "clone", "web/vda@golden", "copy/vdb"]);
    bench.ok(["snapshot", "delete", "web", "golden"]);
    bench.ok(["server", "delete", "web"]);
    assert!(export(&bench, "copy/vdb") == golden);
    assert_eq!(bench.run(["server", "reset", "copy"]).code, 3, "what it was cloned from is gone");
    assert!(bench.json(["server", "show", "copy"])["origin"].is_null());
    bench.ok(["check"]);
}

#[test]
fn a_protected_snapshot_is_kept_until_that_is_taken_back() {
    let bench = Bench::with_disk();
    let made = bench.json([
        "snapshot",
        "create",
        "web",
        "kept",
        "--protect",
        "--label",
        "by=hand",
        "--label",
        "why=test",
        "--expires",
        "2025-01-15T18:30:00Z",
    ]);
    assert_eq!(made["protected"], true);
    assert_eq!(made["expires_at"], "2025-01-15T18:30:00Z");
    assert_eq!(made["labels"], serde_json::json!({ "by": "hand", "why": "test" }));
    let show = bench.ok(["snapshot", "show", "web", "kept"]);
    assert!(
        show.contains("protected\nexpires 2025-01-15T18:30:00Z\nlabel by=hand\nlabel why=test\n"),
        "{show}"
    );
    for refused in [&["snapshot", "delete", "web", "kept"][..], &["server", "delete", "web"]] {
        let run = bench.run(refused);
        assert!(run.code == 10 && run.stderr.contains("protected"), "{run:?}");
    }
    assert_eq!(bench.json(["snapshot", "prune"])["results"][0]["reasons"][0], "protected");
    assert_eq!(bench.run(["snapshot", "edit", "web", "kept"]).code, 2, "nothing to change");
    assert_eq!(bench.run(["snapshot", "edit", "web", "kept", "--protect", "--unprotect"]).code, 2);
    let edited = bench.json([
        "snapshot",
        "edit",
        "web",
        "kept",
        "--unprotect",
        "--unlabel",
        "why",
        "--label",
        "by=you",
    ]);
    assert_eq!(
        (&edited["protected"], &edited["labels"]),
        (&false.into(), &serde_json::json!({ "by": "you" }))
    );
    assert_eq!(edited["expires_at"], "2025-01-15T18:30:00Z", "what is not named stays");
    // Its time was over long ago.
    let pruned = bench.json(["snapshot", "prune"]);
    assert_eq!(
        (&pruned["results"][0]["kept"], &pruned["results"][0]["expired"]),
        (&false.into(), &true.into())
    );
    assert_eq!(bench.json(["snapshot", "list"])["count"], 0);
    let again = bench.json(["snapshot", "create", "web", "again", "--expires", "7d"]);
    assert!(again["expires_at"].as_str() > again["created_at"].as_str());
    let never = bench.json(["snapshot", "edit", "web", "again", "--expires", "never"]);
    assert!(never["expires_at"].is_null());
}

#[test]
fn pruning_keeps_what_its_policy_says_and_only_plans_when_told_to() {
    let bench = Bench::with_disk();
    for name in ["one", "two", "three", "four"] {
        bench.ok(["snapshot", "create", "web", name, "--label", "by=cron"]);
    }
    bench.ok(["snapshot", "create", "web", "mine"]);
    let policy = ["snapshot", "prune", "web", "--keep-last", "2", "--label", "by=cron"];
    let plan = bench.json(policy.into_iter().chain(["--dry-run"]));
    let kept: Vec<_> = plan["results"].as_array().unwrap().iter().map(|fate| fate["kept"] == true).collect();
    assert_eq!(names(&plan), ["mine", "four", "three", "two", "one"]);
    assert_eq!(kept, [true, true, true, false, false]);
    assert_eq!(plan["results"][0]["reasons"], serde_json::json!(["other_label"]));
    assert_eq!(plan["results"][1]["reasons"], serde_json::json!(["last"]));
    let text = bench.ok(policy.into_iter().chain(["--dry-run"]));
    assert!(text.contains("kept: last") && text.ends_with("would delete 2 of 5 snapshots\n"), "{text}");
    assert_eq!(bench.json(["snapshot", "list"])["count"], 5);
    assert_eq!(bench.json(policy)["results"], plan["results"]);
    assert_eq!(names(&bench.json(["snapshot", "list"])), ["mine", "four", "three"]);
    let text = bench.ok(["snapshot", "prune"]);
    assert!(text.contains("kept: no rule") && text.ends_with("deleted 0 of 3 snapshots\n"), "{text}");
    assert_eq!(bench.run(["snapshot", "prune", "nope"]).code, 3);
}

#[test]
fn limits_hold_until_they_are_raised() {
    let bench = Bench::with_disk();
    let edited = bench.json([
        "server",
        "edit",
        "web",
        "--max-snapshots",
        "1",
        "--max-disk-bytes",
        "10M",
        "--label",
        "team=blue",
    ]);
    assert_eq!((&edited["max_snapshots"], &edited["max_disk_bytes"]), (&1.into(), &(10 << 20).into()));
    let show = bench.ok(["server", "show", "web"]);
    assert!(show.contains("at most 1 snapshots\nat most 10 MiB of disks\nlabel team=blue\n"), "{show}");
    bench.ok(["snapshot", "create", "web", "first"]);
    for refused in [
        &["snapshot", "create", "web", "second"][..],
        &["disk", "create", "web/vdb", "3M"],
        &["disk", "resize", "web/vda", "11M"],
    ] {
        let run = bench.run(["--json"].iter().chain(refused));
        let error: Value = serde_json::from_str(&run.stderr).unwrap();
        assert_eq!((run.code, &error["error"]["kind"]), (9, &"limit".into()), "{run:?}");
    }
    bench.ok(["server", "edit", "web", "--max-snapshots", "none", "--max-disk-bytes", "1G"]);
    bench.ok(["snapshot", "create", "web", "second"]);
    bench.ok(["disk", "resize", "web/vda", "11M"]);
    assert_eq!(bench.run(["server", "edit", "web"]).code, 2);
    assert_eq!(bench.run(["server", "edit", "web", "--max-snapshots", "many"]).code, 2);
}

#[test]
fn a_disk_is_told_to_wait_when_the_store_is_full() {
    let bench = Bench::with_disk();
    assert_eq!(bench.json(["disk", "edit", "web/vda", "--when-full", "5m"])["when_full_wait_seconds"], 300);
    assert_eq!(bench.json(["disk", "list"])["results"][0]["when_full_wait_seconds"], 300);
    assert_eq!(bench.json(["disk", "edit", "web/vda", "--when-full", "fail"])["when_full_wait_seconds"], 0);
    assert_eq!(bench.run(["disk", "edit", "web/vda", "--when-full", "later"]).code, 2);
    assert_eq!(bench.run(["disk", "edit", "web/vda"]).code, 2);
}
