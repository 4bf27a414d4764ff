//! Tables: compares zone summaries and refcount pages with the recount.
//!
//! Floor 5.

use super::medium::{Medium, Unreadable};
use super::recount::{PageKey, Recount};
use super::report::CheckReport;
use crate::defect::Defect;
use crate::format::{CheckpointRecord, GroupEntry, Place, ZoneEntry, decode_counts, decode_summary};
use crate::units::{BlockNo, index, wide};

/// Compares all of it. `complete` says whether the recount could follow everything: if not, a block
/// that the table counts more often than it was found is only counted in a note.
pub(super) fn compare(
    medium: &Medium<'_>,
    record: &CheckpointRecord,
    (recount, complete): (Recount, bool),
    report: &mut CheckReport,
) {
    let mut tables = Tables { medium, recount, complete, report, run: None, unreached: 0 };
    let mut used = Some(0);
    for (number, entry) in (0..).zip(&record.groups) {
        let found = tables.group(number, *entry);
        used = used.zip(found).map(|(used, found)| used + found);
        if let Some(found) = found {
            tables.compare_used(format_args!("group {number}"), u64::from(entry.used), found);
        }
    }
    if let Some(used) = used {
        tables.compare_used(format_args!("the store"), record.used, used);
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

    /// How many blocks of the group the table counts; `None` where a page is lost.
    fn group(&mut self, number: u64, entry: GroupEntry) -> Option<u64> {
        let Some(slot) = entry.slot else { return Some(0) };
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
        let mut used = Some(0);
        for (zone, entry) in (number * zones..).zip(&summary) {
            used = used.zip(self.zone(zone, entry)).map(|(used, found)| used + found);
        }
        used
    }

    /// How many blocks of the zone the table counts; `None` where a page is lost.
    fn zone(&mut self, zone: u64, entry: &ZoneEntry) -> Option<u64> {
        let pages = self.medium.geometry.pages_per_zone();
        if zone >= self.medium.zones {
            if *entry != ZoneEntry::fresh(pages) {
                self.report
                    .find(Defect::ZoneSummary, format!("it speaks of zone {zone}, which is not there"));
            }
            return Some(0);
        }
        let beyond = u64::MAX.checked_shl(pages).unwrap_or(0);
        if (entry.written | entry.current) & beyond != 0 {
            self.report
                .find(Defect::ZoneSummary, format!("zone {zone} has more than {pages} refcount pages"));
        }
        let mut used = Some(0);
        for page in 0..pages {
            let found = self.read_page(zone, page, entry).map(|counts| {
                self.page(PageKey { zone, page }, &counts);
                wide(counts.iter().filter(|&&count| count != 0).count())
            });
            used = used.zip(found).map(|(used, found)| used + found);
        }
        if let Some(used) = used {
            self.compare_used(format_args!("zone {zone}"), u64::from(entry.used), used);
        }
        used
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
