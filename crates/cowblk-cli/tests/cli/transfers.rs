//! Images in and out: the same bytes, the same holes, through files and through pipes.

use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use crate::harness::{Bench, noise};

/// 32 MiB with data at the start, in the middle and in the last bytes; the length is no multiple of 512.
fn sparse_image(bench: &Bench) -> (String, Vec<u8>) {
    let len: usize = (32 << 20) - 100;
    let path = bench.path("image");
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).open(&path).expect("make an image");
    file.set_len(len as u64).expect("set its length");
    for (at, seed) in [(0, 1), (10 << 20, 2), (len as u64 - 5000, 3)] {
        file.seek(SeekFrom::Start(at)).expect("seek");
        file.write_all(&noise(seed, 5000)).expect("write data");
    }
    (bench.argument("image"), std::fs::read(path).expect("read the image"))
}

/// What the disk reads as: the image, filled up to whole sectors.
fn whole_sectors(mut image: Vec<u8>) -> Vec<u8> {
    image.resize(image.len().next_multiple_of(512), 0);
    image
}

#[test]
fn a_file_comes_back_byte_for_byte_and_hole_for_hole() {
    let bench = Bench::with_disk();
    let (image, content) = sparse_image(&bench);
    let done = bench.json(["disk", "import", &image, "web/vdb"]);
    assert_eq!(done["blake3"], blake3::hash(&content).to_string());
    assert!(done["data_bytes"].as_u64().unwrap() < 1 << 20, "holes were read as data: {done}");
    let out = bench.json(["disk", "export", "web/vdb", &bench.argument("out")]);
    assert_eq!(out["verified"], true);
    assert!(std::fs::read(bench.path("out")).unwrap() == whole_sectors(content));
    let allocated = std::fs::metadata(bench.path("out")).unwrap().blocks() * 512;
    assert!(allocated <= 128 << 10, "{allocated} bytes allocated for about 15000 bytes of data");
}

#[test]
fn a_pipe_carries_the_same_bytes_as_a_file() {
    let bench = Bench::with_disk();
    let content = whole_sectors(sparse_image(&bench).1);
    let run = bench.run_with_input(["disk", "import", "-", "web/vdb", "--size", "32M"], &content);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.text().contains(&blake3::hash(&content).to_string()), "{run:?}");
    let mapped = bench.json(["disk", "map", "web/vdb"]);
    assert!(mapped["count"].as_u64().unwrap() >= 5, "zeros of a stream become holes: {mapped}");
    let run = bench.run(["disk", "export", "web/vdb", "-"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.stdout.len(), 32 << 20);
    assert!(run.stdout.starts_with(&content));
    assert!(run.stderr.contains("blake3"), "the result goes beside the image: {}", run.stderr);
}

#[test]
fn a_snapshot_is_exported_as_it_was() {
    let bench = Bench::with_disk();
    let (old, new) = (noise(1, 8 << 20), noise(2, 8 << 20));
    bench.ok(["disk", "import", &bench.file("old", &old), "web/vda"]);
    bench.ok(["snapshot", "create", "web", "first"]);
    bench.ok(["disk", "import", &bench.file("new", &new), "web/vda"]);
    bench.ok(["snapshot", "export", "web/vda@first", &bench.argument("out")]);
    assert!(std::fs::read(bench.path("out")).unwrap() == old);
}

#[test]
fn an_import_replaces_everything_that_a_disk_held() {
    let bench = Bench::with_disk();
    bench.ok(["disk", "import", &bench.file("big", &noise(1, 8 << 20)), "web/vda"]);
    let mut sparse = vec![0; 3 << 20];
    sparse.get_mut(..1000).unwrap().copy_from_slice(&noise(2, 1000));
    bench.ok(["disk", "import", &bench.file("small", &sparse), "web/vda"]);
    let run = bench.run(["disk", "export", "web/vda", "-"]);
    sparse.resize(8 << 20, 0);
    assert!(run.stdout == sparse, "something of the old content is left");
}

