//! Recovery: which batches behind the checkpoint a crash has left whole.
//!
//! Floor 4. Reads the journal and the blocks that its last batches name; no node, no refcount page. So
//! a store opens in the time that its journal takes, whatever its size.

use crate::defect::Defect;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{
    Batch, BatchHeader, Geometry, HEADER_BYTES, JOURNAL_UNIT, MapRecord, Record, Superblock, seal,
};
use crate::space::RunSet;
use crate::units::{BlockNo, BlockRun, Sequence, index, wide};

/// What recovery accepts.
pub(crate) struct Recovered {
    /// In order.
    pub(crate) batches: Vec<Accepted>,
    /// How many of them, from the first one on, are known to have been durable, and all that was done before them.
    pub(crate) durable: usize,
    /// The number of the next batch to be written, and where it goes.
    pub(crate) next: Sequence,
    pub(crate) offset: u64,
    /// Where in the journal batches start that were not accepted, though they bear numbers that will be given
    /// again. They must go before the next batch is written (J5).
    pub(crate) stale: Vec<u64>,
}

/// One batch, and what it says.
pub(crate) struct Accepted {
    pub(crate) batch: Batch,
    pub(crate) records: Vec<Record>,
}

/// A sealed batch, and where the one behind it would be.
struct Sealed {
    batch: Batch,
    end: u64,
}

/// Reads the journal behind the superblock's checkpoint.
pub(crate) fn recover(
    device: &dyn Device,
    geometry: &Geometry,
    superblock: &Superblock,
) -> Result<Recovered> {
    let reader = Reader { device, geometry, superblock };
    let first = Sequence(superblock.journal_sequence.get());
    let start = superblock.journal_offset.get();
    let mut recovered =
        Recovered { batches: Vec::new(), durable: 0, next: first, offset: start, stale: Vec::new() };
    if superblock.clean.get() == 1 {
        return Ok(recovered);
    }
    let (sealed, headers) = reader.chain(first, recovered.offset)?;
    let durable = sealed.iter().map(|sealed| sealed.batch.header.durable.get());
    let durable = Sequence(durable.max().unwrap_or(0).max(superblock.recovered.get()));
    let chain_end = Sequence(first.0 + wide(sealed.len()));
    if durable >= chain_end && durable >= first {
        return Err(Error::corrupt(
            Defect::Journal,
            format!(
                "batch {chain_end} was durable and is not whole; `cowblk repair` can open the store without it"
            ),
        ));
    }
    let mut inline = RunSet::default();
    for Sealed { batch, end } in sealed {
        let sequence = recovered.next;
        let records = batch.records().ok_or_else(|| {
            Error::corrupt(Defect::JournalRecord, format!("batch {sequence} is sealed but does not decode"))
        })?;
        for run in records.iter().filter_map(inline_run) {
            if inline.within(run).next().is_some() {
                let place = format!("batch {sequence} carries block {} twice", run.first);
                return Err(Error::corrupt(Defect::JournalRecord, place));
            }
            inline.insert(run);
        }
        if sequence > durable && !reader.data_is_whole(&records, &inline)? {
            break;
        }
        recovered.batches.push(Accepted { batch, records });
        recovered.durable += usize::from(sequence <= durable);
        recovered.next = Sequence(sequence.0 + 1);
        recovered.offset = end;
    }
    let accepted = Stretch { start, end: recovered.offset, is_empty: recovered.batches.is_empty() };
    let is_stale = |header: &Header| header.sequence >= recovered.next && !accepted.holds(header.at);
    recovered.stale = headers.iter().filter(|header| is_stale(header)).map(|header| header.at).collect();
    Ok(recovered)
}

/// Something in the journal that looks like the start of one of the store's batches.
struct Header {
    at: u64,
    sequence: Sequence,
}

/// A part of the journal, which may go on at the journal's beginning.
struct Stretch {
    start: u64,
    end: u64,
    is_empty: bool,
}

impl Stretch {
    fn holds(&self, at: u64) -> bool {
        if self.start < self.end {
            (self.start..self.end).contains(&at)
        } else {
            !self.is_empty && (at >= self.start || at < self.end)
        }
    }
}

fn inline_run(record: &Record) -> Option<BlockRun> {
    match record {
        Record::Inline { run, .. } => Some(*run),
        _ => None,
    }
}

struct Reader<'a> {
    device: &'a dyn Device,
    geometry: &'a Geometry,
    superblock: &'a Superblock,
}

