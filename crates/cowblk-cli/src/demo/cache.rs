//! A small write-back page cache: what an operating system keeps between a file system and its disk.
//!
//! A file system updates the same few sectors over and over. Here, as in a guest, those updates meet
//! in memory and reach the disk once, in ascending order and in long writes.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

const PAGE_BYTES: usize = 4096;
/// Pages held before everything is written out and forgotten: 16 MiB.
const PAGES_MAX: usize = 4096;
/// Pages of the longest single write.
const RUN_PAGES_MAX: usize = 256;

/// A disk seen through the cache. Nothing is durable before [`Write::flush`].
pub(super) struct PageCache<D> {
    disk: D,
    len_bytes: u64,
    position: u64,
    pages: BTreeMap<u64, Page>,
}

struct Page {
    bytes: Vec<u8>,
    is_dirty: bool,
}

impl<D: Read + Write + Seek> PageCache<D> {
    pub(super) fn new(mut disk: D) -> io::Result<PageCache<D>> {
        let len_bytes = disk.seek(SeekFrom::End(0))?;
        Ok(PageCache { disk, len_bytes, position: 0, pages: BTreeMap::new() })
    }

    /// The rest of the page that the position is in, after `act` has been given it and the bytes left
    /// on the disk; moves on by what `act` says that it took.
    fn at_position(&mut self, wanted: usize, act: impl FnOnce(&mut Page, usize, usize)) -> io::Result<usize> {
        let left = usize::try_from(self.len_bytes.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let number = self.position / PAGE_BYTES as u64;
        let start = usize::try_from(self.position % PAGE_BYTES as u64).unwrap_or(0);
        let count = wanted.min(PAGE_BYTES - start).min(left);
        if count > 0 {
            act(self.page(number)?, start, start + count);
        }
        self.position += count as u64;
        Ok(count)
    }

    fn page(&mut self, number: u64) -> io::Result<&mut Page> {
        if self.pages.len() >= PAGES_MAX && !self.pages.contains_key(&number) {
            self.write_out()?;
            self.pages.clear();
        }
        match self.pages.entry(number) {
            std::collections::btree_map::Entry::Occupied(page) => Ok(page.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => {
                let offset = number * PAGE_BYTES as u64;
                let len = usize::try_from(self.len_bytes - offset).unwrap_or(usize::MAX).min(PAGE_BYTES);
                let mut bytes = vec![0; len];
                self.disk.seek(SeekFrom::Start(offset))?;
                self.disk.read_exact(&mut bytes)?;
                Ok(place.insert(Page { bytes, is_dirty: false }))
            }
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        let mut run: Vec<u8> = Vec::new();
        let mut start = 0;
        for (number, page) in self.pages.iter_mut().filter(|(_, page)| page.is_dirty) {
            let offset = number * PAGE_BYTES as u64;
            if offset != start + run.len() as u64 || run.len() >= RUN_PAGES_MAX * PAGE_BYTES {
                write_run(&mut self.disk, start, &run)?;
                run.clear();
                start = offset;
            }
            run.extend_from_slice(&page.bytes);
            page.is_dirty = false;
        }
        write_run(&mut self.disk, start, &run)
    }
}

fn write_run<D: Write + Seek>(disk: &mut D, offset: u64, run: &[u8]) -> io::Result<()> {
    disk.seek(SeekFrom::Start(offset))?;
    disk.write_all(run)
}

impl<D: Read + Write + Seek> Read for PageCache<D> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wanted = buf.len();
        self.at_position(wanted, |page, start, end| {
            if let (Some(to), Some(from)) = (buf.get_mut(..end - start), page.bytes.get(start..end)) {
                to.copy_from_slice(from);
            }
        })
    }
}

impl<D: Read + Write + Seek> Write for PageCache<D> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.at_position(buf.len(), |page, start, end| {
            if let (Some(to), Some(from)) = (page.bytes.get_mut(start..end), buf.get(..end - start)) {
                to.copy_from_slice(from);
                page.is_dirty = true;
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.disk.flush()
    }
}

impl<D> Seek for PageCache<D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.len_bytes.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn writes_reach_the_disk_with_the_flush_and_not_before() {
        let mut disk = Cursor::new(vec![0; 3 * PAGE_BYTES + 512]);
        let mut cache = PageCache::new(&mut disk).unwrap();
        cache.seek(SeekFrom::Start(PAGE_BYTES as u64 - 2)).unwrap();
        cache.write_all(b"over").unwrap();
        cache.seek(SeekFrom::End(-3)).unwrap();
        cache.write_all(b"end").unwrap();
        assert_eq!(cache.write(b"more").unwrap(), 0, "nothing is written past the end");
        assert!(cache.disk.get_ref().iter().all(|byte| *byte == 0));
        cache.flush().unwrap();
        let bytes = disk.into_inner();
        assert_eq!(bytes.get(PAGE_BYTES - 2..PAGE_BYTES + 2), Some(&b"over"[..]));
        assert!(bytes.ends_with(b"end"));
    }

    #[test]
    fn more_pages_than_the_cache_holds_read_back() {
        let mut disk = Cursor::new(vec![0; (PAGES_MAX + 10) * PAGE_BYTES]);
        let mut cache = PageCache::new(&mut disk).unwrap();
        for page in 0..PAGES_MAX as u64 + 10 {
            cache.seek(SeekFrom::Start(page * PAGE_BYTES as u64)).unwrap();
            cache.write_all(&page.to_le_bytes()).unwrap();
        }
        for page in 0..PAGES_MAX as u64 + 10 {
            let mut bytes = [0; 8];
            cache.seek(SeekFrom::Start(page * PAGE_BYTES as u64)).unwrap();
            cache.read_exact(&mut bytes).unwrap();
            assert_eq!(u64::from_le_bytes(bytes), page);
        }
    }
}
