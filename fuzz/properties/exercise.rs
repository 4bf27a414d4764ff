//! Exercise: uses a store that was opened in every way there is. Whatever is damaged may give an error.
//!
//! It shows the same to who opens it for reading. What is seen of a store of which no seal was forged is one of the states
//! that it may be in. A store in which the auditor finds nothing opens, or is refused for a feature, or for a number that no
//! store comes to; then it meets no damage but that of data (which the auditor does not read), and is sound in the end, too:
//! but not if a reference was forged, since no auditor can tell one that a version inherited from one that was put there.

use cowblk::device::Device;
use cowblk::{Defect, ErrorKind, Extents, Result, Server, Store, check_device};

use super::bases::options;
use super::content::{Content, difference, is_part_of, observe};
use super::image::{SLOTS, superblock};
use super::input::Input;
use super::medium::Medium;
use super::pages::Pages;

/// How much of each end of a disk is walked over: on a large and empty disk, the middle would take most of the time.
const ENDS_BYTES: u64 = 64 << 10;
const PLACES_MAX: usize = 40;
const STEPS_MAX: usize = 6;

/// What was done to a store before it is used.
pub(crate) enum Forged<'a> {
    /// No seal was forged: what it shows is one of these, or an error.
    Nothing(&'a [Content]),
    /// Something was, but no reference.
    Numbers,
    Anything,
}

/// Opens, reads, changes, closes, opens again, and checks; the input chooses.
pub(crate) fn exercise(pages: Pages, input: &mut Input<'_>, forged: &Forged<'_>) {
    let choices = input.byte();
    let copy = (choices & 0x30 == 0x30).then(|| pages.clone());
    let device = Medium::new(pages);
    let is_sound = choices % 4 < 2 && is_sound(&*device) && !matches!(forged, Forged::Anything);
    let Some(store) = open(&device, is_sound) else { return };
    if let Forged::Nothing(states) = forged {
        expect(&store, states);
    }
    if let Some(pages) = copy {
        expect_same(&store, pages);
    }
    let subject = Subject { store, is_sound };
    if choices & 4 == 0 {
        subject.read();
    }
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        subject.step(input);
    }
    let is_closed = subject.accept(subject.store.clone().close()).is_some();
    drop(subject);
    if is_sound && is_closed {
        let report = check_device(&*device).unwrap();
        assert!(report.is_clean(), "it was sound, and after it was used: {:?}", report.findings);
    }
    if choices & 8 == 8
        && let Some(store) = open(&device, is_sound)
    {
        let subject = Subject { store, is_sound };
        subject.read();
        subject.accept(subject.store.collect());
    }
}

/// Whether there is nothing to find. The auditor does not play the journal: a store that was not closed is not believed.
fn is_sound(device: &dyn Device) -> bool {
    let is_closed = |slot: &u64| {
        let mut clean = [0; 8];
        device.read_at(&mut clean, slot + superblock::CLEAN as u64).is_ok()
            && clean == [1, 0, 0, 0, 0, 0, 0, 0]
    };
    SLOTS.iter().all(is_closed) && check_device(device).is_ok_and(|report| report.is_clean())
}

fn open(device: &std::sync::Arc<Medium>, is_sound: bool) -> Option<Store> {
    let opened = Store::open_on(device.clone(), options());
    if let (Err(error), true) = (&opened, is_sound) {
        const BOUNDS: [Option<Defect>; 4] = [
            Some(Defect::Geometry),
            Some(Defect::Checkpoint),
            Some(Defect::CatalogRecord),
            Some(Defect::Truncated),
        ];
        let may_refuse = error.kind() == ErrorKind::Unsupported || BOUNDS.contains(&error.defect());
        assert!(may_refuse, "the auditor finds nothing, and the store says {error}");
    }
    opened.ok()
}

fn expect(store: &Store, truth: &[Content]) {
    let seen = observe(store, true);
    let is_true = truth.iter().any(|state| is_part_of(&seen, state));
    let last = truth.last().map(|state| difference(&seen, state));
    assert!(is_true, "the store shows what it never held: {last:?}");
}

/// Who opens the store for reading sees what who opens it for writing sees, damage included.
fn expect_same(store: &Store, pages: Pages) {
    let reader = match Store::open_on(Medium::read_only(pages), options()) {
        Ok(reader) => reader,
        Err(error) => panic!("the store opens for writing, and for reading it says {error}"),
    };
    let (seen, expected) = (observe(&reader, false), observe(store, false));
    assert!(seen == expected, "open for reading: {}", difference(&seen, &expected));
}

