//! Full: what a store does before it refuses a write, and how a write waits for space.
//!
//! Floor 5. Who waits holds no lock.

use super::blocks::Purpose;
use super::engine::Engine;
use super::notices::{Notice, Notices};
use super::statistics::Counters;
use super::watermarks::Level;
use crate::error::{Error, ErrorKind, Result};
use crate::space::Allocator;
use crate::units::DiskId;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Who finds no space runs this many checkpoints, each of which may free blocks, before looking further.
const CHECKPOINTS_FOR_SPACE: u32 = 2;

/// A write that waits asks the file system this often whether it has room again.
const GROWTH_RETRY: Duration = Duration::from_millis(500);

/// A write that waits and is told of a change lets so much time pass, in which others may follow, before it runs checkpoints.
const GATHER: Duration = Duration::from_millis(10);

/// On which terms a write gets its blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(super) purpose: Purpose,
    /// Whether it waits, if the disk is set to.
    waits: bool,
    /// Until when, once it has begun to.
    deadline: Option<Instant>,
}

impl Terms {
    /// What a guest writes: waits as its disk is set to.
    pub(crate) const GUEST: Self = Self { purpose: Purpose::Data, waits: true, deadline: None };
    /// The ragged edges of a discard: a discard never waits.
    pub(crate) const AT_ONCE: Self = Self { purpose: Purpose::Data, waits: false, deadline: None };
    /// The ragged end of a disk that shrinks, which makes space.
    pub(crate) const RELIEF: Self = Self { purpose: Purpose::Relief, waits: false, deadline: None };
}

/// Where writes wait for space, and are told that there may be some.
#[derive(Default)]
pub(super) struct Room {
    waiting: AtomicUsize,
    news: Mutex<u64>,
    changed: Condvar,
    /// Held by who gives up something for space, so that two who need little do not give up twice as much.
    relief: Mutex<()>,
}

impl Room {
    /// There may be space, or a way to it.
    pub(super) fn announce(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            *self.news.lock() += 1;
            self.changed.notify_all();
        }
    }

    /// Waits for news since `seen`, and a little for more. Whether there are.
    fn wait(&self, seen: u64, until: Instant) -> bool {
        let mut news = self.news.lock();
        while *news == seen {
            if self.changed.wait_until(&mut news, until).timed_out() {
                break;
            }
        }
        let is_news = *news != seen;
        drop(news);
        if is_news {
            std::thread::sleep(GATHER);
        }
        is_news
    }
}

/// One write that waits; dropping it ends that.
struct Waiting<'a>(&'a Room);

