//! Speed: what a request costs, beside `/healthz` and an `fdatasync` in the same run. Prints the table of the README.
//!
//! ```text
//! cargo run --release -p cowblk-http --example speed -- [FOLDER] [SERVERS]
//! ```

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement stops where it is surprised")]

use cowblk::{Options, Store};
use cowblk_http::{Scope, Settings, Tokens, serve};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const SNAPSHOTS: usize = 5;
const CLIENTS: usize = 4;
const LISTINGS: usize = 5_000;
const CREATIONS: usize = 400;

/// One connection that stays open.
struct Client {
    stream: TcpStream,
    token: String,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: &str, token: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, token: token.into(), buffer: Vec::new() }
    }

    /// How long a request took, and what it was answered.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> (Duration, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        let begun = Instant::now();
        self.stream.write_all(request.as_bytes()).unwrap();
        self.buffer.clear();
        let mut part = [0; 16 << 10];
        loop {
            let length = self.stream.read(&mut part).unwrap();
            assert_ne!(length, 0, "the daemon closed");
            self.buffer.extend_from_slice(&part[..length]);
            let text = String::from_utf8_lossy(&self.buffer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let head = head.to_ascii_lowercase();
            let wanted =
                head.split("content-length: ").nth(1).map_or("0", |rest| rest.lines().next().unwrap());
            if body.len() >= wanted.trim().parse().unwrap() {
                assert!(head.starts_with("http/1.1 2"), "{text}");
                return (begun.elapsed(), body.to_owned());
            }
        }
    }
}

/// The time below which this share of them lies.
fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

fn micros(time: Duration) -> String {
    format!("{} µs", time.as_micros())
}

fn fill(path: &Path, servers: usize) -> Vec<u64> {
    let store = Store::create(path, Options::default()).unwrap();
    let ids = (0..servers).map(|nth| {
        let server = store.create_server(&format!("server-{nth}")).unwrap();
        server.create_disk("vda", 80 << 30).unwrap();
        for snapshot in 0..SNAPSHOTS {
            server.snapshot(&format!("snapshot-{snapshot}"), "for the measurement").unwrap();
        }
        server.id().0
    });
    let ids = ids.collect();
    store.close().unwrap();
    ids
}

fn syncs(folder: &Path) -> Duration {
    let file =
        OpenOptions::new().write(true).create(true).truncate(true).open(folder.join("sync.bin")).unwrap();
    file.write_all_at(&vec![1; 8 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let one = |nth: u64| {
        file.write_all_at(&[2; 4096], nth % 2048 * 4096).unwrap();
        let begun = Instant::now();
        file.sync_data().unwrap();
        begun.elapsed()
    };
    let mut times: Vec<Duration> = (0..400).map(one).collect();
    percentile(&mut times, 50)
}

/// Listings and `/healthz` by turns, from several connections at once.
fn listings(address: &str, token: &str, ids: &[u64]) -> (Vec<Duration>, Vec<Duration>) {
    let worker = |worker: usize| {
        let mut client = Client::connect(address, token);
        let (mut health, mut list) = (Vec::new(), Vec::new());
        for nth in 0..LISTINGS {
            health.push(client.ask("GET", "/healthz", "").0);
            let id = ids[(nth * 7919 + worker * 104_729) % ids.len()];
            let (time, body) = client.ask("GET", &format!("/api/v1/snapshots/?server_id={id}"), "");
            assert!(body.starts_with("{\"count\":5,"), "{body}");
            list.push(time);
        }
        (health, list)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS).map(|nth| scope.spawn(move || worker(nth))).collect();
        let parts = workers.into_iter().map(|worker| worker.join().unwrap());
        parts.fold((Vec::new(), Vec::new()), |(mut health, mut list), (more_health, more_list)| {
            health.extend(more_health);
            list.extend(more_list);
            (health, list)
        })
    })
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from).join("cowblk-speed");
    let servers = arguments.next().map_or(10_000, |text| text.parse().unwrap());
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("pool.cow");
    let begun = Instant::now();
    let ids = fill(&path, servers);
    println!(
        "{servers} servers with {} snapshots made in {:.1} s",
        servers * SNAPSHOTS,
        begun.elapsed().as_secs_f64()
    );

    let store = Store::open(&path, Options::default()).unwrap();
    let mut settings = Settings::new(folder.join("state"));
    settings.addresses = vec!["127.0.0.1:0".parse().unwrap()];
    settings.snapshot_limit = 1_000_000;
    let token = Tokens::open(&settings.state)
        .unwrap()
        .create("speed", &[Scope::Read, Scope::Write], 0)
        .unwrap()
        .token;
    let (tell, hear) = mpsc::channel();
    std::thread::spawn(move || {
        serve(&store, settings, |outcome| {
            tell.send(outcome.addresses[0].clone()).map_err(std::io::Error::other)
        })
        .unwrap();
    });
    let address = hear.recv().unwrap().trim_start_matches("http://").to_owned();

    let (mut health, mut list) = listings(&address, &token, &ids);
    let mut client = Client::connect(&address, &token);
    let mut alone: Vec<Duration> = (0..2000).map(|_| client.ask("GET", "/healthz", "").0).collect();
    let before = syncs(&folder);
    let mut created: Vec<Duration> = (0..CREATIONS)
        .map(|nth| {
            let body = format!("{{\"server_id\": {}, \"name\": \"measured\"}}", ids[nth % ids.len()]);
            client.ask("POST", "/api/v1/snapshots/", &body).0
        })
        .collect();
    let sync = before.min(syncs(&folder));
    let [health_50, health_99] = [50, 99].map(|percent| percentile(&mut health, percent));
    let [list_50, list_99] = [50, 99].map(|percent| percentile(&mut list, percent));
    let [made_50, made_99] = [50, 99].map(|percent| percentile(&mut created, percent));
    let alone = percentile(&mut alone, 50);
    println!("\n| request | p50 | p99 |\n|---|---|---|");
    println!("| `/healthz`, {CLIENTS} connections | {} | {} |", micros(health_50), micros(health_99));
    println!(
        "| 5 snapshots of one of {servers} servers, {CLIENTS} connections | {} | {} |",
        micros(list_50),
        micros(list_99)
    );
    println!("| `/healthz`, one connection | {} | |", micros(alone));
    println!("| one `fdatasync` of 4 KiB | {} | |", micros(sync));
    println!("| create a snapshot, durable, one connection | {} | {} |", micros(made_50), micros(made_99));
    println!(
        "\nlisting / healthz at p99: {:.2} (at most 3); create / (2 fdatasync + healthz): {:.2} (at most 1)",
        list_99.as_secs_f64() / health_99.as_secs_f64(),
        made_50.as_secs_f64() / (2.0 * sync.as_secs_f64() + alone.as_secs_f64())
    );
    drop(std::fs::remove_dir_all(&folder));
}
