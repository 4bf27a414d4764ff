//! Handover: a copy, in the kernel's memory, of what the process alone has yet, for the process after it.
//!
//! Floor 4. Records that wait for their batch, and blocks that wait in runs, are lost with the process. For whoever serves
//! guests that outlive it, they are written into a file beside the store as well, and never synced: the kernel keeps
//! them when the process is killed, and a power cut takes them, as it takes the guest's own memory.
//!
//! H1  When a write returns, its records and blocks are in the file, or its batch is in the journal.
//! H2  A segment is filled anew only when all batches that it has records of are in the journal, or behind a checkpoint.
//! H3  Nobody takes over a file that the last opening of the store neither left nor was taking over, or that is of an earlier boot.

use crate::device::SideFile;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Entry, HANDOVER_HEADER_BYTES, HandoverHeader, SEGMENT_BYTES};
use crate::units::{BlockNo, Sequence, index, wide};
use std::io;

/// From this many segments on that are needed, batches should be written.
const SEGMENTS_SOFT: usize = 3;
/// From this many on, writers wait for that.
const SEGMENTS_HARD: usize = 8;
/// There are never more.
const SEGMENTS_MAX: usize = 64;

/// How much waits in memory: of records, and in the handover file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Bytes of records.
    pub(crate) bytes: usize,
    pub(crate) pressure: Pressure,
}

/// What the handover file asks of those who write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// There is none, or it has room.
    #[default]
    Low,
    /// It has grown: somebody should write the batch.
    Soft,
    /// It has grown too far, or cannot take more: whoever wrote has to write the batch before it returns.
    Hard,
}

/// The file, as the process that fills it sees it.
pub(crate) struct Handover {
    file: SideFile,
    nonce: [u8; 16],
    /// The newest batch that each segment has records of.
    segments: Vec<Sequence>,
    /// The segment that is being filled, and how far.
    current: usize,
    filled: u64,
    /// The last entry's number.
    number: u64,
    /// It could not be written: there is a gap now.
    is_broken: bool,
    scratch: Vec<u8>,
}

impl Handover {
    /// Begins an empty file.
    ///
    /// # Errors
    /// `Io`, `Full`.
    pub(crate) fn begin(file: SideFile, header: HandoverHeader) -> Result<Self> {
        file.clear().and_then(|()| file.write_at(&header.seal(), 0)).map_err(|cause| {
            Error::io(format!("begin the handover file {}", file.path().display()), cause)
        })?;
        Ok(Self::over(file, header.nonce()))
    }

    fn over(file: SideFile, nonce: [u8; 16]) -> Self {
        let (segments, scratch) = (vec![Sequence(0)], Vec::new());
        Self { file, nonce, segments, current: 0, filled: 0, number: 0, is_broken: false, scratch }
    }

    /// Adds an entry. All batches up to `written` are in the journal, or behind a checkpoint.
    pub(super) fn put(
        &mut self,
        (sequence, at): (Sequence, usize),
        records: &[u8],
        data: Option<(BlockNo, &[u8])>,
        written: Sequence,
    ) -> Pressure {
        if !self.is_broken {
            let entry = Entry { number: self.number + 1, sequence, at: wide(at), records, data };
            self.is_broken = self.try_put(&entry, written).is_err();
        }
        self.pressure(written)
    }

    /// What it asks for, with all batches up to `written` in the journal.
    pub(super) fn pressure(&self, written: Sequence) -> Pressure {
        let needed = self.segments.iter().filter(|last| **last > written).count();
        match needed {
            _ if self.is_broken => Pressure::Hard,
            SEGMENTS_HARD.. => Pressure::Hard,
            SEGMENTS_SOFT.. => Pressure::Soft,
            _ => Pressure::Low,
        }
    }

    fn try_put(&mut self, entry: &Entry<'_>, written: Sequence) -> io::Result<()> {
        let length = wide(entry.len_bytes());
        if length > SEGMENT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.filled + length > SEGMENT_BYTES {
            self.turn(written)?;
        }
        self.scratch.clear();
        entry.write_to(self.nonce, &mut self.scratch);
        let offset = HANDOVER_HEADER_BYTES + wide(self.current) * SEGMENT_BYTES + self.filled;
        self.file.write_at(&self.scratch, offset)?;
        self.filled += length;
        self.number = entry.number;
        if let Some(last) = self.segments.get_mut(self.current) {
            *last = entry.sequence;
        }
        Ok(())
    }

    /// Goes on in a segment that nobody needs, or in a new one (H2).
    fn turn(&mut self, written: Sequence) -> io::Result<()> {
        let free = self.segments.iter().position(|last| *last <= written);
        if free.is_none() && self.segments.len() == SEGMENTS_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.current = free.unwrap_or(self.segments.len());
        self.filled = 0;
        if free.is_none() {
            self.segments.push(Sequence(0));
        }
        Ok(())
    }

    /// The store was closed: nothing is left to hand over.
    pub(super) fn end(self) {
        self.file.remove();
    }
}

