//! Sparse: the pieces of a file with holes, and those of a stream.
//!
//! What a file says of its holes is not believed further than it has to be: it may grow, shrink or fill up meanwhile.

use std::io::{self, Read};

/// What comes next in a source.
pub(crate) enum Piece {
    /// This many bytes, now in the buffer.
    Data(usize),
    /// This many zeros, which nobody had to read.
    Hole(u64),
    End,
}

impl Piece {
    /// How much of the image it is.
    pub(crate) fn len_bytes(&self) -> u64 {
        match self {
            Piece::Data(len) => *len as u64,
            Piece::Hole(len) => *len,
            Piece::End => 0,
        }
    }
}

/// A file that knows its holes.
pub(crate) trait Sparse {
    /// Where the first data is, from `at` on; `None` if there is none before the end.
    fn data_from(&self, at: u64) -> io::Result<Option<u64>>;
    /// Where the first hole is, from `at` on; `None` if there is none before the end.
    fn hole_from(&self, at: u64) -> io::Result<Option<u64>>;
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()>;
}

/// Reads a file from its start to the end that it had at first.
pub(crate) struct Reader<F> {
    file: F,
    len: u64,
    at: u64,
    /// Where the run of data ends that the reader stands in.
    data_end: u64,
}

impl<F: Sparse> Reader<F> {
    pub(crate) fn new(file: F, len: u64) -> Reader<F> {
        Reader { file, len, at: 0, data_end: 0 }
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.len
    }

    /// The next piece; data fills `buf` from its start, and fills all of it unless a hole or the end follows.
    pub(crate) fn next(&mut self, buf: &mut [u8]) -> io::Result<Piece> {
        if self.at >= self.len {
            return Ok(Piece::End);
        }
        if self.at >= self.data_end {
            let data = self.file.data_from(self.at)?.unwrap_or(self.len).clamp(self.at, self.len);
            let hole = if data < self.len { self.file.hole_from(data)? } else { None };
            self.data_end = hole.unwrap_or(self.len).clamp(data, self.len);
            if data > self.at {
                let hole = data - self.at;
                self.at = data;
                return Ok(Piece::Hole(hole));
            }
        }
        let rest = usize::try_from(self.data_end - self.at).unwrap_or(usize::MAX);
        let wanted = rest.min(buf.len());
        self.file.read_exact_at(buf.get_mut(..wanted).unwrap_or_default(), self.at)?;
        self.at += wanted as u64;
        Ok(Piece::Data(wanted))
    }
}

/// The next piece of a stream: data that fills `buf` unless the end follows.
pub(crate) fn next_of_stream(stream: &mut dyn Read, buf: &mut [u8]) -> io::Result<Piece> {
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
