//! Plain: the model of a store. Cloning it is cheap: contents are shared until written.

use super::content::Content;
use super::view::{DiskView, View, path_print};
use cowblk::ErrorKind;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A live disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Tells a disk from a later one of the same name.
    pub identity: u64,
    /// Which frozen content this is; 0 for a live disk.
    pub version: u64,
    /// The version that the disk was cloned from.
    pub origin: Option<u64>,
    pub content: Arc<Content>,
}

/// The disks that a snapshot holds, by name.
pub type Snap = BTreeMap<String, Disk>;

#[derive(Clone, Debug, Default)]
pub struct Server {
    pub disks: BTreeMap<String, Disk>,
    pub snapshots: BTreeMap<String, Snap>,
    pub before: Option<Snap>,
}

/// What a store must hold.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub servers: BTreeMap<String, Server>,
    next_identity: u64,
}

/// What a verb does to a model, or the error that it must end in.
pub type Outcome<T> = Result<T, ErrorKind>;

impl Model {
    pub fn fingerprint(&self) -> u64 {
        let mut all = 0u64;
        self.each(|path, disk| {
            let (size, sum) = disk.map_or((0, 0), |disk| (disk.size, disk.sum));
            all = all.wrapping_add(path_print(&path, size, sum));
        });
        all
    }

    pub fn view(&self) -> View {
        let mut view = View::default();
        self.each(|path, disk| {
            let seen = disk.map_or_else(DiskView::default, |disk| DiskView {
                size: disk.size,
                blocks: disk.blocks.iter().map(|(block, held)| (*block, held.hash)).collect(),
            });
            view.0.insert(path, seen);
        });
        view
    }

    /// Visits every path, with what it holds if it is that of a disk.
    fn each(&self, mut visit: impl FnMut(String, Option<&Content>)) {
        for (name, server) in &self.servers {
            visit(format!("{name}/"), None);
            for (disk, held) in &server.disks {
                visit(format!("{name}/{disk}"), Some(&held.content));
            }
            let named =
                server.snapshots.iter().map(|(snapshot, disks)| (format!("{name}@{snapshot}"), disks));
            let before = server.before.iter().map(|disks| (format!("{name}!before"), disks));
            for (prefix, disks) in named.chain(before) {
                visit(format!("{prefix}/"), None);
                for (disk, held) in disks {
                    visit(format!("{prefix}/{disk}"), Some(&held.content));
                }
            }
        }
    }

    pub fn server(&mut self, name: &str) -> Outcome<&mut Server> {
        self.servers.get_mut(name).ok_or(ErrorKind::NotFound)
    }

    pub fn disk(&mut self, server: &str, disk: &str) -> Outcome<&mut Content> {
        let held = self.server(server)?.disks.get_mut(disk).ok_or(ErrorKind::NotFound)?;
        Ok(Arc::make_mut(&mut held.content))
    }

    pub fn create_server(&mut self, name: &str) -> Outcome<()> {
        if self.servers.contains_key(name) {
            return Err(ErrorKind::Exists);
        }
        self.servers.insert(name.into(), Server::default());
        Ok(())
    }

    pub fn create_disk(&mut self, server: &str, name: &str, size: u64) -> Outcome<()> {
        self.next_identity += 1;
        let identity = self.next_identity;
        let disks = &mut self.server(server)?.disks;
        if disks.contains_key(name) {
            return Err(ErrorKind::Exists);
        }
        let content = Arc::new(Content::new(size));
        disks.insert(name.into(), Disk { identity, version: 0, origin: None, content });
        Ok(())
    }

    pub fn snapshot(&mut self, server: &str, name: &str) -> Outcome<()> {
        if self.server(server)?.snapshots.contains_key(name) {
            return Err(ErrorKind::Exists);
        }
        let held = self.frozen(&self.servers[server].disks.clone());
        self.server(server)?.snapshots.insert(name.into(), held);
        Ok(())
    }

