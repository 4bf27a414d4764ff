//! File: a store in a regular file or on a block device, by positioned I/O.
//!
//! Floor 1. Opening takes the lock that keeps two processes from writing one store.
//!
//! L1  Nobody holds a writable `FileDevice` while another process has the same file open through this library:
//!     an exclusive lock over the whole file for writing, a shared one for reading, held until drop.
//! L2  The length that was reported never shrinks while the device is open: only `create` truncates, under the
//!     exclusive lock and before anybody saw a length.
//! L3  What `create` makes is found again after a crash: the file and the directory that names it are synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};
use nix::libc;
use parking_lot::Mutex;

use super::Device;
use super::direct::{DIRECT_BYTES_MIN, Direct};
use super::windows::{MAPPED_BYTES_MAX, Windows};
use crate::error::{Error, ErrorKind};

/// How much of a block device is looked at to decide whether it holds data. File systems, partition tables and
/// volume managers all put their first signature within it, as does a store.
const HEAD_BYTES: usize = 128 << 10;

/// Holes are punched in whole pages: anything finer makes the file system write zeroes instead of freeing space.
const HOLE_ALIGNMENT_BYTES: u64 = 4096;

/// The unit in which a file system says how much space a file takes.
const STAT_BLOCK_BYTES: u64 = 512;

/// What a [`FileDevice`] is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading and writing, alone.
    ReadWrite,
    /// Reading, together with other readers.
    ReadOnly,
}

/// A regular file or a block device.
///
/// ```
/// use cowblk::device::{Access, Device, FileDevice};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("pool.cow");
/// let device = FileDevice::create(&path, false)?;
/// device.grow(1 << 20)?;
/// device.write_at(b"hello", 4096)?;
/// device.sync()?;
/// drop(device); // releases the lock
/// assert_eq!(FileDevice::open(&path, Access::ReadOnly)?.len_bytes()?, 1 << 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    medium: Medium,
    access: Access,
    /// Kept here because every transfer is checked against it. While the lock is ours nobody else changes it.
    len_bytes: AtomicU64,
    /// One growth at a time: two at once could undo each other where growing falls back to setting a length.
    growth: Mutex<()>,
    /// Past the page cache, where the file system has such a way.
    direct: Option<Direct>,
    /// For short reads, if they were asked for.
    windows: Option<Windows>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Medium {
    File,
    BlockDevice,
}

impl FileDevice {
    /// Opens the file or block device at `path`, which must exist, and locks it until the device is dropped.
    ///
    /// # Errors
    /// `NotFound`, `Busy` where another process has it open, `ReadOnly` where only reading is permitted, `Invalid`
    /// where it is neither a file nor a block device, `Io` for the rest.
    pub fn open(path: &Path, access: Access) -> crate::Result<FileDevice> {
        let attempt = Attempt { verb: "open", path, access };
        let medium = medium_at(&attempt)?;
        let file = open_existing(&attempt, medium)?;
        FileDevice::lock(&attempt, file, medium)
    }