impl<'a> Waiting<'a> {
    fn enter(room: &'a Room) -> Self {
        room.waiting.fetch_add(1, Ordering::SeqCst);
        Self(room)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Engine {
    /// Sees that there is space for `needed` blocks of a disk, and waits for it if the terms and the disk say so.
    pub(super) fn space_for(&self, disk: DiskId, needed: u64, terms: &mut Terms) -> Result<()> {
        if needed == 0 {
            return self.ensure_space(0, Purpose::Relief);
        }
        match self.ensure_space(needed, terms.purpose) {
            Err(error) if error.kind() == ErrorKind::Full => self.wait_for_space(disk, needed, terms, error),
            enough => enough,
        }
    }

    fn wait_for_space(&self, disk: DiskId, needed: u64, terms: &mut Terms, refusal: Error) -> Result<()> {
        let Some(deadline) = self.deadline(disk, terms) else {
            return Err(self.refuse(disk, refusal));
        };
        let waiting = Waiting::enter(&self.room);
        // What was freed before the write was on the list of those who are told.
        let mut is_worth_it = true;
        loop {
            self.check_writable()?;
            let seen = *waiting.0.news.lock();
            self.state.read().disk(disk)?;
            if is_worth_it || self.free_hint.load(Ordering::Relaxed) >= needed + self.floor(terms.purpose) {
                match self.ensure_space(needed, terms.purpose) {
                    Err(error) if error.kind() == ErrorKind::Full => {}
                    enough => return enough,
                }
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(self.refuse(disk, refusal));
            }
            let is_news =
                self.times.for_space.time(|| waiting.0.wait(seen, deadline.min(now + GROWTH_RETRY)));
            is_worth_it = is_news || self.grow()?;
        }
    }

    /// A write fails: counts and tells it.
    fn refuse(&self, disk: DiskId, refusal: Error) -> Error {
        Counters::add(&self.counters.refused_writes, 1);
        self.notices.post(Notice::WriteRefused { disk });
        refusal
    }

    /// Until when a write waits; `None` if it does not.
    fn deadline(&self, disk: DiskId, terms: &mut Terms) -> Option<Instant> {
        if terms.waits && terms.deadline.is_none() {
            let patience = self.state.read().catalog.disks.get(&disk)?.when_full.patience();
            if patience.is_zero() {
                return None;
            }
            self.notices.post(Notice::WriteWaits { disk });
            terms.deadline = Instant::now().checked_add(patience);
        }
        terms.deadline
    }

    /// Does all that may free blocks until `is_enough`: checkpoints; for data and new records also the collector's work; and for data
    /// giving up what restores replaced, the oldest first.
    ///
    /// # Errors
    /// `Full` where nothing helps.
    pub(super) fn make_space(&self, purpose: Purpose, is_enough: &impl Fn() -> bool) -> Result<()> {
        for _ in 0..CHECKPOINTS_FOR_SPACE {
            if self.checkpoint_unless(is_enough)? {
                return Ok(());
            }
            self.wait_for_parked();
        }
        // Looked at while no checkpoint holds blocks for what it may write.
        let looked = self.maintenance.lock();
        if is_enough() {
            return Ok(());
        }
        drop(looked);
        if purpose == Purpose::Relief {
            return Err(self.full());
        }
        let _one_at_a_time = self.room.relief.lock();
        loop {
            if self.collect_until(is_enough)? {
                return Ok(());
            }
            if self.look_again() {
                continue;
            }
            if purpose == Purpose::Catalog {
                return Err(self.full());
            }
            if self.options.keep_replaced_when_full || !self.give_up_oldest_replaced()? {
                return Err(self.full());
            }
        }
    }

    /// Lets the collector look again at deleted versions that stay because they have several children, if any disk let go of something
    /// that it had inherited since it looked last. Whether there is one.
    pub(super) fn look_again(&self) -> bool {
        let catalog = &mut self.state.write().catalog;
        let kept = catalog.lineage.kept.clone();
        self.has_let_go.swap(false, Ordering::Relaxed)
            && kept.into_iter().filter(|victim| catalog.trim_again(*victim)).count() > 0
    }

    /// Runs a checkpoint unless there `is_enough`, looked at while no other one is under way. Whether there was enough.
    fn checkpoint_unless(&self, is_enough: &impl Fn() -> bool) -> Result<bool> {
        let mut checkpointer = self.maintenance.lock();
        if is_enough() {
            return Ok(true);
        }
        self.checkpoint_with(&mut checkpointer, false).map(|()| false)
    }

    /// Runs the collector until `is_enough`, or until it has nothing to do. Whether it is enough.
    fn collect_until(&self, is_enough: &impl Fn() -> bool) -> Result<bool> {
        loop {
            let mut checkpointer = self.maintenance.lock();
            if is_enough() {
                return Ok(true);
            }
            match self.collect_some(&mut checkpointer) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                // A damaged tree of what was deleted is not this write's trouble; that there is no space is.
                Err(error) => return Err(self.full().caused_by(error)),
            }
            self.checkpoint_with(&mut checkpointer, false)?;
            drop(checkpointer);
            self.wait_for_parked();
        }
    }

    /// Tells listeners if the store passed a watermark. The caller has the allocator's lock.
    pub(super) fn watch(&self, allocator: &Allocator) {
        if let Some(level) = self.level(allocator) {
            for notice in self.watermarks.update(level) {
                self.notices.post(notice);
            }
        }
    }

    /// A new listener to notices.
    pub(super) fn listen(&self) -> Notices {
        let allocator = self.allocator.lock();
        let level = self.level(&allocator);
        self.notices.listen(level.and_then(|level| self.watermarks.standing(level)))
    }

    /// How full the store is; `None` if nobody knows where its limit is.
    pub(super) fn level(&self, allocator: &Allocator) -> Option<Level> {
        let zones = allocator.zones();
        let thin = if self.watermarks.is_refused() { 0 } else { allocator.thin_free() };
        let free = allocator.free() + thin;
        let per_zone = u64::from(self.geometry.data_blocks_per_zone());
        let zones_max = self.watermarks.zones_max(zones)?;
        Some(Level {
            used: (zones * per_zone).saturating_sub(free),
            capacity: zones_max.saturating_mul(per_zone),
            reserve: Purpose::Data.reserve(),
        })
    }
}
