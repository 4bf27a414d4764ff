//! What can be read like a disk: a live disk, and a disk as it was at a snapshot.

use std::ops::Range;

use cowblk::{Disk, Extents, SnapshotDisk};

use super::{CHUNK_BYTES, Digest, chunks, progress::Progress};
use crate::failure::Failure;

/// A disk to read from, live or frozen.
pub(crate) trait Image {
    fn size_bytes(&self) -> u64;
    fn read_at(&self, buf: &mut [u8], offset: u64) -> cowblk::Result<()>;
    fn extents(&self, range: Range<u64>) -> Extents;
}

impl Image for Disk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> cowblk::Result<()> {
        self.read_at(buf, offset)
    }

    fn extents(&self, range: Range<u64>) -> Extents {
        self.extents(range)
    }
}

impl Image for SnapshotDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> cowblk::Result<()> {
        self.read_at(buf, offset)
    }

    fn extents(&self, range: Range<u64>) -> Extents {
        self.extents(range)
    }
}

/// The BLAKE3 of the first `len` bytes, every one of them read through the store.
pub(super) fn digest(
    image: &impl Image,
    len: u64,
    progress: &Progress,
) -> Result<Option<blake3::Hash>, Failure> {
    let mut digest = Digest::new(true);
    let mut buffer = vec![0; CHUNK_BYTES];
    for (at, len) in chunks(0..len) {
        let piece = buffer.get_mut(..len).unwrap_or_default();
        image.read_at(piece, at)?;
        digest.update(piece);
        progress.advance(len as u64);
    }
    Ok(digest.finish())
}
