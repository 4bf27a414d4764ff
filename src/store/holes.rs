//! Holes: gives the space of free blocks back to the host, and gets it back before anybody writes there.
//!
//! Floor 5. It goes by zones. A zone whose free blocks were punched is *thin* (`space/thin.rs`): nobody gets a block of it until the
//! medium has allocated it again, which a full file system can refuse as it refuses to let the store grow. So a write never meets a full file
//! system in a hole, and never halts the store there. The store keeps enough blocks that have space for its reserve.
//!
//! A free block is one that neither the durable checkpoint nor the journal behind it names (S1): what becomes of it in a crash makes no difference.

use super::blocks::{Purpose, is_no_space};
use super::engine::Engine;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Geometry, HEADER_BYTES};
use crate::units::BlockRun;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Free blocks that keep their space, beside the reserve of data.
const KEPT_BLOCKS: u64 = 256;
/// The background thread leaves one block in so many of the used ones its space: writers would only have to get it back.
const KEPT_FRACTION: u64 = 32;
/// It gives back the space of zones of which one block in so many, or more, is free and has space.
const FREE_FRACTION: u64 = 4;
/// What the file system refused is not asked for again for so long.
const REFUSED_FOR: Duration = Duration::from_millis(500);

/// Zones that the file system had no space for.
#[derive(Default)]
pub(super) struct Refusals {
    zones: HashSet<u64>,
    since: Option<Instant>,
}

impl Refusals {
    fn note(&mut self, zone: u64) {
        self.since.get_or_insert_with(Instant::now);
        self.zones.insert(zone);
    }

    fn forget_old(&mut self) {
        if self.since.is_some_and(|since| since.elapsed() >= REFUSED_FOR) {
            *self = Self::default();
        }
    }
}

/// Sees that what a store that may have holes writes over and over has space: superblocks, journal, zone summaries.
///
/// # Errors
/// `Full` if the medium has none.
pub(super) fn back_tables(device: &dyn Device, geometry: &Geometry, zones: u64) -> Result<()> {
    let block_bytes = u64::from(geometry.block_size());
    let summaries = (0..geometry.groups_for(zones))
        .map(|group| (geometry.offset_bytes(geometry.summary_block(group, 0)), 2 * block_bytes));
    let head = (0, HEADER_BYTES + geometry.journal_bytes());
    for (offset, len_bytes) in std::iter::once(head).chain(summaries) {
        match device.allocate(offset, len_bytes) {
            Ok(()) => {}
            Err(cause) if is_no_space(&cause) => return Err(no_room_to_open().caused_by(cause)),
            Err(cause) => return Err(Error::io("allocate the store's journal and tables", cause)),
        }
    }
    Ok(())
}

fn no_room_to_open() -> Error {
    let message = "the store's file has holes, and the file system has no room to fill those that it needs; make room there, or open it read-only";
    Error::new(ErrorKind::Full, message)
}

/// How much is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinning {
    /// What is worth the trouble.
    Unasked,
    /// All that can be.
    Full,
}

impl Engine {
    /// Backs a thin zone, if there is one with free blocks that the medium has space for. Whether there was.
    pub(super) fn back_a_zone(&self, refusals: &mut Refusals) -> Result<bool> {
        if self.allocator.lock().thin_free() == 0 {
            return Ok(false);
        }
        refusals.forget_old();
        while let Some(zone) = self.with_allocator(|allocator| allocator.thin_zone(&refusals.zones))? {
            let run = self.geometry.zone_run(zone);
            match self.device.allocate(self.geometry.offset_bytes(run.first), self.bytes_of(run)) {
                Ok(()) => {
                    let free = self.allocator.lock().free();
                    self.watermarks.backed(true);
                    self.with_allocator(|allocator| allocator.back(zone))?;
                    if self.allocator.lock().free() > free {
                        return Ok(true);
                    }
                }
                Err(cause) if is_no_space(&cause) => refusals.note(zone),
                Err(cause) => return Err(self.halt(Error::io(format!("allocate zone {zone}"), cause))),
            }
        }
        self.watermarks.backed(false);
        self.with_allocator(|_| ());
        Ok(false)
    }

