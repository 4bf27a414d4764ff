//! Every request that changes something, at random, on a daemon that is killed in the midst of them, over and over. What was not answered
//! is sent again, with its key; then everything is as if nobody had been killed: servers, disks, snapshots, backups, and what disks hold.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cowblk_nbd::codec::Style;
use serde_json::{Value, json};

use crate::client::{Client, noise};
use crate::daemon::{Daemon, Site, exchange};
use crate::verbs::{Server, Sort, Verb, choose};

const WORKERS: u64 = 3;
const BLOCK: usize = 4096;

/// Random numbers that follow from a seed (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A request, and what it was answered.
#[derive(Clone, Debug)]
struct Sent {
    method: &'static str,
    path: String,
    body: Option<Value>,
    key: String,
    answer: Option<(u16, Value)>,
}

/// Where to send requests, and as whom.
struct Line<'a> {
    address: &'a str,
    token: &'a str,
}

impl Line<'_> {
    /// The answer; `None` if the daemon was killed before it came.
    fn ask(&self, sent: &Sent) -> Option<(u16, Value)> {
        let authorization = format!("Bearer {}", self.token);
        let mut headers =
            vec![("Authorization", authorization.as_str()), ("Idempotency-Key", sent.key.as_str())];
        if sent.body.is_some() {
            headers.push(("Content-Type", "application/json"));
        }
        let body = sent.body.as_ref().map(Value::to_string).unwrap_or_default();
        let answer = exchange(self.address, sent.method, &sent.path, body.as_bytes(), &headers).ok()?;
        // A connection may be cut off in the midst of an answer.
        let value = match answer.text.as_str() {
            "" if answer.status == 204 => Value::Null,
            text => serde_json::from_str(text).ok()?,
        };
        assert!(answer.status < 500, "{sent:?}: {value}");
        Some((answer.status, value))
    }

    fn look(&self, path: &str) -> Option<Value> {
        let sent = Sent { method: "GET", path: path.into(), body: None, key: "look".into(), answer: None };
        self.ask(&sent).map(|(_, value)| value)
    }

    /// Waits until nothing of a server is under way that forbids the next request.
    fn rest(&self, server: &Server) -> Option<()> {
        loop {
            let status = self.look(&format!("/api/v1/servers/{}/", server.id))?["status"].clone();
            let backups = self.look(&format!("/api/v1/backups/?server_id={}", server.id))?;
            let all = backups["results"].as_array()?;
            if status != "restoring" && all.iter().all(|one| one["status"] == "completed") {
                return Some(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// One client: its servers, which nobody else touches, and what it is doing.
struct Worker {
    nth: u64,
    random: Random,
    servers: Vec<Server>,
    sent: Vec<Sent>,
    /// What was sent last and not answered.
    open: Option<(Verb, Sent)>,
    requests: u64,
}

impl Worker {
    /// Sends one request after another until the daemon is gone.
    fn work(&mut self, line: &Line<'_>, (answered, stop): (&AtomicU64, &AtomicBool)) {
        self.sent.clear();
        while !stop.load(Ordering::Relaxed) {
            let Some(verb) = choose(&mut self.random, &self.servers) else { continue };
            if let Some(server) = verb.server(&self.servers)
                && line.rest(server).is_none()
            {
                return;
            }
            let number = self.requests;
            self.requests += 1;
            let (method, path, body) = verb.request(&self.servers, &format!("{}-{number}", self.nth));
            let key = format!("{}-{number}", self.nth);
            let mut sent = Sent { method, path, body, key, answer: None };
            let Some(answer) = line.ask(&sent) else {
                self.open = Some((verb, sent));
                return;
            };
            assert!((200..300).contains(&answer.0), "{verb:?} {sent:?}: {answer:?}");
            verb.apply(&mut self.servers, &answer.1, &sent.path);
            sent.answer = Some(answer);
            self.sent.push(sent);
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends again what was not answered, and what was.
    fn send_again(&mut self, line: &Line<'_>) -> Option<Sort> {
        for sent in self.sent.iter().filter(|sent| sent.method == "POST") {
            assert_eq!(line.ask(sent), sent.answer, "an answer that was given stays: {sent:?}");
        }
        let (verb, sent) = self.open.take()?;
        let (status, value) = line.ask(&sent).unwrap();
        // What is deleted stays so; nobody else made or deleted it meanwhile.
        let is_gone = sent.method == "DELETE" && status == 404;
        assert!((200..300).contains(&status) || is_gone, "it can be sent again: {verb:?} {sent:?}: {value}");
        verb.apply(&mut self.servers, &value, &sent.path);
        Some(verb.sort())
    }
}

fn disk_of(site: &Site, export: &str) -> Client {
    Client::open(&site.path("nbd.sock"), Style::Simple, export, &[]).unwrap()
}

/// What a disk holds at its beginning: noise that follows from a stamp, or zeros for stamp 0.
fn content(stamp: u64) -> Vec<u8> {
    if stamp == 0 { vec![0; BLOCK] } else { noise(stamp, BLOCK) }
}

/// Compares all that can be seen of a server with what it should be.
fn compare(site: &Site, daemon: &Daemon, server: &Server, is_thorough: bool) {
    let found = daemon.get(&format!("/api/v1/servers/{}/", server.id)).expect(200);
    assert_eq!(
        (found["name"].as_str(), found["status"].as_str()),
        (Some(server.name.as_str()), Some(server.status))
    );
    let named_size =
        |one: &Value| (one["name"].as_str().unwrap().to_owned(), one["size_bytes"].as_u64().unwrap());
    let disks: BTreeMap<String, u64> = found["disks"].as_array().unwrap().iter().map(named_size).collect();
    let extra = server.extra.map(|size| ("extra".to_owned(), size));
    let expected = [("vda".to_owned(), server.head.size)].into_iter().chain(extra).collect();
    assert_eq!(disks, expected, "{server:?}");
    assert_eq!(
        found["labels"],
        json!(server.label.map(|n| ("n".to_owned(), n.to_string())).into_iter().collect::<BTreeMap<_, _>>())
    );
    let list = daemon.get(&format!("/api/v1/snapshots/?automatic=true&server_id={}", server.id)).expect(200);
    let (user, automatic): (Vec<&Value>, Vec<&Value>) =
        list["results"].as_array().unwrap().iter().partition(|one| one["kind"] == "user");
    let named = |one: &&Value| (one["id"].as_u64().unwrap(), one["name"].as_str().unwrap().to_owned());
    let found: BTreeMap<u64, String> = user.iter().map(named).collect();
    let expected = server.snapshots.iter().map(|(id, (name, _))| (*id, name.clone())).collect();
    assert_eq!(found, expected, "{server:?}");
    assert_eq!(automatic.len(), usize::from(server.before.is_some()), "{server:?}");
    let held = disk_of(site, &format!("{}/vda", server.name)).get(0, BLOCK as u64);
    assert!(held == content(server.head.stamp), "what the disk holds: {server:?}");
    let backups = daemon.get(&format!("/api/v1/backups/?server_id={}", server.id)).expect(200);
    let ids: Vec<u64> =
        backups["results"].as_array().unwrap().iter().rev().map(|one| one["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, server.backups.keys().copied().collect::<Vec<_>>(), "{server:?}");
    for (name, disk) in server.snapshots.values().filter(|_| is_thorough) {
        let held = disk_of(site, &format!("{}/vda@{name}", server.name)).get(0, BLOCK as u64);
        assert!(held == content(disk.stamp), "what snapshot {name} holds: {server:?}");
    }
}

#[test]
fn every_verb_happened_or_did_not_when_a_daemon_was_killed() {
    let seed = std::env::var("COWBLK_SEED").map_or(5, |text| text.parse().unwrap());
    let rounds: u64 = std::env::var("COWBLK_KILLS").map_or(20, |text| text.parse().unwrap());
    println!("the requests, but not the moments of the kills, follow from COWBLK_SEED={seed}");
    let mut random = Random(seed);
    let site = Site::new();
    let nbd = format!("unix:{}", site.path("nbd.sock").display());
    let start = || site.start_with(&["--nbd", &nbd]);
    let worker = |nth| Worker {
        nth,
        random: Random(seed ^ ((nth + 1) << 32)),
        servers: Vec::new(),
        sent: Vec::new(),
        open: None,
        requests: 0,
    };
    let mut workers: Vec<Worker> = (0..WORKERS).map(worker).collect();
    let mut daemon = start();
    let (mut cut_off, mut stamp) = (BTreeMap::<Sort, u64>::new(), 0);
    for _ in 0..rounds {
        for server in workers.iter_mut().flat_map(|worker| &mut worker.servers) {
            if random.below(2) == 0 {
                stamp += 1;
                let mut client = disk_of(&site, &format!("{}/vda", server.name));
                client.put(0, &content(stamp));
                client.flush();
                server.head.stamp = stamp;
            }
        }
        let (answered, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let (address, token) = (daemon.address.clone(), site.token.clone());
        std::thread::scope(|scope| {
            let (address, token, told) = (&address, &token, (&answered, &stop));
            for worker in &mut workers {
                scope.spawn(move || worker.work(&Line { address, token }, told));
            }
            // In the midst of requests, however fast they are.
            let enough = 5 + random.below(25);
            while answered.load(Ordering::Relaxed) < enough {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_micros(random.below(20_000)));
            daemon.kill();
            stop.store(true, Ordering::Relaxed);
        });
        daemon = start();
        let line = Line { address: &daemon.address, token: &site.token };
        for worker in &mut workers {
            if let Some(sort) = worker.send_again(&line) {
                *cut_off.entry(sort).or_default() += 1;
            }
            for server in &worker.servers {
                line.rest(server).unwrap();
                compare(&site, &daemon, server, false);
            }
        }
        let count = daemon.get("/api/v1/servers/?limit=0").expect(200)["count"].as_u64().unwrap();
        let expected = workers.iter().map(|worker| worker.servers.len() as u64).sum::<u64>();
        assert_eq!(count, expected, "each server once, and no other");
    }
    for server in workers.iter().flat_map(|worker| &worker.servers) {
        compare(&site, &daemon, server, true);
    }
    let requests: u64 = workers.iter().map(|worker| worker.requests).sum();
    println!("{requests} requests, {rounds} kills; cut off: {cut_off:?}");
    assert!(!cut_off.is_empty(), "no request was cut off");
    assert_eq!(daemon.stop(), Some(0));
    for store in ["pool.cow", "pool.cow.serve/backups.cow"] {
        let path = site.path(store);
        let output = site.cowblk(&["check", "--data", "--store"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{store}: {output:?}");
    }
}
