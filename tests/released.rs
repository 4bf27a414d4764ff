//! Released: stores that earlier versions of this library wrote. They open for ever, and hold what they held.
//!
//! `tests/fixtures` has for each version of the format a store that was closed and one that a crash left, each with
//! a list of what it held, written by the library of that time. A new format version adds two of its own with
//!
//! ```sh
//! cargo test --test released -- --ignored
//! ```

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk::device::MemoryDevice;
use cowblk::{
    Options, Server, ServerMarks, Snapshot, SnapshotMarks, Store, WhenFull, check_device, recount_sizes,
};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

const FORMAT_VERSION: u32 = 1;
const BLOCK: u64 = 4096;
const NAMES: [&str; 2] = ["closed", "crashed"];

fn fixture(version: u32, name: &str, ending: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    folder.join(format!("format-{version}-{name}.{ending}"))
}

fn options() -> Options {
    Options::default().zone_blocks(64).journal_bytes(64 << 10).background(false).clock(|| 1_700_000_000)
}

/// The seal of all that a disk holds.
fn hash(size: u64, read: impl Fn(&mut [u8], u64) -> cowblk::Result<()>) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < size {
        let mut buf = vec![0; usize::try_from((size - at).min(64 << 10)).unwrap()];
        read(&mut buf, at).unwrap();
        hasher.update(&buf);
        at += buf.len() as u64;
    }
    hasher.finalize().to_hex().to_string()
}

/// Everything that a store shows, as text.
fn listing(store: &Store) -> String {
    let mut text = String::new();
    let servers = store.servers();
    for server in servers.iter().chain(&store.staging_servers()) {
        let (id, made, origin) = (server.id(), server.created_at(), server.origin().map(|id| id.0));
        let ServerMarks { max_snapshots, max_disk_bytes, labels, .. } = server.marks();
        writeln!(text, "server {} id {id} made {made} from {origin:?}", server.name()).unwrap();
        writeln!(text, "  at most {max_snapshots:?} snapshots, {max_disk_bytes:?} bytes, {labels:?}")
            .unwrap();
        for disk in server.disks() {
            let (name, size, parent) = (disk.name(), disk.size_bytes(), disk.parent().map(|id| id.0));
            let patience = disk.when_full().patience();
            let hash = hash(size, |buf, at| disk.read_at(buf, at));
            writeln!(text, "  disk {name} id {} size {size} after {parent:?}, waits {patience:?}", disk.id())
                .unwrap();
            writeln!(text, "    {hash}").unwrap();
        }
        for snapshot in server.snapshots().into_iter().chain(server.before_restore()) {
            list_snapshot(&mut text, &snapshot);
        }
    }
    text
}

fn list_snapshot(text: &mut String, snapshot: &Snapshot) {
    let (name, id, made, kind) = (snapshot.name(), snapshot.id(), snapshot.created_at(), snapshot.kind());
    let SnapshotMarks { protected, expires_at, labels, .. } = snapshot.marks();
    let parent = snapshot.parent().map(|id| id.0);
    writeln!(text, "  snapshot {name} id {id} made {made} {kind:?} after {parent:?}").unwrap();
    writeln!(text, "    {:?} identity {:?}", snapshot.description(), snapshot.identity()).unwrap();
    writeln!(text, "    protected {protected}, until {expires_at:?}, {labels:?}").unwrap();
    for disk in snapshot.disks() {
        let (name, size) = (disk.name(), disk.size_bytes());
        writeln!(text, "    disk {name} size {size}").unwrap();
        writeln!(text, "      {}", hash(size, |buf, at| disk.read_at(buf, at))).unwrap();
    }
}

