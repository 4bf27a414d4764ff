//! Tables: compares zone summaries and refcount pages with the recount.
//!
//! Floor 5.

use super::medium::{Medium, Unreadable};
use super::recount::{PageKey, Recount};
use super::report::CheckReport;
use crate::defect::Defect;
use crate::format::{CheckpointRecord, GroupEntry, Place, ZoneEntry, decode_counts, decode_summary};
use crate::units::{BlockNo, BlockRun, index, wide};
use std::collections::{BTreeMap, HashMap};

/// Compares all of it. `complete` says whether the recount could follow everything: if not, a block
/// that the table counts more often than it was found is only counted in a note.
pub(super) fn compare(
    medium: &Medium<'_>,
    record: &CheckpointRecord,
    (recount, complete): (Recount, bool),
    report: &mut CheckReport,
) {
    let mut tables = Tables { medium, recount, complete, report, run: None, unreached: 0 };
    let mut all = Some(Counted::default());
    for (number, entry) in (0..).zip(&record.groups) {
        let found = tables.group(number, *entry);
        all = all.zip(found).map(|(all, found)| all.and(found));
        if let Some(found) = found {
            tables.compare_used(format_args!("group {number}"), u64::from(entry.used), found.used);
        }
    }
    if let Some(all) = all {
        tables.compare_used(format_args!("the store"), record.used, all.used);
        tables.compare_shared(format_args!("the store"), record.shared, all.shared);
        if record.extra != all.extra {
            let (says, found) = (record.extra, all.extra);
            let what = format!("the store has {says} references beyond the first of a block, found {found}");
            tables.report.find(Defect::FreeCount, what);
        }
    }
    for key in tables.recount.rest() {
        tables.page(key, &[]);
    }
    tables.end_run();
    if tables.unreached > 0 {
        let note = format!(
            "{} blocks are counted and were not found, because not everything could be followed",
            tables.unreached
        );
        report.note(note);
    }
}

/// Reads all of it once, for whoever keeps what is read.
pub(super) fn read_all(medium: &Medium<'_>, record: &CheckpointRecord) {
    let (pages, zones) = (medium.geometry.pages_per_zone(), medium.geometry.zones_per_group());
    for (number, entry) in (0..).zip(&record.groups) {
        let Some(slot) = entry.slot else { continue };
        let summary = medium.sealed(medium.geometry.summary_block(number, slot), entry.crc).ok();
        let summary = summary.and_then(|bytes| decode_summary(&bytes, pages, zones)).unwrap_or_default();
        for (zone, entry) in (number * zones..medium.zones).zip(&summary) {
            for (page, slot) in (0..pages).filter_map(|page| Some((page, entry.slot(page)?))) {
                let crc = entry.crcs.get(index(u64::from(page))).copied().unwrap_or_default();
                drop(medium.sealed(medium.geometry.refcount_block(zone, page, slot), crc));
            }
        }
    }
}

/// The journal may share what the checkpoint refers to, and no block so often that its count goes round.
pub(super) fn verify_shares(
    medium: &Medium<'_>,
    record: &CheckpointRecord,
    shares: &[BlockRun],
    report: &mut CheckReport,
) {
    let mut more: BTreeMap<BlockNo, u64> = BTreeMap::new();
    for run in shares {
        // A run that is no row of data blocks is reported where it stands.
        for block in (0..run.count).map(|at| BlockNo(run.first.0.saturating_add(at))) {
            if medium.place_of(block).is_some() {
                *more.entry(block).or_default() += 1;
            }
        }
    }
    let mut pages: HashMap<PageKey, Option<Vec<u16>>> = HashMap::new();
    for (block, more) in more {
        let Some(place) = medium.place_of(block) else { continue };
        let per_page = medium.geometry.counts_per_page();
        let key = PageKey { zone: place.zone, page: place.index / per_page };
        let Some(counts) = pages.entry(key).or_insert_with(|| page_counts(medium, record, key)) else {
            continue; // damaged: reported where it is
        };
        let count = counts.get(index(u64::from(place.index % per_page))).copied().unwrap_or(0);
        if count == 0 || u64::from(count) + more > u64::from(u16::MAX) {
            let what = format!("block {block} has {count} references, and is shared {more} times");
            report.find(Defect::JournalRecord, what);
        }
    }
}

