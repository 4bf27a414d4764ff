//! Discard: makes a range of a disk holes.
//!
//! Floor 5. Its cost follows what the range held, not its length.

use super::blocks::Purpose;
use super::engine::Engine;
use super::full::Terms;
use super::head::Head;
use super::read::{Source, check_range};
use crate::error::{Error, ErrorKind, Result};
use crate::extent::Footprint;
use crate::units::{DiskBlock, index};
use std::sync::Arc;

impl Engine {
    /// Makes a range read as zeros. Whole blocks of it take no space afterwards.
    pub(crate) fn discard(&self, head: &Arc<Head>, offset: u64, len: u64) -> Result<()> {
        self.check_writable()?;
        let size_bytes = self.size_of(&Source::Head(head.clone()))?;
        check_range(size_bytes, offset, len)?;
        let block_size = u64::from(self.block_size());
        let end = offset + len;
        let first = offset.div_ceil(block_size);
        // The last block of a disk may be shorter than a block: what lies behind it is nobody's.
        let last = if end == size_bytes { end.div_ceil(block_size) } else { end / block_size };
        if first >= last {
            return self.zero(head, offset, len);
        }
        self.zero(head, offset, (first * block_size - offset).min(len))?;
        self.clear(head, DiskBlock(first), last - first)?;
        self.zero(head, last * block_size, end.saturating_sub(last * block_size))
    }

    /// Writes less than a block of zeros.
    fn zero(&self, head: &Arc<Head>, offset: u64, len: u64) -> Result<()> {
        if len == 0 { Ok(()) } else { self.write(head, &vec![0; index(len)], offset, Terms::AT_ONCE) }
    }

    fn clear(&self, head: &Arc<Head>, first: DiskBlock, count: u64) -> Result<()> {
        self.keep_up()?;
        self.ensure_space(0, Purpose::Relief)?;
        let waiting = {
            let _open = self.begin_change()?;
            let mut guard = head.state.write();
            let state = &mut *guard;
            if state.is_gone {
                return Err(Error::new(ErrorKind::NotFound, format!("disk {} was deleted", head.id)));
            }
            let blocks = state.size_bytes.div_ceil(u64::from(self.block_size()));
            let count = count.min(blocks.saturating_sub(first.0));
            let (mut footprint, mut dropped) = (Footprint::default(), Vec::new());
            state.clear(first, count, &mut footprint, &mut dropped);
            self.touch(head, &mut state.is_touched);
            self.account(footprint, dropped);
            self.journal.append(|builder| builder.clear(head.id, first, count))
        };
        self.spill_if_many(waiting)
    }
}
