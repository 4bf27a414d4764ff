//! Digest: the BLAKE3 of an image, read a piece at a time.

/// Bytes moved at a time.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
pub(crate) const CHUNK_ZEROS: &[u8; CHUNK_BYTES] = &[0; CHUNK_BYTES];

/// A BLAKE3 that can be told of holes, or none at all where nobody wants one.
pub(crate) struct Digest(Option<blake3::Hasher>);

impl Digest {
    pub(crate) fn new(is_wanted: bool) -> Digest {
        Digest(is_wanted.then(blake3::Hasher::new))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.0 {
            hasher.update(bytes);
        }
    }

    pub(crate) fn zeros(&mut self, count: u64) {
        if let Some(hasher) = &mut self.0 {
            chunks(0..count).for_each(|(_, len)| {
                hasher.update(CHUNK_ZEROS.get(..len).unwrap_or(CHUNK_ZEROS));
            });
        }
    }

    pub(crate) fn finish(self) -> Option<blake3::Hash> {
        self.0.map(|hasher| hasher.finalize())
    }
}

/// Cuts a byte range into places and lengths of at most [`CHUNK_BYTES`].
pub(crate) fn chunks(range: std::ops::Range<u64>) -> impl Iterator<Item = (u64, usize)> {
    let step = CHUNK_BYTES;
    range.clone().step_by(step).map(move |at| {
        let rest = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        (at, rest.min(step))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_a_range_without_gaps() {
        let step = CHUNK_BYTES as u64;
        let all: Vec<_> = chunks(10..10 + 2 * step + 5).collect();
        assert_eq!(all, [(10, CHUNK_BYTES), (10 + step, CHUNK_BYTES), (10 + 2 * step, 5)]);
        assert_eq!(chunks(7..7).count(), 0);
    }

    #[test]
    fn a_hole_hashes_like_the_zeros_that_it_reads_as() {
        let (mut hole, mut zeros) = (Digest::new(true), Digest::new(true));
        hole.zeros(3 * CHUNK_BYTES as u64 + 512);
        zeros.update(&vec![0; 3 * CHUNK_BYTES + 512]);
        assert_eq!(hole.finish(), zeros.finish());
    }
}
