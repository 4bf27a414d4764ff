//! Block writer: gives a checkpoint's nodes and pages fresh blocks in a row, and writes them together.
//!
//! Floor 4.

use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::extent::NodeSink;
use crate::format::{Geometry, Reference, node_from_bytes, node_to_bytes, seal};
use crate::units::{BlockNo, BlockRun, Epoch, index, wide};
use std::sync::Arc;

/// Blocks that a checkpoint takes at a time: enough for a good write, few enough to leave writers some.
const ROW_BLOCKS: u64 = 64;

/// Where free blocks come from, and what becomes of them.
pub(crate) trait TakeBlocks {
    /// Takes up to `most` free blocks; `None` if the store is full and cannot grow.
    fn take(&self, most: u64) -> Result<Option<BlockRun>>;
    /// Takes exactly so many in a row.
    fn take_exactly(&self, count: u64) -> Result<Option<BlockRun>>;
    /// These were used.
    fn used(&self, run: BlockRun);
    /// These were not.
    fn give_back(&self, run: BlockRun);
}

/// Collects blocks that lie in a row, until they are worth a write.
pub(crate) struct BlockWriter<'a> {
    device: &'a dyn Device,
    geometry: Geometry,
    space: &'a dyn TakeBlocks,
    /// What is left of the blocks taken.
    rest: Option<BlockRun>,
    /// Blocks that wait to be written, and where they go.
    waiting: Vec<u8>,
    waiting_first: BlockNo,
}

impl<'a> BlockWriter<'a> {
    pub(crate) fn new(device: &'a dyn Device, geometry: Geometry, space: &'a dyn TakeBlocks) -> Self {
        Self { device, geometry, space, rest: None, waiting: Vec::new(), waiting_first: BlockNo(0) }
    }

    /// Writes a block of `bytes` somewhere. The caller owns it: it counts as referenced once.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<BlockNo> {
        if self.rest.is_none() {
            self.flush()?;
            self.rest = self.space.take(ROW_BLOCKS)?;
            self.waiting_first = self.rest.ok_or_else(full)?.first;
        }
        let Some(rest) = self.rest.as_mut() else { return Err(full()) };
        let block = rest.first;
        *rest = BlockRun { first: block.plus(1), count: rest.count - 1 };
        if rest.count == 0 {
            self.rest = None;
        }
        self.space.used(BlockRun { first: block, count: 1 });
        self.waiting.extend_from_slice(bytes);
        self.waiting.resize(self.waiting.len().next_multiple_of(self.geometry.block_bytes()), 0);
        Ok(block)
    }

    /// Hands what waits to the device.
    fn flush(&mut self) -> Result<()> {
        if !self.waiting.is_empty() {
            let at = self.waiting_first;
            self.device
                .write_at(&self.waiting, self.geometry.offset_bytes(at))
                .map_err(|cause| Error::io(format!("write metadata at block {at}"), cause))?;
            self.waiting_first = at.plus(wide(self.waiting.len()) / u64::from(self.geometry.block_size()));
            self.waiting.clear();
        }
        Ok(())
    }

    /// Writes what waits, and gives back what was not used.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush()?;
        if let Some(rest) = self.rest.take() {
            self.space.give_back(rest);
        }
        Ok(())
    }
}

impl NodeSink for BlockWriter<'_> {
    fn put(&mut self, references: &[Reference], birth: Epoch) -> Result<Reference> {
        let bytes = node_to_bytes(references);
        let crc = seal(bytes);
        let block = self.write(bytes)?;
        Ok(Reference::new(block, birth, crc))
    }

    fn waiting(&self, block: BlockNo) -> Option<Arc<[Reference]>> {
        let from =
            index(block.0.checked_sub(self.waiting_first.0)?).checked_mul(self.geometry.block_bytes())?;
        self.waiting.get(from..from + self.geometry.block_bytes()).map(node_from_bytes)
    }
}

/// The reserve did not hold: a broken promise of our own, or a store made too small.
pub(crate) fn full() -> Error {
    Error::new(ErrorKind::Full, "no free block for metadata: the reserve is used up")
}
