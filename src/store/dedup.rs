//! Dedup: goes over all disks, finds blocks with the same bytes, and keeps one of each.
//!
//! Floor 5. Beside all traffic, in parts of 1 MiB at most. What it looks at is settled: a block that was written since the last
//! checkpoint is left to a later run. Only what a disk itself owns is given up: what its snapshots hold stays as it is.

use super::block_index::{BlockIndex, Key, Standing, key_of};
use super::blocks::Purpose;
use super::engine::Engine;
use super::head::Head;
use super::open::Store;
use super::read::Source;
use super::share::{Shared, Twin, shown_root};
use super::write::is_zero;
use crate::catalog::Child;
use crate::error::{Error, ErrorKind, Result};
use crate::extent::{Limit, Scan, scan};
use crate::format::Reference;
use crate::limits::RUN_BLOCKS_MAX;
use crate::units::{DiskBlock, DiskId, SnapshotId, VersionId, index, wide};
use serde::Serialize;
use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

/// How often a part is looked at anew because somebody else holds the maintenance lock; then it waits for the lock first.
const TRIES: u32 = 2;

/// How [`Store::dedup`] goes about it.
#[derive(Clone, Debug)]
pub struct DedupOptions {
    memory_bytes: u64,
    from: DedupCursor,
    templates: Vec<SnapshotId>,
}

impl Default for DedupOptions {
    fn default() -> Self {
        Self { memory_bytes: 256 << 20, from: DedupCursor::default(), templates: Vec::new() }
    }
}

impl DedupOptions {
    /// Memory for the index of blocks that were seen: 40 bytes each; 256 MiB by default, which is enough for 26 GiB of different
    /// blocks of 4 KiB. It is all taken at once, and never more. A block that finds no place there is not found again.
    #[must_use]
    pub fn memory_bytes(self, bytes: u64) -> Self {
        Self { memory_bytes: bytes, ..self }
    }

    /// Goes on where an earlier run stopped. What lies before is not read, and so nothing is shared with it.
    #[must_use]
    pub fn from(self, cursor: DedupCursor) -> Self {
        Self { from: cursor, ..self }
    }

    /// Reads these snapshots first, so that disks share with them.
    #[must_use]
    pub fn templates(self, snapshots: &[SnapshotId]) -> Self {
        Self { templates: snapshots.to_vec(), ..self }
    }
}

/// Where a run is: disks come in the order of their ids. As text: `disk:block`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DedupCursor {
    disk: u64,
    block: u64,
}

impl fmt::Display for DedupCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.disk, self.block)
    }
}

impl FromStr for DedupCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers =
            text.split_once(':').and_then(|(disk, block)| Some((disk.parse().ok()?, block.parse().ok()?)));
        let (disk, block) = numbers
            .ok_or_else(|| Error::new(ErrorKind::Invalid, format!("`{text}` is no place: DISK:BLOCK")))?;
        Ok(Self { disk, block })
    }
}

impl Serialize for DedupCursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What [`Store::dedup`] did, or has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deduplicated {
    /// Bytes of data that were read.
    pub read_bytes: u64,
    /// Bytes of blocks that refer to another one now. Each frees its own block with the next checkpoint, unless that one is shared.
    pub shared_bytes: u64,
    /// Blocks that could not be read, or do not match their checksums. They were left alone; a scrub tells where they are.
    pub bad_blocks: u64,
    /// Blocks for which the index had no room: later blocks with the same bytes were not found.
    pub unindexed_blocks: u64,
    /// How far it is, and how far it goes: bytes that disks and templates refer to.
    pub done_bytes: u64,
    /// The bytes that there are.
    pub total_bytes: u64,
    /// Where to go on, if it was stopped.
    pub stopped_at: Option<DedupCursor>,
}

/// One disk, or one version of a template.
struct Walked {
    point: Child,
    source: Source,
    /// References that were born up to here were seen with another disk.
    skips_up_to: u64,
}

/// One run.
struct Run<'a> {
    engine: &'a Engine,
    index: BlockIndex,
    done: Deduplicated,
}

/// What was found at some places in a row.
struct Part {
    twins: Vec<(Twin, Key)>,
    data_blocks: u64,
}

