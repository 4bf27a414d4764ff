//! Journal: makes flushes durable with one write and one sync.
//!
//! Floor 4. Writers append records to a batch in memory. Whoever flushes first becomes the leader: it
//! seals the batch, writes it, and syncs for all who wait (group commit). One leader at a time.

use super::handover::{Handover, Waiting};
use super::runs::{Run, RunTable};
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BatchBuilder, BatchIdentity, Geometry, HEADER_BYTES};
use crate::latency::{Spent, Stopwatch};
use crate::limits;
use crate::sync::{Condvar, Mutex};
use crate::units::{BlockNo, BlockRun, Sequence, index, wide};
use std::sync::Arc;

/// The journal of an open store.
pub(crate) struct Journal {
    device: Arc<dyn Device>,
    geometry: Geometry,
    uuid: [u8; 16],
    term: u64,
    state: Mutex<State>,
    changed: Condvar,
    waits_for_leaders: Stopwatch,
}

struct State {
    builder: BatchBuilder,
    /// The number of the batch that is being collected.
    next: Sequence,
    durable: Sequence,
    /// All batches up to this one are in the journal, or behind a checkpoint.
    written: Sequence,
    /// Where what waits is written down for the next process, if it is.
    handover: Option<Handover>,
    /// Where the next batch goes, and where the oldest one needed starts: bytes that only grow.
    tail: u64,
    head: u64,
    has_leader: bool,
    /// Only a checkpoint makes anything durable.
    stands_back: bool,
    failed: Option<Error>,
}

impl State {
    /// Takes the records that wait, as the batch whose number they were collected for.
    fn take(&mut self) -> Option<Taken> {
        if self.builder.is_empty() {
            return None;
        }
        let taken = Taken { builder: std::mem::take(&mut self.builder), sequence: self.next };
        self.next = Sequence(self.next.0 + 1);
        Some(taken)
    }
}

/// Where the journal goes on behind a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalStart {
    /// In bytes from the journal's start.
    pub(crate) offset: u64,
    pub(crate) sequence: Sequence,
    /// The same place, counted without wrapping.
    position: u64,
}

/// How a flush ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    Done,
    /// The journal is full: only a checkpoint can make the records durable.
    NoRoom,
}

/// The right to seal and write batches.
pub(crate) struct Lead<'a> {
    journal: &'a Journal,
}

/// A batch that is taken from the writers but not yet written.
pub(crate) struct Taken {
    builder: BatchBuilder,
    sequence: Sequence,
}

impl Journal {
    /// A journal whose next batch is `next` at `offset`; what is between `head_offset` and there is still needed.
    pub(crate) fn new(
        device: Arc<dyn Device>,
        geometry: Geometry,
        (uuid, term): ([u8; 16], u64),
        next: Sequence,
        (head_offset, offset, is_empty): (u64, u64, bool),
    ) -> Self {
        let wraps = offset < head_offset || (offset == head_offset && !is_empty);
        let tail = if wraps { offset + geometry.journal_bytes() } else { offset };
        let state = State {
            builder: BatchBuilder::default(),
            next,
            durable: Sequence(next.0 - 1),
            written: Sequence(next.0 - 1),
            handover: None,
            tail,
            head: head_offset,
            has_leader: false,
            stands_back: false,
            failed: None,
        };
        Self {
            device,
            geometry,
            uuid,
            term,
            state: Mutex::new(state),
            changed: Condvar::new(),
            waits_for_leaders: Stopwatch::default(),
        }
    }

    /// Adds records to the batch in memory. Returns how much waits now.
    pub(crate) fn append(&self, add: impl FnOnce(&mut BatchBuilder)) -> Waiting {
        self.append_for(None, add)
    }

    /// Adds a record of blocks that are in memory too: the last ones that it names are `data`.
    pub(crate) fn append_for(
        &self,
        data: Option<(BlockNo, &[u8])>,
        add: impl FnOnce(&mut BatchBuilder),
    ) -> Waiting {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let settled = state.builder.settled_bytes();
        add(&mut state.builder);
        let place = (state.next, settled);
        let records = state.builder.records_from(settled);
        let pressure = state.handover.as_mut().map(|file| file.put(place, records, data, state.written));
        Waiting { bytes: state.builder.record_bytes(), pressure: pressure.unwrap_or_default() }
    }

