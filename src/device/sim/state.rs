//! State: what a simulated device is made of, and what each operation does to it.
//!
//! Floor 1. The rules N1 to N4 of the room are kept here; the room's front door only locks and calls.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use nix::errno::Errno;

use super::faults::Struck;
use super::holes::Holes;
use super::image::Image;
use super::survival::{Change, Unsynced};
use super::{Call, Discarded, Fault, Faults, Operation, Random, SECTOR_BYTES, Survival, survival};
use crate::device::beyond_the_end;
use crate::device::memory::range_within;

/// How long a device may grow that was not given a capacity.
const DEFAULT_CAPACITY_BYTES: usize = 64 << 30;

#[derive(Clone)]
pub(super) struct State {
    pub(super) visible: Image,
    pub(super) durable: Image,
    /// Everything since the last sync, oldest first.
    pub(super) unsynced: Vec<Unsynced>,
    /// What was discarded and not written since, as far as a reader sees.
    holes: Holes,
    /// What was allocated since the last sync.
    allocated: Vec<Range<usize>>,
    /// The durable image of when the faults were set, for stale reads; kept only while a rule asks for them.
    stale: Option<Image>,
    random: Random,
    faults: Faults,
    /// How many operations there were, the current one included.
    pub(super) operations: u64,
    /// The power is cut.
    pub(super) cut: bool,
    /// `None` for a medium of fixed size.
    pub(super) capacity_bytes: Option<usize>,
    pub(super) discarded: Discarded,
    pub(super) log: Option<Vec<Operation>>,
}

impl State {
    pub(super) fn new(image: Image, random: Random) -> State {
        State {
            visible: image.clone(),
            durable: image,
            unsynced: Vec::new(),
            holes: Holes::default(),
            allocated: Vec::new(),
            stale: None,
            random,
            faults: Faults::none(),
            operations: 0,
            cut: false,
            capacity_bytes: Some(DEFAULT_CAPACITY_BYTES),
            discarded: Discarded::Any,
            log: None,
        }
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.stale = faults.includes(Fault::StaleRead).then(|| self.durable.clone());
        self.faults = faults;
    }

    /// The state after a crash, with the power back.
    pub(super) fn crash(&self, survival: &Survival) -> State {
        let image = survival::crash(&self.durable, &self.unsynced, survival);
        let mut holes = self.holes.clone();
        self.allocated.iter().for_each(|range| holes.add(range.clone()));
        State {
            capacity_bytes: self.capacity_bytes,
            discarded: self.discarded,
            holes,
            log: self.log.as_ref().map(|_| Vec::new()),
            ..State::new(image, self.random.clone())
        }
    }

    /// Counts the operation, draws its faults, runs `body` under them, and notes what came of it.
    pub(super) fn operate(
        &mut self,
        call: Call,
        body: impl FnOnce(&mut State, &Struck) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.cut {
            return Err(without_power());
        }
        self.operations += 1;
        let struck = self.faults.strike(self.operations, call, &mut self.random);
        if struck.by(Fault::FlippedAtRest) {
            self.flip_somewhere();
        }
        self.cut = struck.by(Fault::PowerCut);
        let result = body(self, &struck);
        if let Some(log) = &mut self.log {
            let error = result.as_ref().err().map(io::Error::kind);
            log.push(Operation { number: self.operations, call, faults: struck.into_faults(), error });
        }
        result
    }