/// The counts of a page; `None` where it, or what leads to it, is damaged.
fn page_counts(medium: &Medium<'_>, record: &CheckpointRecord, key: PageKey) -> Option<Vec<u16>> {
    let geometry = &medium.geometry;
    let group = geometry.group_of(key.zone);
    let entry = record.groups.get(index(group))?;
    let Some(slot) = entry.slot else { return Some(Vec::new()) };
    let bytes = medium.sealed(geometry.summary_block(group, slot), entry.crc).ok()?;
    let zones = geometry.zones_per_group();
    let summary = decode_summary(&bytes, geometry.pages_per_zone(), zones)?;
    let zone = summary.get(index(key.zone % zones))?;
    let Some(slot) = zone.slot(key.page) else { return Some(Vec::new()) };
    let crc = zone.crcs.get(index(u64::from(key.page))).copied()?;
    medium
        .sealed(geometry.refcount_block(key.zone, key.page, slot), crc)
        .ok()
        .map(|bytes| decode_counts(&bytes))
}

/// What counts say together.
#[derive(Clone, Copy, Default)]
struct Counted {
    used: u64,
    shared: u64,
    extra: u64,
}

impl Counted {
    fn of(counts: &[u16]) -> Self {
        let above = |least: u16| wide(counts.iter().filter(|&&count| count >= least).count());
        let extra = counts.iter().filter(|&&count| count > 1).map(|&count| u64::from(count) - 1).sum();
        Self { used: above(1), shared: above(2), extra }
    }

    fn and(self, other: Self) -> Self {
        Self {
            used: self.used + other.used,
            shared: self.shared + other.shared,
            extra: self.extra + other.extra,
        }
    }
}

struct Tables<'a> {
    medium: &'a Medium<'a>,
    recount: Recount,
    complete: bool,
    report: &'a mut CheckReport,
    /// Blocks in a row with the same difference.
    run: Option<Differing>,
    unreached: u64,
}

#[derive(Clone, Copy)]
struct Differing {
    first: BlockNo,
    count: u64,
    has: u16,
    found: u64,
}