    /// Writes down for the next process what waits.
    pub(crate) fn hand_over(&self, mut handover: Handover) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if !state.builder.is_empty() {
            handover.put((state.next, 0), state.builder.records_from(0), None, state.written);
        }
        state.handover = Some(handover);
    }

    /// The next checkpoint is to cover batches that are not here, up to the one before `next`. Until [`go_on`](Self::go_on) nothing is
    /// written here: a batch behind those would say that they were durable, and are lost.
    pub(crate) fn stand_back(&self, next: Sequence) {
        let mut state = self.state.lock();
        state.next = next;
        state.stands_back = true;
    }

    /// That checkpoint is durable.
    pub(crate) fn go_on(&self) {
        self.state.lock().stands_back = false;
    }

    /// Everything is durable, and the store is closed.
    pub(crate) fn end_handover(&self) {
        let handover = self.state.lock().handover.take();
        if let Some(handover) = handover {
            handover.end();
        }
    }

    /// Bytes of the journal that a recovery would read now.
    pub(crate) fn used_bytes(&self) -> u64 {
        let state = self.state.lock();
        state.tail - state.head
    }

    /// How much waits.
    pub(crate) fn waiting(&self) -> Waiting {
        let state = self.state.lock();
        let pressure = state.handover.as_ref().map(|file| file.pressure(state.written));
        Waiting { bytes: state.builder.record_bytes(), pressure: pressure.unwrap_or_default() }
    }

    /// How long flushes waited for others to write and sync.
    pub(crate) fn waits_for_leaders(&self) -> Spent {
        self.waits_for_leaders.spent()
    }

    /// How many bytes of records make it worth sealing a batch before anybody flushes.
    pub(crate) fn soft_batch_bytes(&self) -> usize {
        limits::BATCH_BYTES_SOFT.min(index(self.geometry.journal_bytes() / 8))
    }

    /// Waits until nobody else leads.
    pub(crate) fn lead(&self) -> Result<Lead<'_>> {
        let mut state = self.state.lock();
        while state.has_leader {
            self.changed.wait(&mut state);
        }
        self.take_lead(&mut state)
    }

    fn take_lead(&self, state: &mut State) -> Result<Lead<'_>> {
        if let Some(error) = &state.failed {
            return Err(halted(error));
        }
        state.has_leader = true;
        Ok(Lead { journal: self })
    }

    /// Makes everything appended so far durable.
    pub(crate) fn flush(&self, runs: &RunTable) -> Result<Flushed> {
        let mut state = self.state.lock();
        let target = if state.builder.is_empty() { Sequence(state.next.0 - 1) } else { state.next };
        let lead = loop {
            if state.durable >= target {
                return Ok(Flushed::Done);
            }
            if !state.has_leader {
                break self.take_lead(&mut state)?;
            }
            self.waits_for_leaders.time(|| self.changed.wait(&mut state));
        };
        drop(state);
        match lead.write_waiting(runs, true)? {
            Flushed::Done => lead.sync().map(|()| Flushed::Done),
            Flushed::NoRoom => Ok(Flushed::NoRoom),
        }
    }

    /// Writes what waits without making it durable, unless somebody else is writing anyway.
    pub(crate) fn spill(&self, runs: &RunTable) -> Result<Flushed> {
        let mut state = self.state.lock();
        if state.has_leader {
            return Ok(Flushed::Done);
        }
        let lead = self.take_lead(&mut state)?;
        drop(state);
        lead.write_waiting(runs, false)
    }

    /// Writes what waits, once nobody else writes any more. Where a checkpoint has taken it, and has not come through, it is as if there
    /// were no room.
    pub(crate) fn spill_all(&self, runs: &RunTable) -> Result<Flushed> {
        let lead = self.lead()?;
        let target = Sequence(self.state.lock().next.0 - 1);
        let flushed = lead.write_waiting(runs, false)?;
        let is_written = self.state.lock().written >= target;
        Ok(if is_written { flushed } else { Flushed::NoRoom })
    }

    /// A checkpoint that starts behind `start` is durable: nothing before is needed.
    pub(crate) fn trim(&self, start: JournalStart) {
        let mut state = self.state.lock();
        state.head = start.position;
        state.durable = state.durable.max(Sequence(start.sequence.0 - 1));
        state.written = state.written.max(state.durable);
        self.changed.notify_all();
    }

    /// Nothing can become durable any more: all who wait get `error`.
    pub(crate) fn fail(&self, error: &Error) {
        self.state.lock().failed.get_or_insert_with(|| error.clone());
        self.changed.notify_all();
    }
}

/// The answer to every change after a failed write or sync: nothing that follows could be promised.
pub(crate) fn halted(error: &Error) -> Error {
    Error::new(
        ErrorKind::Halted,
        format!("the store has halted ({error}): reads go on, changes are refused; mend the medium and open it again"),
    )
    .caused_by(error.clone())
}

