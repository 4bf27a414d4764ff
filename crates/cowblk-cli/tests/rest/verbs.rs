//! Everything that a request can change, as verbs, and what a server is afterwards.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::every_verb::Random;

/// Servers of one client, at most.
const SERVERS_MAX: usize = 4;
const SNAPSHOTS_MAX: usize = 5;
const BACKUPS_MAX: usize = 3;
/// Disks are of so many bytes at first, and grow by as many.
const STEP: u64 = 1 << 20;

/// A disk: its size, and what says what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) size: u64,
    pub(crate) stamp: u64,
}

/// What a server should be.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) status: &'static str,
    pub(crate) head: Disk,
    /// A second disk, of servers that have no snapshots.
    pub(crate) extra: Option<u64>,
    pub(crate) snapshots: BTreeMap<u64, (String, Disk)>,
    /// What the last restore replaced.
    pub(crate) before: Option<Disk>,
    /// The snapshot that it was cloned from.
    pub(crate) origin: Option<(u64, Disk)>,
    pub(crate) backups: BTreeMap<u64, Disk>,
    pub(crate) label: Option<u64>,
}

/// The kinds of verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    NewServer,
    DeleteServer,
    Start,
    Stop,
    Suspend,
    Resume,
    Label,
    Grow,
    Shrink,
    AddDisk,
    DeleteDisk,
    Snapshot,
    Restore,
    Undo,
    DeleteSnapshot,
    Prune,
    Clone,
    Reset,
    Backup,
    RestoreBackup,
    DeleteBackup,
}

const SORTS: [Sort; 21] = [
    Sort::NewServer,
    Sort::DeleteServer,
    Sort::Start,
    Sort::Stop,
    Sort::Suspend,
    Sort::Resume,
    Sort::Label,
    Sort::Grow,
    Sort::Shrink,
    Sort::AddDisk,
    Sort::DeleteDisk,
    Sort::Snapshot,
    Sort::Restore,
    Sort::Undo,
    Sort::DeleteSnapshot,
    Sort::Prune,
    Sort::Clone,
    Sort::Reset,
    Sort::Backup,
    Sort::RestoreBackup,
    Sort::DeleteBackup,
];

/// One request: its kind, which of the client's servers, and which of that one's snapshots or backups.
#[derive(Clone, Debug)]
pub(crate) struct Verb {
    sort: Sort,
    server: usize,
    /// The id of a snapshot or backup, or a number.
    which: u64,
}

/// A verb that the servers allow, if the one that was thought of is one.
pub(crate) fn choose(random: &mut Random, servers: &[Server]) -> Option<Verb> {
    let pick =
        |random: &mut Random, bound: usize| usize::try_from(random.below(bound.max(1) as u64)).unwrap();
    let sort = SORTS[pick(random, SORTS.len())];
    let server = pick(random, servers.len());
    if sort == Sort::NewServer {
        return (servers.len() < SERVERS_MAX).then_some(Verb { sort, server, which: 0 });
    }
    let of = servers.get(server)?;
    let is_usable = of.status != "suspended";
    let snapshot = of.snapshots.keys().nth(pick(random, of.snapshots.len())).copied();
    let backup = of.backups.keys().nth(pick(random, of.backups.len())).copied();
    let is_plain =
        of.snapshots.is_empty() && of.before.is_none() && of.backups.is_empty() && of.origin.is_none();
    let origin_is_there =
        of.origin.is_some_and(|(id, _)| servers.iter().any(|server| server.snapshots.contains_key(&id)));
    let (is_allowed, which) = match sort {
        Sort::NewServer => return None,
        // Not often: servers should come to have something.
        Sort::DeleteServer => (of.status != "active" && random.below(4) == 0, 0),
        Sort::Start => (of.status == "stopped", 0),
        Sort::Stop => (of.status == "active", 0),
        Sort::Suspend => (is_usable && random.below(3) == 0, 0),
        Sort::Resume => (!is_usable, 0),
        Sort::Label => (true, random.below(1000)),
        Sort::Grow => (is_usable, 0),
        Sort::Shrink => (of.status == "stopped" && of.head.size > STEP, 0),
        Sort::AddDisk => (is_usable && is_plain && of.extra.is_none(), 0),
        Sort::DeleteDisk => (of.status == "stopped" && of.extra.is_some(), 0),
        Sort::Snapshot => (is_usable && of.extra.is_none() && of.snapshots.len() < SNAPSHOTS_MAX, 0),
        Sort::Restore => (is_usable && snapshot.is_some(), snapshot.unwrap_or(0)),
        Sort::Undo => (is_usable && of.before.is_some(), 0),
        Sort::DeleteSnapshot => (snapshot.is_some(), snapshot.unwrap_or(0)),
        Sort::Prune => (of.snapshots.len() > 2, 1 + random.below(3)),
        Sort::Clone => (snapshot.is_some() && servers.len() < SERVERS_MAX, snapshot.unwrap_or(0)),
        Sort::Reset => (is_usable && origin_is_there, 0),
        Sort::Backup => (is_usable && of.extra.is_none() && of.backups.len() < BACKUPS_MAX, 0),
        Sort::RestoreBackup => (is_usable && backup.is_some(), backup.unwrap_or(0)),
        Sort::DeleteBackup => (backup.is_some(), backup.unwrap_or(0)),
    };
    is_allowed.then_some(Verb { sort, server, which })
}

impl Verb {
    pub(crate) fn sort(&self) -> Sort {
        self.sort
    }

