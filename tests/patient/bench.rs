//! Bench: examines damaged images of a patient, and decides whether each damage was noticed where it had to be.
//!
//! Everything that a sound store does with its image is deterministic. So a byte that neither opening, nor a read of
//! a place, nor the auditor ever looks at cannot change what they say: only those that are looked at are damaged.

use super::watch::Bytes;
use super::{BLOCK, Handle, Patient, Place, Shown, Watch, handles};
use crate::atlas::{HEADER_BYTES, Kind};
use cowblk::device::sim::SimDevice;
use cowblk::{Error, ErrorKind, Store, check_device};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

/// Through a damaged node many places are read: of a damage that is not looked at thoroughly, so many are tried.
const PLACES_TRIED: usize = 2;

/// How one damage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The store does not open, and says why.
    Refused,
    /// What is damaged cannot be read, everything else is right.
    Unreadable,
    /// Everything reads right; the auditor names the damage, as a finding or a note.
    Audited,
    /// As if the last flush had been torn by a crash; in its batch, or in a block that it alone names.
    Torn,
    /// Nobody looks there, and nothing refers to it.
    Nothing,
    /// A batch stands at the journal's beginning instead of its place, where recovery looks for it, too: all is right.
    Moved,
    /// Only what was deleted, and waits for the collector, refers to it.
    Deleted,
}

/// How many damages ended how.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<Outcome, u64>);

impl Tally {
    pub fn add(&mut self, outcome: Outcome, count: u64) {
        *self.0.entry(outcome).or_default() += count;
    }

    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    pub fn of(&self, outcome: Outcome) -> u64 {
        self.0.get(&outcome).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.count())?;
        self.0.iter().try_for_each(|(outcome, count)| write!(f, " {count} {outcome:?}"))
    }
}

/// A patient, and what is looked at where.
pub struct Bench<'a> {
    pub patient: &'a Patient,
    sound: SimDevice,
    opening: Bytes,
    auditing: Bytes,
    /// What the auditor says of the sound store.
    said: Vec<String>,
    /// A device that is flipped under a store that stays open, and that store's disks.
    below: SimDevice,
    above: BTreeMap<String, Handle>,
}

impl<'a> Bench<'a> {
    pub fn new(patient: &'a Patient) -> Self {
        let sound = SimDevice::from_image(&patient.image, 1);
        let watch = Watch::new(sound.read_only(), patient.image.len());
        Patient::open(watch.clone()).unwrap();
        let opening = watch.take();
        let report = check_device(&watch).unwrap();
        assert!(report.is_clean(), "{}: {:?}", patient.name, report.findings);
        let auditing = watch.take();
        let below = SimDevice::from_image(&patient.image, 1);
        let above = handles(&Patient::open(below.read_only()).unwrap());
        let said = audit(&sound).unwrap();
        Self { patient, sound, opening, auditing, said, below, above }
    }

    /// The library goes the way that the atlas says: each place is read through those blocks, and no others.
    pub fn assert_ways(&self) {
        let patient = self.patient;
        let mut traced: BTreeMap<usize, BTreeSet<Place>> = BTreeMap::new();
        for (path, name) in patient.paths.iter().enumerate() {
            for block in super::spots(patient.shown.0[name].0) {
                let watch = Watch::new(self.sound.read_only(), patient.image.len());
                let store = Patient::open(watch.clone()).unwrap();
                let handle = &handles(&store)[name];
                watch.take();
                handle.read_block(block, &mut [0; BLOCK]).unwrap();
                for touched in watch.take().blocks(BLOCK) {
                    traced.entry(touched).or_default().insert((path, block));
                }
            }
        }
        assert!(traced == patient.ways, "{}: the atlas and the library go different ways", patient.name);
        for (block, held) in &patient.atlas.held {
            let is_read = patient.ways.contains_key(block);
            if matches!(held.kind, Kind::Data | Kind::Node) {
                assert_eq!(is_read, !held.is_deleted, "{}: block {block} is {held:?}", patient.name);
            }
        }
    }

    /// A sound device, to be damaged.
    pub fn device(&self) -> SimDevice {
        self.sound.fork()
    }

    /// Whether opening, the auditor or a read looks at this byte.
    pub fn is_looked_at(&self, byte: usize) -> bool {
        self.opening.holds(byte)
            || self.auditing.holds(byte)
            || self.patient.ways.contains_key(&(byte / BLOCK))
    }

