//! Write: checksums first, then a run, the delta and the journal, all under the head's lock.
//!
//! Floor 5. A write touches no node of any tree and does no I/O, but for handing a full run to the
//! device. Blocks are never overwritten: each write goes to fresh ones.

use super::blocks::Purpose;
use super::engine::Engine;
use super::full::Terms;
use super::head::{Head, HeadState};
use super::read::{Source, check_range};
use super::statistics::Counters;
use super::templates::Matched;
use crate::commit::{Run, Waiting};
use crate::error::{Error, ErrorKind, Result};
use crate::extent::{Footprint, Foundation};
use crate::format::{Reference, seal};
use crate::limits::{RUN_BLOCKS_MAX, WRITE_STEP_BYTES_MAX};
use crate::units::{BlockNo, BlockRun, DiskBlock, index, wide};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What one block becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// All zero: a hole.
    Zero,
    /// Data with this seal.
    Data(u32),
    /// Data with this seal, which this block of a template holds already.
    Held(BlockNo, u32),
}

/// How many blocks have to be written.
fn to_be_written(contents: &[Content]) -> u64 {
    wide(contents.iter().filter(|content| matches!(content, Content::Data(_))).count())
}

/// A block that is written in part: its new bytes, and what they were made from.
struct Edge {
    at: usize,
    bytes: Vec<u8>,
    foundation: Arc<Foundation>,
    delta: Reference,
}

/// A write of whole blocks, and of edges that were made whole.
struct Blocks<'a> {
    first: DiskBlock,
    count: usize,
    block_bytes: usize,
    /// The caller's bytes, which start `skip` bytes into the first block.
    buf: &'a [u8],
    skip: usize,
    edges: Vec<Edge>,
}

impl Blocks<'_> {
    fn block(&self, at: usize) -> &[u8] {
        if let Some(edge) = self.edges.iter().find(|edge| edge.at == at) {
            return &edge.bytes;
        }
        let from = at * self.block_bytes - self.skip;
        &self.buf[from..from + self.block_bytes]
    }

    /// Whole blocks in a row as one slice, as far as no edge lies between.
    fn row(&self, at: usize, count: usize) -> &[u8] {
        if self.edges.iter().any(|edge| edge.at == at) {
            return self.block(at);
        }
        let end = self.edges.iter().map(|edge| edge.at).filter(|edge| *edge > at).min();
        let count = count.min(end.unwrap_or(usize::MAX) - at);
        let from = at * self.block_bytes - self.skip;
        &self.buf[from..from + count * self.block_bytes]
    }

    fn contents(&self) -> Vec<Content> {
        let content = |at| {
            let block = self.block(at);
            if is_zero(block) { Content::Zero } else { Content::Data(seal(block)) }
        };
        (0..self.count).map(content).collect()
    }
}

