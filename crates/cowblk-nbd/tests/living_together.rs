//! What a server does beside serving: snapshots and restores under clients, limits, patience, going down.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod client;

use client::{Bench, Client, ask_option, greet, noise};
use cowblk::device::{Device, MemoryDevice};
use cowblk::{Options, Store};
use cowblk_nbd::codec::{Command, InfoQuery, OptionCode, Style};
use cowblk_nbd::{Event, Settings};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Writes stamped blocks for as long as it is told to, and checks that nobody else's came between.
#[test]
fn a_snapshot_interrupts_nobody_and_is_one_instant() {
    let bench = Bench::new(MIB);
    let server = bench.store.server("web").unwrap();
    server.create_disk("vdb", MIB).unwrap();
    let stop = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut one = bench.client(Style::Extended);
            let mut two = Client::open(&bench.socket(), Style::Simple, "web/vdb", &[]).unwrap();
            for stamp in 1..u64::MAX {
                // The second disk is written once the first one's write was answered.
                one.put(0, &noise(stamp, 8192));
                two.put(0, &noise(stamp, 8192));
                written.store(stamp, Ordering::Release);
                if stop.load(Ordering::Acquire) {
                    return;
                }
            }
        });
        for round in 0..20 {
            let before = written.load(Ordering::Acquire);
            while written.load(Ordering::Acquire) < before + 3 {
                thread::yield_now();
            }
            server.snapshot(&format!("s{round}"), "").unwrap();
            let after = written.load(Ordering::Acquire) + 1;
            let read = |disk: &str| {
                let name = format!("web/{disk}@s{round}");
                Client::open(&bench.socket(), Style::Structured, &name, &[]).unwrap().get(0, 8192)
            };
            let (one, two) = (read("vda"), read("vdb"));
            let stamp = (before..=after + 1).find(|stamp| noise(*stamp, 8192) == one).expect("a whole write");
            assert!(
                two == noise(stamp, 8192) || two == noise(stamp - 1, 8192),
                "in the order they were written"
            );
        }
        stop.store(true, Ordering::Release);
    });
}

#[test]
fn a_restore_ends_connections_and_lets_new_ones_wait() {
    let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
    let listener = heard.clone();
    let observer: cowblk_nbd::Observer =
        Arc::new(move |event: &Event| listener.lock().unwrap().push(event.clone()));
    let bench = Bench::with(MIB, Settings { observer: Some(observer), ..Settings::default() });
    let web = bench.store.server("web").unwrap();
    let other = bench.store.create_server("db").unwrap();
    other.create_disk("vda", MIB).unwrap();
    let mut bystander = Client::open(&bench.socket(), Style::Simple, "db/vda", &[]).unwrap();

    let mut guest = bench.client(Style::Structured);
    guest.put(0, b"good");
    guest.flush();
    let snapshot = web.snapshot("s", "").unwrap();
    guest.put(0, b"evil");

    let hold = bench.server.hold(web.id(), "the server is being restored");
    assert!(guest.is_ended());
    let socket = bench.socket();
    let waiting = thread::spawn(move || {
        let mut client = Client::open(&socket, Style::Structured, "web/vda", &[]).unwrap();
        client.get(0, 4)
    });
    bystander.put(0, b"busy");
    web.restore(snapshot.id()).unwrap();
    assert!(!waiting.is_finished(), "it waits until the swap is done");
    drop(hold);
    assert_eq!(waiting.join().unwrap(), b"good");
    assert_eq!(bystander.get(0, 4), b"busy");
    let heard = heard.lock().unwrap();
    let why = "the server is being restored".to_owned();
    assert!(heard.contains(&Event::Ended { connection: 1, why }), "{heard:?}");
}

/// A device whose syncs wait until they may go on.
struct Gate {
    below: MemoryDevice,
    is_open: Mutex<bool>,
    changed: Condvar,
    waiting: AtomicBool,
}

impl Device for Gate {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.below.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.below.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        let mut is_open = self.is_open.lock().unwrap();
        while !*is_open {
            self.waiting.store(true, Ordering::Release);
            is_open = self.changed.wait(is_open).unwrap();
        }
        self.below.sync()
    }
    fn len_bytes(&self) -> io::Result<u64> {
        self.below.len_bytes()
    }
    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.below.grow(len_bytes)
    }
    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.below.discard(offset, len_bytes)
    }
    fn can_grow(&self) -> bool {
        self.below.can_grow()
    }
    fn is_read_only(&self) -> bool {
        false
    }
}

#[test]
fn a_slow_flush_holds_up_nobody() {
    let gate = Arc::new(Gate {
        below: MemoryDevice::default(),
        is_open: Mutex::new(true),
        changed: Condvar::new(),
        waiting: AtomicBool::new(false),
    });
    let store =
        Store::create_on(gate.clone(), Options::default().journal_bytes(1 << 20).background(false)).unwrap();
    store.create_server("web").unwrap().create_disk("vda", MIB).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s.sock");
    let _server = client::serve(&store, Settings::default(), socket.clone());
    let mut client = Client::open(&socket, Style::Structured, "web/vda", &[]).unwrap();
    client.put(0, b"data");

    *gate.is_open.lock().unwrap() = false;
    let flush = client.send(Command::Flush, 0, (0, 0), &[]);
    while !gate.waiting.load(Ordering::Acquire) {
        thread::yield_now();
    }
    for _ in 0..50 {
        client.put(4096, b"more");
        assert_eq!(client.get(0, 4), b"data", "answered while the flush waits");
    }
    *gate.is_open.lock().unwrap() = true;
    gate.changed.notify_all();
    let reply = client.reply().unwrap();
    assert_eq!((reply.cookie, reply.error), (flush, 0));
}

