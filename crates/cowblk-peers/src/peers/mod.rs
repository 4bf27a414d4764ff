//! Peers: what a disk could be kept in, behind one face.

mod depth;
mod direct;
mod fjall;
mod imago;
mod qcow2_rs;
mod raw;
mod redb;
mod store;

pub(crate) use depth::write_at_depth;
pub(crate) use direct::Direct;
pub(crate) use fjall::Fjall;
pub(crate) use imago::Imago;
pub(crate) use qcow2_rs::Qcow2Rs;
pub(crate) use raw::Raw;
pub(crate) use redb::Redb;
pub(crate) use store::CowBlk;

use crate::buffer::Buffer;
use std::path::Path;

/// What a step comes to.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A disk of a fixed size, kept somehow. Offsets and lengths are multiples of 4096.
pub(crate) trait Peer {
    /// What tables call it.
    fn name(&self) -> &'static str;

    /// Its version and settings, for the page.
    fn setting(&self) -> String;

    /// Reads `buf.len()` bytes. The buffer is aligned as `O_DIRECT` wants it.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Outcome;

    /// Writes all of `buf`. The buffer is aligned as `O_DIRECT` wants it.
    fn write_at(&self, buf: &[u8], offset: u64) -> Outcome;

    /// Returns when all writes that returned are durable.
    fn sync(&self) -> Outcome;

    /// Whether it was made full of data.
    fn comes_full(&self) -> bool {
        false
    }

    /// Its snapshots, if writes can be measured behind one.
    fn snapshots(&mut self) -> Option<&mut dyn Snapshots> {
        None
    }
}

/// One snapshot at a time, durable when the call returns.
pub(crate) trait Snapshots {
    fn take(&mut self) -> Outcome;

    /// Drops the snapshot, and whatever else keeps the disk from being as before it.
    fn forget(&mut self) -> Outcome;
}

/// Writes every block of a disk, 4 KiB at a time: a page cache that larger writes filled is slower to write to afterwards.
pub(crate) fn fill(peer: &dyn Peer, bytes: u64) -> Outcome {
    let mut buf = Buffer::noise(4096);
    for offset in (0..bytes).step_by(4096) {
        buf.stamp(offset);
        peer.write_at(&buf, offset)?;
    }
    peer.sync()
}

/// How a peer is made: in a directory, for a disk of so many bytes.
type Maker = fn(&Path, u64) -> Outcome<Box<dyn Peer>>;

/// The peers that were asked for, each with a disk full of data.
pub(crate) fn all(dir: &Path, bytes: u64, wanted: impl Fn(&str) -> bool) -> Outcome<Vec<Box<dyn Peer>>> {
    let makers: [(&str, Maker); 10] = [
        (Raw::NAME, |dir, bytes| Ok(Box::new(Raw::new(dir, bytes)?))),
        (Direct::NAME, |dir, bytes| Ok(Box::new(Direct::new(dir, bytes, false)?))),
        (Direct::NAME_SYNCED, |dir, bytes| Ok(Box::new(Direct::new(dir, bytes, true)?))),
        (CowBlk::NAME, |dir, bytes| Ok(Box::new(CowBlk::new(dir, CowBlk::NAME, bytes)?))),
        (CowBlk::NAME_THOUSAND, |dir, bytes| Ok(Box::new(CowBlk::new(dir, CowBlk::NAME_THOUSAND, bytes)?))),
        (CowBlk::NAME_MAPPED, |dir, bytes| Ok(Box::new(CowBlk::new(dir, CowBlk::NAME_MAPPED, bytes)?))),
        (Imago::NAME, |dir, bytes| Ok(Box::new(Imago::new(dir, bytes)?))),
        (Qcow2Rs::NAME, |dir, bytes| Ok(Box::new(Qcow2Rs::new(dir, bytes)?))),
        (Redb::NAME, |dir, bytes| Ok(Box::new(Redb::new(dir, bytes)?))),
        (Fjall::NAME, |dir, bytes| Ok(Box::new(Fjall::new(dir, bytes)?))),
    ];
    let mut peers = Vec::new();
    for (name, make) in makers.into_iter().filter(|(name, _)| wanted(name)) {
        eprintln!("filling {name}");
        let peer = match make(dir, bytes) {
            Ok(peer) => peer,
            Err(error) if name.starts_with("O_D") => {
                eprintln!("{name} is left out, for this file system has none: {error}");
                continue;
            }
            Err(error) => return Err(error),
        };
        if !peer.comes_full() {
            fill(&*peer, bytes)?;
        }
        peers.push(peer);
    }
    Ok(peers)
}