/// Whether all bytes are zero. Most blocks show within a few bytes that they are not.
pub(super) fn is_zero(block: &[u8]) -> bool {
    block.chunks(64).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// How an attempt to write went.
enum Attempt {
    /// Done; so much waits to be written.
    Written(Waiting),
    /// An edge changed meanwhile.
    Stale,
    /// Somebody else took the free blocks.
    NoBlocks,
}

impl Engine {
    /// Writes `buf` at `offset`.
    pub(crate) fn write(&self, head: &Arc<Head>, buf: &[u8], offset: u64, mut terms: Terms) -> Result<()> {
        self.check_writable()?;
        check_range(self.size_of(&Source::Head(head.clone()))?, offset, wide(buf.len()))?;
        let _timed = self.times.write.sample(Counters::add(&self.counters.writes, 1));
        Counters::add(&self.counters.bytes_written, wide(buf.len()));
        let block_size = u64::from(self.block_size());
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let within = at % block_size;
            let longest = (RUN_BLOCKS_MAX * block_size).min(WRITE_STEP_BYTES_MAX) - within;
            let (part, tail) = rest.split_at(index(longest.min(wide(rest.len()))));
            self.write_part(head, part, (DiskBlock(at / block_size), index(within)), &mut terms)?;
            at += wide(part.len());
            rest = tail;
        }
        Ok(())
    }

    /// Writes `buf` from byte `skip` of block `first` on: at most a run's worth of blocks.
    fn write_part(
        &self,
        head: &Arc<Head>,
        buf: &[u8],
        (first, skip): (DiskBlock, usize),
        terms: &mut Terms,
    ) -> Result<()> {
        let block_bytes = self.geometry.block_bytes();
        let count = (skip + buf.len()).div_ceil(block_bytes);
        loop {
            self.keep_up()?;
            let edges = self.edges(head, buf, first, skip)?;
            let blocks = Blocks { first, count, block_bytes, buf, skip, edges };
            let mut contents = blocks.contents();
            self.space_for(head.id, to_be_written(&contents), terms)?;
            let mut full = Vec::new();
            let mut matched = self.find_held(&blocks, &mut contents);
            let attempt =
                self.try_write(head, &blocks, (&contents, matched.as_mut()), (terms.purpose, &mut full))?;
            drop(matched);
            full.into_iter().try_for_each(|run| self.send_home(run))?;
            match attempt {
                Attempt::Written(waiting) => return self.spill_if_many(waiting),
                Attempt::Stale | Attempt::NoBlocks => {}
            }
        }
    }

    /// Finds what templates hold of a write, and says so in its contents.
    fn find_held(&self, blocks: &Blocks<'_>, contents: &mut [Content]) -> Option<Matched<'_>> {
        self.templates.as_ref()?;
        let data: Vec<(usize, u32)> = (0..)
            .zip(contents.iter())
            .filter_map(|(at, content)| match content {
                Content::Data(crc) => Some((at, *crc)),
                _ => None,
            })
            .collect();
        let data = data.into_iter().map(|(at, crc)| (at, blocks.block(at), crc));
        self.match_templates(data, |at, block| {
            if let Content::Data(crc) = contents[at] {
                contents[at] = Content::Held(block, crc);
            }
        })
    }

    /// The blocks at either end that `buf` covers in part, filled up with what they hold now.
    fn edges(&self, head: &Arc<Head>, buf: &[u8], first: DiskBlock, skip: usize) -> Result<Vec<Edge>> {
        let block_bytes = self.geometry.block_bytes();
        let end = skip + buf.len();
        let last = (end - 1) / block_bytes;
        let mut edges = Vec::new();
        if skip > 0 || end < block_bytes {
            edges.push(self.edge(head, first, 0, |block| {
                let upto = end.min(block_bytes);
                block[skip..upto].copy_from_slice(&buf[..upto - skip]);
            })?);
        }
        if last > 0 && !end.is_multiple_of(block_bytes) {
            edges.push(self.edge(head, first, last, |block| {
                let from = last * block_bytes - skip;
                block[..buf.len() - from].copy_from_slice(&buf[from..]);
            })?);
        }
        Ok(edges)
    }

    fn edge(
        &self,
        head: &Arc<Head>,
        first: DiskBlock,
        at: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Edge> {
        let block = first.plus(wide(at));
        let _reading = self.gate.enter();
        let (foundation, delta) = {
            let state = head.state.read();
            (state.view.foundation.clone(), state.view.delta.get(block))
        };
        let mut references = [delta];
        if delta == Reference::UNSET {
            foundation.fill(&self.nodes, block, &mut references)?;
        }
        let mut bytes = vec![0; self.geometry.block_bytes()];
        self.fetch(&Source::Head(head.clone()), block, &references, &mut bytes, 0)?;
        fill(&mut bytes);
        Ok(Edge { at, bytes, foundation, delta })
    }

    fn try_write(
        &self,
        head: &Arc<Head>,
        blocks: &Blocks<'_>,
        (contents, matched): (&[Content], Option<&mut Matched<'_>>),
        (purpose, full): (Purpose, &mut Vec<Arc<Run>>),
    ) -> Result<Attempt> {
        let needed = to_be_written(contents);
        let _open = self.begin_change()?;
        if matched.as_ref().is_some_and(|matched| !matched.is_current()) {
            return Ok(Attempt::Stale);
        }
        let mut guard = head.state.write();
        let state = &mut *guard;
        if state.is_gone {
            return Err(Error::new(ErrorKind::NotFound, format!("disk {} was deleted", head.id)));
        }
        let end = (blocks.first.0 + wide(blocks.count) - 1) * u64::from(self.block_size());
        check_range(state.size_bytes, end, 1)?;
        let is_stale = |edge: &Edge| {
            let now = state.view.delta.get(blocks.first.plus(wide(edge.at)));
            now != edge.delta || !Arc::ptr_eq(&edge.foundation, &state.view.foundation)
        };
        if blocks.edges.iter().any(is_stale) {
            return Ok(Attempt::Stale);
        }
        let Some(mut reserved) = self.reserve(state, needed, purpose)? else { return Ok(Attempt::NoBlocks) };
        let (mut footprint, mut dropped) = (Footprint::default(), Vec::new());
        let waiting =
            self.place(head, state, blocks, contents, &mut reserved, full, (&mut footprint, &mut dropped));
        if let Some(matched) = matched {
            matched.keep();
        }
        self.touch(head, &mut state.is_touched);
        self.account(footprint, dropped);
        Ok(Attempt::Written(waiting))
    }

    /// Runs that take `needed` blocks beyond what the head's open run takes; `None` if they are not free.
    fn reserve(&self, state: &HeadState, needed: u64, purpose: Purpose) -> Result<Option<Vec<BlockRun>>> {
        let room = state.run.as_ref().map_or(0, |run| run.capacity() - run.filled());
        let mut missing = needed.saturating_sub(room);
        let mut reserved = Vec::new();
        while missing > 0 {
            let spare = self.free_hint.load(Ordering::Relaxed) / 64;
            let most = missing.max(RUN_BLOCKS_MAX.min(spare)).min(RUN_BLOCKS_MAX);
            let Some(run) = self.take_data(purpose, missing, most)? else {
                for run in reserved {
                    self.with_allocator(|allocator| allocator.give_back(run));
                }
                return Ok(None);
            };
            missing = missing.saturating_sub(run.count);
            reserved.push(run);
        }
        reserved.reverse();
        Ok(Some(reserved))
    }

    /// Puts everything in its place. Returns how much waits to be written.
    #[expect(clippy::too_many_arguments, reason = "one step of one function, cut out for its length")]
    fn place(
        &self,
        head: &Arc<Head>,
        state: &mut HeadState,
        blocks: &Blocks<'_>,
        contents: &[Content],
        reserved: &mut Vec<BlockRun>,
        full: &mut Vec<Arc<Run>>,
        (footprint, dropped): (&mut Footprint, &mut Vec<BlockNo>),
    ) -> Waiting {
        let mut waiting = Waiting::default();
        let mut at = 0;
        while at < contents.len() {
            let first = blocks.first.plus(wide(at));
            if contents[at] == Content::Zero {
                let count = contents[at..].iter().take_while(|content| **content == Content::Zero).count();
                state.clear(first, wide(count), footprint, dropped);
                waiting = self.journal.append(|builder| builder.clear(head.id, first, wide(count)));
                at += count;
                continue;
            }
            if let Content::Held(block, crc) = contents[at] {
                self.with_allocator(|allocator| allocator.share(block));
                let shared = Reference::new(block, state.birth, crc);
                waiting = self.put_share(head, state, (first, shared), (footprint, dropped));
                at += 1;
                continue;
            }
            let run = self.open_run(state, reserved);
            let room = index(run.capacity() - run.filled());
            let crcs: Vec<u32> = contents[at..]
                .iter()
                .take(room)
                .map_while(|content| match content {
                    Content::Data(crc) => Some(*crc),
                    Content::Zero | Content::Held(..) => None,
                })
                .collect();
            let bytes = blocks.row(at, crcs.len());
            let crcs = &crcs[..bytes.len() / blocks.block_bytes];
            let physical = run.first().plus(run.filled());
            run.append(bytes);
            let birth = state.birth;
            let references: Vec<Reference> = crcs
                .iter()
                .enumerate()
                .map(|(offset, crc)| Reference::new(physical.plus(wide(offset)), birth, *crc))
                .collect();
            state.set(first, &references, footprint, dropped);
            waiting = self.journal.append_for(Some((physical, bytes)), |builder| {
                builder.map(head.id, first, physical, birth, crcs);
                self.runs.recorded(&run, run.filled());
            });
            if run.filled() == run.capacity() {
                self.close_run(state);
                full.push(run);
            }
            at += crcs.len();
        }
        for run in reserved.drain(..) {
            self.with_allocator(|allocator| allocator.give_back(run));
        }
        waiting
    }

    /// The head's open run, or a new one over reserved blocks.
    fn open_run(&self, state: &mut HeadState, reserved: &mut Vec<BlockRun>) -> Arc<Run> {
        if let Some(run) = &state.run {
            return run.clone();
        }
        let blocks = reserved.pop().expect("enough blocks were reserved before anything was changed");
        let buffer = self.runs.buffer(index(blocks.count) * self.geometry.block_bytes());
        let run = Arc::new(Run::new(blocks, self.block_size(), buffer));
        self.runs.insert(run.clone());
        state.run = Some(run.clone());
        run
    }

    /// Lets the head's open run go: its blocks are used, and the rest is free again.
    pub(super) fn close_run(&self, state: &mut HeadState) {
        let Some(run) = state.run.take() else { return };
        run.close();
        let (first, filled) = (run.first(), run.filled());
        let rest = BlockRun { first: first.plus(filled), count: run.capacity() - filled };
        self.with_allocator(|allocator| {
            allocator.used(BlockRun { first, count: filled });
            allocator.give_back(rest);
        });
    }
}

#[cfg(test)]
impl Engine {
    /// Writes a block of zeros as data, as another writer of the format might.
    pub(super) fn write_zeros_as_data(&self, head: &Arc<Head>, at: DiskBlock) -> Result<()> {
        let buf = vec![0; self.geometry.block_bytes()];
        let blocks =
            Blocks { first: at, count: 1, block_bytes: buf.len(), buf: &buf, skip: 0, edges: Vec::new() };
        self.ensure_space(1, Purpose::Data)?;
        let attempt = self.try_write(
            head,
            &blocks,
            (&[Content::Data(seal(&buf))], None),
            (Purpose::Data, &mut Vec::new()),
        )?;
        assert!(matches!(attempt, Attempt::Written(_)), "nobody else is writing");
        Ok(())
    }
}