impl Reader<'_> {
    /// All sealed batches from `first` at `offset` on, without a gap. Where the chain ends, the rest of
    /// the journal is searched for a batch that proves that the next one was durable. Returns all headers
    /// from `first` on that this search met, too.
    fn chain(&self, first: Sequence, offset: u64) -> Result<(Vec<Sealed>, Vec<Header>)> {
        let mut chain: Vec<Sealed> = Vec::new();
        let (mut expected, mut at, mut read) = (first, offset, 0);
        while let Some((batch, length, end)) = self.batch_behind(expected, at)? {
            read += length;
            if read > self.geometry.journal_bytes() {
                break;
            }
            chain.push(Sealed { batch, end });
            expected = Sequence(expected.0 + 1);
            at = end;
        }
        let headers = self.search(first, expected)?;
        Ok((chain, headers))
    }

    /// The batch `expected`, at `at` or, if it did not fit there, at the journal's beginning.
    fn batch_behind(&self, expected: Sequence, at: u64) -> Result<Option<(Batch, u64, u64)>> {
        for place in [at, 0] {
            if let Some((batch, length)) = self.batch_at(place, |header| self.continues(header, expected))? {
                return Ok(Some((batch, length, (place + length) % self.geometry.journal_bytes())));
            }
        }
        Ok(None)
    }

    /// Whether a header belongs to the batch `expected` of this store's own history.
    fn continues(&self, header: &BatchHeader, expected: Sequence) -> bool {
        let (term, own) = (header.term.get(), self.superblock.term.get());
        let is_current =
            if expected.0 <= self.superblock.recovered.get() { term <= own } else { term == own };
        header.sequence.get() == expected.0 && is_current
    }

    /// The sealed batch at `at`, if its header is wanted.
    fn batch_at(&self, at: u64, wanted: impl Fn(&BatchHeader) -> bool) -> Result<Option<(Batch, u64)>> {
        let mut unit = vec![0; index(JOURNAL_UNIT)];
        self.read(&mut unit, at)?;
        let Some(header) = BatchHeader::read(&unit, self.superblock.uuid).filter(|header| wanted(header))
        else {
            return Ok(None);
        };
        let Some(length) = header.batch_bytes(self.geometry.block_size()) else { return Ok(None) };
        if length > self.geometry.journal_bytes() - at {
            return Ok(None);
        }
        let mut bytes = vec![0; index(length)];
        self.read(&mut bytes, at)?;
        Ok(Batch::open(bytes, header, self.geometry.block_size()).map(|batch| (batch, length)))
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<()> {
        self.device.read_at(bytes, HEADER_BYTES + at).map_err(|cause| Error::io("read the journal", cause))
    }

    /// Searches the journal for a batch that proves that `missing` was durable: a torn end has none behind it, and
    /// damage has. Returns the headers of batches from `first` on, wherever they are.
    fn search(&self, first: Sequence, missing: Sequence) -> Result<Vec<Header>> {
        const WINDOW: u64 = 1 << 20;
        let size = self.geometry.journal_bytes();
        let (mut window, mut headers) = (Vec::new(), Vec::new());
        for start in (0..size).step_by(index(WINDOW)) {
            window.resize(index(WINDOW.min(size - start)), 0);
            self.read(&mut window, start)?;
            for (unit, bytes) in window.chunks(index(JOURNAL_UNIT)).enumerate() {
                let proves = |header: &BatchHeader| {
                    header.sequence.get() > missing.0
                        && header.durable.get() >= missing.0
                        && header.term.get() == self.superblock.term.get()
                };
                let at = start + wide(unit) * JOURNAL_UNIT;
                let Some(header) = BatchHeader::read(bytes, self.superblock.uuid) else { continue };
                if header.sequence.get() >= first.0 {
                    headers.push(Header { at, sequence: Sequence(header.sequence.get()) });
                }
                if proves(&header) && self.batch_at(at, proves)?.is_some() {
                    return Err(Error::corrupt(
                        Defect::Journal,
                        format!(
                            "batch {missing} was durable and is not whole; `cowblk repair` can open the store without it"
                        ),
                    ));
                }
            }
        }
        Ok(headers)
    }

    /// Whether every block that the records name is at its place, or in the journal.
    fn data_is_whole(&self, records: &[Record], inline: &RunSet) -> Result<bool> {
        for record in records {
            if let Record::Map(map) = record
                && !self.map_is_whole(map, inline)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn map_is_whole(&self, map: &MapRecord, inline: &RunSet) -> Result<bool> {
        let run = BlockRun { first: map.physical, count: wide(map.crcs.len()) };
        let length = self.device.len_bytes().map_err(|cause| Error::io("read the store's length", cause))?;
        let mut bytes = vec![0; self.geometry.block_bytes()];
        for (at, &crc) in map.crcs.iter().enumerate() {
            let block = BlockNo(run.first.0 + wide(at));
            let one = BlockRun { first: block, count: 1 };
            if inline.within(one).next().is_some() {
                continue;
            }
            if self.geometry.offset_bytes(one.end()) > length {
                return Ok(false);
            }
            self.device
                .read_at(&mut bytes, self.geometry.offset_bytes(block))
                .map_err(|cause| Error::io(format!("read block {block}"), cause))?;
            if seal(&bytes) != crc {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