impl Engine {
    fn dedup(
        &self,
        options: &DedupOptions,
        progress: &mut dyn FnMut(&Deduplicated) -> ControlFlow<()>,
    ) -> Result<Deduplicated> {
        self.checkpoint()?; // what was written until now is settled
        let (templates, disks) = {
            let state = self.state.read();
            let templates = options.templates.iter().map(|id| Ok(state.snapshot(*id)?.versions.clone()));
            let templates: Vec<VersionId> = templates.collect::<Result<Vec<_>>>()?.concat();
            let disks = state.catalog.disks.keys().copied().filter(|id| id.0 >= options.from.disk);
            (templates, disks.collect::<Vec<DiskId>>())
        };
        let mut run =
            Run { engine: self, index: BlockIndex::new(options.memory_bytes), done: Deduplicated::default() };
        run.done.total_bytes = self.mapped_bytes(&templates, &disks);
        if run.go(&templates, &disks, options.from, progress)? {
            self.checkpoint()?; // what was given up is free
        }
        Ok(run.finished())
    }

    fn mapped_bytes(&self, versions: &[VersionId], disks: &[DiskId]) -> u64 {
        let state = self.state.read();
        let versions = versions
            .iter()
            .filter_map(|id| state.catalog.versions.get(id))
            .map(|version| version.root.mapped);
        let disks = disks.iter().filter_map(|id| state.catalog.disks.get(id)).map(|disk| disk.root.mapped);
        versions.chain(disks).sum::<u64>() * u64::from(self.block_size())
    }
}

