//! Nodes: reading extent nodes, verified, through a cache of bounded size.
//!
//! Floor 3. The cache is keyed by the whole reference (block, birth and seal), so that a block that
//! was freed and used again never gives the node that it once held.

use crate::defect::Defect;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{Geometry, Reference, node_from_bytes, seal};
use quick_cache::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A node's references.
pub(crate) type Node = Arc<[Reference]>;

/// Where nodes come from.
pub(crate) struct NodeSource {
    device: Arc<dyn Device>,
    geometry: Geometry,
    cache: Cache<[u8; 16], Node>,
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
            cache: Cache::new(nodes),
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

fn key(reference: Reference) -> [u8; 16] {
    zerocopy::transmute!(reference)
}
