//! Peers: what a disk could be kept in, behind one face.

mod direct;
mod raw;
mod store;

pub(crate) use direct::Direct;
pub(crate) use raw::Raw;
pub(crate) use store::CowBlk;

use crate::buffer::Buffer;
use std::path::Path;

/// What a step comes to.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A disk of a fixed size, kept somehow. Offsets and lengths are multiples of 4096.
pub(crate) trait Peer: Sync {
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

/// The peers that were asked for, each with a disk full of data.
pub(crate) fn all(dir: &Path, bytes: u64, wanted: impl Fn(&str) -> bool) -> Outcome<Vec<Box<dyn Peer>>> {
    type Maker = fn(&Path, u64) -> Outcome<Box<dyn Peer>>;
    let makers: [(&str, Maker); 4] = [
        (Raw::NAME, |dir, bytes| Ok(Box::new(Raw::new(dir, bytes)?))),
        (Direct::NAME, |dir, bytes| Ok(Box::new(Direct::new(dir, bytes, false)?))),
        (Direct::NAME_SYNCED, |dir, bytes| Ok(Box::new(Direct::new(dir, bytes, true)?))),
        (CowBlk::NAME, |dir, bytes| Ok(Box::new(CowBlk::new(dir, bytes)?))),
    ];
    let mut peers = Vec::new();
    for (name, make) in makers {
        if wanted(name) {
            let peer = make(dir, bytes)?;
            fill(&*peer, bytes)?;
            peers.push(peer);
        }
    }
    Ok(peers)
}