/// A batch that the process before this one collected, as far as it got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handed {
    pub(crate) sequence: Sequence,
    pub(crate) records: Vec<u8>,
    /// Blocks in a row, and the first one's place.
    pub(crate) data: Vec<(BlockNo, Vec<u8>)>,
}

/// Reads what the process before this one has left behind its last batch that counts: from the batch `next` on.
///
/// # Errors
/// `Io`; `Invalid` where the file is longer than any.
pub(crate) fn read_handover(
    file: &SideFile,
    nonce: [u8; 16],
    next: Sequence,
    block_size: u32,
) -> Result<Vec<Handed>> {
    let failed = |cause| Error::io("read the handover file", cause);
    let length = file.len_bytes().map_err(failed)?;
    let longest = HANDOVER_HEADER_BYTES + wide(SEGMENTS_MAX) * SEGMENT_BYTES;
    if length > longest {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("the handover file has {length} bytes, and none has more than {longest}"),
        ));
    }
    let count = length.saturating_sub(HANDOVER_HEADER_BYTES).div_ceil(SEGMENT_BYTES);
    let offset = |segment| HANDOVER_HEADER_BYTES + segment * SEGMENT_BYTES;
    // The numbers that each segment holds, by the first.
    let mut spans = Vec::new();
    let mut bytes = Vec::new();
    for segment in 0..count {
        read_segment(file, offset(segment), length, &mut bytes).map_err(failed)?;
        let mut numbers = Entries::of(&bytes, nonce, block_size).map(|entry| entry.number);
        if let Some(first) = numbers.next() {
            spans.push((first, numbers.last().unwrap_or(first), segment));
        }
    }
    spans.sort_unstable();
    // What is whole, from the last entry back to where one is missing.
    let gap =
        spans.windows(2).rposition(|pair| matches!(pair, [one, two] if one.1.checked_add(1) != Some(two.0)));
    let whole = spans.split_off(gap.map_or(0, |gap| gap + 1));
    let mut handed: Vec<Handed> = Vec::new();
    for (_, _, segment) in whole {
        read_segment(file, offset(segment), length, &mut bytes).map_err(failed)?;
        for entry in Entries::of(&bytes, nonce, block_size).filter(|entry| entry.sequence >= next) {
            if !take(&mut handed, &entry, next) {
                return Ok(handed);
            }
        }
    }
    Ok(handed)
}

/// Adds an entry to what was read before. Whether it goes on from there.
fn take(handed: &mut Vec<Handed>, entry: &Entry<'_>, next: Sequence) -> bool {
    let expected = handed.last().map_or(next, |last| last.sequence);
    if handed.is_empty() || entry.sequence == Sequence(expected.0 + 1) {
        let begins = entry.at == 0 && (!handed.is_empty() || entry.sequence == next);
        if !begins {
            return false;
        }
        handed.push(Handed { sequence: entry.sequence, records: Vec::new(), data: Vec::new() });
    } else if entry.sequence != expected {
        return false;
    }
    let Some(batch) = handed.last_mut().filter(|batch| entry.at <= wide(batch.records.len())) else {
        return false;
    };
    batch.records.truncate(index(entry.at));
    batch.records.extend_from_slice(entry.records);
    batch.data.extend(entry.data.map(|(first, bytes)| (first, bytes.to_vec())));
    true
}

/// The whole entries with consecutive numbers at the start of a segment.
struct Entries<'a> {
    rest: &'a [u8],
    nonce: [u8; 16],
    block_size: u32,
    number: Option<u64>,
}

impl<'a> Entries<'a> {
    fn of(segment: &'a [u8], nonce: [u8; 16], block_size: u32) -> Self {
        Self { rest: segment, nonce, block_size, number: None }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let entry = Entry::read_from(self.rest, self.nonce, self.block_size)?;
        let follows = self.number.is_none_or(|number| number.checked_add(1) == Some(entry.number));
        self.number = Some(entry.number);
        self.rest = self.rest.get(entry.len_bytes()..)?;
        follows.then_some(entry)
    }
}

fn read_segment(file: &SideFile, offset: u64, length: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.resize(index(SEGMENT_BYTES.min(length - offset)), 0);
    file.read_at(bytes, offset)
}

/// What is said where the system does not.
pub(crate) fn no_boot_id() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "this system does not tell one start of the machine from the next, and a handover file needs that; open the store without one (`--no-handover`)",
    )
}

