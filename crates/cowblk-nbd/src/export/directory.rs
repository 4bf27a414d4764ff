//! Directory: which names stand for what.
//!
//! ```text
//! server/disk            a disk as it is now
//! server/disk@snapshot   the disk as a snapshot holds it, by the snapshot's name or id: read-only
//! ...?scratch            the same, writable, thrown away when the connection ends
//! ""                     the only disk of the store, or the export that was chosen at start
//! ```

use super::{Content, Export};
use crate::negotiation::{Directory, Listed, Refusal};
use cowblk::{Disk, Server, Snapshot, SnapshotDisk, SnapshotId, SnapshotKind, Store};

/// What the empty name stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DefaultExport {
    /// The only disk, as long as there is one disk only.
    #[default]
    OnlyDisk,
    /// The export of this name.
    Named(String),
}

/// The exports of a store.
#[derive(Clone, Debug)]
pub struct StoreDirectory {
    store: Store,
    default: DefaultExport,
    is_read_only: bool,
    block_bytes: u32,
}

impl StoreDirectory {
    /// All disks and snapshots of a store, the disks writable unless told otherwise.
    pub fn new(store: Store, default: DefaultExport, is_read_only: bool) -> Self {
        let status = store.status();
        let block_bytes = status.block_size.max(4096);
        Self { store, default, is_read_only: is_read_only || status.read_only, block_bytes }
    }

    /// The store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    fn head(&self, server: &Server, disk: Disk) -> Export {
        Export {
            name: format!("{}/{}", server.name(), disk.name()),
            description: describe_disk(&disk),
            server: server.clone(),
            size_bytes: disk.size_bytes(),
            block_bytes: self.block_bytes,
            is_read_only: self.is_read_only,
            content: Content::Head(disk),
        }
    }

    fn frozen(&self, server: &Server, snapshot: &Snapshot, disk: SnapshotDisk) -> Export {
        Export {
            name: format!("{}/{}@{}", server.name(), disk.name(), export_name_of(snapshot)),
            description: describe_snapshot(snapshot, &disk),
            server: server.clone(),
            size_bytes: disk.size_bytes(),
            block_bytes: self.block_bytes,
            is_read_only: true,
            content: Content::Frozen(disk),
        }
    }

    fn scratch(&self, server: &Server, snapshot: &Snapshot, disk: SnapshotDisk) -> Export {
        let mut export = self.frozen(server, snapshot, disk.clone());
        export.name.push_str("?scratch");
        export.description.insert_str(0, "throw-away copy of a ");
        Export { is_read_only: false, content: Content::Scratch(disk), ..export }
    }

    fn default_export(&self) -> Result<Export, Refusal> {
        if let DefaultExport::Named(name) = &self.default {
            return self.named(name);
        }
        let mut disks = self.store.servers().into_iter().flat_map(|server| {
            let disks = server.disks();
            disks.into_iter().map(move |disk| (server.clone(), disk))
        });
        match (disks.next(), disks.next()) {
            (Some((server, disk)), None) => Ok(self.head(&server, disk)),
            (None, _) => unknown("the store holds no disk"),
            (Some(_), Some(_)) => {
                unknown("the store holds several disks: name one of them, as in server/disk")
            }
        }
    }

    fn named(&self, name: &str) -> Result<Export, Refusal> {
        let missing = |what: &str| unknown(&format!("there is no export {:?}: {what}", shortened(name)));
        let (path, is_scratch) = name.strip_suffix("?scratch").map_or((name, false), |path| (path, true));
        let (disk_path, snapshot_name) = match path.split_once('@') {
            Some((path, snapshot)) => (path, Some(snapshot)),
            None => (path, None),
        };
        let Some((server_name, disk_name)) = disk_path.split_once('/') else {
            return missing("exports are named server/disk or server/disk@snapshot");
        };
        // Servers that no listing shows are somebody's work in progress.
        let Some(server) = self.store.servers().into_iter().find(|server| server.name() == server_name)
        else {
            return missing("there is no such server");
        };
        match (is_scratch, snapshot_name) {
            (true, None) => return missing("only snapshots have scratch copies"),
            (true, Some(_)) if self.is_read_only => return missing("scratch copies need a writable store"),
            _ => {}
        }
        let Some(snapshot_name) = snapshot_name else {
            return match server.disk(disk_name) {
                Ok(disk) => Ok(self.head(&server, disk)),
                Err(_) => missing("the server has no such disk"),
            };
        };
        let Some(snapshot) = snapshot_of(&server, snapshot_name) else {
            return missing("the server has no such snapshot");
        };
        match snapshot.disk(disk_name) {
            Ok(disk) if is_scratch => Ok(self.scratch(&server, &snapshot, disk)),
            Ok(disk) => Ok(self.frozen(&server, &snapshot, disk)),
            Err(_) => missing("the snapshot holds no such disk"),
        }
    }
}

