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
        disks.insert(name.into(), Disk { identity, content: Arc::new(Content::new(size)) });
        Ok(())
    }

    pub fn snapshot(&mut self, server: &str, name: &str) -> Outcome<()> {
        let server = self.server(server)?;
        if server.snapshots.contains_key(name) {
            return Err(ErrorKind::Exists);
        }
        server.snapshots.insert(name.into(), server.disks.clone());
        Ok(())
    }

    /// Takes a server back to the snapshot of that name, or to what the last restore replaced.
    pub fn restore(&mut self, server: &str, snapshot: Option<&str>) -> Outcome<()> {
        let server = self.server(server)?;
        let held = match snapshot {
            Some(name) => server.snapshots.get(name),
            None => server.before.as_ref(),
        };
        let held = held.cloned().ok_or(ErrorKind::NotFound)?;
        let mut before = Snap::new();
        for (name, disk) in &held {
            match server.disks.get(name) {
                Some(live) if live.identity == disk.identity => {
                    before.insert(name.clone(), live.clone());
                }
                Some(_) => return Err(ErrorKind::Exists),
                None => {}
            }
        }
        server.disks.extend(held);
        server.before = (!before.is_empty()).then_some(before);
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
