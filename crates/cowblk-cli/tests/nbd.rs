//! `cowblk nbd` as a process: started, killed and started again under those who use it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops where it is surprised")]

#[path = "../../cowblk-nbd/tests/client/mod.rs"]
mod client;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use client::{Client, noise};
use cowblk_nbd::codec::{Command as Request, Style};
use tempfile::TempDir;

const BLOCK: usize = 4096;

/// A store with a disk of 64 MiB, and where its socket is.
struct Bench {
    folder: TempDir,
}

/// A running `cowblk nbd`.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        for arguments in [
            &["init", "--journal", "4M"][..],
            &["server", "create", "web"],
            &["disk", "create", "web/vda", "64M"],
        ] {
            assert!(bench.command(arguments).output().unwrap().status.success());
        }
        bench
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s.sock")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cowblk"));
        command.env_remove("COWBLK_STORE").env_remove("COWBLK_SIZE_LIMIT");
        command.arg("--store").arg(self.folder.path().join("pool.cow")).args(arguments);
        command
    }

    /// Starts the daemon, and returns once it listens.
    fn start(&self) -> Daemon {
        let mut command = self.command(&["nbd", "--quiet", "--unix"]);
        let mut daemon = Daemon(command.arg(self.socket()).stdout(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(daemon.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("serving "), "{line:?}");
        daemon
    }

    /// The exit code and what is said, of a command that ends.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// What a client knows of one block: stamps that it may hold. The write of the first one was answered, those of the
/// others may be under way.
#[derive(Clone)]
struct Known(Vec<u64>);

fn block_of(stamp: u64) -> Vec<u8> {
    if stamp == 0 { vec![0; BLOCK] } else { noise(stamp, BLOCK) }
}

/// Connects, however often it takes.
fn connect(bench: &Bench) -> Client {
    loop {
        match Client::open(&bench.socket(), Style::Extended, "web/vda", &[]) {
            Ok(client) => return client,
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Reads every block, and finds each to be what it may be.
fn verify(client: &mut Client, known: &mut [Known]) -> std::io::Result<()> {
    let mut stamps = Vec::new();
    for (at, known) in known.iter().enumerate() {
        client.try_send(Request::Read, 0, ((at * BLOCK) as u64, BLOCK as u64), &[])?;
        let reply = client.reply()?;
        assert_eq!(reply.error, 0, "{}", reply.message);
        let bytes = reply.bytes();
        let stamp = known.0.iter().rev().find(|stamp| block_of(**stamp) == bytes);
        stamps.push(*stamp.unwrap_or_else(|| {
            panic!("block {at} holds none of {:?}: a write that was answered is lost", known.0)
        }));
    }
    for (known, stamp) in known.iter_mut().zip(stamps) {
        known.0 = vec![stamp];
    }
    Ok(())
}

/// One round of writes, all in flight together, and now and then a flush.
fn round(client: &mut Client, known: &mut [Known], next: &mut u64) -> std::io::Result<()> {
    let mut places = HashMap::new();
    for _ in 0..16 {
        *next += 1;
        let at = usize::try_from(*next * 7919 % known.len() as u64).unwrap();
        known[at].0.push(*next);
        let place = ((at * BLOCK) as u64, BLOCK as u64);
        places.insert(client.try_send(Request::Write, 0, place, &block_of(*next))?, at);
    }
    for _ in 0..16 {
        let reply = client.reply()?;
        assert_eq!(reply.error, 0);
        let known = &mut known[places[&reply.cookie]].0;
        known.drain(..known.len() - 1);
    }
    if (*next / 16).is_multiple_of(50) {
        client.try_send(Request::Flush, 0, (0, 0), &[])?;
        assert_eq!(client.reply()?.error, 0);
    }
    Ok(())
}

/// The daemon is killed and started again, 50 times, while a client writes and verifies, and seldom flushes. The client
/// goes on, and nothing that was answered is lost: its next flush may come after the kill, and must not be a lie.
#[test]
fn killed_and_started_again_under_a_client() {
    let kills: u64 = std::env::var("COWBLK_KILLS").ok().map_or(50, |kills| kills.parse().unwrap());
    let bench = Bench::new();
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut daemon = bench.start();
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut known = vec![Known(vec![0]); 256];
            let (mut next, mut connections) = (0, 0);
            while !stop.load(Ordering::Acquire) {
                let mut client = connect(&bench);
                connections += 1;
                let mut going = verify(&mut client, &mut known);
                while going.is_ok() && !stop.load(Ordering::Acquire) {
                    going = round(&mut client, &mut known, &mut next);
                    rounds.fetch_add(1, Ordering::AcqRel);
                }
            }
            verify(&mut connect(&bench), &mut known).unwrap();
            connections
        });
        for kill in 0..kills {
            let before = rounds.load(Ordering::Acquire);
            while rounds.load(Ordering::Acquire) < before + 3 {
                assert!(!client.is_finished(), "the client stopped, see above");
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_micros(kill * 977 % 7000));
            daemon.0.kill().unwrap();
            daemon.0.wait().unwrap();
            daemon = bench.start();
        }
        stop.store(true, Ordering::Release);
        assert!(client.join().unwrap() > kills, "it connected again each time");
    });
    drop(daemon);
    assert_eq!(bench.run(&["check", "--data"]), (0, String::new()));
}

fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    if !found {
        println!("SKIPPED: {tool} is not installed");
    }
    found
}