impl Directory for StoreDirectory {
    type Export = Export;

    fn list(&self) -> Vec<Listed> {
        let mut listed = Vec::new();
        for server in self.store.servers() {
            for disk in server.disks() {
                let name = format!("{}/{}", server.name(), disk.name());
                listed.push(Listed { name, description: describe_disk(&disk) });
            }
            for snapshot in snapshots_of(&server) {
                for disk in snapshot.disks() {
                    let name = format!("{}/{}@{}", server.name(), disk.name(), export_name_of(&snapshot));
                    listed.push(Listed { name, description: describe_snapshot(&snapshot, &disk) });
                }
            }
        }
        listed
    }

    fn find(&self, name: &str) -> Result<Export, Refusal> {
        if name.is_empty() { self.default_export() } else { self.named(name) }
    }
}

/// The server's snapshots, with the automatic one that the last restore left.
pub(super) fn snapshots_of(server: &Server) -> Vec<Snapshot> {
    let mut snapshots = server.snapshots();
    if let Some(automatic) = server.before_restore()
        && !snapshots.iter().any(|snapshot| snapshot.id() == automatic.id())
    {
        snapshots.push(automatic);
    }
    snapshots
}

/// The snapshot of this name, or else with this number as its id.
pub(super) fn snapshot_of(server: &Server, name: &str) -> Option<Snapshot> {
    let mut snapshots = snapshots_of(server);
    let id = name.parse().ok().map(SnapshotId);
    let named = snapshots.iter().position(|snapshot| snapshot.name() == name);
    let at = named.or_else(|| snapshots.iter().position(|snapshot| Some(snapshot.id()) == id))?;
    Some(snapshots.swap_remove(at))
}

/// What a snapshot is called behind the `@`: automatic ones have no name that nobody else could have.
pub(super) fn export_name_of(snapshot: &Snapshot) -> String {
    match snapshot.kind() {
        SnapshotKind::User => snapshot.name(),
        SnapshotKind::BeforeRestore => snapshot.id().to_string(),
    }
}

fn describe_disk(disk: &Disk) -> String {
    format!("disk, {} bytes", disk.size_bytes())
}

fn describe_snapshot(snapshot: &Snapshot, disk: &SnapshotDisk) -> String {
    let what = match snapshot.kind() {
        SnapshotKind::User => "snapshot",
        SnapshotKind::BeforeRestore => "before the last restore",
    };
    let text = snapshot.description();
    let separator = if text.is_empty() { "" } else { ": " };
    format!("{what}, {} bytes{separator}{text}", disk.size_bytes())
}

fn unknown<T>(sentence: &str) -> Result<T, Refusal> {
    Err(Refusal::Unknown(sentence.to_owned()))
}

/// A name that a client sent, short enough for a sentence.
fn shortened(name: &str) -> &str {
    name.get(..name.floor_char_boundary(120)).unwrap_or_default()
}
