//! Sparse device: a medium in memory that keeps a page of one repeated word as that word.
//!
//! Disks of many gibibytes can so be mapped, block for block, by what a laptop has in memory: a block that [`block`] made
//! costs 16 bytes here, while the store checksums, places and counts it like any other.

use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cowblk::device::Device;

const PAGE: usize = 4096;

#[derive(Clone)]
enum Page {
    /// The same eight bytes over and over.
    Word(u64),
    Bytes(Box<[u8; PAGE]>),
}

/// Pages in a chunk: what copies of a medium share until one of them writes there.
const CHUNK: usize = 1024;

/// A stretch of pages.
#[derive(Clone)]
enum Chunk {
    /// The same eight bytes all through.
    Word(u64),
    Pages(Arc<Vec<Page>>),
}

type Chunks = Vec<Chunk>;

/// The medium. Nothing survives it, and a sync costs nothing: what is measured is the store's own work.
#[derive(Default)]
pub(crate) struct SparseDevice(RwLock<Chunks>);

/// The bytes of a block that repeats `word` (never zero, for a block of zeroes would be a hole).
pub(crate) fn block(buf: &mut [u8], word: u64) {
    for chunk in buf.chunks_exact_mut(8) {
        chunk.copy_from_slice(&(word | 1 << 63).to_le_bytes());
    }
}

fn repeated_word(bytes: &[u8]) -> Option<u64> {
    let first: [u8; 8] = bytes[..8].try_into().ok()?;
    bytes[8..].chunks_exact(8).all(|chunk| chunk == first).then(|| u64::from_le_bytes(first))
}

/// Whether a block is one that this medium keeps as a word.
pub(crate) fn is_uniform(bytes: &[u8]) -> bool {
    repeated_word(bytes).is_some()
}

impl Page {
    fn load(&self, buf: &mut [u8], from: usize) {
        match self {
            Self::Bytes(bytes) => buf.copy_from_slice(&bytes[from..from + buf.len()]),
            Self::Word(word) => {
                let bytes = word.to_le_bytes();
                for (i, byte) in buf.iter_mut().enumerate() {
                    *byte = bytes[(from + i) % 8];
                }
            }
        }
    }

    fn store(&mut self, buf: &[u8], from: usize) {
        if buf.len() == PAGE
            && let Some(word) = repeated_word(buf)
        {
            *self = Self::Word(word);
            return;
        }
        let mut bytes = Box::new([0; PAGE]);
        self.load(&mut bytes[..], 0);
        bytes[from..from + buf.len()].copy_from_slice(buf);
        *self = Self::Bytes(bytes);
    }
}

/// The pages that a transfer touches: page number, first byte in it, and the part of the buffer.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut done = 0;
    std::iter::from_fn(move || {
        let (page, from) = ((start + done) / PAGE, (start + done) % PAGE);
        let count = (PAGE - from).min(len - done);
        let part = done..done + count;
        done += count;
        (count > 0).then_some((page, from, part))
    })
}

impl SparseDevice {
    /// An empty medium.
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A second medium with the same bytes: what a crash at this moment would leave. Costs a word for each 4 MiB.
    pub(crate) fn copy(&self) -> Arc<Self> {
        Arc::new(Self(RwLock::new(self.chunks().clone())))
    }

    fn chunks(&self) -> RwLockReadGuard<'_, Chunks> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn chunks_mut(&self) -> RwLockWriteGuard<'_, Chunks> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chunk {
    fn load(&self, page: usize, buf: &mut [u8], from: usize) {
        match self {
            Self::Word(word) => Page::Word(*word).load(buf, from),
            Self::Pages(pages) => pages[page].load(buf, from),
        }
    }

    fn store(&mut self, page: usize, buf: &[u8], from: usize) {
        if let Self::Word(word) = *self {
            *self = Self::Pages(Arc::new(vec![Page::Word(word); CHUNK]));
        }
        let Self::Pages(pages) = self else { return };
        let pages = Arc::make_mut(pages);
        pages[page].store(buf, from);
        // Chunks are mostly written from the first page to the last: that is the moment to look.
        if page == CHUNK - 1
            && let Page::Word(word) = pages[page]
            && pages.iter().all(|page| matches!(page, Page::Word(other) if *other == word))
        {
            *self = Self::Word(word);
        }
    }
}

impl Device for SparseDevice {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let chunks = self.chunks();
        for (page, from, part) in parts(offset, buf.len()) {
            let chunk = chunks.get(page / CHUNK).ok_or(io::ErrorKind::UnexpectedEof)?;
            chunk.load(page % CHUNK, &mut buf[part], from);
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut chunks = self.chunks_mut();
        for (page, from, part) in parts(offset, buf.len()) {
            let chunk = chunks.get_mut(page / CHUNK).ok_or(io::ErrorKind::UnexpectedEof)?;
            chunk.store(page % CHUNK, &buf[part], from);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// A whole number of chunks: a store that was given less finds a little more.
    fn len_bytes(&self) -> io::Result<u64> {
        Ok((self.chunks().len() * CHUNK * PAGE) as u64)
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        let wanted = usize::try_from(len_bytes).map_err(io::Error::other)?.div_ceil(CHUNK * PAGE);
        let mut chunks = self.chunks_mut();
        let longer = wanted.max(chunks.len());
        chunks.resize(longer, Chunk::Word(0));
        Ok(())
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn can_grow(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }
}
