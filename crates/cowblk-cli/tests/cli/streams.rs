//! `cowblk send` and `cowblk receive`: from store to store through a pipe, in one go or in pieces.

use crate::harness::{Bench, noise};

/// A store with `web/vda` of 8 MiB, its snapshot `one`, and `two` with 64 KiB of it discarded and a new disk of 64 KiB.
fn source() -> Bench {
    let bench = Bench::with_disk();
    bench.ok(["disk", "import", &bench.file("a", &noise(1, 8 << 20)), "web/vda"]);
    bench.ok(["snapshot", "create", "web", "one", "-d", "the first"]);
    bench.ok(["disk", "discard", "web/vda", "--offset", "1M", "--length", "64K"]);
    bench.ok(["disk", "import", &bench.file("b", &noise(2, 65_536)), "web/vdb"]);
    bench.ok(["snapshot", "create", "web", "two"]);
    bench
}

fn send(bench: &Bench, arguments: &[&str]) -> Vec<u8> {
    let run = bench.run([&["send"], arguments].concat());
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stderr.starts_with("sent "), "{run:?}");
    run.stdout
}

fn exported(bench: &Bench, snapshot: &str) -> Vec<u8> {
    let run = bench.run(["snapshot", "export", snapshot, "-"]);
    assert_eq!(run.code, 0, "{run:?}");
    run.stdout
}

#[test]
fn a_replica_is_made_and_follows() {
    let (a, b) = (source(), Bench::new());
    let whole = send(&a, &["web@one"]);
    let run = b.run_with_input(["receive"], &whole);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.text().starts_with("received web@one"), "{run:?}");
    let increment = send(&a, &["web@two", "--since", "one"]);
    assert!(increment.len() < 70_000, "{} bytes", increment.len());
    let run = b.run_with_input(["--json", "receive"], &increment);
    assert_eq!(run.code, 0, "{run:?}");
    let received = run.json();
    assert_eq!((&received["count"], &received["results"][0]["head_moved"]), (&1.into(), &true.into()));
    for name in ["web/vda@one", "web/vda@two", "web/vdb@two"] {
        assert!(exported(&a, name) == exported(&b, name), "{name}");
    }
    let show = |bench: &Bench, name: &str| {
        let mut view = bench.json(["snapshot", "show", "web", name]);
        let view = view.as_object_mut().unwrap();
        ["name", "description", "created_at", "size_bytes"].map(|key| view.remove(key))
    };
    assert_eq!(show(&a, "one"), show(&b, "one"));
    assert_eq!(b.json(["diff", "web/vda@two"])["results"][0]["data_bytes"], 0, "the live disk followed");
    b.ok(["check", "--data"]);
}

#[test]
fn streams_in_a_row_are_received_in_a_row() {
    let (a, b) = (source(), Bench::new());
    let both = [send(&a, &["web@one"]), send(&a, &["web@two", "--since", "web@one"])].concat();
    let run = b.run_with_input(["--json", "receive", "copy"], &both);
    assert_eq!((run.code, run.json()["count"].as_u64()), (0, Some(2)), "{run:?}");
    assert!(exported(&a, "web/vda@two") == exported(&b, "copy/vda@two"));
}

#[test]
fn a_receive_that_is_cut_is_listed_and_gone_on_with() {
    let (a, b) = (source(), Bench::new());
    let whole = send(&a, &["web@one"]);
    let run = b.run_with_input(["receive"], &whole[..5 << 20]);
    assert_eq!(run.code, 7, "{run:?}");
    assert!(run.stderr.contains("ends before its end") && run.stderr.contains("--resume r1-"), "{run:?}");
    assert_eq!(b.json(["server", "list"])["count"], 0, "a half server is to be seen");
    let partial = b.json(["receive", "--list"]);
    let token = partial["results"][0]["token"].as_str().unwrap();
    assert!(run.stderr.contains(token));
    let rest = send(&a, &["--resume", token]);
    assert!(rest.len() < 5 << 20, "{} bytes", rest.len());
    assert_eq!(b.run_with_input(["receive"], &rest).code, 0);
    assert!(exported(&a, "web/vda@one") == exported(&b, "web/vda@one"));
    assert_eq!(b.json(["receive", "--list"])["count"], 0);
}

#[test]
fn a_receive_that_is_cut_can_be_given_up() {
    let (a, b) = (source(), Bench::new());
    let whole = send(&a, &["web@one"]);
    let used = b.json(["status"])["used_blocks"].as_u64().unwrap();
    assert_eq!(b.run_with_input(["receive"], &whole[..5 << 20]).code, 7);
    let token = b.json(["receive", "--list"])["results"][0]["token"].as_str().unwrap().to_owned();
    b.ok(["receive", "--abandon", &token]);
    assert_eq!(b.run(["receive", "--abandon", &token]).code, 3);
    let left = b.json(["status"])["used_blocks"].as_u64().unwrap();
    assert!(left <= used + 4, "{used} blocks were used before, {left} are now");
}

#[test]
fn what_is_wrong_with_a_stream_is_said() {
    let (a, b) = (source(), Bench::new());
    let (whole, increment) = (send(&a, &["web@one"]), send(&a, &["web@two", "--since", "one"]));
    let mut flipped = increment.clone();
    flipped[60_000] ^= 4;
    let mut newer = increment.clone();
    newer[8] = 9;
    for (input, code, says) in [
        (&b""[..], 2, "empty"),
        (b"something else", 2, "no stream"),
        (&newer, 8, "version 9"),
        (&increment, 3, "builds on snapshot \"one\""),
        (&whole, 0, ""),
        (&flipped, 7, "does not match its seal"),
        (&increment, 0, ""),
        (&increment, 4, "is here already"),
        (&whole, 4, "is here already"),
    ] {
        let run = b.run_with_input(["receive"], input);
        assert_eq!(run.code, code, "{says}: {run:?}");
        assert!(run.stderr.contains(says), "no {says:?} in {run:?}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let a = source();
    for (arguments, code) in [
        (&["send", "web"][..], 2),
        (&["send"], 2),
        (&["send", "web@three"], 3),
        (&["send", "web@one", "--since", "zero"], 3),
        (&["send", "web@one", "--since", "one"], 2),
        (&["send", "--resume", "r1-1234"], 2),
        (&["send", "web@one", "--resume", "r1-1234"], 2),
    ] {
        let run = a.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {run:?}");
        assert!(run.stdout.is_empty());
    }
}
