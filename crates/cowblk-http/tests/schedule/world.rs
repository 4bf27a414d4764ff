//! A daemon in this process, whose clock the test sets, and who looks at it all the time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use cowblk::{Options, Store};
use cowblk_http::client::{Client, Error};
use cowblk_http::{HookSettings, Scope, Settings, Tokens, serve_until};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Midnight UTC of some day: 2030-01-01.
pub(crate) const MIDNIGHT: u64 = 1_893_456_000;
pub(crate) const HOUR: u64 = 3600;
pub(crate) const DAY: u64 = 24 * HOUR;
/// Nothing here is waited for by the clock on the wall; this is how long the daemon rests between two looks at the test's.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A folder with a store, and the clock of whoever serves it.
pub(crate) struct World {
    folder: TempDir,
    clock: fn() -> u64,
    token: String,
}

/// A daemon that serves it.
pub(crate) struct Daemon {
    client: Client,
    address: String,
    token: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl World {
    pub(crate) fn new(clock: fn() -> u64) -> World {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&folder.path().join("state")).unwrap();
        let token = tokens.create("test", &[Scope::Read, Scope::Write], 0).unwrap().token;
        World { folder, clock, token }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn start(&self) -> Daemon {
        self.start_with(HookSettings::default())
    }

    pub(crate) fn start_with(&self, hooks: HookSettings) -> Daemon {
        let options = || Options::default().clock(self.clock);
        let store = Store::open_or_create(self.path("pool.cow"), options()).unwrap();
        let backups = Store::open_or_create(self.path("backups.cow"), options()).unwrap();
        let mut settings = Settings::new(self.path("state"));
        settings.addresses = vec!["127.0.0.1:0".parse().unwrap()];
        settings.clock = self.clock;
        settings.look_every = LOOK_EVERY;
        settings.hooks = hooks;
        settings.backups = Some(backups.clone());
        let (stop, stopped) = oneshot::channel();
        let (tell, hear) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let until = async { drop(stopped.await) };
            let said = |outcome: &cowblk_http::Outcome| {
                tell.send(outcome.addresses[0].clone()).map_err(std::io::Error::other)
            };
            serve_until(&store, settings, until, said).unwrap();
            store.close().unwrap();
            backups.close().unwrap();
        });
        let url = hear.recv().unwrap();
        let client = Client::new(&url, &self.token, None).unwrap();
        let address = url.trim_start_matches("http://").to_owned();
        Daemon { client, address, token: self.token.clone(), stop: Some(stop), thread: Some(thread) }
    }
}

impl Daemon {
    pub(crate) fn stop(mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.client.ask("GET", path, None).unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        self.client.ask("POST", path, Some(body)).unwrap()
    }

    pub(crate) fn refused(&self, method: &str, path: &str, body: &Value) -> String {
        match self.client.ask(method, path, Some(body)) {
            Err(Error::Refused { code, .. }) => code,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete(&self, path: &str) {
        self.client.ask("DELETE", path, None).unwrap();
    }

    /// A server with a small disk; its id.
    pub(crate) fn make_server(&self, name: &str, change: &Value) -> u64 {
        let mut body = json!({"name": name, "disks": [{"name": "vda", "size_bytes": 1 << 20}]});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        self.post("servers/", &body)["id"].as_u64().unwrap()
    }

    pub(crate) fn change(&self, server: u64, change: &Value) {
        self.client.ask("PATCH", &format!("servers/{server}/"), Some(change)).unwrap();
    }

    /// When the snapshots of a server were made, newest first.
    pub(crate) fn snapshots(&self, server: u64) -> Vec<String> {
        self.times(&format!("snapshots/?server_id={server}"))
    }

    /// When its automatic backups were made, newest first.
    pub(crate) fn backups(&self, server: u64) -> Vec<String> {
        self.times(&format!("backups/?backup_type=automatic&server_id={server}"))
    }

    fn times(&self, path: &str) -> Vec<String> {
        let list = self.get(path);
        let one = |one: &Value| one["created_at"].as_str().unwrap().to_owned();
        list["results"].as_array().unwrap().iter().map(one).collect()
    }

    /// Waits until the daemon has looked at the clock once more, from beginning to end: what was due then is made.
    pub(crate) fn look(&self) {
        let before = self.counter("cowblk_schedule_looks_total");
        // The first look that ends may have begun before the clock was set.
        while self.counter("cowblk_schedule_looks_total") < before + 2 {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer";
        stream.write_all(format!("{head} {}\r\n\r\n", self.token).as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A test that failed: the daemon ends, whatever becomes of it.
        drop(self.stop.take());
    }
}
