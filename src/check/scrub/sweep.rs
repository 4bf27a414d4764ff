//! Sweep: reads the blocks in the order in which they lie.
//!
//! Floor 5.

use super::OnProgress;
use super::options::{ScrubOptions, ScrubProgress, ScrubReport};
use super::sums::Sums;
use crate::device::Device;
use crate::format::seal;
use crate::units::{BlockNo, index, wide};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Bytes of one read, at most.
const READ_BYTES_MAX: u64 = 1 << 20;
/// Bad blocks that a report lists.
const SUSPECTS_MAX: usize = 10_000;
/// So long the progress is not told, at most, however low the rate.
const NAP: Duration = Duration::from_millis(100);

/// A block that did not match the seal that a map has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Suspect {
    pub(crate) block: BlockNo,
    pub(crate) crc: u32,
}

/// One sweep.
pub(super) struct Sweep<'a> {
    device: &'a dyn Device,
    sums: &'a Sums,
    options: &'a ScrubOptions,
    block_bytes: u64,
    suspects: Vec<Suspect>,
    bytes_done: u64,
    bytes_read: u64,
}

/// Consecutive blocks, and their seals.
struct Row {
    first: BlockNo,
    crcs: Vec<u32>,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(device: &'a dyn Device, sums: &'a Sums, options: &'a ScrubOptions) -> Self {
        let block_bytes = u64::from(sums.geometry.block_size());
        Self { device, sums, options, block_bytes, suspects: Vec::new(), bytes_done: 0, bytes_read: 0 }
    }

    /// Reads until all is read, or nobody wants more.
    pub(super) fn run(mut self, report: &mut ScrubReport, progress: OnProgress<'_>) -> Vec<Suspect> {
        let began = Instant::now();
        let mut blocks = self.sums.iter().peekable();
        while blocks.next_if(|(block, _)| block.0 < self.options.position).is_some() {
            self.bytes_done += self.block_bytes;
        }
        let row_blocks = index(READ_BYTES_MAX / self.block_bytes);
        while let Some((first, crc)) = blocks.next() {
            let mut row = Row { first, crcs: vec![crc] };
            while row.crcs.len() < row_blocks
                && let Some((_, crc)) = blocks.next_if(|next| next.0 == first.plus(wide(row.crcs.len())))
            {
                row.crcs.push(crc);
            }
            self.read(&row);
            let position = row.first.0 + wide(row.crcs.len());
            if self.tell(position, began, report, &mut *progress).is_break() {
                report.position = blocks.peek().map(|_| position);
                break;
            }
        }
        report.bytes_read = self.bytes_read;
        self.suspects
    }

    /// Says how far it has come, as often as it takes until the rate allows the next read.
    fn tell(
        &self,
        position: u64,
        began: Instant,
        report: &ScrubReport,
        progress: OnProgress<'_>,
    ) -> std::ops::ControlFlow<()> {
        let now = ScrubProgress {
            bytes_done: self.bytes_done,
            bytes_total: report.bytes_total,
            position,
            bad_blocks: wide(self.suspects.len()),
        };
        progress(&now)?;
        let Some(millis) = (self.bytes_read * 1000).checked_div(self.options.bytes_per_second) else {
            return std::ops::ControlFlow::Continue(());
        };
        while let Some(ahead) = Duration::from_millis(millis).checked_sub(began.elapsed())
            && !ahead.is_zero()
        {
            sleep(ahead.min(NAP));
            progress(&now)?;
        }
        std::ops::ControlFlow::Continue(())
    }

    /// Reads a row; block by block where the medium cannot give all of it.
    fn read(&mut self, row: &Row) {
        let mut bytes = vec![0; row.crcs.len() * index(self.block_bytes)];
        self.bytes_done += wide(bytes.len());
        self.bytes_read += wide(bytes.len());
        let offset = self.sums.geometry.offset_bytes(row.first);
        let is_read = self.device.read_at(&mut bytes, offset).is_ok();
        for (nth, (crc, block)) in (0..).zip(row.crcs.iter().zip(bytes.chunks_mut(index(self.block_bytes)))) {
            let number = row.first.plus(nth);
            let found = (is_read
                || self.device.read_at(block, self.sums.geometry.offset_bytes(number)).is_ok())
            .then(|| seal(block));
            for &crc in std::iter::once(crc).chain(self.sums.others(number)) {
                if found != Some(crc) && self.suspects.len() < SUSPECTS_MAX {
                    self.suspects.push(Suspect { block: number, crc });
                }
            }
        }
    }
}
