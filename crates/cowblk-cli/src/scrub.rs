//! `cowblk check --data`: reads every block that a disk or snapshot shows, so that its checksum is compared.
//!
//! The library's audit recomputes the structure and leaves data blocks alone; a read verifies each block.
//! Here the two meet. What several snapshots share is read once for each of them.

use cowblk::{ErrorKind, ExtentKind, Store};

use crate::check::Defect;
use crate::failure::Failure;
use crate::session::all_snapshots;
use crate::transfer::{CHUNK_BYTES, Image, chunks};

/// Defects that are listed; what is found beyond is only counted.
const LISTED_MAX: usize = 1000;

/// What reading everything found.
#[derive(Default)]
pub(crate) struct Scrub {
    pub(crate) defects: Vec<Defect>,
    pub(crate) omitted: u64,
    pub(crate) bytes_read: u64,
}

/// Reads every disk and snapshot of the store. Damage is no error: it stands in the result.
pub(crate) fn scrub(store: &Store) -> Result<Scrub, Failure> {
    let block_bytes = usize::try_from(store.status().block_size).unwrap_or(CHUNK_BYTES);
    let mut found = Scrub::default();
    for server in store.servers() {
        for disk in server.disks() {
            found.image(&disk, block_bytes)?;
        }
        for snapshot in all_snapshots(&server) {
            for disk in snapshot.disks() {
                found.image(&disk, block_bytes)?;
            }
        }
    }
    Ok(found)
}

impl Scrub {
    fn image(&mut self, image: &impl Image, block_bytes: usize) -> Result<(), Failure> {
        let mut buffer = vec![0; CHUNK_BYTES];
        for extent in image.extents(0..image.size_bytes()) {
            let Some(extent) = self.kept(extent)? else { return Ok(()) };
            if extent.kind == ExtentKind::Hole {
                continue;
            }
            for (at, len) in chunks(extent.offset..extent.offset + extent.len) {
                self.chunk(image, buffer.get_mut(..len).unwrap_or_default(), at, block_bytes)?;
            }
        }
        Ok(())
    }

    /// Reads a chunk, and if that fails each of its blocks, so that every bad one is named.
    fn chunk(
        &mut self,
        image: &impl Image,
        buf: &mut [u8],
        at: u64,
        block_bytes: usize,
    ) -> Result<(), Failure> {
        self.bytes_read += buf.len() as u64;
        if image.read_at(buf, at).is_ok() {
            return Ok(());
        }
        let mut offset = at;
        for block in buf.chunks_mut(block_bytes) {
            let read = image.read_at(block, offset);
            self.kept(read)?;
            offset += block.len() as u64;
        }
        Ok(())
    }

    /// The value, or nothing where damage was found, which is written down.
    fn kept<T>(&mut self, outcome: cowblk::Result<T>) -> Result<Option<T>, Failure> {
        let error = match outcome {
            Ok(value) => return Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::Corrupt => error,
            Err(error) => return Err(error.into()),
        };
        if self.defects.len() < LISTED_MAX {
            self.defects.push(Defect::of(&error));
        } else {
            self.omitted += 1;
        }
        Ok(None)
    }
}
