//! The demo succeeds, says so in both forms, and leaves nothing behind unless asked to.

use crate::harness::Bench;

#[test]
fn the_demo_compares_every_file_and_cleans_up() {
    let bench = Bench::empty();
    let text = bench.ok(["demo"]);
    assert!(text.contains("no difference"), "{text}");
    assert!(text.contains("restore forward"), "{text}");
    assert_eq!(std::fs::read_dir(bench.path(".")).unwrap().count(), 0, "the temporary folder is gone");
}

#[test]
fn the_demo_can_keep_its_store_and_speak_json() {
    let bench = Bench::empty();
    let story = bench.json(["demo", "--keep"]);
    assert!(story["comparisons"].as_u64().unwrap() > 1000);
    assert!(story["steps"].as_array().unwrap().iter().all(|step| step["microseconds"].is_u64()));
    assert!(std::path::Path::new(story["store"].as_str().unwrap()).is_file());
}
