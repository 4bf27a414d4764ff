//! Raw images in and out: streamed, sparse where both sides can be, and verified by reading back.
//!
//! An import hashes what it reads from the source, and then what it reads from the disk; an export
//! hashes what it reads from the disk, and then what it reads from the file. The BLAKE3 that is
//! printed is that of the whole image, holes included: the same as `b3sum IMAGE`.

mod export;
mod image;
mod import;
mod progress;
mod source;
mod target;

pub(crate) use export::{
    AFTER_HELP as EXPORT_AFTER_HELP, Arguments as ExportArguments, export_disk, export_snapshot,
};
pub(crate) use image::Image;
pub(crate) use import::{Arguments as ImportArguments, import};
pub(crate) use progress::Progress;

use serde::Serialize;

use crate::sizes::human;

/// Bytes moved at a time.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
const CHUNK_ZEROS: &[u8; CHUNK_BYTES] = &[0; CHUNK_BYTES];

/// What a transfer did.
#[derive(Debug, Serialize)]
struct Transferred {
    /// `SERVER/DISK`, or `SERVER/DISK@SNAPSHOT`.
    disk: String,
    /// The path, or `-`.
    file: String,
    /// The length of the image.
    image_bytes: u64,
    /// How much of it was data; the rest was holes.
    data_bytes: u64,
    /// Of the whole image; null with --no-verify.
    blake3: Option<String>,
    /// Whether the copy was read back and is the same.
    verified: bool,
}

impl Transferred {
    fn sentence(&self, verb: &str) -> String {
        let mut text = format!(
            "{verb} {} ({} of data) {} {}",
            human(self.image_bytes),
            human(self.data_bytes),
            if verb == "imported" { "into" } else { "from" },
            self.disk
        );
        if let Some(blake3) = &self.blake3 {
            text = format!("{text}\nblake3 {blake3}");
        }
        if self.verified { format!("{text}, verified by reading back") } else { text }
    }
}

/// A BLAKE3 that can be told of holes, or none at all where nobody wants one.
struct Digest(Option<blake3::Hasher>);

impl Digest {
    fn new(is_wanted: bool) -> Digest {
        Digest(is_wanted.then(blake3::Hasher::new))
    }

    fn update(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.0 {
            hasher.update(bytes);
        }
    }

    fn zeros(&mut self, count: u64) {
        if let Some(hasher) = &mut self.0 {
            chunks(0..count).for_each(|(_, len)| {
                hasher.update(CHUNK_ZEROS.get(..len).unwrap_or(CHUNK_ZEROS));
            });
        }
    }

    fn finish(self) -> Option<blake3::Hash> {
        self.0.map(|hasher| hasher.finalize())
    }
}

/// Cuts a byte range into places and lengths of at most [`CHUNK_BYTES`].
pub(crate) fn chunks(range: std::ops::Range<u64>) -> impl Iterator<Item = (u64, usize)> {
    let step = CHUNK_BYTES;
    range.clone().step_by(step).map(move |at| {
        let rest = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        (at, rest.min(step))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_a_range_without_gaps() {
        let step = CHUNK_BYTES as u64;
        let all: Vec<_> = chunks(10..10 + 2 * step + 5).collect();
        assert_eq!(all, [(10, CHUNK_BYTES), (10 + step, CHUNK_BYTES), (10 + 2 * step, 5)]);
        assert_eq!(chunks(7..7).count(), 0);
    }

    #[test]
    fn a_hole_hashes_like_the_zeros_that_it_reads_as() {
        let (mut hole, mut zeros) = (Digest::new(true), Digest::new(true));
        hole.zeros(3 * CHUNK_BYTES as u64 + 512);
        zeros.update(&vec![0; 3 * CHUNK_BYTES + 512]);
        assert_eq!(hole.finish(), zeros.finish());
    }
}
