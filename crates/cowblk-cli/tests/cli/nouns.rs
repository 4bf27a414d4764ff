//! Each command once, for people: what it prints, and what it did.

use crate::harness::{Bench, noise};

#[test]
fn init_makes_a_store_with_the_wanted_block_size() {
    let bench = Bench::empty();
    let text = bench.ok(["init", "--block-size", "16K", "--journal", "16M", "--size-limit", "1G"]);
    assert!(text.contains("created the store"), "{text}");
    assert_eq!(bench.json(["status"])["block_size"], 16384);
}

#[test]
fn init_replaces_a_file_only_when_told_to() {
    let bench = Bench::with_disk();
    assert_eq!(bench.run(["init"]).code, 4);
    assert!(bench.ok(["server", "list"]).contains("web"), "the refused init changed nothing");
    bench.ok(["init", "--overwrite"]);
    assert!(!bench.ok(["server", "list"]).contains("web"));
}

#[test]
fn servers_are_created_listed_shown_and_deleted() {
    let bench = Bench::with_disk();
    bench.ok(["snapshot", "create", "web", "first"]);
    let list = bench.ok(["server", "list"]);
    assert!(list.starts_with("ID  NAME") && list.contains("web"), "{list}");
    let show = bench.ok(["server", "show", "web"]);
    assert!(show.contains("web/vda") && show.contains("first"), "{show}");
    bench.ok(["server", "delete", "web"]);
    assert_eq!(bench.json(["server", "list"])["count"], 0);
    assert_eq!(bench.json(["snapshot", "list"])["count"], 0);
    assert_eq!(bench.json(["status"])["disks"], 0);
}

#[test]
fn disks_are_created_resized_and_deleted() {
    let bench = Bench::with_disk();
    bench.ok(["disk", "resize", "web/vda", "1T"]);
    let list = bench.ok(["disk", "list", "web"]);
    assert!(list.contains("web/vda") && list.contains("1 TiB"), "{list}");
    bench.ok(["disk", "delete", "web/vda"]);
    assert_eq!(bench.json(["disk", "list"])["count"], 0);
}

#[test]
fn shrinking_refuses_to_cut_data() {
    let bench = Bench::with_disk();
    let image = bench.file("image", &noise(1, 8 << 20));
    bench.ok(["disk", "import", &image, "web/vda"]);
    assert_ne!(bench.run(["disk", "resize", "web/vda", "4M"]).code, 0);
    bench.ok(["disk", "resize", "web/vda", "6M", "--force"]);
    assert_eq!(bench.json(["disk", "list"])["results"][0]["size_bytes"], 6 << 20);
    bench.ok(["disk", "discard", "web/vda", "--offset", "4M"]);
    bench.ok(["disk", "resize", "web/vda", "4M"]);
}

#[test]
fn a_discarded_range_reads_as_zeros_and_the_rest_stays() {
    let bench = Bench::with_disk();
    let mut content = noise(2, 8 << 20);
    let image = bench.file("image", &content);
    bench.ok(["disk", "import", &image, "web/vda"]);
    bench.ok(["disk", "discard", "web/vda", "--offset", "1000", "--length", "100000"]);
    content.get_mut(1000..101_000).unwrap().fill(0);
    bench.ok(["disk", "export", "web/vda", &bench.argument("out")]);
    assert_eq!(std::fs::read(bench.path("out")).unwrap(), content);
}

#[test]
fn a_map_shows_data_holes_and_what_snapshots_share() {
    let bench = Bench::with_disk();
    let mut content = vec![0; 8 << 20];
    content.get_mut(1 << 20..2 << 20).unwrap().copy_from_slice(&noise(3, 1 << 20));
    let image = bench.file("image", &content);
    bench.ok(["disk", "import", &image, "web/vda"]);
    bench.ok(["snapshot", "create", "web", "first"]);
    bench.ok(["disk", "discard", "web/vda"]);
    let now = bench.json(["disk", "map", "web/vda"]);
    assert_eq!(now["count"], 1);
    assert_eq!(now["results"][0]["kind"], "hole");
    let then = bench.json(["disk", "map", "web/vda@first"]);
    let kinds: Vec<_> =
        then["results"].as_array().unwrap().iter().map(|extent| extent["kind"].clone()).collect();
    assert_eq!(kinds, ["hole", "data", "hole"]);
    assert_eq!(then["results"][1]["offset"], 1 << 20);
    assert_eq!(then["results"][1]["length"], 1 << 20);
    assert!(bench.ok(["disk", "map", "web/vda"]).starts_with("OFFSET"));
}