#[cfg(test)]
impl Handover {
    /// One that cannot be written to.
    pub(crate) fn broken() -> Self {
        Self::over(SideFile::broken(), [0; 16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::sim::Random;
    use crate::device::tampering;
    use crate::format::seal;
    use std::os::unix::fs::FileExt;
    use tempfile::TempDir;

    const BLOCK: usize = 4096;

    /// A file that is filled with batches of entries, and what it must hand over.
    struct Scene {
        handover: Handover,
        _folder: TempDir,
        batches: Vec<Handed>,
        random: Random,
    }

    impl Scene {
        fn new(seed: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = SideFile::create(&folder.path().join("handover")).unwrap();
            let header = HandoverHeader::new([1; 16], [2; 16], [3; 16], 3);
            let handover = Handover::begin(file, header).unwrap();
            Self { handover, _folder: folder, batches: Vec::new(), random: Random::new(seed) }
        }

        fn bytes(&mut self, count: usize) -> Vec<u8> {
            let mut bytes = vec![0; count];
            self.random.fill(&mut bytes);
            bytes
        }

        /// Collects one batch more, of so many entries, with everything up to `written` in the journal.
        fn collect(&mut self, entries: u64, written: u64) -> Pressure {
            let sequence = Sequence(wide(self.batches.len()) + 1);
            let mut batch = Handed { sequence, records: Vec::new(), data: Vec::new() };
            let mut pressure = Pressure::Low;
            for entry in 0..entries {
                let blocks = index(self.random.below(64));
                let data = self.bytes(blocks * BLOCK);
                // Now and then the last record is extended, that is: it is there once more, and longer.
                let from = if entry % 3 == 2 { batch.records.len() / 2 } else { batch.records.len() };
                let mut records = self.bytes(40);
                records.extend(data.chunks(BLOCK).flat_map(|block| seal(block).to_le_bytes()));
                let physical = BlockNo(1 + self.random.below(1 << 30));
                let data = (!data.is_empty()).then_some((physical, data));
                let given = data.as_ref().map(|(first, bytes)| (*first, bytes.as_slice()));
                pressure = self.handover.put((sequence, from), &records, given, Sequence(written));
                batch.records.truncate(from);
                batch.records.extend(records);
                batch.data.extend(data);
            }
            self.batches.push(batch);
            pressure
        }

        fn read(&self, next: u64) -> Vec<Handed> {
            read_handover(&self.handover.file, [3; 16], Sequence(next), 4096).unwrap()
        }
    }

    #[test]
    fn what_was_put_is_handed_over_from_the_first_batch_on_that_the_journal_lacks() {
        for seed in 0..2 {
            let mut scene = Scene::new(seed);
            let mut written = 0;
            for batch in 1..=30 {
                scene.collect(1 + batch % 9, written);
                for next in [written + 1, u64::midpoint(written, batch) + 1, batch + 1] {
                    assert_eq!(
                        scene.read(next),
                        scene.batches[index(next) - 1..],
                        "seed {seed}, after {batch}, from {next}"
                    );
                }
                if scene.random.below(3) == 0 {
                    written = scene.random.below(batch - written + 1) + written;
                }
            }
            assert!(scene.handover.segments.len() > 1, "it has turned");
        }
    }

    #[test]
    fn it_grows_where_the_journal_does_not_follow_and_asks_for_it_ever_louder() {
        let mut scene = Scene::new(7);
        let pressures: Vec<Pressure> = (0..100).map(|_| scene.collect(8, 0)).collect();
        assert!(pressures.is_sorted() && pressures[0] == Pressure::Low);
        assert!(pressures.contains(&Pressure::Soft) && pressures[99] == Pressure::Hard);
        assert_eq!(scene.read(1), scene.batches);
        let segments = scene.handover.segments.len();
        assert_eq!(scene.collect(8, 100), Pressure::Low);
        (0..40).for_each(|at| assert_eq!(scene.collect(8, 100 + at), Pressure::Low));
        assert_eq!(scene.handover.segments.len(), segments, "what is there is used again");
    }

    /// Whatever is damaged: what is read is the beginning of what was put, or nothing.
    #[test]
    fn damage_leaves_a_beginning() {
        for seed in 0..30 {
            let mut scene = Scene::new(seed);
            for _ in 0..6 {
                scene.collect(6, 0);
            }
            let file =
                tampering::File::options().read(true).write(true).open(scene.handover.file.path()).unwrap();
            let length = scene.handover.file.len_bytes().unwrap();
            let at = HANDOVER_HEADER_BYTES + scene.random.below(length - HANDOVER_HEADER_BYTES);
            if scene.random.below(4) == 0 {
                file.set_len(at).unwrap();
            } else {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 1 << scene.random.below(8)], at).unwrap();
            }
            let found = scene.read(1);
            assert!(found != scene.batches, "seed {seed}: no byte is there for nothing");
            for (found, put) in found.iter().zip(&scene.batches) {
                assert_eq!(found.sequence, put.sequence, "seed {seed}");
                assert!(put.data.starts_with(&found.data), "seed {seed}");
            }
            for whole in found.iter().rev().skip(1) {
                assert!(scene.batches.contains(whole), "seed {seed}: only the last one may lack something");
            }
        }
    }

    #[test]
    fn a_file_that_is_longer_than_any_is_not_read() {
        let mut scene = Scene::new(1);
        scene.collect(1, 0);
        let file = tampering::File::options().write(true).open(scene.handover.file.path()).unwrap();
        file.set_len(1 << 40).unwrap();
        let refused = read_handover(&scene.handover.file, [3; 16], Sequence(1), 4096).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    }
}