impl Lead<'_> {
    /// Takes the waiting records for a checkpoint, which covers them. The caller keeps all writers out.
    pub(crate) fn take_for_checkpoint(&self) -> Option<Taken> {
        self.journal.state.lock().take()
    }

    /// Writes the waiting records, after the blocks that they name (J1).
    fn write_waiting(&self, runs: &RunTable, may_inline: bool) -> Result<Flushed> {
        let (taken, exposed) = {
            let mut state = self.journal.state.lock();
            let needed = state.builder.batch_bytes(0, self.journal.geometry.block_size());
            if !state.builder.is_empty() && self.journal.place(&state, needed).is_none() {
                return Ok(Flushed::NoRoom);
            }
            // Under one lock: a block that was written since must not travel ahead of its record. A crash
            // between the two would leave a block in the journal that is free.
            (state.take(), runs.exposed())
        };
        match taken {
            Some(taken) => self.write(taken, runs, (&exposed, may_inline)),
            None => Ok(Flushed::Done),
        }
    }

    /// Writes a taken batch, behind the `exposed` blocks or, if it may, together with them; `NoRoom`, and no batch, if it does not fit.
    pub(crate) fn write(
        &self,
        mut taken: Taken,
        runs: &RunTable,
        (exposed, may_inline): (&[(Arc<Run>, BlockRun)], bool),
    ) -> Result<Flushed> {
        let journal = self.journal;
        let block_size = journal.geometry.block_size();
        let blocks: u64 = exposed.iter().map(|(_, blocks)| blocks.count).sum();
        let fits = |taken: &Taken, blocks| {
            let records = crate::units::wide(exposed.len()) * 64;
            let length = taken.builder.batch_bytes(blocks, block_size) + records;
            journal.place(&journal.state.lock(), length.next_multiple_of(4096)).is_some()
        };
        let inline = may_inline
            && blocks > 0
            && blocks * u64::from(block_size) <= limits::INLINE_BYTES_MAX
            && fits(&taken, blocks);
        let carried = if inline { carry(&mut taken.builder, exposed, block_size) } else { Vec::new() };
        if !inline {
            for (run, _) in exposed {
                runs.home(run, &*journal.device, &journal.geometry)?;
            }
        }
        let (position, identity) = {
            let mut state = journal.state.lock();
            let length = taken.builder.batch_bytes(wide(carried.len()) / u64::from(block_size), block_size);
            let Some(position) = journal.place(&state, length) else { return Ok(Flushed::NoRoom) };
            state.tail = position + length;
            let durable = state.durable;
            (
                position,
                BatchIdentity { sequence: taken.sequence, term: journal.term, durable, uuid: journal.uuid },
            )
        };
        let bytes = taken.builder.seal(&identity, &carried, block_size);
        let offset = HEADER_BYTES + position % journal.geometry.journal_bytes();
        journal
            .device
            .write_before_sync(&bytes, offset)
            .map_err(|cause| Error::io(format!("write journal batch {}", taken.sequence), cause))?;
        if inline {
            for (run, blocks) in exposed {
                run.journaled_below(blocks.end());
            }
        }
        let mut state = journal.state.lock();
        // Behind a batch that found no room nothing is known to be there before the checkpoint that covers it.
        if state.written.0 + 1 == taken.sequence.0 {
            state.written = taken.sequence;
        }
        Ok(Flushed::Done)
    }

    /// Makes all batches written so far durable.
    pub(crate) fn sync(&self) -> Result<()> {
        let journal = self.journal;
        let last = Sequence(journal.state.lock().next.0 - 1);
        journal.device.sync().map_err(|cause| Error::io("sync the journal", cause))?;
        let mut state = journal.state.lock();
        state.durable = state.durable.max(last);
        journal.changed.notify_all();
        Ok(())
    }

    /// Where the journal goes on behind everything taken so far.
    pub(crate) fn start(&self) -> JournalStart {
        let state = self.journal.state.lock();
        JournalStart {
            offset: state.tail % self.journal.geometry.journal_bytes(),
            sequence: state.next,
            position: state.tail,
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.journal.state.lock().has_leader = false;
        self.journal.changed.notify_all();
    }
}

/// Puts the exposed blocks into the batch. Returns their bytes.
fn carry(builder: &mut BatchBuilder, exposed: &[(Arc<Run>, BlockRun)], block_size: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (run, blocks) in exposed {
        builder.inline(*blocks);
        let from = bytes.len();
        bytes.resize(from + index(blocks.count * u64::from(block_size)), 0);
        let copied = run.read(blocks.first, &mut bytes[from..]);
        assert_eq!(copied, bytes.len() - from, "a run keeps the blocks that were written to it");
    }
    bytes
}