#[test]
fn stores_of_all_versions_open_for_ever_and_hold_what_they_held() {
    for version in 1..=FORMAT_VERSION {
        for name in NAMES {
            let bytes = fs::read(fixture(version, name, "store")).unwrap();
            let expected = fs::read_to_string(fixture(version, name, "txt")).unwrap();
            let device = Arc::new(MemoryDevice::from_bytes(bytes));
            let checked = check_device(&*device).unwrap();
            assert!(checked.is_clean(), "{name}: {:?}", checked.findings);
            let store = Store::open_on(device.clone(), options()).unwrap();
            assert_eq!(listing(&store), expected, "{name} of format {version}");

            // It goes on: everything can be changed, counted, and deleted.
            for server in store.servers() {
                for disk in server.disks() {
                    disk.write_at(&[7; 5000], 0).unwrap();
                }
                server.snapshot("afterwards", "").unwrap();
            }
            store.collect().unwrap();
            store.checkpoint().unwrap();
            let sizes = recount_sizes(&*device).unwrap();
            assert!(sizes.is_clean(), "{name}: {:?}", sizes.findings);
            for server in store.servers().iter().chain(&store.staging_servers()) {
                for snapshot in server.snapshots() {
                    snapshot.set_marks(SnapshotMarks::default()).unwrap();
                }
                store.delete_server(server.id()).unwrap();
            }
            store.collect().unwrap();
            let report = check_device(&*device).unwrap();
            assert!(report.is_clean() && report.data_blocks_mapped == 0, "{name}: {report:?}");
        }
    }
}

fn write(server: &Server, disk: &str, blocks: std::ops::Range<u64>, byte: u8) {
    let disk = server.disk(disk).unwrap();
    for block in blocks {
        let mut bytes = [byte; 4096];
        bytes[..8].copy_from_slice(&block.to_le_bytes());
        disk.write_at(&bytes, block * BLOCK).unwrap();
    }
}

/// A store with some of everything that the format can hold.
fn populate(store: &Store) {
    let web = store.create_server("web").unwrap();
    web.create_disk("vda", 5000 * BLOCK).unwrap();
    web.create_disk("vdb", 40 * BLOCK + 512).unwrap();
    write(&web, "vda", 0..30, 1);
    write(&web, "vda", 4000..4010, 1);
    write(&web, "vdb", 0..40, 2);
    let labels = [("kind".into(), "daily".into())].into();
    let marks = SnapshotMarks { protected: true, labels, ..SnapshotMarks::default() };
    let golden = web.snapshot_with("golden", "Protected, with a label", marks).unwrap();
    write(&web, "vda", 10..20, 3);
    let marks = SnapshotMarks { expires_at: Some(4_000_000_000), ..SnapshotMarks::default() };
    let middle = web.snapshot_with("middle", "Expires late", marks).unwrap();
    write(&web, "vda", 4005..4020, 4);
    web.disk("vdb").unwrap().discard(BLOCK, 20 * BLOCK).unwrap();
    let late = web.snapshot("late", "").unwrap();
    store.checkpoint().unwrap();
    web.restore(middle.id()).unwrap();
    write(&web, "vda", 0..3, 5);
    let clone = golden.clone_server("clone").unwrap();
    clone.set_marks(ServerMarks { max_snapshots: Some(5), ..ServerMarks::default() }).unwrap();
    write(&clone, "vdb", 3..6, 6);
    late.disk("vda").unwrap().clone_disk(&clone, "vdc").unwrap();
    clone.disk("vdc").unwrap().set_when_full(WhenFull::WaitSeconds(30)).unwrap();
    store.create_staging_server("arriving").unwrap().create_disk("vda", 8 * BLOCK).unwrap();
    // With several children: it stays, hidden.
    store.delete_snapshot(middle.id()).unwrap();
    store.checkpoint().unwrap();
    web.disk("vdb").unwrap().resize(50 * BLOCK).unwrap();
    write(&web, "vdb", 44..50, 8);
    store.flush().unwrap();
}

/// Writes the stores of a new version of the format. Those that are there stay as they are.
#[test]
#[ignore = "writes into the source tree, once for each version of the format"]
fn make_the_stores_of_this_version() {
    for name in NAMES {
        let path = fixture(FORMAT_VERSION, name, "store");
        assert!(!path.exists(), "{} was released", path.display());
        let device = Arc::new(MemoryDevice::new(0));
        let store = Store::create_on(device.clone(), options()).unwrap();
        populate(&store);
        let text = listing(&store);
        let bytes = if name == "closed" {
            store.close().unwrap();
            device.to_bytes()
        } else {
            device.to_bytes()
        };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        fs::write(fixture(FORMAT_VERSION, name, "txt"), text).unwrap();
    }
}
