//! Replies: what goes back to the client in one piece.
//!
//! Heads and data lie behind each other as the wire wants them: data is read from the store to where it is
//! sent from, and a batch of replies is one system call.

use crate::codec::ReplyHead;

/// Replies that were built and not sent yet. Each thread has its own, and uses its memory again and again.
#[derive(Default)]
pub(crate) struct Replies {
    /// As long as it ever was; the first `filled` bytes are to be sent.
    bytes: Vec<u8>,
    filled: usize,
}

/// More memory than this is given back once it was used (bytes).
const KEEP_BYTES: usize = (1 << 20) + 4096;

/// Up to here memory grows by doubling (bytes).
const DOUBLE_BYTES: usize = 256 << 10;

impl Replies {
    /// What is to be sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.filled
    }

    /// Everything was sent.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
        if self.bytes.len() > KEEP_BYTES {
            self.bytes = Vec::new();
        }
    }

    /// Takes back everything behind the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.filled = self.filled.min(len);
    }

    /// Adds a head, and room for `len` bytes of data, which hold anything.
    pub(crate) fn push(&mut self, head: &ReplyHead, len: usize) -> &mut [u8] {
        let start = self.filled + head.len();
        let end = start + len;
        if self.bytes.len() < end {
            // Small ones grow by doubling, large ones to what they need: a thread's share of memory is a promise.
            let len = if end <= DOUBLE_BYTES { end.next_power_of_two() } else { end.next_multiple_of(4096) };
            self.bytes.reserve_exact(len - self.bytes.len());
            self.bytes.resize(len, 0);
        }
        self.bytes[self.filled..start].copy_from_slice(head);
        self.filled = end;
        &mut self.bytes[start..end]
    }

    /// Adds bytes that `put` appends.
    pub(crate) fn append(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.truncate(self.filled);
        put(&mut self.bytes);
        self.filled = self.bytes.len();
    }
}
