//! Faults: what goes wrong with a simulated device, and when.
//!
//! Floor 1. Every fault is a rule of its own, so any set of them can be combined.
//!
//! U1  Which faults strike an operation depends on its number, its kind, the rules and the seed, on nothing else.

use std::fmt;

use super::{Call, Random};

/// One way in which a device breaks its promises, or keeps them by an error.
///
/// Those that a device reports come first; then those that it hides, which only checksums can find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fault {
    /// A read fails (EIO); the buffer is left as it was.
    ReadError,
    /// A write fails (EIO); any first part of it may have arrived.
    WriteError,
    /// A sync fails (EIO); the writes before it are as volatile as they were.
    SyncError,
    /// A growth fails (EIO); the length stays.
    GrowError,
    /// A discard fails (EIO); nothing was discarded.
    DiscardError,
    /// Whatever the operation is, it fails (EIO) as it would by the fault of its own above.
    AnyError,
    /// The length cannot be asked for (EIO). Asking is no operation: [`When::At`] and [`When::From`] mean the
    /// questions before the operation of that number.
    LengthError,
    /// A write, a growth or a discard finds no space (ENOSPC); of a write, any first part may have arrived.
    NoSpace,
    /// A write into a range that was discarded, and neither written nor allocated since, or allocating it, finds no space (ENOSPC): a file system gave
    /// the range away. Any first part may have arrived. After a crash all such ranges count as discarded still.
    NoSpaceInHoles,
    /// A sync finds no space (ENOSPC), where a file system looks for it late; the writes before it are as volatile
    /// as they were.
    SyncNoSpace,
    /// The operation is interrupted (EINTR) before it had any effect.
    Interrupted,
    /// Less than the whole is transferred: a read ends as `UnexpectedEof`, a write as `WriteZero`.
    ShortTransfer,
    /// A sync fails (EIO) and forgets the writes before it, as an operating system does that marks its pages clean:
    /// reads still see them, the next sync succeeds, and after a crash they are gone.
    SyncDropsWrites,
    /// The power goes during this operation: it fails, and so does every later one. What it was about to change may
    /// have arrived like any other unsynced change.
    PowerCut,
    /// A write is reported as done and never arrives.
    LostWrite,
    /// A write arrives, whole, at another place.
    MisdirectedWrite,
    /// A read returns what was there at the last sync or, where that is what is there now, what was there when the
    /// faults were set.
    StaleRead,
    /// A read returns one flipped bit; the medium is sound.
    FlippedOnRead,
    /// Before the operation, whatever it is, one bit of the medium flips, where something is stored if anything is.
    FlippedAtRest,
}

impl Fault {
    /// Whether the fault can strike this kind of operation at all.
    pub fn fits(self, call: Call) -> bool {
        match self {
            Fault::ReadError | Fault::StaleRead | Fault::FlippedOnRead => matches!(call, Call::Read { .. }),
            Fault::WriteError | Fault::LostWrite | Fault::MisdirectedWrite => {
                matches!(call, Call::Write { .. })
            }
            Fault::NoSpaceInHoles => matches!(call, Call::Write { .. } | Call::Allocate { .. }),
            Fault::SyncError | Fault::SyncNoSpace | Fault::SyncDropsWrites => matches!(call, Call::Sync),
            Fault::LengthError => false,
            Fault::GrowError => matches!(call, Call::Grow { .. } | Call::Allocate { .. }),
            Fault::DiscardError => matches!(call, Call::Discard { .. }),
            Fault::NoSpace => !matches!(call, Call::Read { .. } | Call::Sync),
            Fault::ShortTransfer => matches!(call, Call::Read { .. } | Call::Write { .. }),
            Fault::AnyError | Fault::Interrupted | Fault::PowerCut | Fault::FlippedAtRest => true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::ReadError => "a read error",
            Fault::WriteError => "a write error",
            Fault::SyncError => "a sync error",
            Fault::GrowError => "a growth error",
            Fault::DiscardError => "a discard error",
            Fault::AnyError => "an error",
            Fault::LengthError => "an error asking for the length",
            Fault::NoSpace => "a lack of space",
            Fault::NoSpaceInHoles => "a lack of space in holes",
            Fault::SyncNoSpace => "a lack of space at a sync",
            Fault::Interrupted => "an interruption",
            Fault::ShortTransfer => "a short transfer",
            Fault::SyncDropsWrites => "a sync that drops writes",
            Fault::PowerCut => "a power cut",
            Fault::LostWrite => "a lost write",
            Fault::MisdirectedWrite => "a misdirected write",
            Fault::StaleRead => "a stale read",
            Fault::FlippedOnRead => "a bit flipped on read",
            Fault::FlippedAtRest => "a bit flipped at rest",
        })
    }
}

