//! Watermarks: what a listener hears while a store fills up, and while it is emptied.

use super::stamped::{BLOCK, block, server};
use super::{LIMITS, small_store};
use crate::model::Limit;
use cowblk::{Disk, ErrorKind, Notice, Notices};

/// The watermarks that were passed, up and down, and whether a write was refused.
fn heard(notices: &Notices) -> (Vec<(bool, u8)>, bool) {
    let (mut marks, mut refused) = (Vec::new(), false);
    while let Some(notice) = notices.next_now() {
        match notice {
            Notice::SpaceAbove { percent, used_blocks, capacity_blocks } => {
                assert!(used_blocks * 100 >= (capacity_blocks - 96) * u64::from(percent), "{notice:?}");
                marks.push((true, percent));
            }
            Notice::SpaceBelow { percent, used_blocks, capacity_blocks } => {
                assert!(used_blocks * 100 < (capacity_blocks - 96) * u64::from(percent), "{notice:?}");
                marks.push((false, percent));
            }
            Notice::WriteRefused { .. } => refused = true,
            other => panic!("{other:?}"),
        }
    }
    (marks, refused)
}

/// Few nodes change, so that no checkpoint frees more of them than the watermarks are apart.
fn fill_in_a_row(disk: &Disk) {
    let refused = (0..10_000).find_map(|nth| disk.write_at(&block(1 + nth), nth * BLOCK).err());
    assert_eq!(refused.unwrap().kind(), ErrorKind::Full);
}

#[test]
fn a_store_says_that_it_fills_up_and_that_it_is_less_full_again() {
    for limit in LIMITS {
        let (_device, store) = small_store(limit, |options| options);
        let web = server(&store, "web");
        let disk = web.disk("vda").unwrap();
        let notices = store.notices();
        fill_in_a_row(&disk);
        let (marks, refused) = heard(&notices);
        assert_eq!(marks, [(true, 80), (true, 90), (true, 95)], "{limit:?}");
        assert!(refused, "{limit:?}");
        assert_eq!(store.status().capacity_blocks, Some(4 * 254), "{limit:?}");
        let late = store.notices();
        assert!(matches!(late.next_now(), Some(Notice::SpaceAbove { percent: 95, .. })), "{limit:?}");

        disk.discard(0, 69_000 * BLOCK).unwrap();
        assert_eq!(heard(&notices).0, [], "a discard frees with the next checkpoint");
        store.checkpoint().unwrap();
        assert_eq!(heard(&notices).0, [(false, 95), (false, 90), (false, 80)], "{limit:?}");
        drop((web, disk));
        store.close().unwrap();
        assert!(notices.is_over() && notices.next_now().is_none());
    }
}

#[test]
fn a_store_without_a_limit_that_anybody_knows_says_nothing() {
    let (_device, store) = small_store(Limit::Options, |options| options.max_bytes(u64::MAX));
    let web = server(&store, "web");
    let (disk, notices) = (web.disk("vda").unwrap(), store.notices());
    for at in 0..3000 {
        disk.write_at(&[7; 4096], at * 4096).unwrap();
    }
    assert_eq!((notices.next_now(), store.status().capacity_blocks), (None, None));
}

#[test]
fn the_watermarks_are_an_option() {
    let (_device, store) = small_store(Limit::Fixed, |options| options.watermarks(&[50]));
    let web = server(&store, "web");
    let notices = store.notices();
    fill_in_a_row(&web.disk("vda").unwrap());
    assert_eq!(heard(&notices).0, [(true, 50)]);
}