impl Run<'_> {
    fn finished(&self) -> Deduplicated {
        Deduplicated { unindexed_blocks: self.index.left_out, ..self.done }
    }

    /// Whether anything was shared.
    fn go(
        &mut self,
        templates: &[VersionId],
        disks: &[DiskId],
        from: DedupCursor,
        progress: &mut dyn FnMut(&Deduplicated) -> ControlFlow<()>,
    ) -> Result<bool> {
        for &id in templates {
            let walked = Walked { point: Child::Version(id), source: Source::Version(id), skips_up_to: 0 };
            if self.walk(&walked, None, DiskBlock(0), progress)?.is_some() {
                self.done.stopped_at = Some(from);
                return Ok(false);
            }
        }
        let mut parents: HashSet<VersionId> = HashSet::new();
        for &id in disks {
            let (head, skips_up_to) = {
                let state = self.engine.state.read();
                let Some(head) = state.heads.get(&id).cloned() else { continue };
                let parent = state.catalog.disks.get(&id).and_then(|disk| disk.parent);
                let is_seen = parent.is_some_and(|parent| !parents.insert(parent));
                (head, if is_seen { state.catalog.epoch_of(parent).0 } else { 0 })
            };
            let walked = Walked { point: Child::Head(id), source: Source::Head(head.clone()), skips_up_to };
            let first = if id.0 == from.disk { DiskBlock(from.block) } else { DiskBlock(0) };
            if let Some(at) = self.walk(&walked, Some(&head), first, progress)? {
                self.done.stopped_at = Some(DedupCursor { disk: id.0, block: at.0 });
                break;
            }
        }
        Ok(self.done.shared_bytes > 0)
    }

    /// Goes over one map from `at` on. Where it was stopped, if it was.
    fn walk(
        &mut self,
        walked: &Walked,
        head: Option<&Arc<Head>>,
        mut at: DiskBlock,
        progress: &mut dyn FnMut(&Deduplicated) -> ControlFlow<()>,
    ) -> Result<Option<DiskBlock>> {
        loop {
            if progress(&self.finished()).is_break() {
                return Ok(Some(at));
            }
            at = match self.engine.settled_scan(walked.point, at)? {
                None => return Ok(None), // deleted meanwhile
                Some(Scan::Hole { until }) if until.0 == u64::MAX => return Ok(None),
                Some(Scan::Hole { until }) => until,
                Some(Scan::Leaf { first, references }) => {
                    let end = (first.0 + wide(references.len())).min(at.0 + RUN_BLOCKS_MAX);
                    self.part(walked, head, at, end - at.0)?;
                    DiskBlock(end)
                }
            };
        }
    }

    fn part(
        &mut self,
        walked: &Walked,
        head: Option<&Arc<Head>>,
        first: DiskBlock,
        count: u64,
    ) -> Result<()> {
        let engine = self.engine;
        let mut tries = 0;
        let part = loop {
            engine.keep_up()?;
            engine.ensure_space(0, Purpose::Relief)?;
            let mut quiet = (tries == TRIES).then(|| engine.maintenance.lock());
            tries += 1;
            let reading = engine.gate.enter();
            let part = self.look(walked, head, first, count)?;
            let Some(head) = head.filter(|_| !part.twins.is_empty()) else { break part };
            let Some(mut checkpointer) = quiet.take().or_else(|| engine.maintenance.try_lock()) else {
                // Whoever has the lock may come to need what the gate holds back.
                drop(reading);
                drop(engine.maintenance.lock());
                continue;
            };
            let (became, waiting) = engine.share(&mut checkpointer, head, &part.twins)?;
            drop(checkpointer);
            drop(reading);
            for ((twin, key), became) in part.twins.iter().zip(became) {
                match became {
                    Shared::Done => self.done.shared_bytes += u64::from(engine.block_size()),
                    Shared::Changed => {}
                    Shared::Saturated => self.index.put(*key, standing(walked.point, twin.at, twin.own)),
                }
            }
            engine.spill_if_many(waiting)?;
            break part;
        };
        let bytes = part.data_blocks * u64::from(engine.block_size());
        self.done.done_bytes += bytes;
        Ok(())
    }

    /// Reads some places, and finds those whose blocks another block equals. The caller is inside the gate.
    fn look(
        &mut self,
        walked: &Walked,
        head: Option<&Arc<Head>>,
        first: DiskBlock,
        count: u64,
    ) -> Result<Part> {
        let engine = self.engine;
        let mut part = Part { twins: Vec::new(), data_blocks: 0 };
        let Some((limit, mut references)) = engine.settled_part(walked.point, first, count)? else {
            return Ok(part);
        };
        part.data_blocks = wide(references.iter().filter(|reference| !reference.is_hole()).count());
        for reference in &mut references {
            if reference.birth().0 <= walked.skips_up_to {
                *reference = Reference::HOLE;
            }
        }
        let block_bytes = engine.geometry.block_bytes();
        let mut bytes = vec![0; references.len() * block_bytes];
        let bad = engine.fetch_each(&walked.source, first, &mut references, &mut bytes)?;
        self.done.bad_blocks += bad;
        let blocks = references.iter().zip(bytes.chunks_exact(block_bytes)).zip(0u64..);
        for ((&own, block), nth) in blocks.filter(|((own, _), _)| !own.is_hole()) {
            self.done.read_bytes += wide(block_bytes);
            let at = first.plus(nth);
            let key = key_of(block);
            let here = standing(walked.point, at, own);
            match self.index.find(&key) {
                None => self.index.put(key, here),
                Some(known) if known.block == own.block() || known == here => {}
                Some(known) => {
                    let shared = engine.twin_of(known, own, block)?;
                    let is_own = head.is_some() && limit.owns(own.birth(), at.0);
                    match shared {
                        Some(shared) if is_own => {
                            let source = (known.point, known.at);
                            part.twins.push((Twin { at, own, source, shared }, key));
                        }
                        Some(_) => {}
                        None => self.index.put(key, here), // it stands there no more, or is damaged
                    }
                }
            }
        }
        Ok(part)
    }
}

fn standing(point: Child, at: DiskBlock, reference: Reference) -> Standing {
    Standing { point, at, block: reference.block() }
}

impl Engine {
    fn settled_scan(&self, point: Child, at: DiskBlock) -> Result<Option<Scan>> {
        let _reading = self.gate.enter();
        let Some(root) = self.settled_root_of(point) else { return Ok(None) };
        scan(&self.settled_view(root), &self.nodes, at).map(Some)
    }

    /// The settled tree of a point, or the one that a checkpoint is just about to replace; `None` if the point is gone.
    fn settled_root_of(&self, point: Child) -> Option<crate::format::Root> {
        let state = self.state.read();
        shown_root(&state, point).or_else(|| match point {
            Child::Head(id) => Some(state.heads.get(&id)?.state.read().view.foundation.parts().0),
            Child::Version(_) => None,
        })
    }

