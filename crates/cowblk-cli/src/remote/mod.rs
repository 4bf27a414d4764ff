//! The same commands, asked of a daemon that holds the store (`--url`): what it answers is shown as if it came from the store itself.

mod diff;
mod disks;
mod servers;
mod snapshots;
mod stats;
mod status;

use cowblk_http::client::{Client, Error};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::PathBuf;

use crate::args::Command;
use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::session::missing;
use crate::view::{Owner, ServerView, SnapshotView};

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
        Command::Diff(arguments) => diff::run(&remote, &arguments),
        Command::Status => status::status(&remote),
        Command::Stats => stats::run(&remote),
        Command::Collect => status::collect(&remote),
        Command::Trim => status::trim(&remote),
        Command::Init(_) => Err(Failure::new(
            Kind::Usage,
            "`init` makes a store where this runs: leave out --url; a daemon makes its store by itself",
        )),
        Command::Send(_) => Err(not_over_http("`send`")),
        Command::Receive(_) => Err(not_over_http("`receive`")),
        Command::Nbd(_) => Err(Failure::new(
            Kind::Usage,
            "a daemon serves NBD itself: start it with `cowblk serve --nbd ADDRESS`, or leave out --url",
        )),
        Command::Dedup(_) => Err(not_beside("`dedup`")),
        Command::Check(_) => Err(not_beside("`check`")),
        Command::Scrub(_) => Err(not_beside("`scrub`")),
        Command::Repair(_) => Err(not_beside("`repair`")),
        Command::Dump(_) => Err(not_beside("`dump`")),
        // `main` does these without asking anybody.
        Command::Serve(_) | Command::Token { .. } | Command::Demo(_) | Command::Completions { .. } => {
            Err(not_beside("this command"))
        }
    }
}

/// The failure of what needs the store for itself.
fn not_beside(what: &str) -> Failure {
    let sentence = format!(
        "{what} works on the store itself, which the daemon holds: stop the daemon, and leave out --url"
    );
    Failure::new(Kind::Usage, sentence)
}

/// The failure of what moves the content of disks.
fn not_over_http(what: &str) -> Failure {
    let sentence = format!(
        "{what} moves the content of disks, which a daemon does over NBD and not over HTTP: start it with `cowblk serve --nbd ADDRESS` and use nbdcopy or qemu-img, or stop it and leave out --url"
    );
    Failure::new(Kind::Usage, sentence)
}

/// What an answer says, as this program knows it.
fn parsed<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value)
        .map_err(|cause| Failure::new(Kind::Io, format!("the daemon's answer cannot be understood: {cause}")))
}

/// The members of a list.
fn results<T: DeserializeOwned>(mut list: Value) -> Result<Vec<T>, Failure> {
    parsed(list["results"].take())
}

impl Remote {
    fn get(&self, path: &str) -> Result<Value, Failure> {
        Ok(self.client.ask("GET", path, None)?)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        Ok(self.client.ask("POST", path, Some(body))?)
    }

    fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        Ok(self.client.ask("PATCH", path, Some(body))?)
    }

    fn delete(&self, path: &str) -> Result<(), Failure> {
        Ok(self.client.ask("DELETE", path, None).map(drop)?)
    }

    /// A server as an answer shows it, which has everything but its snapshots.
    fn server_in(value: Value) -> Result<ServerView, Failure> {
        let mut server: ServerView = parsed(value)?;
        let owner = Owner { id: server.id, name: server.name.clone() };
        server.disks.iter_mut().for_each(|disk| disk.server = owner.clone());
        Ok(server)
    }

    /// The server of that name, without its snapshots.
    fn server(&self, name: &str) -> Result<ServerView, Failure> {
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        let found: Vec<Value> =
            if is_name { results(self.get(&format!("servers/?name={name}"))?)? } else { Vec::new() };
        if let Some(server) = found.into_iter().next() {
            return Remote::server_in(server);
        }
        let all: Vec<Owner> = results(self.get("servers/")?)?;
        let names = all.into_iter().rev().map(|server| server.name).collect();
        Err(missing(&format!("there is no server `{name}`"), "servers here", names))
    }

    /// All servers, or the one of that name, with their snapshots.
    fn servers(&self, only: Option<&str>) -> Result<Vec<ServerView>, Failure> {
        if let Some(name) = only {
            let mut server = self.server(name)?;
            server.snapshots = self.snapshots(&server)?;
            return Ok(vec![server]);
        }
        let list: Vec<Value> = results(self.get("servers/")?)?;
        let mut servers = list.into_iter().map(Remote::server_in).collect::<Result<Vec<_>, _>>()?;
        servers.sort_by_key(|server| server.id);
        let snapshots: Vec<SnapshotView> = results(self.get("snapshots/?automatic=true")?)?;
        for snapshot in snapshots {
            if let Ok(at) = servers.binary_search_by_key(&snapshot.server.id, |server| server.id)
                && let Some(server) = servers.get_mut(at)
            {
                server.snapshots.push(snapshot);
            }
        }
        Ok(servers)
    }

    /// The snapshots of a server, newest first, automatic ones included.
    fn snapshots(&self, server: &ServerView) -> Result<Vec<SnapshotView>, Failure> {
        results(self.get(&format!("snapshots/?automatic=true&server_id={}", server.id))?)
    }

    /// The snapshot of that name, or else with that id.
    fn snapshot(&self, server: &ServerView, name: &str) -> Result<SnapshotView, Failure> {
        let mut all = self.snapshots(server)?;
        let id: Option<u64> = name.parse().ok();
        let is_named = |one: &SnapshotView| one.kind == "user" && one.name == name;
        let found = all.iter().position(is_named).or_else(|| all.iter().position(|one| Some(one.id) == id));
        found.map(|at| all.swap_remove(at)).ok_or_else(|| {
            let names = all.iter().map(|one| format!("{} (id {})", one.title(), one.id)).collect();
            missing(&format!("server `{}` has no snapshot `{name}`", server.name), "its snapshots", names)
        })
    }
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
                "unsupported" => Kind::Unsupported,
                _ => Kind::Invalid,
            },
        };
        Failure::new(kind, error.to_string())
    }
}