    /// Makes an empty file at `path`, or takes over the empty file or blank block device that is there, and locks it.
    ///
    /// With `overwrite`, what is there is lost: a file is cut to nothing, the head of a block device is zeroed. The
    /// rest of a block device keeps its old bytes, so whoever formats it must not trust what it did not write.
    ///
    /// # Errors
    /// `Exists` where something that holds data is there and `overwrite` is not set: a file of any length but 0, or a
    /// block device whose first 128 KiB are not all zero. `Full` where there is no room. Otherwise as
    /// [`open`](FileDevice::open).
    pub fn create(path: &Path, overwrite: bool) -> crate::Result<FileDevice> {
        let attempt = Attempt { verb: "create", path, access: Access::ReadWrite };
        let (file, medium) = match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
            Ok(file) => (file, Medium::File),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                let medium = medium_at(&attempt)?;
                (open_existing(&attempt, medium)?, medium)
            }
            Err(cause) => return Err(attempt.failed(cause)),
        };
        let device = FileDevice::lock(&attempt, file, medium)?;
        // Only under the lock: before it, another process may just be creating its store here.
        if !overwrite && device.holds_data().map_err(|cause| attempt.failed(cause))? {
            return Err(attempt.occupied(medium));
        }
        device
            .blank()
            .and_then(|()| sync_directory_of(path, medium))
            .map_err(|cause| attempt.failed(cause))?;
        Ok(device)
    }

    fn lock(attempt: &Attempt<'_>, file: File, medium: Medium) -> crate::Result<FileDevice> {
        let lock = match attempt.access {
            Access::ReadWrite => whole_file(libc::F_WRLCK),
            Access::ReadOnly => whole_file(libc::F_RDLCK),
        };
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => {}
            Err(cause @ (Errno::EAGAIN | Errno::EACCES)) => {
                return Err(attempt.locked(held_for_reading(&file, lock)).caused_by(cause));
            }
            Err(cause) => return Err(attempt.unlockable(cause)),
        }
        let len_bytes = (&file).seek(SeekFrom::End(0)).map_err(|cause| attempt.failed(cause))?;
        let len_bytes = AtomicU64::new(len_bytes);
        let is_writable = attempt.access == Access::ReadWrite;
        let direct = if is_writable { Direct::open(attempt.path, &file) } else { None };
        Ok(FileDevice {
            file,
            medium,
            access: attempt.access,
            len_bytes,
            growth: Mutex::new(()),
            direct,
            windows: None,
        })
    }

    /// The same device with all writes going through the page cache. By default those of 64 KiB and more, and those that a
    /// sync follows, go past it where the file system permits.
    #[must_use]
    pub fn buffered(self) -> FileDevice {
        FileDevice { direct: None, ..self }
    }

    /// The same device with short reads copied out of memory maps of the file, which takes half the time.
    ///
    /// A read error of the medium, or another program that truncates the file in spite of the lock, then ends the process with
    /// SIGBUS instead of coming back as an `Err`.
    #[must_use]
    pub fn mapped(self) -> FileDevice {
        FileDevice { windows: Some(Windows::default()), ..self }
    }

    fn write_past_the_cache(&self, buf: &[u8], offset: u64) -> io::Result<bool> {
        self.direct.as_ref().map_or(Ok(false), |direct| direct.write(buf, offset))
    }

    /// The open file, for a neighbour that maps it.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn len(&self) -> u64 {
        self.len_bytes.load(Ordering::Acquire)
    }

    /// The end of a range that lies inside the device.
    fn end_inside(&self, offset: u64, len_bytes: u64) -> Option<u64> {
        offset.checked_add(len_bytes).filter(|end| *end <= self.len())
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(super::read_only()),
        }
    }

    fn holds_data(&self) -> io::Result<bool> {
        match self.medium {
            Medium::File => Ok(self.len() > 0),
            Medium::BlockDevice => {
                let mut head = self.blank_head();
                self.file.read_exact_at(&mut head, 0)?;
                Ok(head.iter().any(|byte| *byte != 0))
            }
        }
    }

    /// Forgets what was there, durably: after a crash nothing old is taken for the new store.
    fn blank(&self) -> io::Result<()> {
        match self.medium {
            Medium::File => {
                self.file.set_len(0)?;
                self.len_bytes.store(0, Ordering::Release);
            }
            Medium::BlockDevice => self.file.write_all_at(&self.blank_head(), 0)?,
        }
        self.file.sync_all()
    }

    fn blank_head(&self) -> Vec<u8> {
        vec![0; usize::try_from(self.len()).map_or(HEAD_BYTES, |len| len.min(HEAD_BYTES))]
    }

    /// Allocates `old..new`, or only sets the length where the file system cannot allocate ahead.
    fn allocate(&self, old: u64, new: u64) -> io::Result<()> {
        match fallocate_retrying(&self.file, FallocateFlags::empty(), old, new - old) {
            Err(cause) if cause.kind() == io::ErrorKind::Unsupported => self.file.set_len(new),
            Err(cause) => {
                // A file system may have allocated a part before it was full. Give that back, or the space of a
                // growth that failed is missing to everybody; should it fail, the file just has an unused tail.
                let _ = self.file.set_len(old);
                Err(cause)
            }
            Ok(()) => Ok(()),
        }
    }
}

impl Device for FileDevice {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.end_inside(offset, buf.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        if let Some(windows) = self.windows.as_ref().filter(|_| buf.len() <= MAPPED_BYTES_MAX)
            && windows.read(&self.file, buf, offset).is_ok()
        {
            return Ok(()); // where there is no room for a map, the other way remains
        }
        // Carries on after an interruption and after a short transfer, as does its sister below.
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        self.end_inside(offset, buf.len() as u64).ok_or_else(super::beyond_the_end)?;
        if buf.len() >= DIRECT_BYTES_MIN && self.write_past_the_cache(buf, offset)? {
            return Ok(());
        }
        self.file.write_all_at(buf, offset)
    }