#[test]
fn a_snapshot_is_restored_by_name_and_the_restore_undone_by_id() {
    let bench = Bench::with_disk();
    let (old, new) = (noise(4, 8 << 20), noise(5, 8 << 20));
    bench.ok(["disk", "import", &bench.file("old", &old), "web/vda"]);
    bench.ok(["snapshot", "create", "web", "first", "-d", "the old image"]);
    bench.ok(["disk", "import", &bench.file("new", &new), "web/vda"]);
    let restored = bench.json(["snapshot", "restore", "web", "first"]);
    bench.ok(["disk", "export", "web/vda", &bench.argument("after-restore")]);
    assert!(std::fs::read(bench.path("after-restore")).unwrap() == old);
    bench.ok(["snapshot", "restore", "web", &restored["before_restore"]["id"].to_string()]);
    bench.ok(["disk", "export", "web/vda", &bench.argument("after-undo")]);
    assert!(std::fs::read(bench.path("after-undo")).unwrap() == new);
}

#[test]
fn snapshots_are_listed_shown_and_drawn_as_a_tree() {
    let bench = Bench::with_disk();
    bench.ok(["snapshot", "create", "web", "first"]);
    bench.ok(["snapshot", "create", "web", "second", "-d", "with a\u{1b}[31mcolour"]);
    bench.ok(["snapshot", "restore", "web", "first"]);
    let names: Vec<_> = bench.json(["snapshot", "list", "web"])["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|snapshot| snapshot["kind"] == "user")
        .map(|snapshot| snapshot["name"].clone())
        .collect();
    assert_eq!(names, ["second", "first"], "newest first");
    let list = bench.ok(["snapshot", "list", "web"]);
    assert!(list.contains("(before restore)"), "{list}");
    assert!(!list.contains('\u{1b}'), "control characters reach the terminal: {list:?}");
    let show = bench.ok(["snapshot", "show", "web", "second"]);
    assert!(show.contains("vda"), "{show}");
    let tree = bench.ok(["snapshot", "list", "--tree"]);
    let indent = |name: &str| tree.lines().find_map(|line| line.find(name)).expect("a line with the name");
    assert!(indent("first") < indent("second"), "{tree}");
    assert_eq!(indent("* vda"), indent("second"), "the live disk descends from `first` again: {tree}");
}

#[test]
fn snapshots_are_deleted_all_or_none_and_give_back_their_blocks() {
    let bench = Bench::with_disk();
    let image = bench.file("image", &noise(6, 8 << 20));
    bench.ok(["disk", "import", &image, "web/vda"]);
    bench.ok(["snapshot", "create", "web", "first"]);
    bench.ok(["disk", "discard", "web/vda"]);
    bench.ok(["snapshot", "create", "web", "second"]);
    let before = bench.json(["status"])["used_blocks"].as_u64().unwrap();
    assert_eq!(bench.run(["snapshot", "delete", "web", "first", "missing"]).code, 3);
    assert_eq!(bench.json(["snapshot", "list"])["count"], 2);
    bench.ok(["snapshot", "delete", "web", "first", "second"]);
    assert_eq!(bench.json(["snapshot", "list"])["count"], 0);
    let after = bench.json(["status"])["used_blocks"].as_u64().unwrap();
    assert!(before - after >= 2048, "8 MiB are 2048 blocks: {before} before, {after} after");
}

#[test]
fn status_check_and_collect_say_what_they_found() {
    let bench = Bench::with_disk();
    assert!(bench.ok(["status"]).contains("used blocks"));
    assert!(bench.ok(["collect"]).starts_with("freed"));
    assert!(bench.ok(["status"]).contains("still to collect"));
    // Whether anything is given back is the file system's to say.
    let trimmed = bench.run(["trim"]);
    assert!([0, 8].contains(&trimmed.code), "{}", trimmed.stderr);
    assert!(bench.ok(["check"]).starts_with("clean"));
    bench.ok(["disk", "import", &bench.file("image", &noise(7, 1 << 20)), "web/vda"]);
    bench.ok(["snapshot", "create", "web", "first"]);
    assert_eq!(bench.json(["check", "--data"])["data_bytes_read"], 1 << 20, "what is shared is read once");
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Bench::empty().ok(["completions", shell]);
        assert!(script.contains("snapshot"), "{shell}");
    }
}

#[test]
fn help_documents_the_exit_codes() {
    let help = Bench::empty().ok(["--help"]);
    for code in 0..=8 {
        assert!(help.contains(&format!("\n  {code}  ")), "exit code {code} in {help}");
    }
}

#[test]
fn the_store_may_be_named_by_the_environment() {
    let bench = Bench::with_disk();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cowblk"));
    let output = command.env("COWBLK_STORE", bench.store()).args(["server", "list"]).output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("web"));
}
