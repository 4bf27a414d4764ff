//! Input: what a client sent and nobody looked at yet.

use super::stream::Stream;
use std::io;

/// Bytes of a connection's input: a longer payload is written in parts. The head of a request and 256 KiB fit.
pub(crate) const INPUT_BYTES: usize = (256 << 10) + (4 << 10);

/// A window over the stream of the client.
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; INPUT_BYTES], start: 0, end: 0 }
    }

    /// What is here.
    pub(crate) fn available(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// How many bytes can be here at once without moving what is here; a move is worth it where that is little.
    pub(crate) fn room(&self) -> usize {
        let room = self.bytes.len() - self.start;
        if room < INPUT_BYTES / 4 { self.bytes.len() } else { room }
    }

    /// Lets go of the first `count` bytes, which are here.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.end, "only what was received is consumed");
    }

    /// Receives until at least `needed` bytes are here, at most [`INPUT_BYTES`]. `false` if the stream ends before.
    pub(crate) fn fill(&mut self, stream: &Stream, needed: usize) -> io::Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start + needed > self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < needed {
            let received = stream.receive(&mut self.bytes[self.end..])?;
            if received == 0 {
                return Ok(false);
            }
            self.end += received;
        }
        Ok(true)
    }
}
