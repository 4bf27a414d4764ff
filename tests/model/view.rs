//! View: all that can be seen of a store from outside, and its fingerprint.

use super::content::{BLOCK, block_print, hash, hash_block, is_zero, mix};
use cowblk::{Error, Result, Snapshot, Store};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// What a disk, live or frozen, looks like: its size, and the hashes of its blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskView {
    pub size: u64,
    pub blocks: BTreeMap<u64, u64>,
}

/// All disks by their paths: `server/disk`, `server@snapshot/disk`, `server!before/disk`. A path that ends in a
/// slash stands for the server or snapshot itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View(pub BTreeMap<String, DiskView>);

/// What one path adds to the fingerprint.
pub fn path_print(path: &str, size: u64, sum: u64) -> u64 {
    mix(mix(hash(path.as_bytes()) ^ size).wrapping_add(sum))
}

impl View {
    pub fn fingerprint(&self) -> u64 {
        self.0.iter().fold(0, |all, (path, disk)| {
            let sum = disk
                .blocks
                .iter()
                .fold(0u64, |sum, (block, hash)| sum.wrapping_add(block_print(*block, *hash)));
            all.wrapping_add(path_print(path, disk.size, sum))
        })
    }

    /// What differs, in words: at most twenty lines.
    pub fn difference(&self, other: &Self) -> String {
        let mut lines = Vec::new();
        for (path, disk) in &self.0 {
            match other.0.get(path) {
                None => lines.push(format!("{path} is there and should not be")),
                Some(expected) => {
                    lines.extend(disk.difference(expected).map(|line| format!("{path}: {line}")));
                }
            }
        }
        let missing = other.0.keys().filter(|path| !self.0.contains_key(*path));
        lines.extend(missing.map(|path| format!("{path} should be there and is not")));
        lines.truncate(20);
        lines.join("\n    ")
    }
}

impl DiskView {
    fn difference<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = String> + 'a {
        let size = (self.size != other.size).then(|| format!("{} bytes, not {}", self.size, other.size));
        let blocks =
            self.blocks.keys().chain(other.blocks.keys().filter(|block| !self.blocks.contains_key(block)));
        let blocks = blocks.filter_map(|block| {
            let (found, expected) = (self.blocks.get(block), other.blocks.get(block));
            (found != expected).then(|| format!("block {block} is {found:x?}, not {expected:x?}"))
        });
        size.into_iter().chain(blocks)
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, disk) in &self.0 {
            writeln!(f, "    {path} {} bytes, {:x?}", disk.size, disk.blocks)?;
        }
        Ok(())
    }
}

/// The blocks of a disk that verbs may touch and observers look at: its beginning, the borders between leaves and
/// between subtrees, and the ends that a disk may have.
pub fn places(size: u64) -> Vec<Range<u64>> {
    let blocks = size.div_ceil(BLOCK);
    let ranges = [0..40, 250..262, 292..300, 65_530..65_542, 69_992..70_000];
    ranges
        .into_iter()
        .filter(|range| range.start < blocks)
        .map(|range| range.start..range.end.min(blocks))
        .collect()
}

/// Reads a disk at all places.
pub fn observe_disk(size: u64, read: impl Fn(&mut [u8], u64) -> Result<()>) -> Result<DiskView> {
    let mut view = DiskView { size, blocks: BTreeMap::new() };
    let mut buf = Vec::new();
    for range in places(size) {
        let (start, end) = (range.start * BLOCK, (range.end * BLOCK).min(size));
        buf.clear();
        buf.resize(usize::try_from(end - start).unwrap(), 0xEE);
        read(&mut buf, start)?;
        for (block, bytes) in range.zip(buf.chunks(4096)) {
            if !is_zero(bytes) {
                view.blocks.insert(block, hash_block(bytes));
            }
        }
    }
    Ok(view)
}

fn observe_snapshot(view: &mut View, prefix: &str, snapshot: &Snapshot) -> Result<()> {
    view.0.insert(format!("{prefix}/"), DiskView::default());
    for disk in snapshot.disks() {
        let seen = observe_disk(disk.size_bytes(), |buf, offset| disk.read_at(buf, offset))?;
        view.0.insert(format!("{prefix}/{}", disk.name()), seen);
    }
    Ok(())
}

