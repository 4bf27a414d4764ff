//! Ids and names: what a caller may ask for, and what the store makes of it.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk::{ErrorKind, Options, ServerId, ServerKind, Store};

/// Clients of another system know their servers by its ids.
#[test]
fn a_server_can_have_a_wanted_id_and_ids_grow_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool.cow");
    let options = Options::default().journal_bytes(1 << 20);
    let store = Store::create(&path, options.clone()).unwrap();
    let first = store.create_server("first").unwrap();
    let wanted = store.create_server_with_id(ServerId(12345), "wanted").unwrap();
    assert_eq!((wanted.id(), wanted.kind()), (ServerId(12345), ServerKind::User));
    let disk = wanted.create_disk("vda", 4096).unwrap();
    assert!(disk.id().0 > 12345, "what follows has larger ids");
    for (id, kind) in [
        (first.id().0, ErrorKind::Exists),
        (12345, ErrorKind::Exists),
        (77, ErrorKind::Exists),
        (0, ErrorKind::Invalid),
        ((1 << 40) + 1, ErrorKind::Invalid),
    ] {
        assert_eq!(store.create_server_with_id(ServerId(id), "other").unwrap_err().kind(), kind, "{id}");
    }
    let taken = store.create_server_with_id(ServerId(20_000), "wanted").unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Exists, "the name");
    store.create_server_with_id(ServerId(1 << 40), "last").unwrap();
    // The journal is replayed: the store is not closed.
    std::mem::forget(store.clone());
    let copy = folder.path().join("copy.cow");
    std::fs::copy(&path, &copy).unwrap();
    let copied = Store::open(&copy, options).unwrap();
    assert_eq!(copied.server("wanted").unwrap().id(), ServerId(12345));
    assert!(copied.create_server("next").unwrap().id().0 > 1 << 40);
    copied.close().unwrap();
    assert!(cowblk::check(&copy).unwrap().is_clean());
}