/// QEMU's own block layer, with `reconnect-delay`, goes on when the daemon is killed.
#[test]
fn qemu_goes_on_when_the_daemon_is_killed() {
    if !has("qemu-io") {
        return;
    }
    let bench = Bench::new();
    let mut daemon = bench.start();
    let options = format!(
        "driver=nbd,server.type=unix,server.path={},export=web/vda,reconnect-delay=300",
        bench.socket().display()
    );
    // Without stdbuf it keeps to itself what it has to say until it has more.
    let mut qemu = Command::new("stdbuf");
    let mut qemu = qemu
        .args(["-oL", "qemu-io", "--image-opts", &options])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = qemu.stdin.take().unwrap();
    let mut output = BufReader::new(qemu.stdout.take().unwrap());
    let mut say = |command: &str| {
        writeln!(input, "{command}").unwrap();
        input.flush().unwrap();
    };
    // qemu-io prints one line "wrote 65536/65536 bytes at offset ..." for each command that is done.
    let mut done = |count: usize| {
        let (mut seen, mut line) = (0, String::new());
        while seen < count {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "qemu-io ended");
            assert!(!line.contains("failed") && !line.contains("rror"), "{line}");
            seen += usize::from(line.contains("wrote ") || line.contains("read "));
        }
    };
    // One command at a time: it overlooks lines that come together.
    for kill in 1..=8 {
        say(&format!("write -f -P {kill} {}k 64k", kill * 64));
        done(1);
        daemon.0.kill().unwrap();
        daemon.0.wait().unwrap();
        say(&format!("write -f -P {kill} {}k 64k", 4096 + kill * 64));
        daemon = bench.start();
        done(1);
    }
    for kill in 1..=8 {
        for start in [0, 4096] {
            say(&format!("read -P {kill} {}k 64k", start + kill * 64));
            done(1);
        }
    }
    say("quit");
    assert!(qemu.wait().unwrap().success());
}

#[test]
fn it_ends_in_order_when_it_is_told_to() {
    let bench = Bench::new();
    let mut daemon = bench.start();
    let mut client = connect(&bench);
    client.put(0, b"not flushed");
    let id = daemon.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(daemon.0.wait().unwrap().success());
    assert!(client.is_ended());
    let _daemon = bench.start();
    assert_eq!(
        connect(&bench).get(0, 11),
        b"not flushed",
        "it closed the store, and took over its own socket"
    );
}

#[test]
fn it_says_what_is_wrong_with_where_to_listen() {
    let bench = Bench::new();
    let (code, said) = bench.run(&["nbd"]);
    assert_eq!((code, said.contains("--unix")), (2, true), "{said}");
    let (code, said) = bench.run(&["nbd", "--tcp", "0.0.0.0:0"]);
    assert_eq!((code, said.contains("--tls")), (2, true), "{said}");
    let socket = bench.socket().to_str().unwrap().to_owned();
    let listener = UnixListener::bind(&socket).unwrap();
    let (code, said) = bench.run(&["nbd", "--unix", &socket]);
    assert_eq!((code, said.contains(&socket)), (4, true), "{said}");
    drop(listener);
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, b"precious").unwrap();
    let (code, said) = bench.run(&["nbd", "--unix", &socket]);
    assert_eq!((code, std::fs::read(&socket).unwrap()), (4, b"precious".to_vec()), "{said}");
    let (code, said) = bench.run(&["nbd", "--unix", "/no/such/folder/s.sock"]);
    assert_eq!((code, said.contains("/no/such/folder/s.sock")), (3, true), "{said}");
}

#[test]
fn it_takes_sockets_from_systemd() {
    if !has("nbdinfo") {
        return;
    }
    let bench = Bench::new();
    let store = bench.folder.path().join("pool.cow");
    let mut command = Command::new("nbdinfo");
    command.args(["--size", "--", "[", env!("CARGO_BIN_EXE_cowblk"), "--store"]).arg(store);
    let output = command.args(["nbd", "--export", "web/vda", "--read-only", "]"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim().lines().last(), Some("67108864"), "{output:?}");
}

#[test]
fn it_listens_on_tcp_within_the_machine() {
    let bench = Bench::new();
    let mut command = bench.command(&["--json", "nbd", "--tcp", "127.0.0.1:0", "--read-only"]);
    let mut daemon = Daemon(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut said = Vec::new();
    let mut output = daemon.0.stdout.take().unwrap();
    while !said.contains(&b'}') {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
    let uri = said["listening"][0].as_str().unwrap();
    let address = uri.strip_prefix("nbd://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
}

#[test]
fn what_a_template_holds_is_not_stored_again() {
    let bench = Bench::new();
    let content: Vec<u8> = (1..=64).flat_map(block_of).collect();
    {
        let _daemon = bench.start();
        let mut client = connect(&bench);
        client.put(0, &content);
        client.flush();
    }
    assert_eq!(bench.run(&["snapshot", "create", "web", "golden"]).0, 0);
    let saved = || {
        let output = bench.command(&["--json", "status"]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["saved_blocks"].as_u64()
    };
    assert_eq!(saved(), Some(0));
    let mut command = bench.command(&["nbd", "--quiet", "--template", "web@golden", "--unix"]);
    let mut daemon = Daemon(command.arg(bench.socket()).stdout(Stdio::piped()).spawn().unwrap());
    let mut client = connect(&bench);
    client.put(16 << 20, &content);
    client.flush();
    assert!(client.get(16 << 20, 64 * 4096) == content);
    let id = daemon.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(daemon.0.wait().unwrap().success());
    assert_eq!(saved(), Some(64));
    let (code, said) = bench.run(&["nbd", "--unix", "x", "--template", "web@nothing"]);
    assert_eq!((code, said.contains("nothing")), (3, true), "{said}");
}
