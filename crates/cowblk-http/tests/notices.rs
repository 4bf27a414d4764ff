//! What a store says unasked reaches whoever listens to a daemon's events.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;

use cowblk::{Options, SnapshotMarks, Store, WhenFull};
use cowblk_http::{Scope, Settings, Tokens, serve_until};
use serde_json::{Value, json};
use tokio::sync::oneshot;

static NOW: AtomicU64 = AtomicU64::new(1_893_456_000);

/// The next event of one of these kinds.
fn heard(events: &mut impl BufRead, kinds: &[&str]) -> Value {
    loop {
        let mut line = String::new();
        assert_ne!(events.read_line(&mut line).unwrap(), 0, "the stream ended before one of {kinds:?}");
        let Some(text) = line.strip_prefix("data: ") else { continue };
        let event: Value = serde_json::from_str(text).unwrap();
        if kinds.contains(&event["kind"].as_str().unwrap()) {
            return event;
        }
    }
}

fn body(address: &str, token: &str, path: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    BufReader::new(stream)
}

/// Writes fresh blocks from `first` on until one is refused.
fn fill(disk: &cowblk::Disk, first: u64) {
    let refused = (first..).find_map(|nth| disk.write_at(&[7; 4096], nth * 4096).err());
    assert_eq!(refused.unwrap().kind(), cowblk::ErrorKind::Full);
}

#[test]
fn watermarks_refused_writes_and_what_was_deleted_unasked_are_events() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let token = Tokens::open(&state).unwrap().create("test", &[Scope::Read], 0).unwrap().token;
    let options = Options::default().zone_blocks(1024).journal_bytes(1 << 20).max_bytes(12 << 20);
    let store = Store::create(folder.path().join("pool.cow"), options.clock(|| NOW.load(SeqCst))).unwrap();
    let mut settings = Settings::new(state);
    settings.addresses = vec!["127.0.0.1:0".parse().unwrap()];
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, hear) = mpsc::channel();
    let served = store.clone();
    let daemon = std::thread::spawn(move || {
        let said = |outcome: &cowblk_http::Outcome| {
            tell.send(outcome.addresses[0].clone()).map_err(std::io::Error::other)
        };
        serve_until(&served, settings, async { drop(stopped.await) }, said).unwrap();
    });
    let url = hear.recv().unwrap();
    let address = url.trim_start_matches("http://");
    let mut events = body(address, &token, "/api/v1/events/");
    let mut line = String::new();
    while !line.starts_with(": listening") {
        line.clear();
        events.read_line(&mut line).unwrap();
    }

    let web = store.create_server("web").unwrap();
    let disk = web.create_disk("vda", 1 << 30).unwrap();
    let marks = |expires_at| SnapshotMarks { expires_at, ..SnapshotMarks::default() };
    let soon = web.snapshot_with("soon", "", marks(Some(NOW.load(SeqCst) + 60))).unwrap();
    NOW.fetch_add(60, SeqCst);
    let expired = heard(&mut events, &["snapshot.deleted"]);
    let about =
        |event: &Value| (event["server_id"].as_u64(), event["snapshot_id"].as_u64(), event["reason"].clone());
    assert_eq!(about(&expired), (Some(web.id().0), Some(soon.id().0), json!("expired")));

    let clean = web.snapshot("clean", "").unwrap();
    (0..50).for_each(|nth| disk.write_at(&[9; 4096], nth << 12).unwrap());
    web.restore(clean.id()).unwrap();
    let undo = web.before_restore().unwrap().id();
    fill(&disk, 1000);
    for percent in [80, 90, 95] {
        let above = heard(&mut events, &["store.space_above"]);
        assert_eq!(above["percent"], percent, "{above}");
        let number = |name: &str| above[name].as_u64().unwrap();
        let (used, capacity) = (number("used_bytes"), number("capacity_bytes"));
        assert!(used * 100 >= (capacity - 96 * 4096) * percent && used <= capacity, "{above}");
    }
    let given_up = heard(&mut events, &["snapshot.deleted"]);
    assert_eq!(about(&given_up), (Some(web.id().0), Some(undo.0), json!("no_space")));
    let refused = heard(&mut events, &["disk.write_refused"]);
    assert_eq!((refused["server_id"].as_u64(), &refused["disk"]), (Some(web.id().0), &json!("vda")));
    disk.set_when_full(WhenFull::WaitSeconds(1)).unwrap();
    fill(&disk, 100_000);
    assert_eq!(heard(&mut events, &["disk.write_waits", "disk.write_refused"])["kind"], "disk.write_waits");
    heard(&mut events, &["disk.write_refused"]);
    let metrics = body(address, &token, "/metrics").lines().map(Result::unwrap).collect::<Vec<_>>();
    assert!(metrics.contains(&format!("cowblk_refused_writes_total {}", store.stats().refused_writes)));
    assert!(store.stats().refused_writes >= 2);

    disk.discard(0, 1 << 30).unwrap();
    store.checkpoint().unwrap();
    for percent in [95, 90, 80] {
        assert_eq!(heard(&mut events, &["store.space_below"])["percent"], percent);
    }
    drop(stop);
    daemon.join().unwrap();
    store.close().unwrap();
}
