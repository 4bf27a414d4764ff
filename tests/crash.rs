//! Crash: the store's file is taken at any write, and what it holds then must be a prefix of what was written.
//!
//! The little brother of the kill test: one process, one thread, a medium in memory that keeps a copy of itself at a chosen
//! write. The same seed gives the same crash, and a history that fails is shrunk to one that says why.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod fixture;
mod prefix;

use std::io;
use std::sync::{Arc, Mutex};

use cowblk::device::{Device, MemoryDevice};
use cowblk::{Store, check_device};
use fixture::{Dice, seeds};
use prefix::{Operation, State, choose, is_durable, options, perform, prepare, settle};

/// A medium in memory that keeps what it holds just before a chosen write.
struct CrashDevice {
    medium: MemoryDevice,
    armed: Mutex<Armed>,
}

#[derive(Default)]
struct Armed {
    /// Writes until the crash.
    countdown: Option<u64>,
    image: Option<Vec<u8>>,
}

impl CrashDevice {
    fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { medium: MemoryDevice::from_bytes(bytes), armed: Mutex::default() })
    }

    fn arm(&self, writes: u64) {
        self.armed.lock().unwrap().countdown.get_or_insert(writes);
    }

    fn image(&self) -> Option<Vec<u8>> {
        self.armed.lock().unwrap().image.clone()
    }
}

impl Device for CrashDevice {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.medium.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut armed = self.armed.lock().unwrap();
        match armed.countdown {
            Some(0) if armed.image.is_none() => armed.image = Some(self.medium.to_bytes()),
            Some(left) => armed.countdown = Some(left.saturating_sub(1)),
            None => {}
        }
        self.medium.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.medium.sync()
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.medium.len_bytes()
    }

    fn grow(&self, len_bytes: u64) -> io::Result<()> {
        self.medium.grow(len_bytes)
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        self.medium.discard(offset, len_bytes)
    }

    fn can_grow(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }
}

/// One step of a history.
#[derive(Clone, Copy, Debug)]
enum Step {
    Operation(u64),
    /// Crash after so many more writes of the medium.
    Crash(u64),
    /// Close and open.
    Reopen,
}

/// A store that lives through a list of steps, and the model that goes along.
struct Life {
    seed: u64,
    device: Arc<CrashDevice>,
    store: Option<Store>,
    /// What the store held when it was opened last.
    start: State,
    /// What has been done since, and what of it is durable.
    numbers: Vec<u64>,
    durable: u64,
    log: Vec<String>,
}

impl Life {
    fn new(seed: u64) -> Result<Self, String> {
        let device = CrashDevice::new(Vec::new());
        let store =
            Store::create_on(device.clone(), options(&mut Dice::new(seed)).background(false)).unwrap();
        prepare(&store);
        let mut life = Self {
            seed,
            device,
            store: Some(store),
            start: State::new(),
            numbers: Vec::new(),
            durable: 0,
            log: vec![format!("{:?}", options(&mut Dice::new(seed)))],
        };
        life.reopen()?;
        Ok(life)
    }

    fn said<T>(&self, doing: &str, result: cowblk::Result<T>) -> Result<T, String> {
        result.map_err(|e| format!("{doing}: {e}\nafter\n  {}", self.log.join("\n  ")))
    }

    fn open(&mut self, bytes: Vec<u8>, when: &str) -> Result<(), String> {
        let report = self.said("check", check_device(&MemoryDevice::from_bytes(bytes.clone())))?;
        if !report.is_clean() {
            return Err(format!("check {when}: {:#?}\nafter\n  {}", report.findings, self.log.join("\n  ")));
        }
        self.device = CrashDevice::new(bytes);
        let store = Store::open_on(self.device.clone(), options(&mut Dice::new(self.seed)).background(false));
        self.store = Some(self.said("open", store)?);
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), String> {
        self.log.push("close and open".to_owned());
        if let Some(store) = self.store.take() {
            let closed = store.close();
            self.said("close", closed)?;
        }
        if let Some(&last) = self.numbers.last() {
            self.durable = last;
        }
        self.open(self.device.medium.to_bytes(), "after a close")?;
        self.settle()
    }