    /// The server that it is about, if there is one already.
    pub(crate) fn server<'a>(&self, servers: &'a [Server]) -> Option<&'a Server> {
        if self.sort == Sort::NewServer { None } else { servers.get(self.server) }
    }

    /// Method, path and body. Whatever is made gets a name with `unique` in it.
    pub(crate) fn request(&self, servers: &[Server], unique: &str) -> (&'static str, String, Option<Value>) {
        let of = servers.get(self.server);
        let id = of.map_or(0, |server| server.id);
        let server = |rest: &str| format!("/api/v1/servers/{id}/{rest}");
        let snapshot = |rest: &str| format!("/api/v1/snapshots/{}/{rest}", self.which);
        let backup = |rest: &str| format!("/api/v1/backups/{}/{rest}", self.which);
        match self.sort {
            Sort::NewServer => {
                let disks = json!([{"name": "vda", "size_bytes": STEP}]);
                (
                    "POST",
                    "/api/v1/servers/".into(),
                    Some(json!({"name": format!("s-{unique}"), "disks": disks})),
                )
            }
            Sort::DeleteServer => ("DELETE", server(""), None),
            Sort::Start => ("POST", server("start/"), None),
            Sort::Stop => ("POST", server("stop/"), None),
            Sort::Suspend => ("POST", server("suspend/"), None),
            Sort::Resume => ("POST", server("resume/"), None),
            Sort::Label => ("PATCH", server(""), Some(json!({"labels": {"n": self.which.to_string()}}))),
            Sort::Grow => {
                let size = of.map_or(0, |server| server.head.size) + STEP;
                ("PATCH", server("disks/vda/"), Some(json!({"size_bytes": size})))
            }
            Sort::Shrink => {
                let size = of.map_or(0, |server| server.head.size) - STEP;
                ("PATCH", server("disks/vda/"), Some(json!({"size_bytes": size, "cut": true})))
            }
            Sort::AddDisk => ("POST", server("disks/"), Some(json!({"name": "extra", "size_bytes": STEP}))),
            Sort::DeleteDisk => ("DELETE", server("disks/extra/"), None),
            Sort::Snapshot => {
                let body = json!({"server_id": id, "name": format!("snap-{unique}")});
                ("POST", "/api/v1/snapshots/".into(), Some(body))
            }
            Sort::Restore => ("POST", snapshot("restore/"), None),
            Sort::Undo => ("POST", server("undo/"), None),
            Sort::DeleteSnapshot => ("DELETE", snapshot(""), None),
            Sort::Prune => ("POST", server("prune/"), Some(json!({"last": self.which}))),
            Sort::Clone => ("POST", snapshot("clone/"), Some(json!({"name": format!("c-{unique}")}))),
            Sort::Reset => ("POST", server("reset/"), None),
            Sort::Backup => ("POST", "/api/v1/backups/".into(), Some(json!({"server_id": id}))),
            Sort::RestoreBackup => ("POST", backup("restore/"), None),
            Sort::DeleteBackup => ("DELETE", backup(""), None),
        }
    }

    /// What the servers are afterwards.
    pub(crate) fn apply(&self, servers: &mut Vec<Server>, answer: &Value, path: &str) {
        let id = answer["id"].as_u64();
        let name = answer["name"].as_str().unwrap_or_default().to_owned();
        let new = |head: Disk, origin| Server {
            id: id.unwrap_or_else(|| panic!("{path}: {answer}")),
            name: name.clone(),
            status: "stopped",
            head,
            extra: None,
            snapshots: BTreeMap::new(),
            before: None,
            origin,
            backups: BTreeMap::new(),
            label: None,
        };
        match self.sort {
            Sort::NewServer => servers.push(new(Disk { size: STEP, stamp: 0 }, None)),
            Sort::Clone => {
                let disk = servers[self.server].snapshots[&self.which].1;
                servers.push(new(disk, Some((self.which, disk))));
            }
            Sort::DeleteServer => drop(servers.remove(self.server)),
            _ => self.change(&mut servers[self.server], (id, name)),
        }
    }

    fn change(&self, of: &mut Server, (id, name): (Option<u64>, String)) {
        match self.sort {
            Sort::NewServer | Sort::Clone | Sort::DeleteServer => {}
            Sort::Start => of.status = "active",
            Sort::Stop | Sort::Resume => of.status = "stopped",
            Sort::Suspend => of.status = "suspended",
            Sort::Label => of.label = Some(self.which),
            Sort::Grow => of.head.size += STEP,
            Sort::Shrink => of.head.size -= STEP,
            Sort::AddDisk => of.extra = Some(STEP),
            Sort::DeleteDisk => of.extra = None,
            Sort::Snapshot => drop(of.snapshots.insert(id.unwrap(), (name, of.head))),
            Sort::Restore => of.go_back(of.snapshots[&self.which].1),
            Sort::RestoreBackup => of.go_back(of.backups[&self.which]),
            Sort::Undo => of.go_back(of.before.unwrap()),
            Sort::DeleteSnapshot => drop(of.snapshots.remove(&self.which)),
            Sort::Prune => {
                while of.snapshots.len() as u64 > self.which {
                    of.snapshots.pop_first();
                }
            }
            Sort::Reset => (of.head, of.status) = (of.origin.unwrap().1, "stopped"),
            Sort::Backup => drop(of.backups.insert(id.unwrap(), of.head)),
            Sort::DeleteBackup => drop(of.backups.remove(&self.which)),
        }
    }
}

impl Server {
    fn go_back(&mut self, to: Disk) {
        self.before = Some(self.head);
        (self.head, self.status) = (to, "stopped");
    }
}
