//! Filling: writes the pieces of an image into a disk.
//!
//! Knows nothing of files, arguments and terminals: a fuzz target runs it in memory.

use cowblk::Disk;

use super::digest::Digest;
use super::sparse::Piece;

/// A disk that becomes an image.
pub(crate) struct Filling<'a> {
    pub(crate) disk: &'a Disk,
    /// The disk reads as zeros.
    pub(crate) is_new: bool,
    pub(crate) wants_digest: bool,
}

/// What was copied.
pub(crate) struct Copied {
    /// The length of the image.
    pub(crate) image_bytes: u64,
    /// How much of it was data.
    pub(crate) data_bytes: u64,
    /// Of the whole image, holes included; `None` if nobody wants it.
    pub(crate) blake3: Option<blake3::Hash>,
}

impl Filling<'_> {
    /// Writes every piece that `next` gives, and makes the rest of the disk read as zeros: pieces begin and end at any
    /// byte. `too_long` says what is wrong with an image that the disk is too small for.
    pub(crate) fn fill<E: From<cowblk::Error>>(
        &self,
        buffer: &mut [u8],
        next: &mut dyn FnMut(&mut [u8]) -> Result<Piece, E>,
        too_long: &dyn Fn() -> E,
    ) -> Result<Copied, E> {
        let size = self.disk.size_bytes();
        let mut digest = Digest::new(self.wants_digest);
        let (mut at, mut data_bytes) = (0_u64, 0);
        loop {
            let piece = next(buffer)?;
            let end = at.checked_add(piece.len_bytes()).filter(|end| *end <= size).ok_or_else(too_long)?;
            match piece {
                Piece::End => break,
                Piece::Hole(len) => {
                    digest.zeros(len);
                    self.clear(at, len)?;
                }
                Piece::Data(len) => {
                    let data = buffer.get(..len).unwrap_or_default();
                    digest.update(data);
                    self.disk.write_at(data, at)?;
                    data_bytes += len as u64;
                }
            }
            at = end;
        }
        self.clear(at, size.saturating_sub(at))?;
        Ok(Copied { image_bytes: at, data_bytes, blake3: digest.finish() })
    }

    /// Makes a range read as zeros; a disk made for this import does already.
    fn clear(&self, offset: u64, len: u64) -> Result<(), cowblk::Error> {
        if self.is_new || len == 0 { Ok(()) } else { self.disk.discard(offset, len) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cowblk::device::MemoryDevice;
    use cowblk::{Options, Store};

    use super::*;

    /// A disk of 8 KiB that holds other bytes, filled with these pieces.
    fn filled(pieces: Vec<Piece>, is_too_long: bool) -> Vec<u8> {
        let options = Options::default().journal_bytes(64 << 10).zone_blocks(64).background(false);
        let store = Store::create_on(Arc::new(MemoryDevice::new(0)), options).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", 8192).unwrap();
        disk.write_at(&[0xEE; 8192], 0).unwrap();
        let mut pieces = pieces.into_iter();
        let mut next = |buf: &mut [u8]| {
            let piece = pieces.next().unwrap_or(Piece::End);
            if let Piece::Data(len) = piece {
                buf[..len].fill(0xDA);
            }
            Ok(piece)
        };
        let filling = Filling { disk: &disk, is_new: false, wants_digest: true };
        let too_long = || cowblk::Error::new(cowblk::ErrorKind::OutOfRange, "too long");
        let copied = filling.fill(&mut [0xBB; 4096], &mut next, &too_long);
        assert_eq!(copied.is_err(), is_too_long);
        let mut held = vec![0; 8192];
        disk.read_at(&mut held, 0).unwrap();
        held
    }

    #[test]
    fn a_hole_that_ends_an_image_inside_a_sector_leaves_nothing_behind_it() {
        let held = filled(vec![Piece::Data(1000), Piece::Hole(300)], false);
        assert!(held == [vec![0xDA; 1000], vec![0; 7192]].concat());
    }

    #[test]
    fn an_image_fits_whose_last_data_begins_and_ends_inside_a_sector() {
        let held = filled(vec![Piece::Hole(7700), Piece::Data(400)], false);
        assert!(held == [vec![0; 7700], vec![0xDA; 400], vec![0; 92]].concat());
    }

    #[test]
    fn an_image_that_grows_while_it_is_read_is_refused_where_the_disk_ends() {
        let held = filled(vec![Piece::Data(4096), Piece::Hole(2048), Piece::Data(4096)], true);
        assert!(held == [vec![0xDA; 4096], vec![0; 2048], vec![0xEE; 2048]].concat());
    }
}