/// Looks at everything that a store shows.
pub fn observe(store: &Store) -> Result<View> {
    let mut view = View::default();
    for server in store.servers() {
        let name = server.name();
        view.0.insert(format!("{name}/"), DiskView::default());
        for disk in server.disks() {
            let seen = observe_disk(disk.size_bytes(), |buf, offset| disk.read_at(buf, offset))?;
            view.0.insert(format!("{name}/{}", disk.name()), seen);
        }
        for snapshot in server.snapshots() {
            observe_snapshot(&mut view, &format!("{name}@{}", snapshot.name()), &snapshot)?;
        }
        if let Some(before) = server.before_restore() {
            observe_snapshot(&mut view, &format!("{name}!before"), &before)?;
        }
    }
    Ok(view)
}

/// The fingerprint of everything that a store shows.
pub fn fingerprint_of(store: &Store) -> Result<u64> {
    observe(store).map(|view| view.fingerprint())
}

/// Reads each place of a disk block by block. Errors are collected; what can be read must be what is expected.
fn damage_of_disk(
    path: &str,
    expected: &super::Content,
    read: impl Fn(&mut [u8], u64) -> Result<()>,
    errors: &mut Vec<Error>,
) -> std::result::Result<(), String> {
    let mut buf = [0; 4096];
    for block in places(expected.size).into_iter().flatten() {
        let len = usize::try_from((expected.size - block * BLOCK).min(BLOCK)).unwrap();
        buf.fill(0xEE);
        match read(&mut buf[..len], block * BLOCK) {
            Ok(()) => {
                let found = (!is_zero(&buf[..len])).then(|| hash_block(&buf[..len]));
                if found != expected.blocks.get(&block).map(|held| held.hash) {
                    return Err(format!("{path}: block {block} reads {found:x?}"));
                }
            }
            Err(error) => errors.push(error),
        }
    }
    Ok(())
}

/// Compares a store that may be damaged with a model: the errors that reading gave, or what is wrong without an error.
/// The catalog was read when the store was opened: it must be right.
pub fn damage_of(store: &Store, model: &super::Model) -> std::result::Result<Vec<Error>, String> {
    let mut errors = Vec::new();
    let names: Vec<String> = store.servers().iter().map(cowblk::Server::name).collect();
    if !names.iter().eq(model.servers.keys()) && names.len() != model.servers.len() {
        return Err(format!("servers {names:?}"));
    }
    for (name, expected) in &model.servers {
        let server = store.server(name).map_err(|error| format!("{name}: {error}"))?;
        if server.disks().len() != expected.disks.len()
            || server.snapshots().len() != expected.snapshots.len()
        {
            return Err(format!(
                "{name}: {} disks, {} snapshots",
                server.disks().len(),
                server.snapshots().len()
            ));
        }
        for (disk, held) in &expected.disks {
            let path = format!("{name}/{disk}");
            let disk = server.disk(disk).map_err(|error| format!("{path}: {error}"))?;
            if disk.size_bytes() != held.content.size {
                return Err(format!("{path} has {} bytes", disk.size_bytes()));
            }
            damage_of_disk(&path, &held.content, |buf, offset| disk.read_at(buf, offset), &mut errors)?;
        }
        let named = server.snapshots().into_iter().map(|snapshot| (snapshot.name(), snapshot));
        let named = named.map(|(name, snapshot)| (expected.snapshots.get(&name), snapshot));
        let before = server.before_restore().map(|snapshot| (expected.before.as_ref(), snapshot));
        if before.is_some() != expected.before.is_some() {
            return Err(format!("{name}: what the last restore replaced"));
        }
        for (expected, snapshot) in named.chain(before) {
            let path = format!("{name}@{}", snapshot.name());
            let Some(expected) = expected else { return Err(format!("{path} is there")) };
            if snapshot.disks().len() != expected.len() {
                return Err(format!("{path} holds {} disks", snapshot.disks().len()));
            }
            for (disk, held) in expected {
                let path = format!("{path}/{disk}");
                let disk = snapshot.disk(disk).map_err(|error| format!("{path}: {error}"))?;
                if disk.size_bytes() != held.content.size {
                    return Err(format!("{path} has {} bytes", disk.size_bytes()));
                }
                damage_of_disk(&path, &held.content, |buf, offset| disk.read_at(buf, offset), &mut errors)?;
            }
        }
    }
    Ok(errors)
}
