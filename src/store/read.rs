//! Read: look up, fetch, verify.
//!
//! Floor 5. Looking up gives references under a short lock; fetching happens after it is released.
//! Nothing that fails its checksum is handed out.

use super::engine::Engine;
use super::head::Head;
use super::statistics::Counters;
use crate::defect::Defect;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Reference, seal};
use crate::limits::RUN_BLOCKS_MAX;
use crate::units::{DiskBlock, VersionId, index, wide};
use std::fmt;
use std::sync::Arc;

/// Bytes that are read at once, and then verified: few enough to stay in a processor's cache.
const VERIFIED_BYTES: usize = 128 << 10;

/// What is read from.
#[derive(Clone)]
pub(crate) enum Source {
    Head(Arc<Head>),
    Version(VersionId),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(head) => write!(f, "disk {}", head.id),
            Self::Version(version) => write!(f, "snapshot version {version}"),
        }
    }
}

/// Refuses a range that reaches past the end of a disk.
pub(super) fn check_range(size_bytes: u64, offset: u64, len: u64) -> Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= size_bytes => Ok(()),
        _ => Err(Error::new(
            ErrorKind::OutOfRange,
            format!(
                "{len} bytes at offset {offset} reach past the end of the disk, which has {size_bytes} bytes"
            ),
        )),
    }
}

impl Engine {
    /// The size of a disk or version, in bytes.
    pub(crate) fn size_of(&self, source: &Source) -> Result<u64> {
        match source {
            Source::Head(head) => {
                let state = head.state.read();
                if state.is_gone { Err(gone(source)) } else { Ok(state.size_bytes) }
            }
            Source::Version(id) => Ok(self.state.read().shown(*id)?.size_bytes),
        }
    }

