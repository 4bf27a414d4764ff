//! Windows: short reads of a file that grows, through memory maps instead of system calls.
//!
//! Floor 1. One of the few files that may say `unsafe`; what it costs in trust is said at the one block. A copy out of a map
//! takes half the time of a `pread` of one page, which is most of the time of a warm read.
#![expect(
    unsafe_code,
    reason = "bytes of a memory map cannot be copied without it; a warm read takes half the time"
)]

use crate::units::{index, wide};
use memmap2::{Advice, MmapOptions, MmapRaw};
use parking_lot::RwLock;
use std::fs::File;
use std::io;

/// Bytes that one map covers.
const WINDOW_BYTES: u64 = 1 << 30;
/// Longer reads are faster by a system call, which also reads ahead.
pub(super) const MAPPED_BYTES_MAX: usize = 64 << 10;

/// Maps of a file, made as they are needed.
#[derive(Debug, Default)]
pub(super) struct Windows(RwLock<Vec<Option<MmapRaw>>>);

impl Windows {
    /// Fills `buf` from `offset`, all of which lies inside the file's length.
    pub(super) fn read(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let within = at % WINDOW_BYTES;
            let here = index((WINDOW_BYTES - within).min(wide(rest.len())));
            let (part, tail) = rest.split_at_mut(here);
            let number = index(at / WINDOW_BYTES);
            let mut windows = self.0.read();
            if windows.get(number).is_none_or(Option::is_none) {
                drop(windows);
                self.open(file, number)?;
                windows = self.0.read();
            }
            let window = windows.get(number).and_then(Option::as_ref);
            copy_out(window.ok_or(io::ErrorKind::Unsupported)?, index(within), part);
            at += wide(here);
            rest = tail;
        }
        Ok(())
    }

    /// Sees that a window is there. None is ever taken away.
    fn open(&self, file: &File, number: usize) -> io::Result<()> {
        let mut windows = self.0.write();
        if windows.len() <= number {
            windows.resize_with(number + 1, || None);
        }
        let place = &mut windows[number];
        if place.is_none() {
            // It may reach beyond the end: the file grows into it.
            let map = MmapOptions::new()
                .offset(wide(number) * WINDOW_BYTES)
                .len(index(WINDOW_BYTES))
                .map_raw_read_only(file)?;
            // Neighbours on the medium are strangers. Without the advice it only reads more than it needs.
            let _ = map.advise(Advice::Random);
            *place = Some(map);
        }
        Ok(())
    }
}

fn copy_out(map: &MmapRaw, from: usize, target: &mut [u8]) {
    assert!(from + target.len() <= map.len(), "a read lies inside its window");
    // SAFETY:
    // - The range lies inside the map (asserted), which the caller holds for as long as this runs, and `target` is the caller's own.
    // - No reference into the map is ever made, and each byte is copied once. Nobody who goes through this library writes
    //   blocks while they are read: a block that is read is not free, and only free blocks are written (S1, S2). A
    //   program that ignores the lock can still write; then the copy holds bytes of either age, and who reads checks checksums on
    //   the copy.
    // - The caller read the file's length first, which never shrinks while it is open (L2). If a program that ignores the lock
    //   truncates the file, or the medium fails, the kernel ends the process with SIGBUS: that is what the option for these
    //   reads says, and why it is off by default. It never yields foreign memory.
    unsafe { std::ptr::copy_nonoverlapping(map.as_ptr().add(from), target.as_mut_ptr(), target.len()) }
}

#[cfg(test)]
mod tests {
    use super::super::{Device, FileDevice};
    use super::*;

    #[test]
    fn a_map_shows_what_is_written_and_what_grows_later() {
        let dir = tempfile::tempdir().unwrap();
        let device = FileDevice::create(&dir.path().join("file"), false).unwrap().mapped();
        device.grow(4096).unwrap();
        let mut found = [1; 4096];
        device.read_at(&mut found, 0).unwrap();
        assert_eq!(found, [0; 4096]);
        device.grow(1 << 20).unwrap();
        for (round, write) in [FileDevice::write_at, FileDevice::write_before_sync].into_iter().enumerate() {
            let bytes = vec![u8::try_from(round).unwrap() + 7; 128 << 10];
            write(&device, &bytes, 512 << 10).unwrap();
            device.read_at(&mut found, 600 << 10).unwrap();
            assert_eq!(found[..], bytes[..4096], "{round}");
        }
        let refused = device.read_at(&mut found, (1 << 20) - 4095).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::UnexpectedEof, "and not a signal");
    }

    #[test]
    fn a_read_crosses_from_one_window_into_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create_new(&path).unwrap();
        file.set_len(WINDOW_BYTES + 8192).unwrap(); // with a hole: a growth would allocate it all
        drop(file);
        let device = FileDevice::open(&path, super::super::Access::ReadWrite).unwrap().mapped();
        let bytes: Vec<u8> = (0..8192_u16).map(|at| (at >> 5).to_le_bytes()[0]).collect();
        device.write_at(&bytes, WINDOW_BYTES - 4096).unwrap();
        let mut found = vec![0; 8192];
        device.read_at(&mut found, WINDOW_BYTES - 4096).unwrap();
        assert!(found == bytes);
    }
}
