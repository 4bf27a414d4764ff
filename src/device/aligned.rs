//! Aligned: bytes in memory that a medium can take as they lie there, without the page cache between.
//!
//! Floor 1.

use memmap2::MmapMut;
use std::alloc::{Layout, handle_alloc_error};
use std::ops::Deref;

/// Direct transfers begin and end at multiples of this, in memory and on the medium, in bytes: no medium asks for more
/// than a page.
pub(crate) const ALIGNMENT_BYTES: usize = 4096;

/// A buffer of a fixed capacity that starts at a page, and is filled from its beginning.
pub(crate) struct Aligned {
    /// The kernel gives memory by the page, so it is aligned.
    memory: MmapMut,
    filled: usize,
}

impl Aligned {
    /// An empty buffer for so many bytes. Ends the process where there is no memory, as a vector does.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let bytes = bytes.max(1);
        let layout = Layout::from_size_align(bytes, ALIGNMENT_BYTES).unwrap_or(Layout::new::<u64>());
        let memory = MmapMut::map_anon(bytes).unwrap_or_else(|_| handle_alloc_error(layout));
        Self { memory, filled: 0 }
    }

    /// How many bytes it can take in all.
    pub(crate) fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Forgets what it holds.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    /// Adds bytes.
    ///
    /// # Panics
    /// Where they do not fit.
    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        let end = self.filled + bytes.len();
        self.memory[self.filled..end].copy_from_slice(bytes);
        self.filled = end;
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.filled]
    }
}

/// Whether bytes lie where a direct transfer can take them from.
pub(crate) fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(ALIGNMENT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_added_and_lies_where_a_page_begins() {
        let mut buffer = Aligned::with_capacity(10_000);
        buffer.extend_from_slice(&[1; 6_000]);
        buffer.extend_from_slice(&[2; 4_000]);
        assert!(is_aligned(&buffer));
        assert_eq!((buffer.len(), buffer[5_999], buffer[6_000]), (10_000, 1, 2));
        buffer.clear();
        assert!(buffer.is_empty());
    }
}