    /// The store has been opened again: which of the operations does it hold?
    fn settle(&mut self) -> Result<(), String> {
        let found = State::observe(&self.store.as_ref().unwrap().server("web").unwrap());
        let numbers = std::mem::take(&mut self.numbers);
        settle(self.seed, self.start.clone(), numbers, self.durable, &found)
            .map_err(|e| format!("{e}\nafter\n  {}", self.log.join("\n  ")))?;
        (self.start, self.durable) = (found, 0);
        Ok(())
    }

    fn perform(&mut self, number: u64) -> Result<(), String> {
        let store = self.store.clone().unwrap();
        let server = store.server("web").unwrap();
        let can_undo = server.before_restore().is_some();
        let operation = choose(self.seed, number, server.snapshots().len(), can_undo);
        self.log.push(format!("{number}: {operation:?}"));
        self.numbers.push(number);
        let done = perform(&store, &server, &operation, number);
        self.said("perform", done)?;
        if is_durable(&operation) && self.device.image().is_none() {
            self.durable = number;
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Operation(number) => self.perform(number)?,
            Step::Reopen => self.reopen()?,
            Step::Crash(writes) => {
                self.log.push(format!("crash after {writes} more writes"));
                self.device.arm(writes);
            }
        }
        if let Some(image) = self.device.image() {
            self.log.push("the crash".to_owned());
            self.store = None;
            self.open(image, "after a crash")?;
            self.settle()?;
        }
        Ok(())
    }
}

fn run(seed: u64, steps: &[Step]) -> Result<(), String> {
    let outcome = std::panic::catch_unwind(|| {
        let mut life = Life::new(seed)?;
        for step in steps {
            life.step(*step)?;
        }
        life.reopen()
    });
    outcome.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        Err(said.unwrap_or_else(|| "a panic".to_owned()))
    })
}

/// Leaves out steps for as long as the history still fails.
fn shrink(seed: u64, mut steps: Vec<Step>) -> String {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut part = steps.len().div_ceil(2).max(1);
    loop {
        let before = steps.len();
        let mut at = 0;
        while at < steps.len() {
            let fewer = [&steps[..at], &steps[(at + part).min(steps.len())..]].concat();
            if run(seed, &fewer).is_err() {
                steps = fewer;
            } else {
                at += part;
            }
        }
        if part == 1 && steps.len() == before {
            break;
        }
        part = part.div_ceil(2);
    }
    std::panic::set_hook(hook);
    run(seed, &steps).err().unwrap_or_else(|| "the shorter history does not fail every time".to_owned())
}

#[test]
fn a_crash_at_any_write_leaves_a_prefix() {
    for seed in seeds(40) {
        let mut dice = Dice::new(seed ^ 0xC0_FFEE);
        let count = *dice.pick(&[30, 100, 300]);
        let steps: Vec<Step> = (1..count)
            .map(|number| match dice.below(24) {
                0..2 => Step::Crash(dice.below(*dice.clone().pick(&[2, 20, 60]))),
                2 => Step::Reopen,
                _ => Step::Operation(number),
            })
            .collect();
        if let Err(said) = run(seed, &steps) {
            panic!(
                "{said}\n\nShrunk: {}\nreplay: COWBLK_SEED={seed} cargo test --test crash",
                shrink(seed, steps)
            );
        }
    }
}

/// A step of its own for the reader: an operation names its blocks and snapshots by itself.
#[test]
fn an_operation_follows_from_its_number() {
    assert_eq!(choose(1, 2, 3, true), choose(1, 2, 3, true));
    assert!((0..50).any(|number| choose(1, number, 1, true) == Operation::Flush));
}