#[test]
fn an_image_that_does_not_fit_is_refused() {
    let bench = Bench::with_disk();
    let content = noise(1, 9 << 20);
    let image = bench.file("image", &content);
    let run = bench.run(["disk", "import", &image, "web/vda"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("resize"), "{run:?}");
    let run = bench.run(["disk", "import", &image, "web/vda", "--size", "9M"]);
    assert_eq!(run.code, 2, "an import does not resize: {run:?}");
    let run = bench.run_with_input(["disk", "import", "-", "web/vdb", "--size", "8M"], &content);
    assert_eq!(run.code, 2, "{run:?}");
    assert_eq!(bench.json(["disk", "list"])["count"], 1, "the disk made for a failed import is gone again");
}

#[test]
fn an_export_replaces_a_file_only_when_told_to() {
    let bench = Bench::with_disk();
    let content = noise(1, 8 << 20);
    bench.ok(["disk", "import", &bench.file("image", &content), "web/vda"]);
    let target = bench.file("target", &noise(2, 20 << 20));
    assert_eq!(bench.run(["disk", "export", "web/vda", &target]).code, 4);
    bench.ok(["disk", "export", "web/vda", &target, "--overwrite"]);
    assert!(std::fs::read(bench.path("target")).unwrap() == content);
}

/// A file system that cannot hold a file as long as the disk: nothing is left of it.
#[test]
fn an_export_that_does_not_fit_leaves_no_file() {
    let bench = Bench::with_disk();
    let mut command = std::process::Command::new("sh");
    command.args([
        "-c",
        "ulimit -f 64; trap '' XFSZ; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_cowblk"),
        "--store",
    ]);
    let output =
        command.arg(bench.store()).args(["disk", "export", "web/vda", &bench.argument("out")]).output();
    let output = output.expect("run cowblk");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("too large"), "{output:?}");
    assert!(!bench.path("out").exists());
}

#[test]
fn without_verification_there_is_no_hash() {
    let bench = Bench::with_disk();
    let done =
        bench.json(["disk", "import", "--no-verify", &bench.file("image", &noise(1, 4096)), "web/vda"]);
    assert!(done["blake3"].is_null());
    assert_eq!(done["verified"], false);
}

#[test]
fn a_reader_that_stops_early_is_no_error_message() {
    let bench = Bench::with_disk();
    bench.ok(["disk", "import", &bench.file("image", &noise(1, 8 << 20)), "web/vda"]);
    for (arguments, code) in [(&["disk", "export", "web/vda", "-"][..], 1), (&["disk", "list"], 0)] {
        let mut child = bench
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run cowblk");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("wait for cowblk");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn a_disk_can_be_exported_into_a_named_pipe() {
    let bench = Bench::with_disk();
    let content = noise(1, 8 << 20);
    bench.ok(["disk", "import", &bench.file("image", &content), "web/vda"]);
    let pipe = bench.argument("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("run mkfifo").success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read(pipe)
    });
    bench.ok(["disk", "export", "web/vda", &pipe]);
    assert!(reader.join().unwrap().unwrap() == content);
}

#[test]
fn zeros_that_an_image_holds_take_no_space() {
    let bench = Bench::with_disk();
    let mut content = vec![0; 8 << 20];
    content[5 << 20] = 1;
    let image = bench.file("image", &content);
    let done = bench.json(["disk", "import", &image, "web/vdb"]);
    assert_eq!(done["data_bytes"], 8 << 20, "the file has no holes: {done}");
    let mapped = bench.json(["disk", "map", "web/vdb"]);
    let data: Vec<_> =
        mapped["results"].as_array().unwrap().iter().filter(|extent| extent["kind"] == "data").collect();
    assert_eq!((data.len(), &data[0]["length"]), (1, &4096.into()), "{mapped}");
    let sparsified = bench.json(["disk", "sparsify", "web/vdb"]);
    assert_eq!((&sparsified["read_bytes"], &sparsified["cleared_bytes"]), (&4096.into(), &0.into()));
}

#[test]
fn equal_blocks_of_two_imports_share_one() {
    let bench = Bench::with_disk();
    let image = bench.file("image", &noise(3, 1 << 20));
    bench.ok(["disk", "import", &image, "web/vdb"]);
    bench.ok(["disk", "import", &image, "web/vdc"]);
    let used = bench.json(["status"])["used_blocks"].as_u64().unwrap();
    let stopped = bench.json(["dedup", "--seconds", "0"]);
    assert_eq!(stopped["shared_bytes"], 0);
    let place = stopped["stopped_at"].as_str().unwrap().to_owned();
    let done = bench.json(["dedup", "--from", &place, "--memory", "1M"]);
    assert_eq!((&done["shared_bytes"], &done["stopped_at"]), (&(1 << 20).into(), &serde_json::Value::Null));
    let status = bench.json(["status"]);
    assert_eq!(status["saved_blocks"], 256);
    assert!(status["used_blocks"].as_u64().unwrap() < used - 240, "{status}");
    bench.ok(["snapshot", "create", "web", "both"]);
    let snapshot = &bench.json(["snapshot", "list"])["results"][0];
    let size = snapshot["size_bytes"].as_u64().unwrap();
    assert!(size < 2 << 20, "each block counts once: {snapshot}");
    assert!(bench.ok(["check"]).starts_with("clean"));
    assert!(bench.ok(["dedup", "--template", "web@both"]).contains("0 B shared"));
}
