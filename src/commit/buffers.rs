//! Buffers: memory for write runs, which is used again and again: memory that was touched before is several times faster.
//!
//! Floor 4.

use crate::device::Aligned;
use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes of buffers that wait for their next run.
const SPARE_BYTES_MAX: usize = 32 << 20;
/// The smallest buffer, in bytes. Runs are short where a disk was written to and fro, and many small places are free.
const BUFFER_BYTES_MIN: usize = 64 << 10;

/// Buffers that nobody uses.
#[derive(Default)]
pub(crate) struct Buffers {
    spare: Mutex<Spare>,
}

#[derive(Default)]
struct Spare {
    /// By their capacity, which is a power of two.
    buffers: BTreeMap<usize, Vec<Aligned>>,
    bytes: usize,
}

/// A buffer that goes back to where it came from.
pub(crate) struct Buffer {
    /// There until it is dropped.
    memory: Option<Aligned>,
    home: Arc<Buffers>,
}

impl Buffers {
    /// An empty buffer for so many bytes.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Buffer {
        let capacity = bytes.max(BUFFER_BYTES_MIN).next_power_of_two();
        let memory = self.spare.lock().take(capacity).unwrap_or_else(|| Aligned::with_capacity(capacity));
        Buffer { memory: Some(memory), home: self.clone() }
    }
}

impl Spare {
    /// One that has the capacity, or more.
    fn take(&mut self, capacity: usize) -> Option<Aligned> {
        let class = self.buffers.range_mut(capacity..).find(|(_, class)| !class.is_empty())?;
        let mut memory = class.1.pop()?;
        self.bytes -= memory.capacity();
        memory.clear();
        Some(memory)
    }

    /// Takes a buffer back. Where there are too many, the smallest come out: a large one serves all.
    fn put(&mut self, memory: Aligned) -> Vec<Aligned> {
        self.bytes += memory.capacity();
        self.buffers.entry(memory.capacity()).or_default().push(memory);
        let mut too_many = Vec::new();
        while self.bytes > SPARE_BYTES_MAX
            && let Some(memory) = self.buffers.values_mut().find_map(Vec::pop)
        {
            self.bytes -= memory.capacity();
            too_many.push(memory);
        }
        too_many
    }
}

impl Buffer {
    /// Bytes that it can take.
    pub(crate) fn capacity(&self) -> usize {
        self.memory.as_ref().map_or(0, Aligned::capacity)
    }

    /// Another one, with what this one holds from a byte on.
    pub(crate) fn copy_from(&self, skip: usize) -> Self {
        let bytes = self.get(skip..).unwrap_or_default();
        let mut copy = self.home.take(bytes.len());
        copy.extend_from_slice(bytes);
        copy
    }

    /// Adds bytes.
    ///
    /// # Panics
    /// Where they do not fit.
    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        if let Some(memory) = &mut self.memory {
            memory.extend_from_slice(bytes);
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let too_many = self.memory.take().map(|memory| self.home.spare.lock().put(memory));
        drop(too_many); // outside of the lock: the kernel takes its time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_comes_back_empty() {
        let buffers = Arc::new(Buffers::default());
        for (bytes, similar) in [(4096, 65_536), (1 << 20, 600_000)] {
            let mut first = buffers.take(bytes);
            first.extend_from_slice(&[1; 100]);
            let place = first.as_ptr();
            drop(first);
            let second = buffers.take(similar);
            assert_eq!((second.as_ptr(), second.len()), (place, 0), "{bytes}");
        }
    }

    #[test]
    fn a_large_one_serves_all_and_small_ones_make_way() {
        let buffers = Arc::new(Buffers::default());
        drop((0..SPARE_BYTES_MAX / BUFFER_BYTES_MIN).map(|_| buffers.take(1)).collect::<Vec<_>>());
        let large = buffers.take(1 << 20);
        let place = large.as_ptr();
        drop(large);
        drop((0..SPARE_BYTES_MAX / BUFFER_BYTES_MIN - 16).map(|_| buffers.take(1)).collect::<Vec<_>>());
        assert_eq!(buffers.take(1 << 20).as_ptr(), place);
    }

    #[test]
    fn no_more_is_kept_than_promised() {
        let buffers = Arc::new(Buffers::default());
        drop((0..64).map(|_| buffers.take(1 << 20)).collect::<Vec<_>>());
        assert_eq!(buffers.spare.lock().bytes, SPARE_BYTES_MAX);
    }
}
