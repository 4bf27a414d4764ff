//! Where an import reads from: a file or block device, whose holes can be skipped, or a stream.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::sparse::{Piece, Reader, Sparse, next_of_stream};
use crate::failure::Failure;

/// A raw image to read once, from its start to its end.
pub(super) struct Source {
    path: PathBuf,
    bytes: Bytes,
}

enum Bytes {
    File(Reader<File>),
    Stream(Box<dyn Read>),
}

impl Source {
    /// Opens `path`, or standard input for `-`.
    pub(super) fn open(path: &Path) -> Result<Source, Failure> {
        let bytes = if path == Path::new("-") {
            Ok(Bytes::Stream(Box::new(io::stdin().lock())))
        } else {
            open_file(path)
        };
        let bytes = bytes.map_err(|error| Failure::io("open", path, &error))?;
        Ok(Source { path: path.to_owned(), bytes })
    }

    /// The length where it is known before reading.
    pub(super) fn len_bytes(&self) -> Option<u64> {
        match self.bytes {
            Bytes::File(ref reader) => Some(reader.len_bytes()),
            Bytes::Stream(_) => None,
        }
    }

    /// The next piece; data fills `buf` from its start, and fills all of it unless a hole or the end follows.
    pub(super) fn next(&mut self, buf: &mut [u8]) -> Result<Piece, Failure> {
        let piece = match &mut self.bytes {
            Bytes::File(reader) => reader.next(buf),
            Bytes::Stream(stream) => next_of_stream(stream, buf),
        };
        piece.map_err(|error| Failure::io("read", &self.path, &error))
    }
}

fn open_file(path: &Path) -> io::Result<Bytes> {
    let mut file = OpenOptions::new().read(true).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if kind.is_fifo() || kind.is_char_device() || kind.is_socket() {
        return Ok(Bytes::Stream(Box::new(file)));
    }
    // The length of a block device is where its end is; its metadata say 0.
    let len = file.seek(SeekFrom::End(0))?;
    Ok(Bytes::File(Reader::new(file, len)))
}

impl Sparse for File {
    fn data_from(&self, at: u64) -> io::Result<Option<u64>> {
        seek(self, at, Whence::SeekData)
    }

    fn hole_from(&self, at: u64) -> io::Result<Option<u64>> {
        seek(self, at, Whence::SeekHole)
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, at)
    }
}

/// Where the next data or hole is; `None` where there is none before the end.
/// A file system that knows no holes has one run of data: from here to the end.
fn seek(file: &File, at: u64, whence: Whence) -> io::Result<Option<u64>> {
    let offset = i64::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge)?;
    match lseek(file, offset, whence) {
        Ok(found) => Ok(u64::try_from(found).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(matches!(whence, Whence::SeekData).then_some(at)),
        Err(errno) => Err(errno.into()),
    }
}
