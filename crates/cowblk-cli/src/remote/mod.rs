//! The same commands, asked of a daemon that holds the store (`--url`). It answers with the objects of its API.

mod disks;
mod servers;
mod snapshots;

use cowblk_http::client::{Client, Error};
use serde_json::Value;
use std::path::PathBuf;

use crate::args::Command;
use crate::failure::{Failure, Kind};
use crate::output::Output;

/// Which daemon to ask, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    pub(crate) authorities: Option<PathBuf>,
}

/// A daemon, and where its answers go.
struct Remote {
    client: Client,
    output: Output,
}

pub(crate) fn run(address: &Address, output: Output, command: Command) -> Result<(), Failure> {
    let token = address.token.as_deref().ok_or_else(|| {
        Failure::new(
            Kind::Usage,
            "give the daemon's token with --token or COWBLK_TOKEN; `cowblk token create` makes one",
        )
    })?;
    let client = Client::new(&address.url, token, address.authorities.as_deref())?;
    let remote = Remote { client, output };
    match command {
        Command::Server { command } => servers::run(&remote, command),
        Command::Snapshot { command } => snapshots::run(&remote, command),
        Command::Disk { command } => disks::run(&remote, command),
        Command::Status => {
            let space = remote.get("space/")?;
            let text = format!(
                "{} servers, {} disks, {} snapshots; {} bytes used, {} bytes free without growing{}",
                space["servers"],
                space["disks"],
                space["snapshots"],
                space["used_bytes"],
                space["free_bytes"],
                if space["halted"] == true { "; HALTED" } else { "" }
            );
            remote.output.item(&space, &text)
        }
        _ => Err(not_here("this command")),
    }
}

/// The failure of what a daemon cannot be asked for.
fn not_here(what: &str) -> Failure {
    let sentence = format!(
        "{what} works on the store itself: leave out --url, and stop the daemon that serves the store first"
    );
    Failure::new(Kind::Usage, sentence)
}

impl Remote {
    fn get(&self, path: &str) -> Result<Value, Failure> {
        Ok(self.client.ask("GET", path, None)?)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        Ok(self.client.ask("POST", path, Some(body))?)
    }

    /// The server of that name.
    fn server(&self, name: &str) -> Result<Value, Failure> {
        let missing = || Failure::new(Kind::NotFound, format!("there is no server `{name}`"));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            return Err(missing());
        }
        let mut list = self.get(&format!("servers/?name={name}"))?;
        match list["results"][0].take() {
            Value::Null => Err(missing()),
            server => Ok(server),
        }
    }

    /// The snapshots of a server, newest first, automatic ones included.
    fn snapshots(&self, server: &Value) -> Result<Vec<Value>, Failure> {
        let mut list = self.get(&format!("snapshots/?automatic=true&server_id={}", server["id"]))?;
        Ok(list["results"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// The snapshot of that name, or else with that id.
    fn snapshot(&self, server: &Value, name: &str) -> Result<Value, Failure> {
        let all = self.snapshots(server)?;
        let id = Some(name.parse::<u64>().unwrap_or(0));
        let is_named = |one: &&Value| one["kind"] == "user" && one["name"] == name;
        let found = all.iter().find(is_named).or_else(|| all.iter().find(|one| one["id"].as_u64() == id));
        found.cloned().ok_or_else(|| {
            let names: Vec<String> =
                all.iter().map(|one| format!("{} (id {})", text(&one["name"]), one["id"])).collect();
            let names = if names.is_empty() { "none".into() } else { names.join(", ") };
            let sentence = format!(
                "server `{}` has no snapshot `{name}` (its snapshots: {names})",
                text(&server["name"])
            );
            Failure::new(Kind::NotFound, sentence)
        })
    }
}

/// A text of an answer; others as they are.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), crate::table::printable)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let kind = match &error {
            Error::Unreachable(_) => Kind::Io,
            Error::Refused { code, .. } => match code.as_str() {
                "not_found" => Kind::NotFound,
                "name_taken" => Kind::Exists,
                "busy" | "under_way" => Kind::Busy,
                "full" => Kind::Full,
                "corrupt" => Kind::Corrupt,
                "limit_reached" => Kind::Limit,
                "protected" => Kind::Protected,
                "read_only" => Kind::ReadOnly,
                "halted" => Kind::Halted,
                "out_of_range" => Kind::OutOfRange,
                "unauthorized" | "forbidden" | "too_many_failures" => Kind::Unauthorized,
                "internal" | "io" | "hook_failed" | "timed_out" | "" => Kind::Io,
                _ => Kind::Invalid,
            },
        };
        Failure::new(kind, error.to_string())
    }
}
