//! Synced device: a medium in memory whose syncs cost what those of a file do.
//!
//! Blocks of data stay in a [`SparseDevice`], so that a disk of gibibytes fits. All else (journal, nodes, refcounts) goes to a file, too, in
//! `COWBLK_BENCH_DIR` or the directory for temporary files, and a sync is that file's.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use cowblk::device::Device;

use crate::sparse_device::{SparseDevice, is_uniform};

/// A [`SparseDevice`] whose syncs cost what a file's do.
pub(crate) struct SyncedDevice {
    memory: Arc<SparseDevice>,
    file: File,
}

impl SyncedDevice {
    /// What `memory` holds, and a new file beside it.
    pub(crate) fn new(memory: Arc<SparseDevice>) -> Arc<Self> {
        let dir = std::env::var_os("COWBLK_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let file = tempfile::tempfile_in(dir).unwrap();
        file.set_len(memory.len_bytes().unwrap()).unwrap();
        Arc::new(Self { memory, file })
    }
}

impl Device for SyncedDevice {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.memory.read_at(buf, offset)
    }

    /// Blocks of data are blocks that repeat a word: no other block of a store is.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.memory.write_at(buf, offset)?;
        if buf.chunks(4096).all(is_uniform) { Ok(()) } else { self.file.write_all_at(buf, offset) }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.memory.len_bytes()
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.file.set_len(len_bytes)?;
        self.memory.grow(len_bytes)
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.memory.discard(offset, len_bytes)
    }

    fn can_grow(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }
}
