//! Stamped: servers whose blocks each hold a number, and what they must hold.

use cowblk::{Disk, ErrorKind, Server, Store};
use std::collections::BTreeMap;

pub(crate) const BLOCK: u64 = 4096;
/// Two steps of the collector, and more blocks than any store here has.
pub(crate) const DISK_BLOCKS: u64 = 70_000;

/// The number in each block that is not zeros.
pub(crate) type Stamps = BTreeMap<u64, u64>;

pub(crate) fn block(stamp: u64) -> Vec<u8> {
    stamp.to_le_bytes().repeat(512)
}

pub(crate) fn write(disk: &Disk, stamps: &mut Stamps, at: u64, stamp: u64) -> cowblk::Result<()> {
    disk.write_at(&block(stamp), at * BLOCK)?;
    stamps.insert(at, stamp);
    Ok(())
}

/// Makes blocks zeros, which must always work.
pub(crate) fn discard(disk: &Disk, stamps: &mut Stamps, first: u64, count: u64) {
    disk.discard(first * BLOCK, count * BLOCK).unwrap();
    stamps.retain(|at, _| *at < first || *at >= first + count);
}

/// Writes fresh blocks, some close together and some far apart, until one is refused. How many were written.
pub(crate) fn fill(disk: &Disk, stamps: &mut Stamps, stamp: u64) -> u64 {
    for nth in 0..DISK_BLOCKS {
        let at = if nth % 3 == 0 { 12_000 + nth * 7 % 57_000 } else { 1000 + nth };
        if let Err(error) = write(disk, stamps, at, stamp + nth) {
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
            return nth;
        }
        if nth % 50 == 0 {
            disk.flush().unwrap();
        }
    }
    panic!("the store was never full");
}

pub(crate) fn assert_holds(read: impl Fn(&mut [u8], u64) -> cowblk::Result<()>, stamps: &Stamps, what: &str) {
    let mut buf = vec![0; 4096];
    for at in stamps.keys().copied().chain((0..DISK_BLOCKS).step_by(997)) {
        read(&mut buf, at * BLOCK).unwrap();
        let expected = stamps.get(&at).copied().unwrap_or(0);
        assert!(buf == block(expected), "{what}: block {at} does not hold {expected}");
    }
}

pub(crate) fn assert_disk(server: &Server, stamps: &Stamps, what: &str) {
    let disk = server.disk("vda").unwrap();
    assert_holds(|buf, offset| disk.read_at(buf, offset), stamps, what);
}

pub(crate) fn assert_snapshot(server: &Server, name: &str, stamps: &Stamps, what: &str) {
    let snapshot = server.snapshots().into_iter().find(|snapshot| snapshot.name() == name).unwrap();
    let disk = snapshot.disk("vda").unwrap();
    assert_holds(|buf, offset| disk.read_at(buf, offset), stamps, what);
}

/// A server with an empty disk.
pub(crate) fn server(store: &Store, name: &str) -> Server {
    let server = store.create_server(name).unwrap();
    server.create_disk("vda", DISK_BLOCKS * BLOCK).unwrap();
    server
}
