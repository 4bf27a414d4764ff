//! Side file: what a process leaves in the kernel's memory for the next one. Nobody ever syncs it.
//!
//! Floor 1. No part of a store: it means nothing after the machine was started anew.

use crate::error::{Error, ErrorKind, Result};
use nix::libc;
use nix::unistd::geteuid;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A regular file, open for reading and writing, that only its owner can read.
#[derive(Debug)]
pub(crate) struct SideFile {
    file: File,
    path: PathBuf,
}

impl SideFile {
    /// Makes the file.
    ///
    /// # Errors
    /// `Io`, among others without the folder; `Busy` if somebody is about to make it, too.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options
            .open(path)
            .map_err(|cause| Error::io(format!("make the handover file {}", path.display()), cause))?;
        Self { file, path: path.to_owned() }.lock()
    }

    /// Opens the file, if it is there. It has to be a file of this user's, or of `owner`.
    ///
    /// # Errors
    /// `Busy` if another process has it, `Invalid` where it is somebody else's or no file, `Io`.
    pub(crate) fn open(path: &Path, owner: Option<u32>) -> Result<Option<Self>> {
        let failed = |cause| Error::io(format!("open the handover file {}", path.display()), cause);
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed(cause)),
        };
        let data = file.metadata().map_err(failed)?;
        if data.is_file() && (data.uid() == geteuid().as_raw() || owner == Some(data.uid())) {
            return Self { file, path: path.to_owned() }.lock().map(Some);
        }
        Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "{} is no file of the one who opens the store or owns it: remove it, or name another handover file",
                path.display()
            ),
        ))
    }

    /// Sees that nobody else has the file, until this is dropped, and that it is still the one at its path.
    fn lock(self) -> Result<Self> {
        let failed = |cause| Error::io(format!("lock the handover file {}", self.path.display()), cause);
        let is_ours = match self.file.try_lock() {
            Ok(()) => {
                let own = self.file.metadata().map_err(failed)?;
                std::fs::symlink_metadata(&self.path)
                    .is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()))
            }
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(cause)) => return Err(failed(cause)),
        };
        if is_ours {
            return Ok(self);
        }
        Err(Error::new(
            ErrorKind::Busy,
            format!(
                "the handover file {} is another process's: give each store a handover file of its own",
                self.path.display()
            ),
        ))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    pub(crate) fn len_bytes(&self) -> io::Result<u64> {
        self.file.metadata().map(|data| data.len())
    }

    /// Fills `buf` from `offset`, which must lie inside the length.
    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    /// Writes `buf` at `offset`; the file grows if need be.
    pub(crate) fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    /// Throws away what it holds.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// Removes it. Where that fails it stays, and is empty.
    pub(crate) fn remove(self) {
        drop(self.clear());
        drop(std::fs::remove_file(&self.path));
    }
}

/// The user whose the file or device at `path` is, if it is there.
pub(crate) fn owner_of(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|data| data.uid())
}

/// What tells this start of the machine from every other, if the system says so.
pub(crate) fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32).map(u128::to_be_bytes)
}

/// For tests of others, which do to such files what nobody should.
#[cfg(test)]
pub(crate) use std::fs as tampering;

#[cfg(test)]
impl SideFile {
    /// One that cannot be written to.
    pub(crate) fn broken() -> Self {
        let file = File::options().read(true).open("/dev/null").expect("every system has it");
        Self { file, path: PathBuf::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_has_a_number() {
        assert_eq!(boot_id(), boot_id());
        assert!(boot_id().is_some_and(|id| id != [0; 16]) || !cfg!(target_os = "linux"));
    }

    #[test]
    fn it_is_a_file_of_ours_that_others_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover");
        assert!(SideFile::open(&path, None).unwrap().is_none());
        let file = SideFile::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(SideFile::create(&path).is_err());
        assert_eq!(SideFile::open(&path, None).unwrap_err().kind(), ErrorKind::Busy);
        drop(file);
        SideFile::open(&path, None).unwrap().unwrap().remove();
        assert!(!path.exists());
        std::fs::create_dir(&path).unwrap();
        assert!(SideFile::open(&path, None).is_err(), "a folder");
        assert!(SideFile::open(Path::new("/dev/null"), None).is_err(), "a device");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
        assert!(SideFile::create(&link).is_err() && SideFile::open(&link, None).is_err(), "a link");
    }
}
