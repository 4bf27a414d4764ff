//! Image: the bytes of a simulated medium, cheap to copy as a whole.
//!
//! Floor 1. A sweep makes thousands of images that differ in a few pages, so pages are shared until written.
//!
//! G1  A page that was never written, or was zeroed whole, takes no memory.
//! G2  Bytes of the last page beyond the length are zero, so growing shows zeroes.

use std::ops::Range;
use std::sync::Arc;

const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];

/// Bytes with a length, which only grows. Ranges must lie inside it: the device has checked them.
#[derive(Clone, Default)]
pub(super) struct Image {
    pages: Vec<Option<Arc<Page>>>,
    len: usize,
}

impl Image {
    pub(super) fn zeroed(len: usize) -> Image {
        let mut image = Image::default();
        image.grow(len);
        image
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Image {
        let mut image = Image::zeroed(bytes.len());
        image.write(0, bytes);
        image
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(0, &mut bytes);
        bytes
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Makes the image at least `len` bytes long.
    pub(super) fn grow(&mut self, len: usize) {
        self.len = self.len.max(len);
        self.pages.resize(self.len.div_ceil(PAGE_BYTES), None);
    }

    pub(super) fn read(&self, offset: usize, buf: &mut [u8]) {
        self.assert_inside(offset, buf.len());
        for piece in pieces(offset, buf.len()) {
            match &self.pages[piece.page] {
                Some(page) => buf[piece.transfer].copy_from_slice(&page[piece.within]),
                None => buf[piece.transfer].fill(0),
            }
        }
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.assert_inside(offset, bytes.len());
        for piece in pieces(offset, bytes.len()) {
            let source = &bytes[piece.transfer];
            let slot = &mut self.pages[piece.page];
            let zeroes = source.iter().all(|byte| *byte == 0);
            if zeroes && (slot.is_none() || source.len() == PAGE_BYTES) {
                *slot = None;
            } else {
                writable(slot)[piece.within].copy_from_slice(source);
            }
        }
    }

    pub(super) fn zero(&mut self, offset: usize, len: usize) {
        self.assert_inside(offset, len);
        for piece in pieces(offset, len) {
            let slot = &mut self.pages[piece.page];
            if piece.within.len() == PAGE_BYTES {
                *slot = None;
            } else if slot.is_some() {
                writable(slot)[piece.within].fill(0);
            }
        }
    }

    pub(super) fn flip(&mut self, offset: usize, bit: u8) {
        self.assert_inside(offset, 1);
        writable(&mut self.pages[offset / PAGE_BYTES])[offset % PAGE_BYTES] ^= 1 << bit;
    }

    /// Where the pages that hold something are: the places worth damaging.
    pub(super) fn written(&self) -> Vec<Range<usize>> {
        let starts = self.pages.iter().enumerate().filter(|(_, page)| page.is_some());
        starts.map(|(index, _)| index * PAGE_BYTES..self.len.min((index + 1) * PAGE_BYTES)).collect()
    }

    fn assert_inside(&self, offset: usize, len: usize) {
        assert!(
            len <= self.len && offset <= self.len - len,
            "{len} bytes at {offset} reach beyond {}",
            self.len
        );
    }
}

fn writable(slot: &mut Option<Arc<Page>>) -> &mut Page {
    Arc::make_mut(slot.get_or_insert_with(|| Arc::new([0; PAGE_BYTES])))
}

/// The part of a transfer that falls into one page.
struct Piece {
    page: usize,
    within: Range<usize>,
    transfer: Range<usize>,
}

fn pieces(offset: usize, len: usize) -> impl Iterator<Item = Piece> {
    split(offset, len, PAGE_BYTES).map(move |part| {
        let page = part.start / PAGE_BYTES;
        let base = page * PAGE_BYTES;
        Piece {
            page,
            within: part.start - base..part.end - base,
            transfer: part.start - offset..part.end - offset,
        }
    })
}

/// The bytes `offset..offset + len`, cut at every multiple of `unit`.
pub(super) fn split(offset: usize, len: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let end = offset + len;
    let mut start = offset;
    std::iter::from_fn(move || {
        let part = start..end.min((start / unit + 1) * unit);
        start = part.end;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_behaves_like_a_vector() {
        let mut image = Image::zeroed(10_000);
        let mut model = vec![0; 10_000];
        for (offset, len, value) in
            [(0, 10_000, 1), (4000, 200, 2), (4096, 4096, 0), (8191, 2, 3), (9_999, 1, 0)]
        {
            image.write(offset, &vec![value; len]);
            model[offset..offset + len].fill(value);
            assert_eq!(image.to_bytes(), model);
        }
        image.zero(100, 9000);
        model[100..9100].fill(0);
        assert_eq!(image.to_bytes(), model);
        let mut buf = [9; 300];
        image.read(9000, &mut buf);
        assert_eq!(buf, model[9000..9300]);
        assert_eq!(Image::from_bytes(&model).to_bytes(), model);
    }

    #[test]
    fn copies_share_pages_until_one_of_them_writes() {
        let mut image = Image::from_bytes(&[5; 8192]);
        let copy = image.clone();
        image.write(10, &[6]);
        image.flip(4096, 1);
        assert_eq!(copy.to_bytes(), [5; 8192]);
        assert_eq!((image.to_bytes()[10], image.to_bytes()[4096]), (6, 7));
    }

    #[test]
    fn zeroes_take_no_memory() {
        let mut image = Image::zeroed(1 << 20);
        image.write(4096, &[0; 8192]);
        image.zero(100, 100);
        assert_eq!(image.written(), []);
        image.write((1 << 20) - 1, &[1]);
        let written = image.written();
        assert_eq!((written.len(), &written[0]), (1, &((1 << 20) - 4096..1 << 20)));
    }

    #[test]
    fn growing_shows_zeroes_and_never_shrinks() {
        let mut image = Image::from_bytes(&[5; 100]);
        image.grow(5000);
        image.grow(10);
        assert_eq!(image.to_bytes(), [vec![5; 100], vec![0; 4900]].concat());
    }

    #[test]
    #[should_panic(expected = "reach beyond")]
    fn a_range_outside_is_a_defect_of_the_caller() {
        Image::zeroed(100).write(99, &[1, 2]);
    }
}
