//! Damage: `check`, `scrub`, `repair` and `dump` on a store with something wrong in one place.

use std::fs;

use super::harness::{Bench, noise};

const BLOCK: usize = 4096;

/// A store whose disk holds a mebibyte.
fn filled() -> (Bench, Vec<u8>) {
    let bench = Bench::with_disk();
    let content = noise(7, 1 << 20);
    bench.ok(["disk", "import", &bench.file("image", &content), "web/vda"]);
    bench.ok(["snapshot", "create", "web", "first"]);
    (bench, content)
}

/// Flips a bit of the block that begins so.
fn damage(bench: &Bench, is_wanted: impl Fn(&[u8]) -> bool) {
    let mut bytes = fs::read(bench.store()).expect("the store");
    let journal_end = (128 << 10) + (64 << 20);
    let at = (journal_end..bytes.len()).step_by(BLOCK).find(|at| is_wanted(&bytes[*at..at + BLOCK]));
    bytes[at.expect("the block") + 4000] ^= 1;
    fs::write(bench.store(), bytes).expect("write the store");
}

#[test]
fn a_bad_block_is_named_by_all_who_hold_it() {
    let (bench, content) = filled();
    let clean = bench.json(["scrub", "--rate", "1G"]);
    assert_eq!((&clean["clean"], &clean["bytes_read"]), (&true.into(), &(1 << 20).into()));
    damage(&bench, |block| block[..64] == content[5 * BLOCK..5 * BLOCK + 64]);
    let run = bench.run(["scrub"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.text().contains("web/vda at byte 20480, web/vda@first at byte 20480"), "{run:?}");
    assert_eq!(bench.run(["check"]).code, 0, "a check reads no data");
    assert_eq!(bench.run(["check", "--data"]).code, 1);
}

#[test]
fn a_repair_says_what_is_lost_and_does_it_when_told() {
    let (bench, content) = filled();
    let seal = crc32(&content[..BLOCK]);
    damage(&bench, |block| block[12..16] == seal);
    let before = fs::read(bench.store()).expect("the store");
    assert_eq!(bench.run(["check"]).code, 1);
    let dry = bench.run(["repair"]);
    assert_eq!(dry.code, 1, "{dry:?}");
    assert!(dry.text().contains("lost: web/vda: 1048576 bytes from byte 0"), "{dry:?}");
    assert!(fs::read(bench.store()).expect("the store") == before, "nothing was written");
    assert!(bench.ok(["repair", "--yes"]).contains("repaired:"));
    assert!(bench.ok(["check"]).starts_with("clean"));
    assert_eq!(bench.ok(["repair", "--yes"]).trim(), "nothing to repair");
    let export = bench.run(["disk", "export", "web/vda", &bench.argument("out")]);
    assert_eq!(export.code, 7, "lost, and not zeros: {export:?}");
}

#[test]
fn a_dump_shows_all_parts_of_a_store_and_what_is_damaged() {
    let (bench, content) = filled();
    let text = bench.ok(["dump", "--depth", "2"]);
    for part in
        ["slot A: sealed", "generation ", "zone 0", "version ", "lineage ", "root block ", "0: block "]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(bench.json(["dump"])["count"].as_u64().expect("a number") > 10);
    let seal = crc32(&content[..BLOCK]);
    damage(&bench, |block| block[12..16] == seal);
    assert!(bench.ok(["dump", "--depth", "2"]).contains("damaged: its seal does not match"));
}

/// CRC-32 as docs/format.md names it, bit by bit.
fn crc32(bytes: &[u8]) -> [u8; 4] {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    let crc =
        bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)));
    (!crc).to_le_bytes()
}
