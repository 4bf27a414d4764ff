//! Nodes: reading extent nodes, verified, through a cache of bounded size.
//!
//! Floor 3. The cache is keyed by the whole reference (block, birth and seal), so that a block that
//! was freed and used again never gives the node that it once held.

use super::mix::Mix;
use crate::defect::Defect;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{Geometry, Reference, node_from_bytes, seal};
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A node's references.
pub(crate) type Node = Arc<[Reference]>;

/// Where nodes come from.
pub(crate) struct NodeSource {
    device: Arc<dyn Device>,
    geometry: Geometry,
    cache: Cache<(u64, u64), Node, UnitWeighter, BuildHasherDefault<Mix>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl NodeSource {
    /// Reads from `device`, and keeps about `cache_bytes` of nodes.
    pub(crate) fn new(device: Arc<dyn Device>, geometry: Geometry, cache_bytes: u64) -> Self {
        let nodes = crate::units::index((cache_bytes / u64::from(geometry.block_size())).max(16));
        Self {
            device,
            geometry,
            cache: Cache::with(
                nodes,
                crate::units::wide(nodes),
                UnitWeighter,
                BuildHasherDefault::default(),
                DefaultLifecycle::default(),
            ),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// References in a node, as a power of two.
    pub(crate) fn fanout_bits(&self) -> u32 {
        self.geometry.fanout_bits()
    }

    /// The node that `reference` points at, which must not be a hole.
    pub(crate) fn node(&self, reference: Reference) -> Result<Node> {
        let key = key(reference);
        if let Some(node) = self.cache.get(&key) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(node);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let node = self.read(reference)?;
        self.cache.insert(key, node.clone());
        Ok(node)
    }

    fn read(&self, reference: Reference) -> Result<Node> {
        let block = reference.block();
        if self.geometry.place_of(block).is_none() {
            return Err(Error::corrupt(Defect::Reference, format!("node at block {block} is no data block")));
        }
        let mut bytes = vec![0; self.geometry.block_bytes()];
        self.device
            .read_at(&mut bytes, self.geometry.offset_bytes(block))
            .map_err(|cause| Error::io(format!("read extent node at block {block}"), cause))?;
        if seal(&bytes) != reference.crc() {
            return Err(Error::corrupt(Defect::Node, format!("block {block}")));
        }
        let node = node_from_bytes(&bytes);
        let sound = node.iter().all(|entry| {
            entry.is_valid()
                && (entry.is_hole()
                    || entry.birth() <= reference.birth() && self.geometry.place_of(entry.block()).is_some())
        });
        if sound {
            Ok(node)
        } else {
            Err(Error::corrupt(Defect::Reference, format!("in node at block {block}")))
        }
    }

    /// Remembers a node that was just written.
    pub(crate) fn remember(&self, reference: Reference, references: &[Reference]) {
        self.cache.insert(key(reference), Arc::from(references));
    }

    /// How often a node was found in the cache, and how often not.
    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}

fn key(reference: Reference) -> (u64, u64) {
    let [first, second]: [u64; 2] = zerocopy::transmute!(reference);
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MemoryDevice;
    use crate::format::{Place, node_to_bytes};
    use crate::units::{BlockNo, Epoch, index};

    /// Nodes whose seals are right, and whose content no store writes: only a forged one holds them.
    #[test]
    fn a_node_that_makes_no_sense_is_refused_whatever_its_seal_says() {
        let geometry = Geometry::new(4096, 64, 16).unwrap();
        let device = Arc::new(MemoryDevice::new(index(geometry.length_bytes(1))));
        let source = NodeSource::new(device.clone(), geometry, 1 << 20);
        let block = geometry.block_at(Place { zone: 0, index: 3 });
        let inside = geometry.block_at(Place { zone: 0, index: 4 });
        let mut entry = Reference::new(inside, Epoch(7), 0);
        let read = |entry: Reference| {
            let mut node = vec![Reference::HOLE; 256];
            node[9] = entry;
            let bytes = node_to_bytes(&node);
            device.write_at(bytes, geometry.offset_bytes(block)).unwrap();
            source.node(Reference::new(block, Epoch(7), seal(bytes)))
        };
        assert!(read(entry).is_ok());
        let younger = Reference::new(inside, Epoch(8), 0);
        let in_a_table = Reference::new(BlockNo(5), Epoch(7), 0);
        entry.flags = 1;
        for wrong in [younger, in_a_table, entry] {
            assert_eq!(read(wrong).unwrap_err().defect(), Some(Defect::Reference), "{wrong:?}");
        }
    }
}