    fn write_before_sync(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        self.end_inside(offset, buf.len() as u64).ok_or_else(super::beyond_the_end)?;
        if self.write_past_the_cache(buf, offset)? {
            return Ok(());
        }
        self.file.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        match self.access {
            Access::ReadWrite => self.file.sync_data(),
            Access::ReadOnly => Ok(()),
        }
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.len())
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        let _alone = self.growth.lock();
        let old = self.len();
        if len_bytes <= old {
            return Ok(());
        }
        match self.medium {
            Medium::BlockDevice => return Err(io::ErrorKind::Unsupported.into()),
            Medium::File => self.allocate(old, len_bytes)?,
        }
        self.len_bytes.store(len_bytes, Ordering::Release);
        Ok(())
    }

    /// Punches a hole, in a file and on a block device alike: Linux answers `fallocate` on a block device by
    /// unmapping and zeroing. That spares the `BLKDISCARD` ioctl, which cannot be called without `unsafe`.
    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        let end = self.end_inside(offset, len_bytes).ok_or_else(super::beyond_the_end)?;
        let first = offset.next_multiple_of(HOLE_ALIGNMENT_BYTES);
        let last = end - end % HOLE_ALIGNMENT_BYTES;
        if first >= last {
            return Ok(());
        }
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate_retrying(&self.file, hole, first, last - first)
    }

    fn allocate(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        self.end_inside(offset, len_bytes).ok_or_else(super::beyond_the_end)?;
        if self.medium == Medium::BlockDevice || len_bytes == 0 {
            return Ok(());
        }
        match fallocate_retrying(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, len_bytes) {
            // Such a file system promises nothing when a file grows, either.
            Err(cause) if cause.kind() == io::ErrorKind::Unsupported => Ok(()),
            done => done,
        }
    }

    fn may_have_holes(&self) -> bool {
        let has_less_space =
            |found: fs::Metadata| found.blocks().saturating_mul(STAT_BLOCK_BYTES) < self.len();
        self.medium == Medium::File && self.file.metadata().is_ok_and(has_less_space)
    }

    fn can_grow(&self) -> bool {
        self.access == Access::ReadWrite && self.medium == Medium::File
    }

    fn has_fixed_length(&self) -> bool {
        self.medium == Medium::BlockDevice
    }

    fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }
}

