//! Templates: snapshots whose blocks new writes share, and the index that finds them.
//!
//! Floor 5. Off unless the options give it memory. A write whose block a template holds gets a reference to that one, and no
//! data is written. Nothing of it is on the medium but the share: templates are registered anew after each opening.
//!
//! ```text
//! writer:  CRC, BLAKE3 ▶ gate ▶ look up, read, compare ▶ barrier, head ▶ same generation? ▶ share ▶ leave
//! delete:                                     state ▶ hidden ▶ generation + 1
//! ```
//!
//! T4  A write shares only with a snapshot that was shown after the write had come in past the barrier. What deleting that
//!     snapshot drops is dropped by a checkpoint that is frozen later: so the new reference is counted before, or together (S5).
//! T5  Whoever shares a block that is in the index takes from its room first: so no count goes round (S6). Rooms are
//!     measured while the barrier is closed: no share is on its way then.

use super::block_index::{Key, key_of};
use super::engine::Engine;
use super::open::Store;
use super::read::Source;
use super::share::shown_root;
use super::state::State;
use crate::catalog::Child;
use crate::error::{Error, ErrorKind, Result};
use crate::extent::{Scan, scan};
use crate::format::Reference;
use crate::limits::RUN_BLOCKS_MAX;
use crate::space::{CountPages, GateGuard};
use crate::units::{BlockNo, DiskBlock, SnapshotId, VersionId, index, wide};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

/// One block of a template. Block 0 says that the entry is empty.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Entry {
    key: Key,
    block: u64,
    crc: u32,
    /// How many more references the block can have.
    room: u16,
    /// Which template it belongs to.
    slot: u16,
}

const _: () = assert!(size_of::<Entry>() == 32);

/// A key has this many places.
const WAYS: usize = 8;

/// As many snapshots can be templates at once.
const TEMPLATES_MAX: usize = 1024;

struct Registry {
    entries: Vec<Entry>,
    slots: BTreeMap<SnapshotId, u16>,
}

impl Registry {
    fn group(&mut self, key: &Key) -> &mut [Entry] {
        let number = key.first_chunk().copied().map_or(0, u64::from_le_bytes);
        let first = index(number % wide(self.entries.len() / WAYS)) * WAYS;
        &mut self.entries[first..first + WAYS]
    }

    fn find(&mut self, key: &Key) -> Option<&mut Entry> {
        self.group(key).iter_mut().find(|entry| entry.block != 0 && entry.key == *key)
    }

    /// Whether there was room for it, or for another block with the same bytes.
    fn put(&mut self, new: Entry) -> bool {
        if self.find(&new.key).is_some() {
            return true;
        }
        let free = self.group(&new.key).iter_mut().find(|entry| entry.block == 0);
        free.map(|entry| *entry = new).is_some()
    }

    fn remove(&mut self, id: SnapshotId) -> bool {
        let Some(slot) = self.slots.remove(&id) else { return false };
        for entry in self.entries.iter_mut().filter(|entry| entry.slot == slot) {
            *entry = Entry::default();
        }
        true
    }
}

/// The templates of an open store.
pub(super) struct Templates {
    registry: RwLock<Registry>,
    /// Grows whenever one goes.
    generation: AtomicU64,
    /// How many there are.
    count: AtomicU64,
}

impl Templates {
    /// An index in at most this many bytes; `None` where that is nothing.
    pub(super) fn new(bytes: u64) -> Option<Self> {
        let entries = index(bytes / wide(size_of::<Entry>())) / WAYS * WAYS;
        let registry = Registry { entries: vec![Entry::default(); entries], slots: BTreeMap::new() };
        (entries > 0).then(|| Self {
            registry: RwLock::new(registry),
            generation: AtomicU64::new(0),
            count: AtomicU64::new(0),
        })
    }

    fn remove(&self, id: SnapshotId) -> bool {
        let mut registry = self.registry.write();
        let was_there = registry.remove(id);
        if was_there {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
        self.count.store(wide(registry.slots.len()), Ordering::Relaxed);
        was_there
    }

    /// Takes from the room of a block: `Some(false)` where there is none, `None` where the block is no template's.
    pub(super) fn spend(&self, key: &Key, block: BlockNo) -> Option<bool> {
        let mut registry = self.registry.write();
        let entry = registry.find(key).filter(|entry| entry.block == block.0)?;
        let has_room = entry.room > 0;
        entry.room = entry.room.saturating_sub(1);
        Some(has_room)
    }

    /// Gives back what was taken in a generation and not used. If a template went since, its entries went with it.
    fn give_back(&self, generation: u64, key: &Key, block: BlockNo) {
        let mut registry = self.registry.write();
        if self.generation.load(Ordering::SeqCst) != generation {
            return;
        }
        if let Some(entry) = registry.find(key).filter(|entry| entry.block == block.0) {
            entry.room = entry.room.saturating_add(1);
        }
    }

    /// A block with this key and seal, of which a reference was taken.
    fn take(&self, key: &Key, crc: u32) -> Option<BlockNo> {
        let mut registry = self.registry.write();
        let entry = registry.find(key).filter(|entry| entry.crc == crc && entry.room > 0)?;
        entry.room -= 1;
        Some(BlockNo(entry.block))
    }
}

/// What of a write templates hold already. While this lives, none of those blocks is used for something else.
pub(super) struct Matched<'a> {
    templates: &'a Templates,
    generation: u64,
    taken: Vec<(Key, BlockNo)>,
    _gate: GateGuard<'a>,
}

