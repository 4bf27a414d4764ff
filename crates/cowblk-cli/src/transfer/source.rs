//! Where an import reads from: a file or block device, whose holes can be skipped, or a stream.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::failure::Failure;

/// A raw image to read once, from its start to its end.
pub(super) struct Source {
    path: PathBuf,
    bytes: Bytes,
}

enum Bytes {
    /// `data_end` is where the run of data that the reader stands in ends.
    File {
        file: File,
        len: u64,
        at: u64,
        data_end: u64,
    },
    Stream(Box<dyn Read>),
}

/// What comes next in a source.
pub(super) enum Piece {
    /// This many bytes, now in the buffer.
    Data(usize),
    /// This many zeros, which nobody had to read.
    Hole(u64),
    End,
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
            Bytes::File { len, .. } => Some(len),
            Bytes::Stream(_) => None,
        }
    }

    /// The next piece; data fills `buf` from its start, and fills all of it unless a hole or the end follows.
    pub(super) fn next(&mut self, buf: &mut [u8]) -> Result<Piece, Failure> {
        let piece = match &mut self.bytes {
            Bytes::File { file, len, at, data_end } => next_of_file(file, *len, at, data_end, buf),
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
    Ok(Bytes::File { file, len, at: 0, data_end: 0 })
}

fn next_of_file(
    file: &File,
    len: u64,
    at: &mut u64,
    data_end: &mut u64,
    buf: &mut [u8],
) -> io::Result<Piece> {
    if *at >= len {
        return Ok(Piece::End);
    }
    if *at >= *data_end {
        let data = seek(file, *at, Whence::SeekData)?.unwrap_or(len).min(len);
        *data_end =
            if data < len { seek(file, data, Whence::SeekHole)?.unwrap_or(len).min(len) } else { data };
        if data > *at {
            let hole = data - *at;
            *at = data;
            return Ok(Piece::Hole(hole));
        }
    }
    let rest = usize::try_from(*data_end - *at).unwrap_or(usize::MAX);
    let wanted = rest.min(buf.len());
    file.read_exact_at(buf.get_mut(..wanted).unwrap_or_default(), *at)?;
    *at += wanted as u64;
    Ok(Piece::Data(wanted))
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

fn next_of_stream(stream: &mut dyn Read, buf: &mut [u8]) -> io::Result<Piece> {
    let mut filled = 0;
    while let Some(free) = buf.get_mut(filled..).filter(|free| !free.is_empty()) {
        match stream.read(free) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(if filled == 0 { Piece::End } else { Piece::Data(filled) })
}