    /// Fills `buf` from `offset`.
    pub(crate) fn read(&self, source: &Source, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.size_of(source)?, offset, wide(buf.len()))?;
        let _timed = self.times.read.sample(Counters::add(&self.counters.reads, 1));
        Counters::add(&self.counters.bytes_read, wide(buf.len()));
        let block_size = u64::from(self.block_size());
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let within = at % block_size;
            let longest = RUN_BLOCKS_MAX * block_size - within;
            let (part, tail) = rest.split_at_mut(index(longest.min(wide(rest.len()))));
            self.read_part(source, part, DiskBlock(at / block_size), index(within))?;
            at += wide(part.len());
            rest = tail;
        }
        Ok(())
    }

    /// Fills `buf` from byte `skip` of block `first` on: at most a run's worth of blocks.
    fn read_part(&self, source: &Source, buf: &mut [u8], first: DiskBlock, skip: usize) -> Result<()> {
        let _reading = self.gate.enter();
        let count = (skip + buf.len()).div_ceil(self.geometry.block_bytes());
        if count == 1 {
            let mut references = [Reference::UNSET];
            self.lookup(source, first, &mut references)?;
            return self.fetch(source, first, &references, buf, skip);
        }
        let mut references = vec![Reference::UNSET; count];
        self.lookup(source, first, &mut references)?;
        self.fetch(source, first, &references, buf, skip)
    }

    /// The references of consecutive blocks. The caller is inside the gate.
    pub(super) fn lookup(
        &self,
        source: &Source,
        first: DiskBlock,
        references: &mut [Reference],
    ) -> Result<()> {
        let foundation = match source {
            Source::Head(head) => {
                let state = head.state.read();
                if state.is_gone {
                    return Err(gone(source));
                }
                state.view.delta_references(first, references);
                state.view.foundation.clone()
            }
            Source::Version(id) => {
                let view = {
                    let state = self.state.read();
                    state.view_of(state.shown(*id)?)
                };
                view.delta_references(first, references);
                view.foundation
            }
        };
        if references.contains(&Reference::UNSET) {
            foundation.fill(&self.nodes, first, references)?;
        }
        Ok(())
    }

    /// Fills `buf` from the blocks referred to, from byte `skip` of the first one on.
    pub(super) fn fetch(
        &self,
        source: &Source,
        first: DiskBlock,
        references: &[Reference],
        buf: &mut [u8],
        skip: usize,
    ) -> Result<()> {
        let block_bytes = self.geometry.block_bytes();
        let (mut at, mut rest, mut skip) = (0, buf, skip);
        while !rest.is_empty() {
            let is_whole = skip == 0 && rest.len() >= block_bytes;
            let blocks = if is_whole { in_a_row(&references[at..], rest.len() / block_bytes) } else { 1 };
            let bytes = if is_whole { blocks * block_bytes } else { rest.len().min(block_bytes - skip) };
            let (part, tail) = rest.split_at_mut(bytes);
            let row = &references[at..at + blocks];
            if row[0].is_hole() {
                part.fill(0);
            } else if is_whole {
                self.fetch_row(source, first.plus(wide(at)), row, part)?;
            } else {
                let mut block = vec![0; block_bytes];
                self.fetch_row(source, first.plus(wide(at)), row, &mut block)?;
                part.copy_from_slice(&block[skip..skip + bytes]);
            }
            rest = tail;
            at += blocks;
            skip = 0;
        }
        Ok(())
    }

    /// Fills `buf` from blocks that lie in a row: from memory those that are not home yet.
    fn fetch_row(&self, source: &Source, first: DiskBlock, row: &[Reference], buf: &mut [u8]) -> Result<()> {
        let block_bytes = self.geometry.block_bytes();
        let start = row[0].block();
        let mut done = 0;
        while done < row.len() {
            let block = start.plus(wide(done));
            let part = &mut buf[done * block_bytes..];
            if let Some(run) = self.runs.find(block) {
                done += run.read(block, part) / block_bytes;
                continue;
            }
            let next = self.runs.next_after(block).map_or(usize::MAX, |next| index(next.0 - block.0));
            let count = next.min(row.len() - done);
            let part = &mut part[..count * block_bytes];
            self.read_verified(source, first.plus(wide(done)), &row[done..done + count], part)?;
            done += count;
        }
        Ok(())
    }

    /// Fills `buf` from the device. What was read is verified while the processor's cache still has it.
    fn read_verified(
        &self,
        source: &Source,
        first: DiskBlock,
        row: &[Reference],
        buf: &mut [u8],
    ) -> Result<()> {
        let block_bytes = self.geometry.block_bytes();
        let at_once = (VERIFIED_BYTES / block_bytes).max(1);
        for (part, bytes) in row.chunks(at_once).zip(buf.chunks_mut(at_once * block_bytes)) {
            let block = part[0].block();
            self.device.read_at(bytes, self.geometry.offset_bytes(block)).map_err(|cause| {
                Error::io(format!("read {} bytes of {source} at store block {block}", bytes.len()), cause)
            })?;
            let is_sound = |(reference, bytes): (&Reference, &[u8])| seal(bytes) == reference.crc();
            if let Some(at) =
                part.iter().zip(bytes.chunks_exact(block_bytes)).position(|pair| !is_sound(pair))
            {
                let place = part[at].block();
                let at = first.plus(place.0 - row[0].block().0);
                return Err(Error::corrupt(
                    Defect::Data,
                    format!("block {at} of {source}, at store block {place}"),
                ));
            }
        }
        Ok(())
    }
}

/// The error for a source that was deleted.
pub(super) fn gone(source: &Source) -> Error {
    Error::new(ErrorKind::NotFound, format!("{source} was deleted"))
}

/// How many references, `most` at most, go on as the first one begins: all holes, or blocks in a row.
fn in_a_row(references: &[Reference], most: usize) -> usize {
    let first = references[0];
    let goes_on = |(at, reference): (usize, &Reference)| {
        if first.is_hole() {
            reference.is_hole()
        } else {
            !reference.is_hole() && reference.block() == first.block().plus(wide(at))
        }
    };
    references.iter().take(most).enumerate().take_while(|found| goes_on(*found)).count()
}