    pub(super) fn read(&mut self, buf: &mut [u8], offset: u64, struck: &Struck) -> io::Result<()> {
        let range = self.range(offset, buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        fail_without_effect(struck, Fault::ReadError)?;
        let len = if struck.by(Fault::ShortTransfer) { self.short(buf.len()) } else { buf.len() };
        let source = if struck.by(Fault::StaleRead) { self.stale_image(&range) } else { &self.visible };
        source.read(range.start, &mut buf[..len]);
        if struck.by(Fault::FlippedOnRead) && len > 0 {
            buf[self.random.index(len)] ^= 1 << self.random.below(8);
        }
        if struck.by(Fault::ShortTransfer) { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: u64, struck: &Struck) -> io::Result<()> {
        let call = Call::Write { offset, len_bytes: buf.len() as u64 };
        let offset = self.range(offset, buf.len()).ok_or_else(beyond_the_end)?.start;
        let write = |bytes: &[u8], offset| Change::Write { offset, bytes: Arc::from(bytes) };
        if struck.by(Fault::PowerCut) {
            self.stage(call, write(buf, offset));
            Err(without_power())
        } else if struck.by(Fault::Interrupted) {
            Err(io::ErrorKind::Interrupted.into())
        } else if let Some(error) = self.partial_write_error(struck, offset..offset + buf.len()) {
            let len = match error.kind() {
                io::ErrorKind::WriteZero => self.short(buf.len()),
                _ => self.partial(buf.len()),
            };
            self.stage(call, write(&buf[..len], offset));
            Err(error)
        } else if struck.by(Fault::LostWrite) {
            Ok(())
        } else if struck.by(Fault::MisdirectedWrite) {
            if let Some(elsewhere) = self.elsewhere(offset, buf.len()) {
                self.stage(call, write(buf, elsewhere));
            }
            Ok(())
        } else {
            self.stage(call, write(buf, offset));
            Ok(())
        }
    }

    pub(super) fn sync(&mut self, struck: &Struck) -> io::Result<()> {
        if struck.by(Fault::SyncDropsWrites) && !struck.by(Fault::PowerCut) {
            // Only data is dropped: a file system keeps its own changes, lengths and holes, in a journal.
            self.unsynced.retain(|unsynced| !matches!(unsynced.change, Change::Write { .. }));
            return Err(Errno::EIO.into());
        }
        if struck.by(Fault::SyncNoSpace) && !struck.by(Fault::PowerCut) {
            return Err(Errno::ENOSPC.into());
        }
        fail_without_effect(struck, Fault::SyncError)?;
        self.allocated.clear();
        for unsynced in self.unsynced.drain(..) {
            unsynced.change.apply(&mut self.durable);
        }
        Ok(())
    }

    pub(super) fn grow(&mut self, len_bytes: u64, struck: &Struck) -> io::Result<()> {
        let from = self.visible.len();
        if len_bytes > from as u64 {
            let capacity = self.capacity_bytes.ok_or(io::ErrorKind::Unsupported)?;
            let fitting = usize::try_from(len_bytes).ok().filter(|to| *to <= capacity);
            let to = fitting.ok_or(io::Error::from(Errno::ENOSPC))?;
            if struck.by(Fault::NoSpace) && !struck.by(Fault::PowerCut) {
                return Err(Errno::ENOSPC.into());
            }
            return self.change(
                Call::Grow { len_bytes },
                Some(Change::Grow { from, to }),
                Fault::GrowError,
                struck,
            );
        }
        fail_without_effect(struck, Fault::GrowError)
    }

    /// Until the next sync, a crash makes a range that was allocated a hole again.
    pub(super) fn allocate(&mut self, offset: u64, len_bytes: u64, struck: &Struck) -> io::Result<()> {
        let len = usize::try_from(len_bytes).map_err(|_| beyond_the_end())?;
        let range = self.range(offset, len).ok_or_else(beyond_the_end)?;
        let is_full =
            struck.by(Fault::NoSpace) || struck.by(Fault::NoSpaceInHoles) && self.holes.meet(&range);
        if is_full && !struck.by(Fault::PowerCut) {
            return Err(Errno::ENOSPC.into());
        }
        fail_without_effect(struck, Fault::GrowError)?;
        if self.holes.meet(&range) {
            self.allocated.push(range.clone());
            self.holes.fill(range);
        }
        Ok(())
    }

    pub(super) fn has_holes(&self) -> bool {
        !self.holes.is_empty()
    }

    pub(super) fn discard(&mut self, offset: u64, len_bytes: u64, struck: &Struck) -> io::Result<()> {
        let call = Call::Discard { offset, len_bytes };
        let len = usize::try_from(len_bytes).map_err(|_| beyond_the_end())?;
        let offset = self.range(offset, len).ok_or_else(beyond_the_end)?.start;
        if self.discarded == Discarded::Refused {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if struck.by(Fault::NoSpace) && !struck.by(Fault::PowerCut) {
            return Err(Errno::ENOSPC.into());
        }
        let discarded = match self.discarded {
            Discarded::Any => {
                [Discarded::Zeroes, Discarded::Unchanged, Discarded::Noise][self.random.index(3)]
            }
            decided => decided,
        };
        let change = match discarded {
            Discarded::Zeroes => Some(Change::Zero { offset, len }),
            Discarded::Noise => Some(Change::Write { offset, bytes: self.noise(len) }),
            Discarded::Unchanged | Discarded::Any | Discarded::Refused => None,
        };
        self.change(call, change, Fault::DiscardError, struck)?;
        self.holes.add(offset..offset + len);
        Ok(())
    }

    /// The length, unless a fault prevents it from being known.
    pub(super) fn len_bytes(&mut self) -> io::Result<u64> {
        if self.cut {
            Err(without_power())
        } else if self.faults.strike_length(self.operations + 1, &mut self.random) {
            Err(Errno::EIO.into())
        } else {
            Ok(self.visible.len() as u64)
        }
    }

    /// The faults that end a write somewhere in its middle.
    fn partial_write_error(&self, struck: &Struck, range: Range<usize>) -> Option<io::Error> {
        if struck.by(Fault::WriteError) || struck.by(Fault::AnyError) {
            Some(Errno::EIO.into())
        } else if struck.by(Fault::NoSpace) || struck.by(Fault::NoSpaceInHoles) && self.holes.meet(&range) {
            Some(Errno::ENOSPC.into())
        } else if struck.by(Fault::ShortTransfer) {
            Some(io::ErrorKind::WriteZero.into())
        } else {
            None
        }
    }

    /// Makes `change`, unless a fault prevents it. A change under a power cut fails, but may have arrived.
    fn change(
        &mut self,
        call: Call,
        change: Option<Change>,
        error: Fault,
        struck: &Struck,
    ) -> io::Result<()> {
        let outcome = fail_without_effect(struck, error);
        if let Some(change) = change.filter(|_| outcome.is_ok() || struck.by(Fault::PowerCut)) {
            self.stage(call, change);
        }
        outcome
    }

    fn stage(&mut self, call: Call, change: Change) {
        if !change.is_empty() {
            if let Change::Write { offset, bytes } = &change {
                self.holes.fill(*offset..offset + bytes.len());
            }
            change.apply(&mut self.visible);
            self.unsynced.push(Unsynced { call, change });
        }
    }

    /// Flips a bit of the medium: readers see it, except through a cached write that covers it.
    pub(super) fn flip(&mut self, offset: usize, bit: u8) {
        if offset < self.durable.len() {
            self.durable.flip(offset, bit);
        }
        if !self.unsynced.iter().any(|unsynced| unsynced.change.covers(offset)) {
            self.visible.flip(offset, bit);
        }
    }

    /// Flips a bit where it hurts: in a page that holds something, if there is one.
    fn flip_somewhere(&mut self) {
        let written = self.visible.written();
        let whole = 0..self.visible.len();
        let place = if written.is_empty() { &whole } else { &written[self.random.index(written.len())] };
        if !place.is_empty() {
            let offset = place.start + self.random.index(place.len());
            let bit = u8::try_from(self.random.below(8)).expect("a bit number is below 8");
            self.flip(offset, bit);
        }
    }

    fn range(&self, offset: u64, len: usize) -> Option<Range<usize>> {
        range_within(offset, len, self.visible.len())
    }

    /// The younger of the old images in which `range` is not what it is now.
    fn stale_image(&self, range: &Range<usize>) -> &Image {
        let content = |image: &Image| {
            let mut bytes = vec![0; range.len()];
            image.read(range.start, &mut bytes);
            bytes
        };
        let now = content(&self.visible);
        let older = [Some(&self.durable), self.stale.as_ref()].into_iter().flatten();
        let mut older = older.filter(|image| image.len() >= range.end);
        older.find(|image| content(image) != now).unwrap_or(&self.visible)
    }

    /// Some sectors of a transfer, from none to all.
    fn partial(&mut self, len: usize) -> usize {
        (self.random.index(len.div_ceil(SECTOR_BYTES) + 1) * SECTOR_BYTES).min(len)
    }

    /// Some sectors of a transfer, but not all.
    fn short(&mut self, len: usize) -> usize {
        self.random.index(len.div_ceil(SECTOR_BYTES).max(1)) * SECTOR_BYTES
    }

    /// Another place for a write that is misdirected by whole sectors, if the medium is long enough for one.
    fn elsewhere(&mut self, offset: usize, len: usize) -> Option<usize> {
        let ragged = offset % SECTOR_BYTES;
        let places = (self.visible.len() - len - ragged) / SECTOR_BYTES;
        if places == 0 {
            return None;
        }
        // One of the other places: those from the right one on are counted one further.
        let place = self.random.index(places);
        let place = if place >= offset / SECTOR_BYTES { place + 1 } else { place };
        Some(place * SECTOR_BYTES + ragged)
    }

    fn noise(&mut self, len: usize) -> Arc<[u8]> {
        let mut bytes = vec![0; len];
        self.random.fill(&mut bytes);
        Arc::from(bytes)
    }
}

/// The faults that end an operation before it did anything.
fn fail_without_effect(struck: &Struck, error: Fault) -> io::Result<()> {
    if struck.by(Fault::PowerCut) {
        Err(without_power())
    } else if struck.by(Fault::Interrupted) {
        Err(io::ErrorKind::Interrupted.into())
    } else if struck.by(error) || struck.by(Fault::AnyError) {
        Err(Errno::EIO.into())
    } else {
        Ok(())
    }
}

pub(super) fn without_power() -> io::Error {
    io::Error::other("the power of the simulated device is cut")
}