/// A store, and whether the auditor found nothing in it.
struct Subject {
    store: Store,
    is_sound: bool,
}

impl Subject {
    /// What was done, if it was; a sound store has to do it, or to refuse it for a reason of its caller's.
    fn accept<T>(&self, done: Result<T>) -> Option<T> {
        if let Err(error) = &done {
            let is_damage = matches!(error.kind(), ErrorKind::Io | ErrorKind::Corrupt);
            let is_sound = self.is_sound && error.defect() != Some(Defect::Data);
            assert!(!(is_sound && is_damage), "the auditor found nothing, and the store says {error}");
        }
        done.ok()
    }

    fn read(&self) {
        observe(&self.store, false);
        let _ = (self.store.status(), self.store.stats(), self.store.snapshots());
        for server in self.store.servers().into_iter().take(3) {
            let _ = (server.id(), server.created_at(), server.disk_count());
            for disk in server.disks().into_iter().take(4) {
                let _ = (disk.parent(), disk.server(), disk.created_at());
                let _ = disk.mapped_bytes();
                self.walk(&|range| disk.extents(range), disk.size_bytes());
            }
            for snapshot in server.snapshots().into_iter().chain(server.before_restore()).take(4) {
                let _ = (snapshot.parent(), snapshot.size_bytes(), snapshot.status(), snapshot.kind());
                for disk in snapshot.disks().into_iter().take(4) {
                    let _ = (disk.parent(), disk.mapped_bytes(), disk.id());
                    self.walk(&|range| disk.extents(range), disk.size_bytes());
                }
            }
        }
    }

    fn walk(&self, extents: &dyn Fn(std::ops::Range<u64>) -> Extents, size: u64) {
        let end = size.min(ENDS_BYTES);
        for range in [0..end, size - end..size] {
            for extent in extents(range) {
                if self.accept(extent).is_none() {
                    break;
                }
            }
        }
    }

    fn walk_all(&self) {
        for server in self.store.servers().into_iter().take(3) {
            for disk in server.disks() {
                disk.extents(0..disk.size_bytes())
                    .take(PLACES_MAX)
                    .for_each(|extent| _ = self.accept(extent));
            }
        }
    }

    fn step(&self, input: &mut Input<'_>) {
        let step = input.byte();
        match step % 11 {
            0 if input.byte() < 16 => self.walk_all(),
            0 => self.read(),
            1 => _ = self.accept(self.store.collect()),
            2 => _ = self.accept(self.store.checkpoint()),
            3 => self.create(),
            step => {
                let servers = self.store.servers();
                if let Some(server) = servers.get(input.below(servers.len())) {
                    self.change(server, step, input);
                }
            }
        }
    }

    fn create(&self) {
        let Some(server) = self.accept(self.store.create_server("another")) else { return };
        let Some(disk) = self.accept(server.create_disk("vda", 1 << 20)) else { return };
        self.accept(disk.write_at(&[7; 9000], 100));
        self.accept(server.snapshot("one", ""));
        self.accept(disk.flush());
    }

    fn change(&self, server: &Server, step: u8, input: &mut Input<'_>) {
        let disks = server.disks();
        let disk = disks.get(input.below(disks.len()));
        match (step, disk) {
            (4 | 5, Some(disk)) => {
                let size = disk.size_bytes();
                self.accept(disk.write_at(&[1; 5000], size / 2 / 512 * 512));
                self.accept(disk.write_at(&[2; 512], size.saturating_sub(512)));
                self.accept(disk.write_at(&[3; 8192], 0));
                self.accept(self.store.flush());
            }
            (6, Some(disk)) => {
                let size = disk.size_bytes();
                self.accept(disk.discard(4096, size.saturating_sub(8192)));
                self.accept(disk.resize(size.saturating_add(1 << 20) / 512 * 512));
                self.accept(disk.resize(size / 2 / 512 * 512));
            }
            (7, _) => _ = self.accept(server.snapshot("fuzz", "made by a fuzzer")),
            (8, _) => {
                if let Some(oldest) = server.snapshots().pop() {
                    self.accept(server.restore(oldest.id()));
                }
                if let Some(before) = server.before_restore().filter(|_| input.chance()) {
                    self.accept(server.restore(before.id()));
                }
            }
            (9, _) => {
                let snapshots = server.snapshots();
                if let Some(snapshot) = snapshots.get(input.below(snapshots.len())) {
                    self.accept(self.store.delete_snapshot(snapshot.id()));
                }
            }
            (10, Some(disk)) => _ = self.accept(server.delete_disk(&disk.name())),
            _ => _ = self.accept(self.store.delete_server(server.id())),
        }
    }
}