/// When a fault strikes. Operations are counted from 1 over the life of a device, whatever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At the operation of this number, if the fault fits it.
    At(u64),
    /// At the operation of this number and at each one after it that the fault fits.
    From(u64),
    /// Once, at the nth operation that the fault fits, counted from when the rule was set: the third sync, say.
    Nth(u64),
    /// At each operation that it fits, by chance, once in so many; never for 0.
    OneIn(u64),
}

/// A set of faults, each with its own time.
///
/// ```
/// use cowblk::device::sim::{Fault, Faults, When};
///
/// let faults = Faults::none()
///     .with(Fault::PowerCut, When::At(100))
///     .with(Fault::SyncError, When::Nth(3))
///     .with(Fault::FlippedOnRead, When::OneIn(1000));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    fault: Fault,
    when: When,
    /// How many operations that the fault fits came by.
    fitting: u64,
}

impl Faults {
    /// A device that works.
    pub fn none() -> Faults {
        Faults::default()
    }

    /// One more fault. The same one may be added several times, for several times.
    #[must_use]
    pub fn with(mut self, fault: Fault, when: When) -> Faults {
        self.rules.push(Rule { fault, when, fitting: 0 });
        self
    }

    pub(super) fn includes(&self, fault: Fault) -> bool {
        self.rules.iter().any(|rule| rule.fault == fault)
    }

    /// The faults that strike operation `number`.
    pub(super) fn strike(&mut self, number: u64, call: Call, random: &mut Random) -> Struck {
        let mut struck = Struck::default();
        for rule in self.rules.iter_mut().filter(|rule| rule.fault.fits(call)) {
            if rule.strikes(number, random) && !struck.by(rule.fault) {
                struck.0.push(rule.fault);
            }
        }
        struck
    }

    /// Whether a question for the length, before operation `number`, is struck.
    pub(super) fn strike_length(&mut self, number: u64, random: &mut Random) -> bool {
        let mut is_struck = false;
        for rule in self.rules.iter_mut().filter(|rule| rule.fault == Fault::LengthError) {
            is_struck |= rule.strikes(number, random); // each rule counts, whichever strikes
        }
        is_struck
    }
}

impl Rule {
    /// An operation that the fault fits comes by: whether it is struck.
    fn strikes(&mut self, number: u64, random: &mut Random) -> bool {
        self.fitting += 1;
        match self.when {
            When::At(at) => number == at,
            When::From(first) => number >= first,
            When::Nth(nth) => self.fitting == nth,
            When::OneIn(count) => random.one_in(count),
        }
    }
}

/// The faults that strike one operation; nearly always none, which allocates nothing.
#[derive(Default)]
pub(super) struct Struck(Vec<Fault>);

impl Struck {
    pub(super) fn by(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    pub(super) fn into_faults(self) -> Vec<Fault> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Call = Call::Read { offset: 0, len_bytes: 1 };

    /// The numbers of the reads that are struck when odd operations are reads and even ones syncs.
    fn struck_reads(fault: Fault, when: When) -> Vec<u64> {
        let (mut faults, mut random) = (Faults::none().with(fault, when), Random::new(1));
        let call = |number| if number % 2 == 1 { READ } else { Call::Sync };
        (1..=8).filter(|number| faults.strike(*number, call(*number), &mut random).by(fault)).collect()
    }

    #[test]
    fn a_fault_strikes_when_it_is_told_and_only_what_it_fits() {
        assert_eq!(struck_reads(Fault::ReadError, When::At(3)), [3]);
        assert_eq!(struck_reads(Fault::ReadError, When::At(4)), [0; 0]);
        assert_eq!(struck_reads(Fault::ReadError, When::From(4)), [5, 7]);
        assert_eq!(struck_reads(Fault::ReadError, When::Nth(2)), [3]);
        assert_eq!(struck_reads(Fault::AnyError, When::From(7)), [7, 8]);
        assert_eq!(struck_reads(Fault::StaleRead, When::OneIn(1)), [1, 3, 5, 7]);
        assert_eq!(struck_reads(Fault::StaleRead, When::OneIn(0)), [0; 0]);
    }

    #[test]
    fn rules_are_independent_of_each_other() {
        let mut faults = Faults::none()
            .with(Fault::ReadError, When::At(1))
            .with(Fault::ReadError, When::At(2))
            .with(Fault::FlippedAtRest, When::At(2));
        let mut random = Random::new(1);
        assert_eq!(faults.strike(1, READ, &mut random).into_faults(), [Fault::ReadError]);
        assert_eq!(
            faults.strike(2, READ, &mut random).into_faults(),
            [Fault::ReadError, Fault::FlippedAtRest]
        );
        assert_eq!(faults.strike(3, READ, &mut random).into_faults(), []);
    }
}
