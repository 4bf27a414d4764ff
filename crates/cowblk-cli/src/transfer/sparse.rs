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
            // A run without an end, or an empty one, is read to the end: a hole reads as zeros.
            self.data_end = hole.filter(|hole| *hole > data).unwrap_or(self.len).min(self.len);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose holes are gone, or somewhere else, as soon as they were asked for.
    struct Liar;

    impl Sparse for Liar {
        fn data_from(&self, at: u64) -> io::Result<Option<u64>> {
            Ok(Some(at / 2))
        }

        fn hole_from(&self, at: u64) -> io::Result<Option<u64>> {
            Ok(if at == 0 { Some(100) } else { Some(at - 1) })
        }

        fn read_exact_at(&self, buf: &mut [u8], _: u64) -> io::Result<()> {
            buf.fill(7);
            Ok(())
        }
    }

    #[test]
    fn a_file_that_changes_meanwhile_never_leads_back() {
        let mut reader = Reader::new(Liar, 1000);
        let mut at = 0;
        loop {
            match reader.next(&mut [0; 64]).unwrap() {
                Piece::End => break,
                piece => {
                    assert_ne!(piece.len_bytes(), 0);
                    at += piece.len_bytes();
                }
            }
        }
        assert_eq!(at, 1000, "nothing is read twice, and nothing is left out");
    }
}
