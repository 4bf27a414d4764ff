//! Runs `cowblk serve` on a store in a temporary folder, and speaks HTTP with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a store, and a token for it.
pub(crate) struct Site {
    folder: TempDir,
    pub(crate) token: String,
}

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: String,
    token: String,
}

/// What a request was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|cause| panic!("{cause} in {:?}", self.text))
    }

    /// The answer's body, which has this status.
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// The refusal's word.
    pub(crate) fn refusal(&self, status: u16) -> String {
        let body = self.expect(status);
        assert!(body["detail"].as_str().is_some_and(|sentence| sentence.len() > 10), "{body}");
        assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
        body["error"].as_str().unwrap().to_owned()
    }
}

impl Site {
    pub(crate) fn new() -> Site {
        let mut site = Site { folder: tempfile::tempdir().unwrap(), token: String::new() };
        site.token = site.make_token(&["test"]);
        site
    }

    pub(crate) fn make_token(&self, arguments: &[&str]) -> String {
        let output = self.cowblk(&["token", "create", "--quiet"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn cowblk(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cowblk"));
        for variable in ["COWBLK_STORE", "COWBLK_SIZE_LIMIT", "COWBLK_STATE", "COWBLK_URL", "COWBLK_TOKEN"] {
            command.env_remove(variable);
        }
        command.arg("--store").arg(self.path("pool.cow")).args(arguments);
        command
    }

    pub(crate) fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// Starts a daemon, and returns once it listens.
    pub(crate) fn start_with(&self, arguments: &[&str]) -> Daemon {
        let mut command = self.cowblk(&["--json", "serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !text.ends_with("\n}\n") {
            assert_ne!(stdout.read_line(&mut text).unwrap(), 0, "the daemon ended: {text}");
        }
        let said: Value = serde_json::from_str(&text).unwrap();
        let first = said["listening"][0].as_str().unwrap();
        let address = first.split_once("://").unwrap().1.to_owned();
        Daemon { child, address, token: self.token.clone() }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as an operator would; its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.tell_to_stop();
        self.child.wait().unwrap().code()
    }

    pub(crate) fn tell_to_stop(&self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    }

    pub(crate) fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None, &[])
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, Some(body), &[])
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Answer {
        self.ask("PATCH", path, Some(body), &[])
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, None, &[])
    }

    /// A request with the token of the site.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let authorization = format!("Bearer {}", self.token);
        let mut all = vec![("Authorization", authorization.as_str())];
        if body.is_some() {
            all.push(("Content-Type", "application/json"));
        }
        all.extend(headers);
        let text = body.map(Value::to_string).unwrap_or_default();
        self.raw(method, path, text.as_bytes(), &all)
    }

    pub(crate) fn raw(&self, method: &str, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Answer {
        self.try_raw(method, path, body, headers).unwrap()
    }

    /// A request that may fail, because the daemon is killed.
    pub(crate) fn try_raw(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> std::io::Result<Answer> {
        exchange(&self.address, method, path, body, headers)
    }

    /// A server with a disk `vda` of 8 MiB; its id.
    pub(crate) fn make_server(&self, name: &str) -> u64 {
        let disks = json!([{"name": "vda", "size_bytes": 8 << 20}]);
        self.post("/api/v1/servers/", &json!({"name": name, "disks": disks})).expect(201)["id"]
            .as_u64()
            .unwrap()
    }

    /// A snapshot; its id.
    pub(crate) fn make_snapshot(&self, server: u64, name: &str) -> u64 {
        let answer = self.post("/api/v1/snapshots/", &json!({"server_id": server, "name": name}));
        answer.expect(201)["id"].as_u64().unwrap()
    }

    /// Waits until nothing of a server is in progress; its snapshots.
    pub(crate) fn settled(&self, server: u64) -> Value {
        for _ in 0..500 {
            let list = self.get(&format!("/api/v1/snapshots/?server_id={server}")).expect(200);
            if list["results"].as_array().unwrap().iter().all(|one| one["status"] == "completed") {
                return list;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("a snapshot is in progress for ever");
    }

    pub(crate) fn status_of(&self, server: u64) -> String {
        self.get(&format!("/api/v1/servers/{server}/")).expect(200)["status"].as_str().unwrap().to_owned()
    }

    /// Waits until a server is no longer being restored; its status then.
    pub(crate) fn rested(&self, server: u64) -> String {
        for _ in 0..500 {
            let status = self.status_of(server);
            if status != "restoring" {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("a server is restoring for ever");
    }
}

/// One request and its answer, on a connection of its own.
pub(crate) fn exchange(
    address: &str,
    method: &str,
    path: &str,
    body: &[u8],
    headers: &[(&str, &str)],
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    let length = format!("Content-Length: {}\r\n", body.len());
    head.push_str(&length);
    for &(name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let Some((head, text)) = text.split_once("\r\n\r\n") else {
        return Err(std::io::Error::other("the daemon closed without an answer"));
    };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    Ok(Answer { status, head: head.to_ascii_lowercase(), text: text.to_owned() })
}
