//! Medium: a device in memory that is full at some length, so that no forged number can eat all memory.

use std::io;
use std::sync::{Arc, Mutex};

use cowblk::device::Device;

use super::pages::Pages;

const BYTES_MAX: u64 = 32 << 20;

pub(crate) struct Medium {
    pages: Mutex<Pages>,
    is_read_only: bool,
}

impl Medium {
    pub(crate) fn new(pages: Pages) -> Arc<Self> {
        Arc::new(Self { pages: Mutex::new(pages), is_read_only: false })
    }

    pub(crate) fn read_only(pages: Pages) -> Arc<Self> {
        Arc::new(Self { pages: Mutex::new(pages), is_read_only: true })
    }

    fn transfer(
        &self,
        offset: u64,
        beyond: io::ErrorKind,
        body: impl FnOnce(&mut Pages, usize) -> Option<()>,
    ) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(|_| beyond)?;
        body(&mut self.pages.lock().unwrap(), at).ok_or_else(|| beyond.into())
    }
}

impl Device for Medium {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.transfer(offset, io::ErrorKind::UnexpectedEof, |pages, at| pages.read(at, buf))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        assert!(!self.is_read_only, "a store that is open for reading writes");
        self.transfer(offset, io::ErrorKind::InvalidInput, |pages, at| pages.write(at, buf))
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.pages.lock().unwrap().len() as u64)
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        if len_bytes > BYTES_MAX {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.pages.lock().unwrap().grow(len_bytes as usize);
        Ok(())
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.write_at(&vec![0; len_bytes.min(BYTES_MAX) as usize], offset)
    }

    fn can_grow(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
    }
}