#[test]
fn one_connection_too_many_is_turned_away() {
    let bench = Bench::with(MIB, Settings { connections_max: 2, ..Settings::default() });
    let mut first = bench.client(Style::Simple);
    let second = bench.client(Style::Simple);
    let third = Client::open(&bench.socket(), Style::Simple, "web/vda", &[]);
    assert!(third.is_err());
    drop(second);
    while bench.server.connection_count() > 1 {
        thread::yield_now();
    }
    bench.client(Style::Simple).put(0, b"room again");
    assert_eq!(first.get(0, 10), b"room again");
}

#[test]
fn a_client_that_does_not_choose_is_left() {
    let short = Settings { negotiation_time: Duration::from_millis(200), ..Settings::default() };
    let bench = Bench::with(MIB, short);
    let mut silent = greet(&bench.socket()).unwrap();
    let mut chosen = bench.client(Style::Simple);
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    chosen.put(0, b"no hurry any more");
    let mut dripping = greet(&bench.socket()).unwrap();
    while dripping.write_all(b"I").is_ok() {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(chosen.get(0, 2), b"no");
}

#[test]
fn a_client_that_says_nothing_is_left_if_that_was_asked_for() {
    let short = Settings { idle_time: Some(Duration::from_millis(200)), ..Settings::default() };
    let bench = Bench::with(MIB, short);
    let mut client = bench.client(Style::Simple);
    client.put(0, b"one last word");
    assert!(client.is_ended());
}

/// A client that takes no replies costs the memory that it was promised to, and no more; and it keeps nobody from going down.
#[test]
fn a_client_that_takes_no_replies_holds_up_nobody() {
    let bench = Bench::new(64 * MIB);
    let mut deaf = bench.client(Style::Structured);
    deaf.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    for at in 0..100_000 {
        if deaf.try_send(Command::Read, 0, (at % 60 * MIB, MIB), &[]).is_err() {
            break;
        }
    }
    let mut other = bench.client(Style::Simple);
    other.put(0, b"served");
    assert_eq!(other.get(0, 6), b"served");
    bench.server.stop();
    assert_eq!(bench.server.connection_count(), 0);
}

#[test]
fn going_down_answers_what_was_asked() {
    let bench = Bench::new(16 * MIB);
    let mut client = bench.client(Style::Structured);
    for at in 0..16 {
        client.write(at * MIB, &noise(at, 1 << 20));
        client.send(Command::Flush, 0, (0, 0), &[]);
    }
    for _ in 0..31 {
        assert_eq!(client.reply().unwrap().error, 0);
    }
    bench.server.stop();
    assert_eq!(client.reply().unwrap().error, 0);
    assert!(client.is_ended());
    assert!(greet(&bench.socket()).is_err(), "nobody listens any more");
}

#[test]
fn a_deleted_disk_fails_its_requests_and_not_the_server() {
    let bench = Bench::new(MIB);
    let mut client = bench.client(Style::Structured);
    client.put(0, b"gone soon");
    bench.store.server("web").unwrap().delete_disk("vda").unwrap();
    let reply = client.ask(Command::Read, 0, (0, 4), &[]);
    assert_eq!(reply.error, 5);
    assert!(reply.message.contains("deleted"), "{}", reply.message);
    let mut stream = greet(&bench.socket()).unwrap();
    let mut data = Vec::new();
    InfoQuery::encode("web/vda", &[], &mut data);
    let replies = ask_option(&mut stream, OptionCode::Go, &data).unwrap();
    assert!(String::from_utf8_lossy(&replies[0].1).contains("web/vda"), "{replies:?}");
}

/// NBD has no word for a new size: who is connected keeps the one that it found, and never reaches beyond the one that is.
#[test]
fn a_disk_may_be_resized_under_a_client() {
    const EINVAL: u32 = 22;
    let bench = Bench::new(4 * MIB);
    let mut client = bench.client(Style::Extended);
    client.put(3 * MIB, b"near the end");
    bench.disk().resize(8 * MIB).unwrap();
    let write = |client: &mut Client, at: u64| client.ask(Command::Write, 0, (at, 3), b"new").error;
    assert_eq!((write(&mut client, 5 * MIB), write(&mut client, 2 * MIB)), (EINVAL, 0));
    let mut second = bench.client(Style::Simple);
    assert_eq!(write(&mut second, 5 * MIB), 0, "whoever connects now sees the new size");

    bench.disk().resize_cutting(MIB).unwrap();
    for client in [&mut client, &mut second] {
        assert_eq!(client.ask(Command::Read, 0, (3 * MIB, 12), &[]).error, EINVAL, "it was cut off");
        assert_eq!(write(client, 3 * MIB), EINVAL);
        assert_ne!(client.ask(Command::Trim, 0, (MIB - 4096, 8192), &[]).error, 0, "beyond the end in part");
        assert_eq!((write(client, MIB - 3), client.get(MIB - 3, 3)), (0, b"new".to_vec()));
        client.flush();
    }
    bench.disk().resize(4 * MIB).unwrap();
    assert_eq!(client.get(3 * MIB, 12), [0; 12], "what was cut off does not come back");
}

#[test]
fn zeros_that_a_client_writes_take_no_space() {
    let bench = Bench::new(4 * MIB);
    let mut client = bench.client(Style::Simple);
    let mapped = || {
        bench.store.checkpoint().unwrap();
        bench.disk().mapped_bytes().unwrap()
    };
    client.put(0, &noise(1, 1 << 20));
    assert_eq!(mapped(), MIB);
    client.put(0, &vec![0; 1 << 19]);
    client.put(2 * MIB, &vec![0; 1 << 20]);
    assert_eq!(mapped(), MIB / 2);
    assert_eq!(client.get(0, MIB / 2), vec![0; 1 << 19]);
}
