//! Raw images in and out: streamed, sparse where both sides can be, and verified by reading back.
//!
//! An import hashes what it reads from the source, and then what it reads from the disk; an export
//! hashes what it reads from the disk, and then what it reads from the file. The BLAKE3 that is
//! printed is that of the whole image, holes included: the same as `b3sum IMAGE`.

mod digest;
mod export;
mod filling;
mod image;
mod import;
mod progress;
mod source;
mod sparse;
mod target;

pub(crate) use digest::{CHUNK_BYTES, chunks};
pub(crate) use export::{
    AFTER_HELP as EXPORT_AFTER_HELP, Arguments as ExportArguments, export_disk, export_snapshot,
};
pub(crate) use image::Image;
pub(crate) use import::{Arguments as ImportArguments, import};
pub(crate) use progress::Progress;

use serde::Serialize;

use crate::sizes::human;
use digest::{CHUNK_ZEROS, Digest};

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