    /// A byte that nobody looks at: nothing may refer to it.
    pub fn unseen(&self, byte: usize) -> Outcome {
        match self.patient.atlas.at(byte) {
            None => Outcome::Nothing,
            Some(held) if held.is_deleted && held.kind == Kind::Data => Outcome::Deleted,
            Some(held) => panic!("{}: nobody looks at byte {byte} of {held:?}", self.patient.name),
        }
    }

    /// One flipped bit. What depends on it must fail, and everything if `is_thorough` is looked at.
    pub fn flip(&self, byte: usize, bit: u8, is_thorough: bool) -> Outcome {
        let what = format!("{}, byte {byte}, bit {bit}", self.patient.name);
        let block = byte / BLOCK;
        let is_opened = self.opening.holds(byte);
        let kind = self.patient.atlas.at(byte).map(|held| held.kind);
        let ways = self.patient.ways.get(&block).filter(|_| !is_opened);
        if is_thorough || ways.is_none() {
            let device = self.device();
            device.flip_bit(byte, bit);
            return self.examine(&device, std::slice::from_ref(&(byte..byte + 1)), &what, is_thorough);
        }
        // What does not go through this block was read in the same way before, and reads the same bytes now.
        let ways = ways.expect("looked at above");
        if kind == Some(Kind::Data) {
            self.below.flip_bit(byte, bit);
            self.assert_fail(&self.above, ways, &what);
            self.below.flip_bit(byte, bit);
        } else {
            let device = self.device();
            device.flip_bit(byte, bit);
            let store = Patient::open(device.read_only()).unwrap_or_else(|error| panic!("{what}: {error}"));
            self.assert_fail(&handles(&store), ways, &what);
        }
        Outcome::Unreadable
    }

    fn assert_fail(&self, disks: &BTreeMap<String, Handle>, places: &BTreeSet<Place>, what: &str) {
        let mut buf = [0; BLOCK];
        let spread = places.len().div_ceil(PLACES_TRIED);
        for (path, block) in places.iter().step_by(spread) {
            let path = &self.patient.paths[*path];
            match disks[path].read_block(*block, &mut buf) {
                Err(error) => assert_defect(&error, what),
                Ok(_) => panic!("{what}: block {block} of {path} is read through it, and no error says so"),
            }
        }
    }

    /// Opens, reads everything, audits where that is needed; `damaged` are the bytes that may differ.
    pub fn examine(
        &self,
        device: &SimDevice,
        damaged: &[Range<usize>],
        what: &str,
        is_thorough: bool,
    ) -> Outcome {
        let patient = self.patient;
        let seen = match Patient::open(device.read_only()) {
            Err(error) => {
                assert_defect(&error, what);
                Outcome::Refused
            }
            Ok(store) => self.look(&store, damaged, what),
        };
        let is_audited = is_thorough || seen == Outcome::Nothing;
        let said = if is_audited { audit(device).map_or_else(|error| Some(vec![error]), Some) } else { None };
        if is_thorough {
            let is_content = said.as_ref() == Some(&self.said);
            assert!(
                !is_content || seen != Outcome::Refused,
                "{what}: not opened, and the auditor is content"
            );
            self.operate(device, seen, damaged, what);
        }
        if seen != Outcome::Nothing {
            return seen;
        }
        if said.is_some_and(|said| said != self.said) {
            return Outcome::Audited;
        }
        let is_journal_start = |range: &Range<usize>| range.start / BLOCK == HEADER_BYTES / BLOCK;
        let may_be_moved = damaged.iter().any(is_journal_start);
        let mut outcome = Outcome::Nothing;
        for byte in damaged.iter().cloned().flatten() {
            outcome = match patient.atlas.at(byte) {
                None => outcome,
                Some(held) if held.is_deleted && held.kind == Kind::Data => Outcome::Deleted,
                Some(held) if may_be_moved && held.kind == Kind::Batch => Outcome::Moved,
                Some(held) => panic!("{what}: nobody noticed, and byte {byte} is of {held:?}"),
            };
        }
        outcome
    }

