//! A raw file through the page cache: what all others are measured by.

use super::{Outcome, Peer};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A plain file; a sync is `fdatasync`.
pub(crate) struct Raw(File);

impl Raw {
    pub(crate) const NAME: &str = "raw";

    pub(crate) fn new(dir: &Path, bytes: u64) -> Outcome<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(dir.join("raw.img"))?;
        file.set_len(bytes)?;
        Ok(Self(file))
    }
}

impl Peer for Raw {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn setting(&self) -> String {
        "a file through the page cache, filled 4 KiB at a time; `pread`, `pwrite`, `fdatasync`".into()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Outcome {
        Ok(self.0.read_exact_at(buf, offset)?)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Outcome {
        Ok(self.0.write_all_at(buf, offset)?)
    }

    fn sync(&self) -> Outcome {
        Ok(self.0.sync_data()?)
    }
}