fn fallocate_retrying(file: &File, flags: FallocateFlags, offset: u64, len_bytes: u64) -> io::Result<()> {
    let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let len_bytes = i64::try_from(len_bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    loop {
        match fallocate(file, flags, offset, len_bytes) {
            Err(Errno::EINTR) => {}
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return Err(io::ErrorKind::Unsupported.into()),
            result => return result.map_err(io::Error::from),
        }
    }
}

fn medium_at(attempt: &Attempt<'_>) -> crate::Result<Medium> {
    // Looked at before opening: opening a pipe would wait for its other end.
    let kind = fs::metadata(attempt.path).map_err(|cause| attempt.failed(cause))?.file_type();
    if kind.is_file() {
        Ok(Medium::File)
    } else if kind.is_block_device() {
        Ok(Medium::BlockDevice)
    } else {
        let what = if kind.is_dir() { "a directory" } else { "neither a file nor a block device" };
        let advice = "name a file, or a block device";
        Err(Error::new(ErrorKind::Invalid, attempt.sentence(&format!("it is {what}"), advice)))
    }
}

fn open_existing(attempt: &Attempt<'_>, medium: Medium) -> crate::Result<File> {
    let writable = attempt.access == Access::ReadWrite;
    let mut options = OpenOptions::new();
    options.read(true).write(writable);
    if writable && medium == Medium::BlockDevice {
        // The kernel then refuses a device that is mounted, or part of a volume: the lock alone would not notice.
        options.custom_flags(OFlag::O_EXCL.bits());
    }
    options.open(attempt.path).map_err(|cause| attempt.failed(cause))
}

/// A lock over every byte of a file, however long it grows.
fn whole_file(kind: libc::c_int) -> libc::flock {
    let kind = libc::c_short::try_from(kind).expect("lock kinds are small numbers");
    libc::flock { l_type: kind, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Whether the lock that stands in the way of `wanted` belongs to readers; only to say it in the message.
fn held_for_reading(file: &File, mut wanted: libc::flock) -> bool {
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut wanted)).is_ok()
        && libc::c_int::from(wanted.l_type) == libc::F_RDLCK
}

fn sync_directory_of(path: &Path, medium: Medium) -> io::Result<()> {
    if medium == Medium::BlockDevice {
        return Ok(()); // its name lives in memory, and is not ours to keep
    }
    let path = fs::canonicalize(path)?;
    let directory = path.parent().expect("an absolute path to a file has a parent");
    match OpenOptions::new().read(true).open(directory)?.sync_all() {
        // Some file systems (FAT, network ones) have nothing to sync in a directory, and say so like this.
        Err(cause) if cause.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// What is being done to which path: the first half of every message of this file.
struct Attempt<'a> {
    verb: &'static str,
    path: &'a Path,
    access: Access,
}

impl Attempt<'_> {
    fn sentence(&self, wrong: &str, advice: &str) -> String {
        format!("cannot {} {}: {wrong}; {advice}", self.verb, self.path.display())
    }

    fn failed(&self, cause: io::Error) -> Error {
        let writing = self.access == Access::ReadWrite;
        let (kind, wrong, advice) = match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if self.verb == "create" => (
                ErrorKind::NotFound,
                "its directory does not exist",
                "create the directory first, or correct the path",
            ),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => (
                ErrorKind::NotFound,
                "there is no such file",
                "correct the path, or create a store there first",
            ),
            io::ErrorKind::PermissionDenied if writing => (
                ErrorKind::ReadOnly,
                "writing there is not permitted",
                "run as a user who may write it, or open it read-only",
            ),
            io::ErrorKind::ReadOnlyFilesystem => (
                ErrorKind::ReadOnly,
                "its file system is read-only",
                "remount it writable, or open the store read-only",
            ),
            io::ErrorKind::ResourceBusy => (
                ErrorKind::Busy,
                "the block device is mounted or otherwise in use",
                "release it, or name another one",
            ),
            io::ErrorKind::IsADirectory => {
                (ErrorKind::Invalid, "it is a directory", "name a file, or a block device")
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (ErrorKind::Full, "its file system is full", "free some space there, or choose another path")
            }
            io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput => {
                (ErrorKind::Invalid, "this cannot be the name of a file", "correct the path")
            }
            _ => {
                let advice = "see that the path can be reached by this user and that the medium works";
                return Error::new(ErrorKind::Io, self.sentence(&cause.to_string(), advice)).caused_by(cause);
            }
        };
        Error::new(kind, self.sentence(wrong, advice)).caused_by(cause)
    }

    fn locked(&self, by_reader: bool) -> Error {
        let message = if by_reader {
            self.sentence("another process has this store open for reading", "wait for it, or stop it")
        } else {
            let advice = "stop it, or talk to it instead";
            self.sentence("another process has this store open for writing", advice)
        };
        Error::new(ErrorKind::Busy, message)
    }

    fn unlockable(&self, cause: Errno) -> Error {
        let wrong = format!("it cannot be locked ({cause}), and without a lock two processes could write it");
        let advice = "move the store to a file system that supports locks";
        Error::new(ErrorKind::Unsupported, self.sentence(&wrong, advice)).caused_by(cause)
    }

    fn occupied(&self, medium: Medium) -> Error {
        let wrong = match medium {
            Medium::File => "a file that is not empty is there",
            Medium::BlockDevice => "the block device holds data",
        };
        let advice = "open it instead, choose another path, or ask to overwrite it";
        Error::new(ErrorKind::Exists, self.sentence(wrong, advice))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    fn scratch() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pool.cow");
        (dir, path)
    }

    fn refusal(result: crate::Result<FileDevice>) -> (ErrorKind, String) {
        let error = result.unwrap_err();
        (error.kind(), error.to_string())
    }

    #[test]
    fn a_created_file_is_empty_grows_and_opens_again() {
        let (_dir, path) = scratch();
        let device = FileDevice::create(&path, false).unwrap();
        assert_eq!(device.len_bytes().unwrap(), 0);
        assert!(device.can_grow() && !device.is_read_only());
        device.grow(10_000).unwrap();
        device.grow(5).unwrap();
        assert_eq!(device.len_bytes().unwrap(), 10_000, "growing never shrinks");
        device.write_at(b"abc", 9_997).unwrap();
        device.sync().unwrap();
        drop(device);

        let device = FileDevice::open(&path, Access::ReadWrite).unwrap();
        let mut buf = [9; 5];
        device.read_at(&mut buf, 9_995).unwrap();
        assert_eq!(&buf, b"\0\0abc");
        assert_eq!(device.len_bytes().unwrap(), 10_000);
    }

    #[test]
    fn growing_allocates_and_discarding_gives_back() {
        let (_dir, path) = scratch();
        let device = FileDevice::create(&path, false).unwrap();
        device.grow(1 << 20).unwrap();
        device.write_at(&vec![7; 1 << 20], 0).unwrap();
        device.sync().unwrap();
        let allocated = fs::metadata(&path).unwrap().blocks();
        assert!(allocated >= 2048, "1 MiB is 2048 sectors, found {allocated}");

        match device.discard(100, (1 << 20) - 200) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return,
            result => result.unwrap(),
        }
        device.sync().unwrap();
        assert!(fs::metadata(&path).unwrap().blocks() < allocated);
        assert_eq!(device.len_bytes().unwrap(), 1 << 20);
        let mut edge = [0; 200];
        device.read_at(&mut edge, (1 << 20) - 200).unwrap();
        assert_eq!(edge, [7; 200], "bytes beside the range stay");
        device.discard(10, 20).unwrap();
        device.discard(0, 0).unwrap();
    }

    #[test]
    fn a_transfer_across_the_end_is_refused() {
        let (_dir, path) = scratch();
        let device = FileDevice::create(&path, false).unwrap();
        device.grow(1000).unwrap();
        let mut buf = [0; 10];
        for offset in [995, u64::MAX - 3] {
            assert_eq!(device.read_at(&mut buf, offset).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(device.write_at(&buf, offset).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            assert_eq!(device.discard(offset, 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 1000, "a refused write must not lengthen the file");
    }

    #[test]
    fn a_growth_that_fails_leaves_the_length() {
        let (_dir, path) = scratch();
        let device = FileDevice::create(&path, false).unwrap();
        device.grow(1000).unwrap();
        device.grow(u64::MAX).unwrap_err();
        device.grow(1 << 62).unwrap_err();
        assert_eq!(device.len_bytes().unwrap(), 1000);
        assert_eq!(fs::metadata(&path).unwrap().len(), 1000);
    }

    #[test]
    fn one_writer_or_many_readers() {
        let (_dir, path) = scratch();
        let writer = FileDevice::create(&path, false).unwrap();
        let name = path.display();
        for access in [Access::ReadWrite, Access::ReadOnly] {
            let (kind, message) = refusal(FileDevice::open(&path, access));
            assert_eq!(kind, ErrorKind::Busy);
            let expected = "another process has this store open for writing; stop it, or talk to it instead";
            assert_eq!(message, format!("cannot open {name}: {expected}"));
        }
        drop(writer);

        let reader = FileDevice::open(&path, Access::ReadOnly).unwrap();
        let other_reader = FileDevice::open(&path, Access::ReadOnly).unwrap();
        let (kind, message) = refusal(FileDevice::open(&path, Access::ReadWrite));
        assert_eq!(kind, ErrorKind::Busy);
        assert!(message.contains("open for reading; wait for it, or stop it"), "{message}");
        drop((reader, other_reader));
        FileDevice::open(&path, Access::ReadWrite).unwrap();
    }

    #[test]
    fn a_reader_cannot_change_anything() {
        let (_dir, path) = scratch();
        fs::write(&path, [5; 512]).unwrap();
        let device = FileDevice::open(&path, Access::ReadOnly).unwrap();
        assert!(device.is_read_only() && !device.can_grow() && !device.has_fixed_length());
        assert_eq!(device.write_at(&[1], 0).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(device.grow(1024).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(device.discard(0, 512).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        device.sync().unwrap();
        assert_eq!(fs::read(&path).unwrap(), [5; 512]);
    }

    #[test]
    fn create_takes_an_empty_file_but_not_one_with_data() {
        let (dir, path) = scratch();
        fs::write(&path, []).unwrap();
        drop(FileDevice::create(&path, false).unwrap());

        fs::write(&path, [0; 512]).unwrap(); // zeroes are data too: somebody made the file that long
        let (kind, message) = refusal(FileDevice::create(&path, false));
        assert_eq!(kind, ErrorKind::Exists);
        assert!(message.ends_with("or ask to overwrite it"), "{message}");
        assert_eq!(fs::metadata(&path).unwrap().len(), 512);

        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        let device = FileDevice::create(&link, true).unwrap();
        assert_eq!(device.len_bytes().unwrap(), 0);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }

    #[test]
    fn create_does_not_touch_a_file_in_use_even_to_overwrite() {
        let (_dir, path) = scratch();
        fs::write(&path, [1; 512]).unwrap();
        let _reader = FileDevice::open(&path, Access::ReadOnly).unwrap();
        assert_eq!(refusal(FileDevice::create(&path, true)).0, ErrorKind::Busy);
        assert_eq!(fs::read(&path).unwrap(), [1; 512]);
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let (dir, path) = scratch();
        let (kind, message) = refusal(FileDevice::open(&path, Access::ReadOnly));
        assert_eq!(kind, ErrorKind::NotFound);
        assert!(message.contains("there is no such file") && message.contains("pool.cow"), "{message}");
        assert!(!path.exists(), "opening must not create");

        let (kind, message) = refusal(FileDevice::create(&dir.path().join("no/pool.cow"), false));
        assert_eq!(kind, ErrorKind::NotFound);
        assert!(message.contains("its directory does not exist"), "{message}");
    }

    #[test]
    fn a_directory_or_a_pipe_is_no_medium() {
        let (dir, path) = scratch();
        for access in [Access::ReadWrite, Access::ReadOnly] {
            assert_eq!(refusal(FileDevice::open(dir.path(), access)).0, ErrorKind::Invalid);
        }
        assert_eq!(refusal(FileDevice::create(dir.path(), true)).0, ErrorKind::Invalid);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (kind, message) = refusal(FileDevice::open(&path, Access::ReadOnly));
        assert_eq!(kind, ErrorKind::Invalid);
        assert!(message.contains("neither a file nor a block device"), "{message}");
    }

    /// Run by hand: `truncate -s 8M img`, then `losetup --show -f img`, then with the printed name
    /// `COWBLK_BLANK_BLOCK_DEVICE=/dev/loop0 cargo test --lib block_device -- --ignored`.
    #[test]
    #[ignore = "needs root and a blank block device"]
    fn a_block_device_has_a_fixed_size_and_is_not_taken_over_with_data() {
        let name = std::env::var("COWBLK_BLANK_BLOCK_DEVICE").unwrap();
        let path = Path::new(&name);
        let device = FileDevice::create(path, false).unwrap();
        let len = device.len_bytes().unwrap();
        assert!(len > 1 << 20 && !device.can_grow());
        device.grow(len).unwrap();
        assert_eq!(device.grow(len + 1).unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(refusal(FileDevice::open(path, Access::ReadWrite)).0, ErrorKind::Busy);
        device.write_at(&[7; 8192], 8192).unwrap();
        assert_eq!(device.write_at(&[7; 2], len - 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        device.sync().unwrap();
        drop(device);

        assert_eq!(refusal(FileDevice::create(path, false)).0, ErrorKind::Exists);
        let device = FileDevice::create(path, true).unwrap();
        assert!(!device.holds_data().unwrap());
        device.write_at(&[7; 8192], 8192).unwrap();
        match device.discard(8000, 8192) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return,
            result => result.unwrap(),
        }
        let mut buf = [1; 8192];
        device.read_at(&mut buf, 8192).unwrap();
        assert_eq!(buf, *[[0; 4096], [7; 4096]].as_flattened());
        device.write_at(&[0; 8192], 8192).unwrap();
    }

    /// The tests may run as root, whom no permission stops: so the table is tested, not the system.
    #[test]
    fn every_refusal_of_the_system_has_its_kind_and_keeps_its_cause() {
        let path = Path::new("pool.cow");
        let writing = Attempt { verb: "open", path, access: Access::ReadWrite };
        let reading = Attempt { verb: "open", path, access: Access::ReadOnly };
        let rows = [
            (&writing, Errno::EACCES, ErrorKind::ReadOnly),
            (&writing, Errno::EPERM, ErrorKind::ReadOnly),
            (&writing, Errno::EROFS, ErrorKind::ReadOnly),
            (&reading, Errno::EACCES, ErrorKind::Io),
            (&writing, Errno::EBUSY, ErrorKind::Busy),
            (&writing, Errno::ENOSPC, ErrorKind::Full),
            (&writing, Errno::EDQUOT, ErrorKind::Full),
            (&writing, Errno::ENOTDIR, ErrorKind::NotFound),
            (&writing, Errno::ENAMETOOLONG, ErrorKind::Invalid),
            (&writing, Errno::EIO, ErrorKind::Io),
        ];
        for (attempt, errno, kind) in rows {
            let error = attempt.failed(errno.into());
            assert_eq!(error.kind(), kind, "{errno}");
            assert!(error.to_string().starts_with("cannot open pool.cow: "), "{error}");
            assert!(error.source().is_some(), "{errno}");
        }
    }
}
