//! Catalog: servers, disks, snapshots and versions, from their records and from what the journal did to them since.

use super::View;
use super::bytes::{Bytes, Fields, Reference};
use super::journal::Record;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Catalog {
    servers: BTreeMap<u64, String>,
    disks: BTreeMap<u64, Disk>,
    versions: BTreeMap<u64, View>,
    /// Which version of which snapshot: the snapshot's path and the disk's name.
    frozen: BTreeMap<u64, (String, String)>,
    pub garbage: Vec<Garbage>,
}

#[derive(Clone)]
struct Disk {
    server: u64,
    name: String,
    view: View,
}

/// A subtree that was cut off.
pub struct Garbage {
    pub reference: Reference,
    pub height: u32,
}

impl Catalog {
    pub fn read(pages: &[Bytes<'_>]) -> Self {
        let mut catalog = Self::default();
        let mut snapshots = Vec::new();
        for page in pages {
            let mut at = 0;
            while at + 2 <= page.0.len() && page.number(at, 2) > 0 {
                let len = usize::try_from(page.number(at, 2)).unwrap();
                catalog.record(&mut Fields(&page.0[at + 2..at + 2 + len]), &mut snapshots);
                at += 2 + len;
            }
        }
        for (server, name, is_before, versions) in snapshots {
            catalog.show(server, &name, is_before, &versions);
        }
        catalog
    }

    fn record(&mut self, fields: &mut Fields<'_>, snapshots: &mut Vec<(u64, String, bool, Vec<u64>)>) {
        let variant = fields.integer();
        if variant == 5 {
            return; // how far the collector came says nothing of what it is to follow
        }
        let id = fields.integer();
        match variant {
            0 => {
                self.servers.insert(id, fields.string());
            }
            1 => {
                let (server, name) = (fields.integer(), fields.string());
                let (_, size_bytes) = (fields.integer(), fields.integer());
                let (_parent, _birth, _origin) = (fields.option(), fields.integer(), fields.option());
                if fields.integer() == 1 {
                    let _seconds = fields.integer();
                }
                let _shared = fields.option();
                self.disks.insert(id, Disk { server, name, view: view(size_bytes, fields) });
            }
            2 => {
                let (server, name) = (fields.integer(), fields.string());
                let (_, _) = (fields.string(), fields.integer());
                let kind = fields.integer();
                let _identity = fields.raw(16);
                if fields.raw(1)[0] == 1 {
                    let _origin = fields.raw(16);
                }
                fields.marks();
                snapshots.push((server, name, kind == 1, fields.list(Fields::integer)));
            }
            3 => {
                let (_, name, size_bytes) = (fields.integer(), fields.string(), fields.integer());
                let _parent = fields.option();
                let (_, _) = (fields.integer(), fields.integer());
                let _snapshot = fields.option();
                let (_trimmed, _exclusive) = (fields.raw(1), fields.option());
                self.versions.insert(id, view(size_bytes, fields));
                self.frozen.insert(id, (String::new(), name));
            }
            4 => {
                let reference = fields.reference();
                let height = u32::try_from(fields.integer()).unwrap();
                self.garbage.push(Garbage { reference, height });
            }
            other => panic!("a record of variant {other}"),
        }
    }

    /// These versions are to be seen, as parts of a snapshot.
    fn show(&mut self, server: u64, name: &str, is_before: bool, versions: &[u64]) {
        let server = &self.servers[&server];
        let snapshot = if is_before { format!("{server}!before") } else { format!("{server}@{name}") };
        for version in versions {
            self.frozen.get_mut(version).unwrap().0.clone_from(&snapshot);
        }
    }

    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Map { disk, first, physical, count } | Record::Share { disk, first, physical, count } => {
                let above = &mut self.disks.get_mut(disk).unwrap().view.above;
                above.extend((0..*count).map(|nth| (first + nth, Some(physical + nth))));
            }
            Record::Clear { disk, first, count } => {
                let above = &mut self.disks.get_mut(disk).unwrap().view.above;
                above.extend((0..*count).map(|nth| (first + nth, None)));
            }
            Record::CreateDisk { id, server, name, size_bytes } => {
                let view = View {
                    path: None,
                    size_bytes: *size_bytes,
                    root: Reference::default(),
                    height: 1,
                    above: BTreeMap::new(),
                };
                self.disks.insert(*id, Disk { server: *server, name: name.clone(), view });
            }
            Record::Snapshot { server, name, versions } => {
                for (disk, version) in versions {
                    let disk = &self.disks[disk];
                    self.frozen.insert(*version, (String::new(), disk.name.clone()));
                    self.versions.insert(*version, disk.view.clone());
                }
                let versions: Vec<u64> = versions.iter().map(|(_, version)| *version).collect();
                self.show(*server, name, false, &versions);
            }
            Record::Grow { .. } | Record::Inline { .. } => {}
        }
    }

    /// All disks, live and frozen, with their paths.
    pub fn views(&self) -> Vec<View> {
        let live = self.disks.values().map(|disk| {
            let path = format!("{}/{}", self.servers[&disk.server], disk.name);
            View { path: Some(path), ..disk.view.clone() }
        });
        let frozen = self.versions.iter().map(|(id, view)| {
            let (snapshot, name) = &self.frozen[id];
            let path = (!snapshot.is_empty()).then(|| format!("{snapshot}/{name}"));
            View { path, ..view.clone() }
        });
        live.chain(frozen).collect()
    }
}

fn view(size_bytes: u64, fields: &mut Fields<'_>) -> View {
    let root = fields.reference();
    let height = u32::try_from(fields.integer()).unwrap();
    View { path: None, size_bytes, root, height, above: BTreeMap::new() }
}
