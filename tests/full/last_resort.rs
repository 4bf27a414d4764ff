//! Last resort: what waits for the collector is given back before anything is refused, to new snapshots, too.

use super::small_store;
use super::stamped::{Stamps, assert_disk, fill, server, write};
use crate::model::Limit;
use cowblk::check_device;

/// New records find less free than there must be, until the collector has run.
#[test]
fn a_snapshot_that_finds_no_space_collects_what_was_deleted() {
    let (device, store) = small_store(Limit::Fixed, |options| options);
    let web = server(&store, "web");
    let (disk, mut live) = (web.disk("vda").unwrap(), Stamps::new());
    for at in 0..200 {
        write(&disk, &mut live, at, 1 + at).unwrap();
    }
    let old = web.snapshot("old", "").unwrap();
    for at in 0..200 {
        write(&disk, &mut live, at, 1000 + at).unwrap();
    }
    fill(&disk, &mut live, 5000);
    store.delete_snapshot(old.id()).unwrap();
    for nth in 0.. {
        if store.status().reclaimable_versions == 0 {
            break;
        }
        // Each takes a few blocks of the reserve for its records.
        web.snapshot(&format!("s{nth}"), &"d".repeat(1000)).unwrap();
    }
    assert!(store.status().free_blocks > 200);
    assert_disk(&web, &live, "behind the snapshots");
    drop((web, disk, old));
    store.close().unwrap();
    assert!(check_device(&device).unwrap().is_clean());
}

/// A deleted snapshot with two children was looked at while both still held everything. Then they let go.
#[test]
fn what_a_deleted_snapshot_alone_still_holds_is_given_back_before_a_write_is_refused() {
    let (_, store) = small_store(Limit::Fixed, |options| options);
    let web = server(&store, "web");
    let (disk, mut live) = (web.disk("vda").unwrap(), Stamps::new());
    for at in 0..300 {
        write(&disk, &mut live, at, 1 + at).unwrap();
    }
    let old = web.snapshot("old", "").unwrap();
    let clone = old.clone_server("clone").unwrap();
    store.delete_snapshot(old.id()).unwrap();
    store.collect().unwrap();
    for server in [&web, &clone] {
        server.disk("vda").unwrap().discard(0, 300 * 4096).unwrap();
    }
    live.clear();
    fill(&disk, &mut live, 5000);
    let used = store.status().used_blocks;
    store.collect().unwrap();
    let less = used - store.status().used_blocks;
    assert!(less < 20, "{less} blocks could have been written");
    assert_disk(&web, &live, "when full");
}

/// A deleted snapshot that stays for its clones gives nothing back by waiting.
#[test]
fn a_full_store_that_has_nothing_to_collect_does_not_say_that_it_has() {
    let (_, store) = small_store(Limit::Fixed, |options| options);
    let web = server(&store, "web");
    let (disk, mut live) = (web.disk("vda").unwrap(), Stamps::new());
    for at in 0..64 {
        write(&disk, &mut live, at, 1 + at).unwrap();
    }
    let old = web.snapshot("old", "").unwrap();
    let _clone = old.clone_server("clone").unwrap();
    store.delete_snapshot(old.id()).unwrap();
    fill(&disk, &mut live, 5000);
    assert!(store.status().reclaimable_versions > 0, "it stays for its clone");
    let refused = write(&disk, &mut live, 4_000, 1).unwrap_err().to_string();
    assert!(refused.contains("delete snapshots, discard, or raise the limit"), "{refused}");
}
