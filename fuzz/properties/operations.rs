//! Operations: any history of a store, beside a model that cannot be wrong because it has nothing to be clever about.
//!
//! The store shows what the model shows, after each comparison and each closing. After a crash it shows a state at or behind
//! the last that was durable, where a write may be cut off between two blocks. The auditor finds nothing, ever.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use cowblk::device::sim::{Fault, Faults, SimDevice, Survival, When};
use cowblk::{ErrorKind, Result, Server, Snapshot, Store, check_device};

use super::bases::options;
use super::content::{BEFORE, BLOCK, Content, SECTOR, difference, observe, stamp};
use super::input::Input;

const OPERATIONS_MAX: usize = 120;
const CAPACITY: usize = 6 << 20;
const BLOCKS_MAX: usize = 12;
const SEEDS: usize = 16;
const NAMES: [&str; 3] = ["vda", "vdb", "vdc"];
const SNAPSHOTS_MAX: usize = 4;
const SECTORS_PER_BLOCK: usize = BLOCK / SECTOR;

#[derive(Clone, Debug, PartialEq)]
struct Disk {
    /// Tells a disk from one that had its name before.
    number: u64,
    sectors: Vec<u64>,
}

/// A state is copied for every step that a crash may cut an operation at: disks are shared until they change.
type Disks = BTreeMap<&'static str, Arc<Disk>>;

/// One server, its disks and its snapshots, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    disks: Disks,
    snapshots: Vec<(String, Arc<Disks>)>,
    before: Option<Arc<Disks>>,
}

