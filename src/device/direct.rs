//! Direct: writes that go past the page cache.
//!
//! Floor 1. A copy into the page cache costs memory that the guest's own cache holds already, and a sync has to find and
//! write it all later. So large writes, and small ones that a sync follows, go straight to the medium. Reads stay with the
//! page cache: the kernel drops what it holds of a range before and after a direct write to it (`O_DIRECT`, open(2)).

use super::aligned::{ALIGNMENT_BYTES, Aligned, is_aligned};
use crate::units::wide;
use nix::fcntl::OFlag;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes of fewer bytes are faster through the page cache, if no sync follows.
pub(super) const DIRECT_BYTES_MIN: usize = 64 << 10;
/// Bytes that are made to lie right at a time.
const BOUNCE_BYTES: usize = 1 << 20;
/// Buffers that are kept for that.
const BOUNCES_MAX: usize = 4;

/// A second way to a file that is open already.
#[derive(Debug)]
pub(super) struct Direct {
    file: File,
    bounces: Mutex<Vec<Bounce>>,
    /// The file system said that it cannot, after all.
    is_refused: AtomicBool,
}

struct Bounce(Aligned);

impl std::fmt::Debug for Bounce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bounce({} bytes)", self.0.capacity())
    }
}

impl Direct {
    /// Opens the way, if the file system has it.
    pub(super) fn open(path: &Path, file: &File) -> Option<Self> {
        let direct = OpenOptions::new().write(true).custom_flags(OFlag::O_DIRECT.bits()).open(path).ok()?;
        // The path may lead elsewhere by now.
        let (found, wanted) = (direct.metadata().ok()?, file.metadata().ok()?);
        let is_same = (found.dev(), found.ino()) == (wanted.dev(), wanted.ino());
        is_same.then(|| Self { file: direct, bounces: Mutex::default(), is_refused: AtomicBool::new(false) })
    }

    /// Writes all of `buf`. `false` where that has to be done the other way, whatever arrived so far.
    pub(super) fn write(&self, buf: &[u8], offset: u64) -> io::Result<bool> {
        let is_whole = |bytes: u64| bytes.is_multiple_of(wide(ALIGNMENT_BYTES));
        if !is_whole(offset) || !is_whole(wide(buf.len())) || self.is_refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let written =
            if is_aligned(buf) { self.file.write_all_at(buf, offset) } else { self.bounce(buf, offset) };
        match written {
            // A medium with blocks larger than a page, or a file system that decides as it goes.
            Err(cause)
                if matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
            {
                self.is_refused.store(true, Ordering::Relaxed);
                Ok(false)
            }
            written => written.map(|()| true),
        }
    }

    /// Writes bytes that do not lie right in memory.
    fn bounce(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let spare = self.bounces.lock().pop();
        let Bounce(mut bounce) = match spare {
            Some(bounce) => bounce,
            None => Bounce(Aligned::with_capacity(BOUNCE_BYTES)),
        };
        let mut at = offset;
        let written = buf.chunks(BOUNCE_BYTES).try_for_each(|part| {
            bounce.clear();
            bounce.extend_from_slice(part);
            self.file.write_all_at(&bounce, at)?;
            at += wide(part.len());
            Ok(())
        });
        let mut bounces = self.bounces.lock();
        if bounces.len() < BOUNCES_MAX {
            bounces.push(Bounce(bounce));
        }
        written
    }
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "says the seed, and what was skipped")]
#[expect(clippy::disallowed_methods, reason = "a file that a device has open, too")]
mod tests {
    use super::super::sim::Random;
    use super::super::{Access, Device, FileDevice};
    use super::*;

    const LEN: usize = 4 << 20;

    /// Writes of all sizes, on whichever way they go, are seen by reads, which have old pages in the cache.
    #[test]
    fn what_was_written_is_read_back_whichever_way_it_went() {
        let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into();
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let device = FileDevice::create(&dir.path().join("file"), false).unwrap();
        device.grow(wide(LEN)).unwrap();
        let (mut model, mut found) = (vec![0; LEN], vec![0; LEN]);
        let mut source = Aligned::with_capacity(LEN);
        for round in 0..200 {
            let unit = [1, 512, ALIGNMENT_BYTES][random.index(3)];
            let from = random.index(LEN / unit) * unit;
            let length = random.index((LEN - from).min(1 << (12 + round % 11)) / unit + 1) * unit;
            let mut bytes = vec![0; length];
            random.fill(&mut bytes);
            source.clear();
            source.extend_from_slice(&bytes);
            let bytes = if round % 2 == 0 { &source[..] } else { &bytes[..] };
            let write = if round % 3 == 0 { FileDevice::write_before_sync } else { FileDevice::write_at };
            write(&device, bytes, wide(from)).unwrap();
            model[from..from + length].copy_from_slice(bytes);
            device.read_at(&mut found, 0).unwrap();
            assert!(found == model, "round {round}: {length} bytes at {from}");
        }
        device.sync().unwrap();
        drop(device);
        let device = FileDevice::open(&dir.path().join("file"), Access::ReadOnly).unwrap();
        device.read_at(&mut found, 0).unwrap();
        assert!(found == model);
    }

    #[test]
    fn only_whole_pages_of_the_medium_go_past_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![0; LEN]).unwrap();
        let file = File::open(&path).unwrap();
        let Some(direct) = Direct::open(&path, &file) else {
            println!("skipped: the file system of the directory for temporary files has no direct writes");
            return;
        };
        let bytes = vec![7; 2 * ALIGNMENT_BYTES];
        assert!(direct.write(&bytes, 4096).unwrap());
        assert!(!direct.write(&bytes[1..], 4096).unwrap(), "not whole");
        assert!(!direct.write(&bytes, 512).unwrap(), "begins in the midst of a page");
        assert!(
            direct.write(&vec![7; 3 << 20], 0).unwrap(),
            "longer than what is made to lie right at a time"
        );
        assert_eq!(std::fs::read(&path).unwrap()[..3 << 20], vec![7; 3 << 20]);
    }

    #[test]
    fn another_file_at_the_path_is_not_taken_for_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, [0; 4096]).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        std::fs::write(&path, [1; 4096]).unwrap();
        assert!(Direct::open(&path, &file).is_none());
    }
}