    /// Sees that a store that is being opened has blocks that have space.
    ///
    /// # Errors
    /// `Full` if the medium has not even space for what it takes to delete: only a copy with holes can lack that.
    pub(super) fn back_reserve(&self) -> Result<()> {
        let wanted = self.floor(Purpose::Data) + KEPT_BLOCKS;
        let free = || self.free_hint.load(Ordering::Relaxed);
        let mut refusals = self.growth.lock();
        while free() < wanted && self.back_a_zone(&mut refusals)? {}
        let is_lacking = free() < self.floor(Purpose::Relief) && self.allocator.lock().thin_free() > 0;
        if is_lacking { Err(no_room_to_open()) } else { Ok(()) }
    }

    /// Gives the space of free blocks back to the host. How many bytes.
    ///
    /// # Errors
    /// `Unsupported` where the medium cannot do that.
    pub(super) fn give_back(&self, thinning: Thinning) -> Result<u64> {
        let (zones, free) = {
            let allocator = self.allocator.lock();
            (allocator.zones(), allocator.free() + allocator.thin_free())
        };
        let per_zone = u64::from(self.geometry.data_blocks_per_zone());
        let (least, more) = match thinning {
            Thinning::Unasked => {
                (per_zone / FREE_FRACTION, (zones * per_zone).saturating_sub(free) / KEPT_FRACTION)
            }
            Thinning::Full => (1, 0),
        };
        let mut given = 0;
        for zone in (0..zones).rev() {
            self.check_writable()?;
            if self.signal.is_checkpoint_wanted() {
                break;
            }
            let keep = self.floor(Purpose::Data) + KEPT_BLOCKS.max(more);
            match self.give_back_zone(zone, least.max(1), keep)? {
                Some(bytes) => given += bytes,
                None => break,
            }
        }
        Ok(given)
    }

    /// The same of one zone; `None` if the file system has no space for that either. Nobody backs the zone meanwhile.
    fn give_back_zone(&self, zone: u64, least: u64, keep: u64) -> Result<Option<u64>> {
        let _one_at_a_time = self.growth.lock();
        let mut given = 0;
        for run in self.with_allocator(|allocator| allocator.withdraw(zone, least, keep))? {
            match self.device.discard(self.geometry.offset_bytes(run.first), self.bytes_of(run)) {
                Ok(()) => given += self.bytes_of(run),
                Err(cause) if cause.kind() == std::io::ErrorKind::Unsupported => {
                    self.with_allocator(|allocator| allocator.back(zone))?;
                    let message = "the file system or device below the store cannot take space back";
                    return Err(Error::new(ErrorKind::Unsupported, message).caused_by(cause));
                }
                // To remember a hole may take a block that a full file system does not have.
                Err(cause) if is_no_space(&cause) => return Ok(None),
                Err(cause) => {
                    return Err(self.halt(Error::io(format!("punch holes into zone {zone}"), cause)));
                }
            }
        }
        Ok(Some(given))
    }

    fn bytes_of(&self, run: BlockRun) -> u64 {
        run.count * u64::from(self.block_size())
    }

    /// Gives back all that can be: what is dropped and parked, too.
    pub(crate) fn trim(&self) -> Result<u64> {
        self.checkpoint()?;
        self.wait_for_parked();
        self.give_back(Thinning::Full)
    }

    /// The same unasked, if the options say so. That the medium cannot do it is no failure.
    pub(super) fn give_back_unasked(&self, thinning: Thinning) -> Result<()> {
        if !self.options.punch_holes {
            return Ok(());
        }
        match self.give_back(thinning) {
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(error),
            _ => Ok(()),
        }
    }
}
