//! Sparse device: a medium in memory that keeps a page of one repeated word as that word.
//!
//! Disks of many gibibytes can so be mapped, block for block, by what a laptop has in memory: a block that [`block`] made
//! costs 16 bytes here, while the store checksums, places and counts it like any other. A leaf whose references grow by the same from one to the
//! next, as those of equal blocks in a row do, is kept as the first of them and the step. What the store reads is what it wrote, bit for bit.

use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cowblk::device::Device;

const PAGE: usize = 4096;

#[derive(Clone)]
enum Page {
    /// The same eight bytes over and over.
    Word(u64),
    /// Numbers of 16 bytes, each so much more than the one before.
    Steps(Box<Steps>),
    Bytes(Box<[u8; PAGE]>),
}

#[derive(Clone, Copy)]
struct Steps {
    first: u128,
    step: u128,
}

impl Steps {
    /// What a page is made of, if it is.
    fn of(bytes: &[u8]) -> Option<Self> {
        let (numbers, _) = bytes.as_chunks::<16>();
        let mut numbers = numbers.iter().map(|number| u128::from_le_bytes(*number));
        let (first, mut last) = (numbers.next()?, numbers.next()?);
        let step = last.wrapping_sub(first);
        let goes_on = numbers.all(|number| {
            let is_next = number.wrapping_sub(last) == step;
            last = number;
            is_next
        });
        goes_on.then_some(Self { first, step })
    }

    fn bytes(self) -> [u8; PAGE] {
        let (mut bytes, mut number) = ([0; PAGE], self.first);
        for part in bytes.as_chunks_mut::<16>().0 {
            *part = number.to_le_bytes();
            number = number.wrapping_add(self.step);
        }
        bytes
    }
}

/// Pages in a chunk: what copies of a medium share until one of them writes there.
const CHUNK: usize = 1024;

/// Bytes of a write after which its chunks are looked at: they may be of one word now.
const WORTH_A_LOOK: usize = 64 << 10;

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
    let first = bytes.first_chunk::<8>()?;
    // Each word is the one before it: one comparison of memory.
    (bytes[8..] == bytes[..bytes.len() - 8]).then(|| u64::from_le_bytes(*first))
}

/// Whether a block is one that this medium keeps as a word.
pub(crate) fn is_uniform(bytes: &[u8]) -> bool {
    repeated_word(bytes).is_some()
}

impl Page {
    fn load(&self, buf: &mut [u8], from: usize) {
        match self {
            Self::Bytes(bytes) => buf.copy_from_slice(&bytes[from..from + buf.len()]),
            Self::Steps(steps) => buf.copy_from_slice(&steps.bytes()[from..from + buf.len()]),
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
        if buf.len() == PAGE
            && let Some(steps) = Steps::of(buf)
        {
            *self = Self::Steps(Box::new(steps));
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
    }

    /// Becomes one word where all of its pages are.
    fn collapse(&mut self) {
        if let Self::Pages(pages) = self
            && let Page::Word(word) = pages[0]
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
        if buf.len() >= WORTH_A_LOOK {
            let first = parts(offset, 1).next().map_or(0, |(page, ..)| page / CHUNK);
            chunks
                .iter_mut()
                .skip(first)
                .take(buf.len().div_ceil(CHUNK * PAGE) + 1)
                .for_each(Chunk::collapse);
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
