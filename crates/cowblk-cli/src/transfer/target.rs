//! Where an export writes to: a new file with holes, a block device, or a stream.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use super::{CHUNK_BYTES, CHUNK_ZEROS, Digest, chunks, progress::Progress};
use crate::failure::{Failure, Kind};

/// A raw image being written from its start to its end.
pub(super) struct Target {
    path: PathBuf,
    medium: Medium,
    /// Whether the file was made here, and goes away with a failure.
    is_new: bool,
}

enum Medium {
    /// A regular file: what is not written is a hole.
    File(File),
    /// A block device: holes are written as zeros, for the device holds something else.
    Device(File),
    Stream(Box<dyn Write>),
}

impl Target {
    /// Opens `path`, or standard output for `-`. A regular file or block device that exists is only
    /// taken with `overwrite`.
    pub(super) fn open(path: &Path, overwrite: bool, len_bytes: u64) -> Result<Target, Failure> {
        if path == Path::new("-") {
            let medium = Medium::Stream(Box::new(io::stdout().lock()));
            return Ok(Target { path: "standard output".into(), medium, is_new: false });
        }
        let kind = path.metadata().ok().map(|metadata| metadata.file_type());
        let holds_data = kind.is_some_and(|kind| kind.is_file() || kind.is_block_device());
        if holds_data && !overwrite {
            let message = format!("{} exists: give --overwrite to replace it", path.display());
            return Err(Failure::new(Kind::Exists, message));
        }
        let medium = open_medium(path, kind.is_none(), len_bytes);
        let medium = medium.map_err(|error| Failure::io("open", path, &error))?;
        Ok(Target { path: path.to_owned(), medium, is_new: kind.is_none() })
    }

    pub(super) fn data(&mut self, at: u64, bytes: &[u8]) -> Result<(), Failure> {
        let written = match &mut self.medium {
            Medium::File(file) | Medium::Device(file) => file.write_all_at(bytes, at),
            Medium::Stream(stream) => stream.write_all(bytes),
        };
        written.map_err(|error| self.failed("write", &error))
    }

    pub(super) fn hole(&mut self, at: u64, len: u64) -> Result<(), Failure> {
        if matches!(self.medium, Medium::File(_)) {
            return Ok(());
        }
        chunks(at..at + len)
            .try_for_each(|(at, len)| self.data(at, CHUNK_ZEROS.get(..len).unwrap_or_default()))
    }

    /// Makes what was written durable, as far as the medium can.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let finished = match &mut self.medium {
            Medium::File(file) | Medium::Device(file) => file.sync_all(),
            Medium::Stream(stream) => stream.flush(),
        };
        finished.map_err(|error| self.failed("sync", &error))
    }

    /// The BLAKE3 of what the file or device holds now; `None` for a stream, which cannot be read back.
    pub(super) fn digest(&self, len: u64, progress: &Progress) -> Result<Option<blake3::Hash>, Failure> {
        let (Medium::File(file) | Medium::Device(file)) = &self.medium else {
            return Ok(None);
        };
        let mut digest = Digest::new(true);
        let mut buffer = vec![0; CHUNK_BYTES];
        for (at, len) in chunks(0..len) {
            let piece = buffer.get_mut(..len).unwrap_or_default();
            file.read_exact_at(piece, at).map_err(|error| self.failed("read back", &error))?;
            digest.update(piece);
            progress.advance(len as u64);
        }
        Ok(digest.finish())
    }

    /// Removes a file that was made here and is not whole.
    pub(super) fn abandon(&self) {
        if self.is_new && matches!(self.medium, Medium::File(_)) {
            // The failure that led here says more than this one would.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn failed(&self, doing: &str, error: &io::Error) -> Failure {
        Failure::io(doing, &self.path, error)
    }
}

fn open_medium(path: &Path, is_new: bool, len_bytes: u64) -> io::Result<Medium> {
    let mut options = OpenOptions::new();
    options.write(true);
    if is_new {
        options.read(true).create_new(true);
    }
    let file = if is_new { options.open(path)? } else { reopen(path, &mut options)? };
    let kind = file.metadata()?.file_type();
    if kind.is_block_device() {
        return Ok(Medium::Device(file));
    }
    if !kind.is_file() {
        return Ok(Medium::Stream(Box::new(file)));
    }
    // Empty first, then long: the whole file is one hole.
    let sized = file.set_len(0).and_then(|()| file.set_len(len_bytes));
    if sized.is_err() && is_new {
        drop(std::fs::remove_file(path)); // that it cannot be so long says more
    }
    sized.map(|()| Medium::File(file))
}

/// What is there already: read back later where that is possible (a pipe cannot be opened for reading).
fn reopen(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let kind = path.metadata()?.file_type();
    options.read(kind.is_file() || kind.is_block_device()).open(path)
}