impl Tables<'_> {
    fn compare_used(&mut self, of: std::fmt::Arguments<'_>, says: u64, found: u64) {
        if says != found {
            self.report.find(Defect::FreeCount, format_args!("{of} has {says} blocks in use, found {found}"));
        }
    }

    fn compare_shared(&mut self, of: std::fmt::Arguments<'_>, says: u64, found: u64) {
        if says != found {
            let what = format_args!("{of} has {says} blocks with several references, found {found}");
            self.report.find(Defect::FreeCount, what);
        }
    }

    /// What the table counts of the group; `None` where a page is lost.
    fn group(&mut self, number: u64, entry: GroupEntry) -> Option<Counted> {
        let Some(slot) = entry.slot else { return Some(Counted::default()) };
        let zones = self.medium.geometry.zones_per_group();
        let block = self.medium.geometry.summary_block(number, slot);
        let summary = self.medium.sealed(block, entry.crc).and_then(|bytes| {
            decode_summary(&bytes, self.medium.geometry.pages_per_zone(), zones).ok_or(Unreadable::Senseless)
        });
        let summary = match summary {
            Ok(summary) => summary,
            Err(why) => {
                self.report.find(Defect::ZoneSummary, format!("group {number}, block {block}: {why}"));
                self.forget(|key| key.zone / zones == number);
                return None;
            }
        };
        let mut all = Some(Counted::default());
        for (zone, entry) in (number * zones..).zip(&summary) {
            all = all.zip(self.zone(zone, entry)).map(|(all, found)| all.and(found));
        }
        all
    }

    /// What the table counts of the zone; `None` where a page is lost.
    fn zone(&mut self, zone: u64, entry: &ZoneEntry) -> Option<Counted> {
        let pages = self.medium.geometry.pages_per_zone();
        if zone >= self.medium.zones {
            if *entry != ZoneEntry::fresh(pages) {
                self.report
                    .find(Defect::ZoneSummary, format!("it speaks of zone {zone}, which is not there"));
            }
            return Some(Counted::default());
        }
        let beyond = u64::MAX.checked_shl(pages).unwrap_or(0);
        if (entry.written | entry.current) & beyond != 0 {
            self.report
                .find(Defect::ZoneSummary, format!("zone {zone} has more than {pages} refcount pages"));
        }
        let mut all = Some(Counted::default());
        for page in 0..pages {
            let found = self.read_page(zone, page, entry).map(|counts| {
                self.page(PageKey { zone, page }, &counts);
                Counted::of(&counts)
            });
            all = all.zip(found).map(|(all, found)| all.and(found));
        }
        if let Some(found) = all {
            self.compare_used(format_args!("zone {zone}"), u64::from(entry.used), found.used);
            self.compare_shared(format_args!("zone {zone}"), u64::from(entry.shared), found.shared);
        }
        all
    }

    /// The counts of a page, none for one that was never written; `None` where it is damaged.
    fn read_page(&mut self, zone: u64, page: u32, entry: &ZoneEntry) -> Option<Vec<u16>> {
        let Some(slot) = entry.slot(page) else { return Some(Vec::new()) };
        let block = self.medium.geometry.refcount_block(zone, page, slot);
        let crc = entry.crcs.get(index(u64::from(page))).copied().unwrap_or_default();
        match self.medium.sealed(block, crc) {
            Ok(bytes) => Some(decode_counts(&bytes)),
            Err(why) => {
                let what = format!("page {page} of zone {zone}, block {block}: {why}");
                self.report.find(Defect::RefcountPage, what);
                self.forget(|key| key == PageKey { zone, page });
                None
            }
        }
    }

    /// Leaves pages of the recount out, for want of something to compare them with.
    fn forget(&mut self, which: impl Fn(PageKey) -> bool) {
        for key in self.recount.rest().into_iter().filter(|key| which(*key)) {
            self.recount.take_page(key, |_| BlockNo(0));
        }
    }

    /// Compares a page with what was found. A count that is missing is zero.
    fn page(&mut self, key: PageKey, counts: &[u16]) {
        let geometry = self.medium.geometry;
        let block_at = |index| geometry.block_at(Place { zone: key.zone, index });
        let found = self.recount.take_page(key, block_at).unwrap_or_default();
        let per_page = geometry.counts_per_page();
        for nth in 0..per_page {
            let has = counts.get(index(u64::from(nth))).copied().unwrap_or(0);
            let found = found.get(index(u64::from(nth))).copied().unwrap_or(0);
            let at = key.page * per_page + nth;
            if u64::from(has) != found {
                self.differs(key.zone, at, (has, found));
            }
        }
    }

    fn differs(&mut self, zone: u64, at: u32, (has, found): (u16, u64)) {
        let geometry = self.medium.geometry;
        if at >= geometry.data_blocks_per_zone() {
            self.report.find(
                Defect::Refcount,
                format!("zone {zone} has no data block {at}, but counts {has} for it"),
            );
            return;
        }
        if u64::from(has) > found && !self.complete {
            self.unreached += 1;
            return;
        }
        let block = geometry.block_at(Place { zone, index: at });
        if let Some(run) = &mut self.run
            && run.first.plus(run.count) == block
            && (run.has, run.found) == (has, found)
        {
            run.count += 1;
            return;
        }
        self.end_run();
        self.run = Some(Differing { first: block, count: 1, has, found });
    }

    fn end_run(&mut self) {
        let Some(Differing { first, count, has, found }) = self.run.take() else { return };
        let what = match count {
            1 => format!("block {first} has {has}, found {found}"),
            _ => format!("blocks {first} to {} have {has}, found {found}", first.plus(count - 1)),
        };
        self.report.find(Defect::Refcount, what);
    }
}