#[derive(Clone, Debug)]
enum Operation {
    Write { name: &'static str, first: usize, count: usize },
    Discard { name: &'static str, first: usize, count: usize },
    Resize { name: &'static str, sectors: usize },
    Create { name: &'static str, sectors: usize },
    DeleteDisk { name: &'static str },
    Snapshot,
    Restore(usize),
    Undo,
    DeleteSnapshot(usize),
    Flush,
    Checkpoint,
    Collect,
}

impl Model {
    fn content(&self) -> Content {
        let mut content = Content::from([("web".to_owned(), Vec::new())]);
        let mut add = |prefix: &str, disks: &Disks| {
            for (name, disk) in disks {
                content.insert(format!("{prefix}/{name}"), disk.sectors.clone());
            }
        };
        add("web", &self.disks);
        let before = self.before.iter().map(|disks| (BEFORE.to_owned(), disks.as_ref()));
        let all = self.snapshots.iter().map(|(name, disks)| (name.clone(), disks.as_ref())).chain(before);
        for (name, disks) in all.clone() {
            add(&format!("web@{name}"), disks);
        }
        for (name, _) in all {
            content.insert(format!("web@{name}"), Vec::new());
        }
        content
    }

    /// Applies an operation in the steps at which a crash may cut it; `None` if it is to be refused.
    fn apply(&self, operation: &Operation, number: u64) -> Option<Vec<Model>> {
        let mut next = self.clone();
        match operation {
            Operation::Write { name, first, count } => {
                return self.put(name, *first..first + count, number);
            }
            Operation::Discard { name, first, count } => return self.put(name, *first..first + count, 0),
            Operation::Resize { name, sectors } => {
                let disk = Arc::make_mut(next.disks.get_mut(name)?);
                if disk.sectors.iter().skip(*sectors).any(|stamp| *stamp != 0) {
                    return None;
                }
                disk.sectors.resize(*sectors, 0);
            }
            Operation::Create { name, sectors } => {
                if next.disks.contains_key(name) {
                    return None;
                }
                next.disks.insert(name, Arc::new(Disk { number, sectors: vec![0; *sectors] }));
            }
            Operation::DeleteDisk { name } => drop(next.disks.remove(name)?),
            Operation::Snapshot => {
                next.snapshots.push((format!("at-{number}"), Arc::new(self.disks.clone())));
            }
            Operation::Restore(index) => next.restore(&self.snapshots.get(*index)?.1)?,
            Operation::Undo => next.restore(self.before.as_ref()?)?,
            Operation::DeleteSnapshot(index) => {
                next.snapshots.get(*index)?;
                next.snapshots.remove(*index);
            }
            Operation::Flush | Operation::Checkpoint | Operation::Collect => {}
        }
        Some(vec![next])
    }

    fn put(&self, name: &str, range: std::ops::Range<usize>, stamp: u64) -> Option<Vec<Model>> {
        let mut states = vec![self.clone()];
        let mut first = range.start;
        while first < range.end {
            let end = (first + 1).next_multiple_of(SECTORS_PER_BLOCK).min(range.end);
            let mut next = states.last()?.clone();
            Arc::make_mut(next.disks.get_mut(name)?).sectors.get_mut(first..end)?.fill(stamp);
            states.push(next);
            first = end;
        }
        self.disks.contains_key(name).then_some(states)
    }

    fn restore(&mut self, target: &Disks) -> Option<()> {
        let live = |disk: &Disk| {
            self.disks.iter().find(|(_, live)| live.number == disk.number).map(|(name, _)| *name)
        };
        let mut replaced = Disks::new();
        for (name, disk) in target {
            match live(disk) {
                Some(name) => drop(replaced.insert(name, self.disks.get(name)?.clone())),
                None if self.disks.contains_key(name) => return None,
                None => {}
            }
        }
        self.disks.extend(target.iter().map(|(name, disk)| (*name, disk.clone())));
        self.before = (!replaced.is_empty()).then(|| Arc::new(replaced));
        Some(())
    }
}

struct Life {
    device: SimDevice,
    store: Option<Store>,
    /// What the store may hold after a crash; the last is what it shows now.
    states: Vec<Model>,
    log: Vec<String>,
}

/// The property.
pub fn run(data: &[u8]) {
    let input = &mut Input(data);
    let device = fresh(input.below(SEEDS));
    let store = Store::open_on(Arc::new(device.clone()), options()).unwrap();
    let mut life = Life { device, store: Some(store), states: vec![Model::default()], log: Vec::new() };
    for number in 1..OPERATIONS_MAX as u64 {
        if input.is_empty() {
            break;
        }
        match input.byte() {
            0..=7 => life.compare(),
            8..=15 => life.close(),
            16..=27 => life.crash(input.word(2)),
            28..=45 => life.arm(input),
            choice => life.operate(&choose(choice, input), number),
        }
    }
    match data.len() % 4 {
        0 => life.close(),
        1 => life.crash(1),
        _ => life.compare(),
    }
    // The last closing would be a checkpoint that nobody looks at.
    life.device.cut_power();
}

/// A medium with an empty store; the medium's own choices come from a seed.
fn fresh(seed: usize) -> SimDevice {
    static STORES: OnceLock<Vec<SimDevice>> = OnceLock::new();
    let make = |seed| {
        let device = SimDevice::new(0, seed).with_capacity(CAPACITY);
        let store = Store::create_on(Arc::new(device.clone()), options()).unwrap();
        store.create_server("web").unwrap();
        store.close().unwrap();
        device
    };
    STORES.get_or_init(|| (0..SEEDS as u64).map(make).collect())[seed].fork()
}

fn choose(choice: u8, input: &mut Input<'_>) -> Operation {
    let name = NAMES[input.below(NAMES.len())];
    let first = input.below(BLOCKS_MAX * SECTORS_PER_BLOCK);
    let count = 1 + input.below(64);
    let aligned = |sector: usize| sector / SECTORS_PER_BLOCK * SECTORS_PER_BLOCK;
    match choice {
        46..=79 => Operation::Write { name, first, count },
        80..=124 => {
            Operation::Write { name, first: aligned(first), count: aligned(count) + SECTORS_PER_BLOCK }
        }
        125..=145 => Operation::Discard { name, first, count: count * 2 },
        146..=155 => Operation::Resize { name, sectors: first + 1 },
        156..=175 => Operation::Create { name, sectors: first + 1 },
        176..=183 => Operation::DeleteDisk { name },
        184..=199 => Operation::Snapshot,
        200..=211 => Operation::Restore(first % SNAPSHOTS_MAX),
        212..=217 => Operation::Undo,
        218..=229 => Operation::DeleteSnapshot(first % SNAPSHOTS_MAX),
        230..=239 => Operation::Flush,
        240..=247 => Operation::Checkpoint,
        _ => Operation::Collect,
    }
}

impl Life {
    fn model(&self) -> &Model {
        self.states.last().expect("there is always a state")
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open between operations")
    }

    fn fail(&self, said: &str) -> ! {
        panic!("{said}\nafter\n  {}", self.log.join("\n  "))
    }

    /// Lets the medium fail soon.
    fn arm(&mut self, input: &mut Input<'_>) {
        const FAULTS: [Fault; 8] = [
            Fault::PowerCut,
            Fault::WriteError,
            Fault::SyncError,
            Fault::SyncDropsWrites,
            Fault::NoSpace,
            Fault::GrowError,
            Fault::ShortTransfer,
            Fault::ReadError,
        ];
        let fault = FAULTS[input.below(FAULTS.len())];
        let when = When::At(self.device.operations() + 1 + u64::from(input.byte()) / 4);
        self.log.push(format!("arm {fault:?} {when:?}"));
        self.device.set_faults(Faults::none().with(fault, when));
    }

    fn operate(&mut self, operation: &Operation, number: u64) {
        let clipped = self.clip(operation);
        let operation = clipped.as_ref().unwrap_or(operation);
        if matches!(operation, Operation::Snapshot) && self.model().snapshots.len() >= SNAPSHOTS_MAX {
            return;
        }
        let is_known = match operation {
            Operation::Write { name, .. } | Operation::Discard { name, .. } => {
                self.model().disks.contains_key(name)
            }
            _ => true,
        };
        if !is_known {
            return;
        }
        self.log.push(format!("{number}: {operation:?}"));
        let expected = self.model().apply(operation, number);
        let server = self.store().server("web");
        let done = server.and_then(|server| perform(self.store(), &server, operation, number));
        match (expected, done) {
            (Some(states), Ok(())) => {
                self.states.extend(states);
                if !matches!(operation, Operation::Write { .. } | Operation::Discard { .. }) {
                    self.states = vec![self.model().clone()];
                }
            }
            (None, Err(error)) if is_refusal(error.kind()) => {}
            (expected, Err(error)) if is_medium(error.kind()) => {
                self.log.push(format!("failed: {error}"));
                self.states.extend(expected.into_iter().flatten());
                self.crash(number);
            }
            (expected, done) => self.fail(&format!(
                "{operation:?} gave {done:?}, and the model {}",
                if expected.is_some() { "did it" } else { "refused it" }
            )),
        }
    }

    /// The same operation inside the disk, as far as it has one.
    fn clip(&self, operation: &Operation) -> Option<Operation> {
        let (Operation::Write { name, first, count } | Operation::Discard { name, first, count }) = operation
        else {
            return None;
        };
        let sectors = self.model().disks.get(name)?.sectors.len();
        let first = first % sectors;
        let count = (*count).min(sectors - first);
        Some(match operation {
            Operation::Write { .. } => Operation::Write { name, first, count },
            _ => Operation::Discard { name, first, count },
        })
    }

    fn compare(&mut self) {
        // A fault that strikes while reading says nothing of what the store holds.
        self.device.set_faults(Faults::none());
        self.log.push("compare".to_owned());
        if self.device.is_cut() {
            return;
        }
        let seen = observe(self.store(), true);
        let expected = self.model().content();
        if seen != expected {
            self.fail(&difference(&seen, &expected));
        }
    }

    fn close(&mut self) {
        self.device.set_faults(Faults::none());
        self.log.push("close".to_owned());
        let closed = self.store.take().map_or(Ok(()), Store::close);
        match closed {
            Ok(()) => self.states = vec![self.model().clone()],
            // An earlier failure that no call was told of.
            Err(error) if matches!(error.kind(), ErrorKind::Halted | ErrorKind::Full) => {}
            Err(error) => self.fail(&format!("closing gave {error}")),
        }
        let device = self.device.crash(&Survival::Nothing);
        self.open(device);
    }

    fn crash(&mut self, seed: u64) {
        self.device.cut_power();
        drop(self.store.take());
        let survival = match seed % 4 {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            _ => Survival::Random(seed),
        };
        self.log.push(format!("crash {survival:?}"));
        let device = self.device.crash(&survival);
        self.open(device);
    }

    fn open(&mut self, device: SimDevice) {
        let report = check_device(&device);
        match report {
            Ok(report) if report.is_clean() => {}
            Ok(report) => self.fail(&format!("the auditor found {:?}", report.findings)),
            Err(error) => self.fail(&format!("the auditor gave {error}")),
        }
        let store = match Store::open_on(Arc::new(device.clone()), options()) {
            Ok(store) => store,
            Err(error) => self.fail(&format!("opening gave {error}")),
        };
        let seen = observe(&store, true);
        let Some(found) = self.states.iter().rev().find(|state| state.content() == seen).cloned() else {
            let last = difference(&seen, &self.model().content());
            self.fail(&format!("the store holds none of {} states; the last: {last}", self.states.len()));
        };
        self.device = device;
        self.store = Some(store);
        self.states = vec![found];
    }
}

fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Invalid | ErrorKind::Exists | ErrorKind::NotFound)
}

fn is_medium(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Io | ErrorKind::Full | ErrorKind::Halted)
}

fn perform(store: &Store, server: &Server, operation: &Operation, number: u64) -> Result<()> {
    let bytes = |sectors: usize| (sectors * SECTOR) as u64;
    let oldest_first = || -> Vec<Snapshot> { server.snapshots().into_iter().rev().collect() };
    let nothing = || cowblk::Error::new(ErrorKind::NotFound, "there is no such snapshot");
    match operation {
        Operation::Write { name, first, count } => {
            let mut buf = vec![0; count * SECTOR];
            stamp(&mut buf, *first as u64, number);
            server.disk(name)?.write_at(&buf, bytes(*first))
        }
        Operation::Discard { name, first, count } => server.disk(name)?.discard(bytes(*first), bytes(*count)),
        Operation::Resize { name, sectors } => server.disk(name)?.resize(bytes(*sectors)),
        Operation::Create { name, sectors } => server.create_disk(name, bytes(*sectors)).map(drop),
        Operation::DeleteDisk { name } => server.delete_disk(name),
        Operation::Snapshot => server.snapshot(&format!("at-{number}"), "").map(drop),
        Operation::Restore(index) => server.restore(oldest_first().get(*index).ok_or_else(nothing)?.id()),
        Operation::Undo => server.restore(server.before_restore().ok_or_else(nothing)?.id()),
        Operation::DeleteSnapshot(index) => {
            store.delete_snapshot(oldest_first().get(*index).ok_or_else(nothing)?.id())
        }
        Operation::Flush => store.flush(),
        Operation::Checkpoint => store.checkpoint(),
        Operation::Collect => store.collect(),
    }
}
