//! Audit: the auditor at an open store, beside whoever writes it.
//!
//! Floor 6. What it checks comes from `check`, and when it may look from `store`: neither knows the other.

use crate::check::scrub::{Gathered, OnProgress, OpenScrub, ScrubOptions, ScrubReport, blame, gather, sweep};
use crate::check::{CheckReport, OpenCheck};
use crate::error::Result;
use crate::store::Store;

impl Store {
    /// Checks the store while it is open: recomputes it from its roots, as [`check`](crate::check()) does, without
    /// any of the engine's code paths. Reads and writes go on meanwhile.
    ///
    /// It covers what a checkpoint, made at the beginning, leaves on the medium: everything that returned before the
    /// call, and nothing that came later. The journal is checked at that moment, when it is all but empty. No data is
    /// read; [`scrub`](Store::scrub) does that.
    ///
    /// A store that is read-only, or has halted, is checked as it lies on the medium. Space that is freed meanwhile
    /// stays withheld until the check ends. Memory: that of [`check`](crate::check()), and two bytes for each
    /// block of the zones in use.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("pool.cow");
    /// # use cowblk::{Options, Store};
    /// let store = Store::create(&path, Options::default().journal_bytes(1 << 20))?;
    /// let disk = store.create_server("web")?.create_disk("vda", 1 << 30)?;
    /// disk.write_at(b"hello", 0)?;
    /// let report = store.check()?;
    /// assert!(report.is_clean() && report.data_blocks_mapped == 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Busy` where writers came to need the space that the check withheld, `Io` where not even the superblock can
    /// be read. Damage is no error: it stands in the report.
    pub fn check(&self) -> Result<CheckReport> {
        self.shared.engine.look(OpenCheck::begin, OpenCheck::finish)
    }

    /// Reads every block of data that anything refers to, and compares it with its checksum, while the store is
    /// open. Reads and writes go on meanwhile.
    ///
    /// It covers what a checkpoint, made at the beginning, leads to. Space that is freed is withheld only while the
    /// maps are walked, not while the data is read: a block that does not match is looked up again, and was no
    /// bad one if nothing refers to it any more. Memory as for [`scrub`](crate::scrub()).
    ///
    /// # Errors
    /// `Busy` where writers came to need the space that was withheld, `Io` where not even the superblock can be
    /// read. Damage is no error: it stands in the report.
    pub fn scrub(&self, options: &ScrubOptions, progress: OnProgress<'_>) -> Result<ScrubReport> {
        let engine = &self.shared.engine;
        let walk = |begun: OpenScrub, device| gather(&begun.over(device));
        let Gathered { mut report, sums } = engine.look(OpenScrub::begin, walk)?;
        let Some(sums) = sums else { return Ok(report) };
        let suspects = sweep(engine.medium(), &sums, options, &mut report, progress);
        drop(sums);
        if !suspects.is_empty() {
            let look_up = |begun: OpenScrub, device| blame(&begun.over(device), &suspects);
            report.bad_blocks = engine.look(OpenScrub::begin, look_up)?;
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MemoryDevice;
    use crate::error::ErrorKind;
    use crate::store::Options;
    use std::sync::Arc;

    fn options() -> Options {
        Options::default().background(false).journal_bytes(256 << 10).zone_blocks(600)
    }

    #[test]
    fn a_check_sees_its_own_checkpoint_however_many_come_meanwhile() {
        let store = Store::create_on(Arc::new(MemoryDevice::new(0)), options()).unwrap();
        let server = store.create_server("web").unwrap();
        let disk = server.create_disk("vda", 1 << 20).unwrap();
        disk.write_at(&vec![1; 40 * 4096], 0).unwrap();
        let report = store.shared.engine.look(OpenCheck::begin, |check, device| {
            for fill in 2..9 {
                disk.write_at(&vec![fill; 60 * 4096], 4096).unwrap();
                server.snapshot(&format!("s{fill}"), "").unwrap();
                store.checkpoint().unwrap();
                disk.discard(0, 1 << 20).unwrap();
                store.checkpoint().unwrap();
            }
            check.finish(device)
        });
        let report = report.unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
        assert_eq!((report.data_blocks_mapped, report.versions), (40, 0));
    }

    #[test]
    fn a_look_gives_way_to_a_writer_who_needs_the_space_that_it_withholds() {
        let bounded = options().max_bytes((128 << 10) + (256 << 10) + 602 * 4096);
        let store = Store::create_on(Arc::new(MemoryDevice::new(0)), bounded).unwrap();
        let disk = store.create_server("web").unwrap().create_disk("vda", 1 << 20).unwrap();
        disk.write_at(&vec![1; 200 * 4096], 0).unwrap();
        let mut writers = Vec::new();
        let looked = store.shared.engine.look(OpenCheck::begin, |check, device| {
            // Each round drops what the one before wrote: without that space, there is no room for long.
            let writer = std::thread::spawn(move || {
                (2..6).try_for_each(|fill| disk.write_at(&vec![fill; 200 * 4096], 0))
            });
            while !store.shared.engine.is_short_of_space() {
                std::thread::yield_now();
            }
            writers.push(writer);
            check.finish(device)
        });
        for writer in writers {
            writer.join().unwrap().unwrap();
        }
        assert_eq!(looked.unwrap_err().kind(), ErrorKind::Busy);
    }
}