impl Matched<'_> {
    /// Whether no template went since. The caller has the barrier, and keeps it until the shares are made.
    pub(super) fn is_current(&self) -> bool {
        self.templates.generation.load(Ordering::SeqCst) == self.generation
    }

    /// The references are made: they count.
    pub(super) fn keep(&mut self) {
        self.taken.clear();
    }
}

impl Drop for Matched<'_> {
    fn drop(&mut self) {
        for (key, block) in &self.taken {
            self.templates.give_back(self.generation, key, *block);
        }
    }
}

/// What registering a template did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Template {
    /// Bytes of blocks that writes can share from now on.
    pub indexed_bytes: u64,
    /// Blocks for which the memory was too little. Writes do not find them.
    pub left_out_blocks: u64,
    /// Blocks that fail their checksums, or have all the references that a block can have.
    pub unfit_blocks: u64,
}

impl Engine {
    /// Finds what templates hold of some blocks, each with its seal. `found` is told which block holds the one of that number.
    /// `None` where there is nothing to be found.
    pub(super) fn match_templates<'a, 'b>(
        &'a self,
        blocks: impl Iterator<Item = (usize, &'b [u8], u32)>,
        mut found: impl FnMut(usize, BlockNo),
    ) -> Option<Matched<'a>> {
        let templates = self.templates.as_ref().filter(|t| t.count.load(Ordering::Relaxed) > 0)?;
        let hashed: Vec<_> = blocks.map(|(at, bytes, crc)| (at, bytes, crc, key_of(bytes))).collect();
        let mut matched = Matched {
            templates,
            generation: templates.generation.load(Ordering::SeqCst),
            taken: Vec::new(),
            _gate: self.gate.enter(),
        };
        let mut held = vec![0; self.geometry.block_bytes()];
        for (at, bytes, crc, key) in hashed {
            let Some(block) = templates.take(&key, crc) else { continue };
            matched.taken.push((key, block));
            let is_read = self.device.read_at(&mut held, self.geometry.offset_bytes(block)).is_ok();
            if is_read && held == bytes {
                found(at, block);
            } else {
                matched.taken.pop();
                templates.give_back(matched.generation, &key, block);
            }
        }
        (!matched.taken.is_empty()).then_some(matched)
    }

    /// Lets go of templates that an event hid. The caller has the state, and the barrier.
    pub(super) fn forget_hidden_templates(&self, state: &State) {
        let Some(templates) = self.templates.as_ref().filter(|t| t.count.load(Ordering::Relaxed) > 0) else {
            return;
        };
        let is_hidden = |id: &SnapshotId| !state.catalog.snapshots.contains_key(id);
        let hidden: Vec<_> = templates.registry.read().slots.keys().copied().filter(is_hidden).collect();
        for id in hidden {
            templates.remove(id);
        }
    }

