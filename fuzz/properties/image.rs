//! Image: a store's image that can be changed and sealed again. Written from docs/format.md.

pub(crate) use super::format::parts::{BLOCK, Batch, Kind, Parts, checkpoint, superblock};
pub(crate) use super::format::sealing::{SLOTS, Sealing};
use super::pages::Pages;

/// An image, and where its parts were before anything was changed.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) pages: Pages,
    pub(crate) parts: &'static Parts,
    pub(crate) batches: Vec<Batch>,
    /// Where the batch behind the last one goes.
    journal_end: usize,
}

impl Image {
    /// The image of a valid store of which slot A is current.
    pub(crate) fn new(bytes: &'static [u8], parts: &'static Parts) -> Self {
        Self {
            pages: Pages::new(bytes),
            parts,
            batches: parts.batches.clone(),
            journal_end: parts.journal_end,
        }
    }

    /// The number at `at`; zero behind the end.
    pub(crate) fn u64(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        self.pages.read(at, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Appends a batch with these records and inline blocks to the journal, if there is room behind the last one.
    pub(crate) fn append_batch(&mut self, records: &[u8], inline: &[u8], is_durable: bool) -> Option<Batch> {
        let sequence = self.u64(superblock::JOURNAL_SEQUENCE) + self.batches.len() as u64;
        let durable = if is_durable { sequence } else { sequence - 1 };
        let mut batch = b"cowblkJB\0\0\0\0\0\0\0\0".to_vec();
        for number in [sequence, self.u64(superblock::TERM), durable] {
            batch.extend_from_slice(&number.to_le_bytes());
        }
        batch.extend_from_slice(&(records.len() as u32).to_le_bytes());
        batch.extend_from_slice(&((inline.len() / BLOCK) as u32).to_le_bytes());
        batch.extend_from_slice(&self.pages.get(superblock::UUID, 16).unwrap_or_default());
        batch.extend_from_slice(records);
        batch.resize(batch.len().next_multiple_of(4096), 0);
        batch.extend_from_slice(inline);
        let place = Batch { at: self.journal_end, bytes: batch.len() };
        if place.at + place.bytes > self.parts.journal_limit {
            return None;
        }
        self.put(place.at, &batch);
        self.seal_batch(place);
        self.journal_end += place.bytes;
        self.batches.push(place);
        Some(place)
    }

    /// Gives the store another uuid: the one that it was made with is random.
    pub(crate) fn name(&mut self, uuid: [u8; 16]) {
        self.put(superblock::UUID, &uuid);
        self.seal_superblock();
        for batch in self.batches.clone() {
            self.put(batch.at + 48, &uuid);
            self.seal_batch(batch);
        }
    }
}

impl Sealing for Image {
    fn get(&self, at: usize, count: usize) -> Option<Vec<u8>> {
        self.pages.get(at, count)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.pages.write(at, bytes);
    }

    fn parts(&self) -> &Parts {
        self.parts
    }
}
