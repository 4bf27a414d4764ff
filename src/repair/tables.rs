//! Tables: refcount pages and zone summaries, as the references that were found demand.
//!
//! Floor 6.

use super::overlay::Writes;
use crate::check::medium::Medium;
use crate::check::recount::{PageKey, Recount};
use crate::defect::Defect;
use crate::error::{Error, Result};
use crate::format::{
    GroupEntry, Place, ZoneEntry, decode_counts, decode_summary, encode_counts, encode_summary, seal,
};
use crate::space::Totals;
use crate::units::{index, narrow, wide};
use std::collections::BTreeSet;

/// Writes the pages and summaries that differ. Returns the groups, and what all counts say together.
pub(super) fn rebuild(
    medium: &Medium<'_>,
    groups: &[GroupEntry],
    mut recount: Recount,
    writes: &mut Writes,
) -> Result<(Vec<GroupEntry>, Totals)> {
    let geometry = medium.geometry;
    let held: BTreeSet<PageKey> = recount.rest().into_iter().collect();
    let (mut rebuilt, mut totals) = (Vec::new(), Totals::default());
    for number in 0..geometry.groups_for(medium.zones) {
        let entry = groups.get(index(number)).copied().unwrap_or_default();
        let mut group = Group::read(medium, number, entry);
        for (at, zone) in (0..).zip(number * geometry.zones_per_group()..medium.zones) {
            if wide(at) >= geometry.zones_per_group() {
                break;
            }
            group.zone(medium, (at, zone), (&held, &mut recount), (&mut totals, writes))?;
        }
        let entry = group.finish(medium, number, entry, writes);
        totals.used += u64::from(entry.used);
        rebuilt.push(entry);
    }
    Ok((rebuilt, totals))
}

/// One group of zones.
struct Group {
    entries: Vec<ZoneEntry>,
    used: u32,
}

impl Group {
    /// What the summary says; that of a group that was never touched, where it cannot be read.
    fn read(medium: &Medium<'_>, number: u64, entry: GroupEntry) -> Self {
        let (pages, zones) = (medium.geometry.pages_per_zone(), medium.geometry.zones_per_group());
        let summary = entry
            .slot
            .and_then(|slot| medium.sealed(medium.geometry.summary_block(number, slot), entry.crc).ok())
            .and_then(|bytes| decode_summary(&bytes, pages, zones));
        Self { entries: summary.unwrap_or_else(|| vec![ZoneEntry::fresh(pages); index(zones)]), used: 0 }
    }

    fn zone(
        &mut self,
        medium: &Medium<'_>,
        (at, zone): (usize, u64),
        (held, recount): (&BTreeSet<PageKey>, &mut Recount),
        (totals, writes): (&mut Totals, &mut Writes),
    ) -> Result<()> {
        let geometry = medium.geometry;
        let Some(entry) = self.entries.get_mut(at) else { return Ok(()) };
        let pages = geometry.pages_per_zone();
        let known = u64::MAX.checked_shl(pages).map_or(u64::MAX, |beyond| !beyond);
        (entry.written, entry.current) = (entry.written & known, entry.current & known);
        let (mut used, mut shared) = (0, 0);
        for page in 0..pages {
            let key = PageKey { zone, page };
            let per_page = index(u64::from(geometry.counts_per_page()));
            let mut counts = vec![0u16; per_page];
            if held.contains(&key) {
                let block_at = |index| geometry.block_at(Place { zone, index });
                let found = recount.take_page(key, block_at).unwrap_or_default();
                for (count, found) in counts.iter_mut().zip(found) {
                    *count = u16::try_from(found).map_err(|_| {
                        Error::corrupt(
                            Defect::Refcount,
                            format!("zone {zone}: a block with {found} references"),
                        )
                    })?;
                }
            }
            used += narrow(counts.iter().filter(|&&count| count != 0).count());
            shared += narrow(counts.iter().filter(|&&count| count > 1).count());
            totals.extra += counts.iter().map(|count| u64::from(count.saturating_sub(1))).sum::<u64>();
            let is_zero = counts.iter().all(|&count| count == 0);
            let current = entry.slot(page).map(|slot| {
                let crc = entry.crcs.get(index(u64::from(page))).copied().unwrap_or_default();
                medium.sealed(geometry.refcount_block(zone, page, slot), crc).ok()
            });
            let is_right = match &current {
                None => is_zero,
                Some(bytes) => bytes.as_ref().is_some_and(|bytes| decode_counts(bytes) == counts),
            };
            if !is_right {
                let bytes = encode_counts(&counts);
                let slot = entry.slot(page).map_or(0, |slot| 1 - slot);
                entry.turn(page, seal(&bytes));
                writes.insert(geometry.offset_bytes(geometry.refcount_block(zone, page, slot)), bytes);
            }
        }
        (entry.used, entry.shared) = (used, shared);
        totals.shared += u64::from(shared);
        self.used += used;
        Ok(())
    }

    fn finish(self, medium: &Medium<'_>, number: u64, old: GroupEntry, writes: &mut Writes) -> GroupEntry {
        let geometry = medium.geometry;
        let bytes = encode_summary(&self.entries, geometry.block_bytes());
        let crc = seal(&bytes);
        let is_fresh = bytes.iter().all(|&byte| byte == 0);
        let is_right = match old.slot {
            None => is_fresh,
            Some(slot) => crc == old.crc && medium.sealed(geometry.summary_block(number, slot), crc).is_ok(),
        };
        if is_right {
            return GroupEntry { used: self.used, ..old };
        }
        let slot = old.slot.map_or(0, |slot| 1 - slot);
        writes.insert(geometry.offset_bytes(geometry.summary_block(number, slot)), bytes);
        GroupEntry { crc, used: self.used, slot: Some(slot) }
    }
}
