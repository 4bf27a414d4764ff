//! A raw file past the page cache.

use super::{Outcome, Peer};
use nix::libc;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// A file opened with `O_DIRECT`, and `O_DSYNC` if each write is to be durable when it returns.
pub(crate) struct Direct {
    file: File,
    is_synced: bool,
}

impl Direct {
    pub(crate) const NAME: &str = "O_DIRECT";
    pub(crate) const NAME_SYNCED: &str = "O_DSYNC";

    pub(crate) fn new(dir: &Path, bytes: u64, is_synced: bool) -> Outcome<Self> {
        let (name, flags) = if is_synced { ("dsync.img", libc::O_DSYNC) } else { ("direct.img", 0) };
        let path = dir.join(name);
        // Filled through the page cache: what is overwritten later lies in extents that were written before.
        let plain = File::options().write(true).create_new(true).open(&path)?;
        let block = crate::buffer::Buffer::noise(1 << 20);
        for offset in (0..bytes).step_by(1 << 20) {
            plain.write_all_at(&block, offset)?;
        }
        plain.sync_all()?;
        let file = File::options().read(true).write(true).custom_flags(libc::O_DIRECT | flags).open(path)?;
        Ok(Self { file, is_synced })
    }

    /// The file, for loads that keep several writes in flight.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Peer for Direct {
    fn name(&self) -> &'static str {
        if self.is_synced { Self::NAME_SYNCED } else { Self::NAME }
    }

    fn setting(&self) -> String {
        let how = if self.is_synced { "`O_DIRECT|O_DSYNC`" } else { "`O_DIRECT`, `fdatasync`" };
        format!("a file of written extents past the page cache; {how}")
    }

    fn comes_full(&self) -> bool {
        true
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Outcome {
        Ok(self.file.read_exact_at(buf, offset)?)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Outcome {
        Ok(self.file.write_all_at(buf, offset)?)
    }

    fn sync(&self) -> Outcome {
        if self.is_synced { Ok(()) } else { Ok(self.file.sync_data()?) }
    }
}