impl Journal {
    /// Where a batch of `length` bytes would go: behind the last one, or at the journal's beginning if
    /// it does not fit before its end. `None` where it would overwrite what is still needed (J3), and
    /// where recovery would not believe its length: many records can gather while a sync takes its time.
    fn place(&self, state: &State, length: u64) -> Option<u64> {
        let size = self.geometry.journal_bytes();
        let to_end = size - state.tail % size;
        let position = if length <= to_end { state.tail } else { state.tail + to_end };
        (!state.stands_back
            && length <= size.min(limits::BATCH_BYTES_MAX)
            && position + length - state.head <= size)
            .then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MemoryDevice;
    use crate::units::{DiskBlock, DiskId};

    const UNITS: u64 = 16;
    const UNIT: u64 = 4096;

    struct Rig {
        device: Arc<MemoryDevice>,
        journal: Journal,
        runs: RunTable,
    }

    impl Rig {
        /// A journal whose oldest batch that is needed is at unit `head`, and whose next one goes to `tail`.
        fn new(head: u64, tail: u64, is_empty: bool) -> Self {
            let geometry = Geometry::new(4096, 64, UNITS).unwrap();
            let device = Arc::new(MemoryDevice::new(index(geometry.length_bytes(1))));
            let place = (head * UNIT, tail * UNIT, is_empty);
            let journal = Journal::new(device.clone(), geometry, ([7; 16], 1), Sequence(5), place);
            Self { device, journal, runs: RunTable::default() }
        }

        /// Flushes a batch of so many units.
        fn flush(&self, units: u64) -> Flushed {
            for _ in 0..(units * UNIT - 64) / 32 {
                self.journal.append(|builder| builder.clear(DiskId(1), DiskBlock(2), 3));
            }
            self.journal.flush(&self.runs).unwrap()
        }

        /// Flushes batches of so many units until one does not fit, which then waits: how many did.
        fn fill(&self, units: u64) -> u64 {
            (0..=UNITS).find(|_| self.flush(units) == Flushed::NoRoom).expect("a journal has an end")
        }

        /// The numbers of the batches that start at each unit.
        fn sequences(&self) -> Vec<u64> {
            let bytes = self.device.to_bytes();
            (0..UNITS)
                .map(|unit| {
                    let at = index(HEADER_BYTES + unit * UNIT);
                    let header = crate::format::BatchHeader::read(&bytes[at..at + index(UNIT)], [7; 16]);
                    header.map_or(0, |header| header.sequence.get())
                })
                .collect()
        }
    }

    #[test]
    fn a_full_journal_holds_a_batch_in_every_unit_and_overwrites_none() {
        let rig = Rig::new(0, 0, true);
        assert_eq!(rig.fill(1), UNITS);
        assert_eq!(rig.sequences(), (5..5 + UNITS).collect::<Vec<_>>());
        assert_eq!(rig.journal.used_bytes(), UNITS * UNIT);
    }

    #[test]
    fn a_batch_that_does_not_fit_before_the_end_goes_to_the_beginning_where_there_is_room() {
        let rig = Rig::new(5, 5, true);
        assert_eq!(
            rig.fill(3),
            4,
            "three from unit 5 to 14, one at 0 to 3, and then the oldest is in the way"
        );
        let sequences = rig.sequences();
        assert_eq!((sequences[5], sequences[8], sequences[11], sequences[0]), (5, 6, 7, 8));
        assert_eq!(sequences.iter().filter(|sequence| **sequence > 0).count(), 4);
    }

    #[test]
    fn a_journal_that_was_left_full_is_full() {
        for (head, tail) in [(0, 0), (9, 9)] {
            let rig = Rig::new(head, tail, false);
            assert_eq!(rig.journal.used_bytes(), UNITS * UNIT);
            assert_eq!(rig.fill(1), 0, "batches from {head} on are needed");
        }
        assert_eq!(Rig::new(9, 9, true).journal.used_bytes(), 0);
        assert_eq!(Rig::new(9, 4, false).journal.used_bytes(), 11 * UNIT);
    }

    /// The lead is kept from the freeze on if the batch that it took does not fit: then only the checkpoint makes it durable,
    /// and whoever flushes waits for that.
    #[test]
    fn a_batch_that_a_checkpoint_took_is_durable_when_the_checkpoint_is() {
        let rig = Rig::new(0, 0, true);
        rig.fill(1);
        let lead = rig.journal.lead().unwrap();
        let taken = lead.take_for_checkpoint().unwrap();
        assert_eq!(lead.write(taken, &rig.runs, (&[], false)).unwrap(), Flushed::NoRoom);
        let start = lead.start();
        std::thread::scope(|scope| {
            let flush = scope.spawn(|| rig.journal.flush(&rig.runs));
            rig.journal.trim(start);
            drop(lead);
            assert_eq!(flush.join().unwrap().unwrap(), Flushed::Done);
        });
        assert_eq!(rig.journal.used_bytes(), 0);
        assert_eq!(rig.journal.state.lock().durable, Sequence(5 + UNITS));
        assert_eq!(rig.fill(1), UNITS, "all of it can be used again");
    }
}
