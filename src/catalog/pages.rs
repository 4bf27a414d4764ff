//! Pages: where each record stands on the medium, so that a checkpoint writes only the pages that changed.
//!
//! Floor 3.

use crate::format::{CatalogKey, CatalogRecord, encode_page, encoded_record, page_room};
use crate::units::{index, wide};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One page's records, encoded.
#[derive(Default)]
struct Page {
    records: BTreeMap<CatalogKey, Vec<u8>>,
    used_bytes: usize,
}

/// All pages of the catalog.
pub(crate) struct PageStore {
    page_bytes: usize,
    pages: Vec<Page>,
    place: HashMap<CatalogKey, usize>,
    /// Free bytes and number of each page, to find room.
    room: BTreeSet<(usize, usize)>,
}

impl PageStore {
    /// The pages as a checkpoint left them, in order.
    pub(crate) fn load(page_bytes: usize, pages: &[Vec<CatalogRecord>]) -> Self {
        let mut store = Self { page_bytes, pages: Vec::new(), place: HashMap::new(), room: BTreeSet::new() };
        for records in pages {
            let number = store.add_page();
            for record in records {
                store.insert(number, record.key(), encoded_record(record));
            }
        }
        store
    }

    /// How many pages there are.
    pub(crate) fn page_count(&self) -> u64 {
        wide(self.pages.len())
    }

    fn add_page(&mut self) -> usize {
        self.pages.push(Page::default());
        self.room.insert((self.page_bytes, self.pages.len() - 1));
        self.pages.len() - 1
    }

    fn insert(&mut self, number: usize, key: CatalogKey, encoded: Vec<u8>) {
        self.change(number, |page| {
            page.used_bytes += page_room(&encoded);
            page.records.insert(key, encoded);
        });
        self.place.insert(key, number);
    }

    fn take_out(&mut self, key: CatalogKey) -> Option<usize> {
        let number = self.place.remove(&key)?;
        self.change(number, |page| {
            if let Some(encoded) = page.records.remove(&key) {
                page.used_bytes -= page_room(&encoded);
            }
        });
        Some(number)
    }

    fn change(&mut self, number: usize, change: impl FnOnce(&mut Page)) {
        let page = &mut self.pages[number];
        self.room.remove(&(self.page_bytes - page.used_bytes, number));
        change(page);
        self.room.insert((self.page_bytes - page.used_bytes, number));
    }

    fn free_bytes(&self, number: usize) -> usize {
        self.page_bytes - self.pages[number].used_bytes
    }

    /// Takes changes in. Returns the pages that have to be written.
    pub(crate) fn apply(&mut self, changes: &[(CatalogKey, Option<CatalogRecord>)]) -> BTreeSet<u64> {
        let mut dirty = BTreeSet::new();
        for (key, record) in changes {
            let old = self.take_out(*key);
            dirty.extend(old.map(wide));
            let Some(record) = record else { continue };
            let encoded = encoded_record(record);
            let needed = page_room(&encoded);
            let number = match old {
                Some(number) if self.free_bytes(number) >= needed => number,
                _ => match self.room.range((needed, 0)..).next() {
                    Some(&(_, number)) => number,
                    None => self.add_page(),
                },
            };
            self.insert(number, *key, encoded);
            dirty.insert(wide(number));
        }
        dirty
    }

    /// The bytes of a page; `None` if it holds no record.
    pub(crate) fn page(&self, number: u64) -> Option<Vec<u8>> {
        let page = &self.pages[index(number)];
        (!page.records.is_empty())
            .then(|| encode_page(page.records.values().map(Vec::as_slice), self.page_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ServerKind, ServerMarks, ServerRecord, decode_page};
    use crate::units::ServerId;

    fn server(id: u64, name: &str) -> CatalogRecord {
        CatalogRecord::Server(ServerRecord {
            id: ServerId(id),
            name: name.into(),
            created_at: 1,
            kind: ServerKind::User,
            origin: None,
            marks: ServerMarks::default(),
        })
    }

    #[test]
    fn a_change_writes_one_page_and_records_survive_moving() {
        let mut store = PageStore::load(4096, &[]);
        let all: Vec<_> = (0..500).map(|id| server(id, "short")).map(|r| (r.key(), Some(r))).collect();
        assert!(store.apply(&all).len() > 1);
        let long = server(7, &"long".repeat(16));
        assert!(store.apply(&[(long.key(), Some(long.clone()))]).len() <= 2);
        assert_eq!(store.apply(&[(server(9, "").key(), None)]).len(), 1);
        let mut found: Vec<_> =
            (0..store.page_count()).flat_map(|n| decode_page(&store.page(n).unwrap()).unwrap()).collect();
        found.sort_by_key(CatalogRecord::key);
        assert_eq!(found.len(), 499);
        assert!(found.contains(&long));
    }

    /// Only the pages that `apply` names are written: what the medium holds must be the whole catalog after each change.
    #[test]
    fn the_pages_that_are_written_hold_every_record_once() {
        let mut store = PageStore::load(4096, &[]);
        let (mut medium, mut model) = (BTreeMap::new(), BTreeMap::new());
        let mut state = 3u64;
        for _ in 0..600 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = (state >> 33) % 150;
            let record = server(id, &"x".repeat(index((state >> 50) % 65)));
            let key = record.key();
            let record = (!state.is_multiple_of(5)).then_some(record);
            for page in store.apply(&[(key, record.clone())]) {
                medium.insert(page, store.page(page));
            }
            match record {
                Some(record) => drop(model.insert(key, record)),
                None => drop(model.remove(&key)),
            }
            let mut found: Vec<_> =
                medium.values().flatten().flat_map(|page| decode_page(page).unwrap()).collect();
            found.sort_by_key(CatalogRecord::key);
            assert_eq!(found, model.values().cloned().collect::<Vec<_>>());
        }
        assert!(store.page_count() > 1);
    }
}
