//! Content: what can be seen of a store, sector by sector. A sector holds the stamp of the write that it comes from.

use std::collections::BTreeMap;

use cowblk::{Result, Server, Store};

pub(crate) const SECTOR: usize = 512;
pub(crate) const BLOCK: usize = 4096;
/// A sector that gave an error.
pub(crate) const UNREADABLE: u64 = u64::MAX;
/// Of a large disk, so many blocks at each end are looked at.
const WINDOW_BLOCKS: u64 = 8;
pub(crate) const BEFORE: &str = "before-restore";

/// The stamps of each disk, by `server/disk` or `server@snapshot/disk`. A server and a snapshot have an empty entry.
pub(crate) type Content = BTreeMap<String, Vec<u64>>;

/// Fills sectors, of which the first has this number on its disk.
pub(crate) fn stamp(buf: &mut [u8], first: u64, stamp: u64) {
    for (number, sector) in (first..).zip(buf.chunks_exact_mut(SECTOR)) {
        for pair in sector.chunks_exact_mut(16) {
            pair[..8].copy_from_slice(&stamp.to_le_bytes());
            pair[8..].copy_from_slice(&(if stamp == 0 { 0 } else { number }).to_le_bytes());
        }
    }
}

/// Everything that an open store shows. Sectors that are not whole are wrong data, if `strict`.
pub(crate) fn observe(store: &Store, strict: bool) -> Content {
    let mut content = Content::new();
    for server in store.servers() {
        observe_server(&server, strict, &mut content);
    }
    content
}

fn observe_server(server: &Server, strict: bool, content: &mut Content) {
    let name = server.name();
    content.insert(name.clone(), Vec::new());
    for disk in server.disks() {
        let stamps = look(disk.size_bytes(), strict, &|buf, at| disk.read_at(buf, at));
        content.insert(format!("{name}/{}", disk.name()), stamps);
    }
    for snapshot in server.snapshots().into_iter().chain(server.before_restore()) {
        content.insert(format!("{name}@{}", snapshot.name()), Vec::new());
        for disk in snapshot.disks() {
            let stamps = look(disk.size_bytes(), strict, &|buf, at| disk.read_at(buf, at));
            content.insert(format!("{name}@{}/{}", snapshot.name(), disk.name()), stamps);
        }
    }
}

fn look(size: u64, strict: bool, read_at: &dyn Fn(&mut [u8], u64) -> Result<()>) -> Vec<u64> {
    let window = WINDOW_BLOCKS * BLOCK as u64;
    let mut stamps = Vec::new();
    let mut part = |from: u64, to: u64| {
        let mut buf = vec![0xAA; (to - from) as usize];
        if read_at(&mut buf, from).is_ok() {
            stamps.extend(stamps_of(&buf, from / SECTOR as u64, strict));
            return;
        }
        for at in (from..to).step_by(BLOCK) {
            let buf = &mut buf[..BLOCK.min((to - at) as usize)];
            match read_at(buf, at) {
                Ok(()) => stamps.extend(stamps_of(buf, at / SECTOR as u64, strict)),
                Err(_) => stamps.extend((0..buf.len() / SECTOR).map(|_| UNREADABLE)),
            }
        }
    };
    if size <= 2 * window {
        part(0, size);
    } else {
        part(0, window);
        part((size - window) / BLOCK as u64 * BLOCK as u64, size);
    }
    stamps
}

fn stamps_of(buf: &[u8], first: u64, strict: bool) -> Vec<u64> {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let of_sector = |(number, sector): (u64, &[u8])| {
        let found = word(&sector[..8]);
        if strict {
            let expected = if found == 0 { 0 } else { number };
            let is_whole = word(&sector[8..16]) == expected && sector[16..] == sector[..SECTOR - 16];
            assert!(is_whole, "sector {number} is torn or misplaced: stamp {found}");
        }
        found
    };
    (first..).zip(buf.chunks_exact(SECTOR)).map(of_sector).collect()
}

/// Whether what is seen is `expected`, but for what gives errors.
pub(crate) fn is_part_of(seen: &Content, expected: &Content) -> bool {
    let same = |seen: &[u64], expected: &[u64]| {
        let mut pairs = seen.iter().zip(expected);
        seen.len() == expected.len() && pairs.all(|(seen, expected)| seen == expected || *seen == UNREADABLE)
    };
    seen.len() == expected.len()
        && seen.iter().zip(expected).all(|((a, seen), (b, expected))| a == b && same(seen, expected))
}

/// Where two contents differ, for people.
pub(crate) fn difference(seen: &Content, expected: &Content) -> String {
    let mut said = Vec::new();
    for key in seen.keys().chain(expected.keys().filter(|key| !seen.contains_key(*key))) {
        match (seen.get(key), expected.get(key)) {
            (Some(seen), Some(expected)) if seen == expected => {}
            (Some(seen), Some(expected)) if seen.len() == expected.len() => {
                let at = (0..seen.len()).find(|&at| seen[at] != expected[at]).unwrap_or(0);
                said.push(format!("{key} sector {at}: {} and not {}; ", seen[at], expected[at]));
            }
            (seen, expected) => {
                let (seen, expected) = (seen.map(Vec::len), expected.map(Vec::len));
                said.push(format!("{key} has {seen:?} sectors and not {expected:?}; "));
            }
        }
    }
    said.concat()
}