    /// References of a settled tree, and what of them the point owns. The caller is inside the gate.
    fn settled_part(
        &self,
        point: Child,
        first: DiskBlock,
        count: u64,
    ) -> Result<Option<(Limit, Vec<Reference>)>> {
        let Some(root) = self.settled_root_of(point) else { return Ok(None) };
        let mut references = vec![Reference::UNSET; index(count)];
        self.settled_view(root).lookup(&self.nodes, first, &mut references)?;
        let state = self.state.read();
        let parent = match point {
            Child::Head(id) => state.catalog.disks.get(&id).and_then(|disk| disk.parent),
            Child::Version(id) => state.catalog.versions.get(&id).and_then(|version| version.parent),
        };
        let (below, above, split) = state.catalog.limits_below(parent);
        Ok(Some((Limit { below, above, split }, references)))
    }

    /// Reads blocks. Those that cannot be read are turned into holes; says how many.
    pub(super) fn fetch_each(
        &self,
        source: &Source,
        first: DiskBlock,
        references: &mut [Reference],
        bytes: &mut [u8],
    ) -> Result<u64> {
        match self.fetch(source, first, references, bytes, 0) {
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io) => {}
            fetched => return fetched.map(|()| 0),
        }
        let block_bytes = self.geometry.block_bytes();
        let mut bad = 0;
        for ((reference, block), nth) in
            references.iter_mut().zip(bytes.chunks_exact_mut(block_bytes)).zip(0..)
        {
            if self.fetch(source, first.plus(nth), &[*reference], block, 0).is_err() {
                *reference = Reference::HOLE;
                bad += 1;
            }
        }
        Ok(bad)
    }

    /// The reference to a block that equals this one, if it is sound and still stands where it was seen.
    fn twin_of(&self, known: Standing, own: Reference, block: &[u8]) -> Result<Option<Reference>> {
        let found = self.settled_reference(known.point, known.at)?;
        if found.is_hole() || found.block() != known.block || found.crc() != own.crc() {
            return Ok(None);
        }
        let source = match known.point {
            Child::Version(id) => Source::Version(id),
            Child::Head(id) => match self.state.read().heads.get(&id) {
                Some(head) => Source::Head(head.clone()),
                None => return Ok(None),
            },
        };
        let mut bytes = vec![0; block.len()];
        let is_sound = self.fetch(&source, known.at, &[found], &mut bytes, 0).is_ok();
        Ok((is_sound && bytes == block && !is_zero(block)).then_some(found))
    }
}

impl Store {
    /// Finds blocks of disks that have the same bytes, and lets them share one: the others are free with the next checkpoint.
    /// Reads and writes go on meanwhile. Bytes are compared, not only hashes (BLAKE3), and a block that fails its
    /// checksum is neither shared nor given up.
    ///
    /// It reads all disks, each block that several clones hold once. A disk gives up only what it holds alone: what its
    /// snapshots hold is kept, and can be shared with. What is written meanwhile is left to the next run. A block
    /// that is shared counts as changed since the last snapshot ([`changes`](Store::changes)).
    ///
    /// `progress` hears how far it is, after each MiB at least. On `Break` it stops; what was shared stays shared, and
    /// [`stopped_at`](Deduplicated::stopped_at) says where to go on.
    ///
    /// ```
    /// # use cowblk::{DedupOptions, Options, Store, device::MemoryDevice};
    /// # use std::{ops::ControlFlow, sync::Arc};
    /// # let options = Options::default().journal_bytes(1 << 20).zone_blocks(512);
    /// let store = Store::create_on(Arc::new(MemoryDevice::new(0)), options)?;
    /// let disk = store.create_server("web")?.create_disk("vda", 1 << 30)?;
    /// disk.write_at(&vec![7; 10 * 4096], 0)?;
    /// let done = store.dedup(&DedupOptions::default(), |_| ControlFlow::Continue(()))?;
    /// assert_eq!(done.shared_bytes, 9 * 4096);
    /// # Ok::<(), cowblk::Error>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` for a template, `Full` in a store that has no block left for extent nodes, `Corrupt` if a map is damaged,
    /// `Io` if the medium fails, `ReadOnly`.
    pub fn dedup(
        &self,
        options: &DedupOptions,
        mut progress: impl FnMut(&Deduplicated) -> ControlFlow<()>,
    ) -> Result<Deduplicated> {
        self.shared.dedup(options, &mut progress)
    }
}