    /// Reads everything: right, or an error where the damage is in the way.
    fn look(&self, store: &Store, damaged: &[Range<usize>], what: &str) -> Outcome {
        let patient = self.patient;
        let mut through = BTreeSet::new();
        for block in damaged.iter().flat_map(|range| range.start / BLOCK..range.end.div_ceil(BLOCK)) {
            through.extend(patient.ways.get(&block).into_iter().flatten().copied());
        }
        let difference = match self.compare(store, &patient.shown, what) {
            Ok(failed) if failed.is_empty() => return Outcome::Nothing,
            Ok(failed) if failed.is_subset(&through) => return Outcome::Unreadable,
            Ok(failed) => format!("these are not read through it: {:?}", failed.difference(&through)),
            Err(difference) => difference,
        };
        // The last batch looks torn if it is damaged; then the one before may, if it is damaged, too; and so on.
        let torn = self.batches(damaged);
        let back = (0..patient.before.len()).take_while(|nth| torn.contains(nth)).count();
        assert!(back > 0, "{what}: wrong data: {difference}");
        let found =
            (0..back).find_map(|nth| Some((nth, self.compare(store, &patient.before[nth], what).ok()?)));
        let (oldest, failed) =
            found.unwrap_or_else(|| panic!("{what}: {difference}; nor is it one of the last {back} states"));
        // Damage beside the journal's end is met where that state is read through it.
        let is_torn = |range| self.batches(std::slice::from_ref(range)).iter().any(|nth| *nth <= oldest);
        let is_beside = damaged.iter().any(|range| !is_torn(range));
        assert!(failed.is_empty() || is_beside, "{what}: the state before that flush is whole");
        Outcome::Torn
    }

    /// Which batches, from the last one on, are damaged, or name something that is.
    fn batches(&self, damaged: &[Range<usize>]) -> BTreeSet<usize> {
        let bytes = damaged.iter().flat_map(|range| range.clone().step_by(BLOCK).chain([range.end - 1]));
        bytes.filter_map(|byte| self.patient.atlas.at(byte)?.from_end).collect()
    }

    /// The places that cannot be read; all others hold what they should, or the difference is told.
    fn compare(&self, store: &Store, shown: &Shown, what: &str) -> Result<BTreeSet<Place>, String> {
        let disks = handles(store);
        if !disks.keys().eq(shown.0.keys()) {
            return Err(format!("disks and snapshots {:?}", disks.keys()));
        }
        let (mut failed, mut buf) = (BTreeSet::new(), Vec::new());
        for (name, handle) in &disks {
            let (size_bytes, stretches) = &shown.0[name];
            if handle.size_bytes() != *size_bytes {
                return Err(format!("{name} has {} bytes", handle.size_bytes()));
            }
            let path = self.patient.paths.iter().position(|path| path == name).unwrap_or(usize::MAX);
            for stretch in stretches {
                buf.clear();
                buf.resize(stretch.bytes.len(), 0xEE);
                let is_whole = handle.read_at(&mut buf, stretch.offset()).is_ok();
                if is_whole && buf == stretch.bytes {
                    continue;
                }
                for (block, expected) in stretch.blocks() {
                    let mut own = [0xEE; BLOCK];
                    match handle.read_block(block, &mut own) {
                        Ok(len) if own[..len] == *expected => {}
                        Ok(_) => return Err(format!("block {block} of {name}")),
                        Err(error) => {
                            assert_defect(&error, what);
                            failed.insert((path, block));
                        }
                    }
                }
                assert!(!is_whole, "{what}: {name} reads otherwise as a whole than block by block");
            }
        }
        Ok(failed)
    }

    /// The same for writing: opened, closed and opened again it still shows what is right, or errors.
    fn operate(&self, device: &SimDevice, seen: Outcome, damaged: &[Range<usize>], what: &str) {
        let what = format!("{what}, opened for writing");
        let device = device.fork();
        let store = match Patient::open(device.clone()) {
            Ok(store) => store,
            Err(error) => return assert_defect(&error, &what),
        };
        let now = self.look(&store, damaged, &what);
        assert!(now == seen || seen == Outcome::Refused, "{what}: {now:?}, for reading {seen:?}");
        match store.close() {
            Ok(()) => {}
            Err(error) => assert_defect(&error, &what),
        }
        let what = format!("{what} and again");
        match Patient::open(device.clone()) {
            Ok(store) => drop(self.look(&store, damaged, &what)),
            Err(error) => assert_defect(&error, &what),
        }
        drop(audit(&device));
    }
}

/// All that the auditor says.
fn audit(device: &SimDevice) -> Result<Vec<String>, String> {
    let report = check_device(&device.read_only()).map_err(|error| error.to_string())?;
    let findings = report.findings.iter().map(ToString::to_string);
    Ok(findings
        .chain(report.notes.iter().cloned())
        .chain([format!("{:?}", report.journal_batches)])
        .collect())
}

/// An error that says which defect it met, or that this is no store that this version knows.
fn assert_defect(error: &Error, what: &str) {
    let is_told = error.kind() == ErrorKind::Corrupt && error.defect().is_some();
    let is_foreign = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported);
    assert!(is_told || is_foreign, "{what}: {error:?} names no defect");
}
