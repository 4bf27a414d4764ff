//! Plain: byte vectors that behave as the disks and snapshots of one server must.

#![allow(unreachable_pub, reason = "a test crate has no outside")]

use std::collections::BTreeMap;

use cowblk::SnapshotId;

/// What a disk, or a disk in a snapshot, must read, and which visible snapshot it descends from.
#[derive(Clone)]
pub struct PlainDisk {
    pub bytes: Vec<u8>,
    pub parent: Option<SnapshotId>,
}

/// Disks by their names, which histories never give twice to a server.
pub type Contents = BTreeMap<String, PlainDisk>;

/// One snapshot.
#[derive(Clone)]
pub struct PlainSnapshot {
    pub id: SnapshotId,
    pub name: String,
    pub disks: Contents,
}

/// One server.
#[derive(Default)]
pub struct PlainServer {
    pub disks: Contents,
    /// User snapshots, oldest first.
    pub snapshots: Vec<PlainSnapshot>,
    pub before_restore: Option<PlainSnapshot>,
}

impl PlainServer {
    /// A disk of zeroes.
    pub fn create_disk(&mut self, name: &str, size: usize) {
        let replaced = self.disks.insert(name.to_owned(), PlainDisk { bytes: vec![0; size], parent: None });
        assert!(replaced.is_none(), "a history gave the name {name} twice");
    }

    /// Freezes all disks.
    pub fn snapshot(&mut self, id: SnapshotId, name: String) {
        self.snapshots.push(PlainSnapshot { id, name, disks: self.disks.clone() });
        for disk in self.disks.values_mut() {
            disk.parent = Some(id);
        }
    }

    /// Whether a restore to `target` replaces anything, so that a before-restore snapshot is made.
    pub fn replaces(&self, target: &PlainSnapshot) -> bool {
        target.disks.keys().any(|name| self.disks.contains_key(name))
    }

    /// Takes the disks of `target` back; `kept` is the id of the new before-restore snapshot, if there is one.
    pub fn restore(&mut self, target: &PlainSnapshot, kept: Option<SnapshotId>) {
        let mut replaced = Contents::new();
        for (name, disk) in &target.disks {
            let back = PlainDisk { bytes: disk.bytes.clone(), parent: Some(target.id) };
            if let Some(old) = self.disks.insert(name.clone(), back) {
                replaced.insert(name.clone(), old);
            }
        }
        let kept = kept.map(|id| PlainSnapshot { id, name: "before-restore".to_owned(), disks: replaced });
        if let Some(old) = std::mem::replace(&mut self.before_restore, kept) {
            self.forget(&old);
        }
    }

    /// Deletes the user snapshot at `index`.
    pub fn delete_snapshot(&mut self, index: usize) {
        let gone = self.snapshots.remove(index);
        self.forget(&gone);
    }

    /// What descends from a deleted snapshot descends from that one's parent.
    fn forget(&mut self, gone: &PlainSnapshot) {
        let frozen =
            self.snapshots.iter_mut().chain(&mut self.before_restore).map(|snapshot| &mut snapshot.disks);
        for (name, disk) in frozen.chain([&mut self.disks]).flatten() {
            if disk.parent == Some(gone.id) {
                disk.parent = gone.disks[name].parent;
            }
        }
    }
}