    fn register_template(
        &self,
        id: SnapshotId,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Template> {
        let Some(templates) = &self.templates else {
            let message =
                "the store was opened without memory for templates: see Options::dedup_memory_bytes";
            return Err(Error::new(ErrorKind::Invalid, message));
        };
        self.checkpoint()?; // the snapshot is settled
        let (slot, versions, total) = {
            let state = self.state.read();
            let versions = state.snapshot(id)?.versions.clone();
            let mapped = versions.iter().filter_map(|id| state.catalog.versions.get(id));
            let total = mapped.map(|version| version.root.mapped).sum::<u64>() * u64::from(self.block_size());
            let mut registry = templates.registry.write();
            let is_free = |slot: &u16| registry.slots.values().all(|taken| taken != slot);
            let slot = registry.slots.get(&id).copied().or_else(|| (1..u16::MAX).find(is_free));
            let slot = slot.filter(|_| registry.slots.len() < TEMPLATES_MAX);
            let many = || Error::new(ErrorKind::Limit, format!("{TEMPLATES_MAX} templates are enough"));
            let slot = slot.ok_or_else(many)?;
            registry.slots.insert(id, slot);
            templates.count.store(wide(registry.slots.len()), Ordering::Relaxed);
            (slot, versions, total)
        };
        let (mut done, mut read) = (Template::default(), 0);
        for version in versions {
            let mut at = DiskBlock(0);
            while let Some((first, references)) = self.template_part(version, at)? {
                if progress(read, total).is_break() {
                    return Ok(done);
                }
                at = first.plus(wide(references.len()));
                read += self.index_part(templates, (id, slot), (version, first), references, &mut done)?;
            }
        }
        Ok(done)
    }

    /// The next references of a version from `at` on, a few at a time.
    fn template_part(
        &self,
        version: VersionId,
        mut at: DiskBlock,
    ) -> Result<Option<(DiskBlock, Vec<Reference>)>> {
        let _reading = self.gate.enter();
        let Some(root) = shown_root(&self.state.read(), Child::Version(version)) else { return Ok(None) };
        loop {
            match scan(&self.settled_view(root), &self.nodes, at)? {
                Scan::Hole { until } if until.0 == u64::MAX => return Ok(None),
                Scan::Hole { until } => at = until,
                Scan::Leaf { first, references } => {
                    let from = index(at.0 - first.0);
                    let upto = references.len().min(from + index(RUN_BLOCKS_MAX));
                    return Ok(Some((at, references[from..upto].to_vec())));
                }
            }
        }
    }

    /// Reads blocks of a template and takes them into the index. Says how many bytes they are.
    fn index_part(
        &self,
        templates: &Templates,
        (id, slot): (SnapshotId, u16),
        (version, first): (VersionId, DiskBlock),
        mut references: Vec<Reference>,
        done: &mut Template,
    ) -> Result<u64> {
        let block_bytes = self.geometry.block_bytes();
        let mut bytes = vec![0; references.len() * block_bytes];
        let mapped = references.iter().filter(|reference| !reference.is_hole()).count();
        {
            let _reading = self.gate.enter();
            if shown_root(&self.state.read(), Child::Version(version)).is_none() {
                return Ok(0);
            }
            done.unfit_blocks +=
                self.fetch_each(&Source::Version(version), first, &mut references, &mut bytes)?;
        }
        let blocks = references.iter().zip(bytes.chunks_exact(block_bytes));
        let keyed = blocks.filter(|(reference, _)| !reference.is_hole());
        let keyed: Vec<_> = keyed.map(|(reference, block)| (key_of(block), *reference)).collect();
        let mut checkpointer = self.maintenance.lock();
        let mut pages = CountPages::default();
        let counts =
            keyed.iter().map(|(_, reference)| checkpointer.tables.count(reference.block(), &mut pages));
        let counts = counts.collect::<Result<Vec<_>>>()?;
        let _closed = self.barrier.write(); // no write is on its way with what it took from an index before this one
        let state = self.state.read();
        let mut registry = templates.registry.write();
        if !registry.slots.contains_key(&id) || !state.catalog.snapshots.contains_key(&id) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("snapshot {id} was deleted, or unregistered"),
            ));
        }
        for ((key, reference), count) in keyed.into_iter().zip(counts) {
            let since = self.allocator.lock().shared_since(reference.block());
            let room = u16::MAX.saturating_sub(count).saturating_sub(since);
            let entry = Entry { key, block: reference.block().0, crc: reference.crc(), room, slot };
            if room == 0 || count == 0 {
                done.unfit_blocks += 1;
            } else if registry.put(entry) {
                done.indexed_bytes += wide(block_bytes);
            } else {
                done.left_out_blocks += 1;
            }
        }
        Ok(wide(mapped * block_bytes))
    }
}

impl Store {
    /// Lets new writes share the blocks of a snapshot from now on: a block with the same bytes (found by its BLAKE3, and compared) is not
    /// written, and takes no space. Reads the whole snapshot once. The index takes the memory that
    /// [`dedup_memory_bytes`](crate::Options::dedup_memory_bytes) gave it, 32 bytes a block, and never more.
    ///
    /// It holds until the snapshot is deleted or unregistered, or the store is closed: it is not remembered. `progress` hears how far it
    /// is and how far it goes, in bytes; on `Break` it stops there, and what was read is shared.
    ///
    /// # Errors
    /// `Invalid` in a store that was opened without that memory, `NotFound`, `Limit` beyond 1,024 templates, `Corrupt` if a map or a
    /// refcount page is damaged, `Io`, `ReadOnly`.
    pub fn register_template(
        &self,
        snapshot: SnapshotId,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Template> {
        self.shared.register_template(snapshot, &mut progress)
    }

    /// New writes do not share with a snapshot any more; what was shared stays shared. Whether they did.
    pub fn unregister_template(&self, snapshot: SnapshotId) -> bool {
        self.shared.templates.as_ref().is_some_and(|templates| templates.remove(snapshot))
    }

    /// The snapshots that new writes share with.
    pub fn templates(&self) -> Vec<SnapshotId> {
        let templates = self.shared.templates.as_ref();
        templates.map_or_else(Vec::new, |templates| templates.registry.read().slots.keys().copied().collect())
    }
}