    /// The disks as versions of their own.
    fn frozen(&mut self, disks: &BTreeMap<String, Disk>) -> Snap {
        let frozen = disks.iter().map(|(name, disk)| {
            self.next_identity += 1;
            (name.clone(), Disk { version: self.next_identity, ..disk.clone() })
        });
        frozen.collect()
    }

    /// A new server with the disks of a snapshot.
    pub fn clone_server(&mut self, server: &str, snapshot: &str, name: &str) -> Outcome<()> {
        let held = self.server(server)?.snapshots.get(snapshot).cloned().ok_or(ErrorKind::NotFound)?;
        self.create_server(name)?;
        for (disk, held) in held {
            let cloned = self.cloned(&held);
            self.server(name)?.disks.insert(disk, cloned);
        }
        Ok(())
    }

    /// A new disk with what a snapshot holds of one.
    pub fn clone_disk(&mut self, (server, snapshot, disk): (&str, &str, &str), name: &str) -> Outcome<()> {
        let held = self.server(server)?.snapshots.get(snapshot).cloned().ok_or(ErrorKind::NotFound)?;
        let held = held.get(disk).ok_or(ErrorKind::NotFound)?;
        if self.server(server)?.disks.contains_key(name) {
            return Err(ErrorKind::Exists);
        }
        let cloned = self.cloned(held);
        self.server(server)?.disks.insert(name.into(), cloned);
        Ok(())
    }

    fn cloned(&mut self, held: &Disk) -> Disk {
        self.next_identity += 1;
        Disk {
            identity: self.next_identity,
            version: 0,
            origin: Some(held.version),
            content: held.content.clone(),
        }
    }

    /// What is frozen under this number, if a snapshot still shows it.
    fn version(&self, version: u64) -> Option<Disk> {
        let servers = self.servers.values();
        let snapshots = servers.flat_map(|server| server.snapshots.values().chain(&server.before));
        snapshots.flat_map(BTreeMap::values).find(|disk| disk.version == version).cloned()
    }

    /// Takes the disks of a server that were cloned back to what they were cloned from.
    pub fn reset(&mut self, server: &str) -> Outcome<()> {
        let mut disks = self.server(server)?.disks.clone();
        let mut count = 0;
        for disk in disks.values_mut() {
            let Some(origin) = disk.origin else { continue };
            disk.content = self.version(origin).ok_or(ErrorKind::NotFound)?.content;
            count += 1;
        }
        self.server(server)?.disks = disks;
        if count > 0 { Ok(()) } else { Err(ErrorKind::NotFound) }
    }

    /// Takes a server back to the snapshot of that name, or to what the last restore replaced.
    pub fn restore(&mut self, name: &str, snapshot: Option<&str>) -> Outcome<()> {
        let server = self.server(name)?;
        let held = match snapshot {
            Some(name) => server.snapshots.get(name),
            None => server.before.as_ref(),
        };
        let held = held.cloned().ok_or(ErrorKind::NotFound)?;
        let mut before = BTreeMap::new();
        let mut restored = BTreeMap::new();
        for (disk_name, disk) in held {
            let live = server.disks.get(&disk_name);
            if live.is_some_and(|live| live.identity != disk.identity) {
                return Err(ErrorKind::Exists);
            }
            let origin = live.and_then(|live| live.origin);
            before.extend(live.map(|live| (disk_name.clone(), live.clone())));
            restored.insert(disk_name, Disk { version: 0, origin, ..disk });
        }
        server.disks.extend(restored);
        let before = (!before.is_empty()).then(|| self.frozen(&before));
        self.server(name)?.before = before;
        Ok(())
    }

    pub fn resize(&mut self, server: &str, disk: &str, size: u64) -> Outcome<()> {
        let content = self.disk(server, disk)?;
        if size < content.size && !content.is_zero_from(size) {
            return Err(ErrorKind::Invalid);
        }
        content.size = size;
        Ok(())
    }
}
