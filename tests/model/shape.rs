//! Shape: the sizes that a small store is made with.

use super::verb::Dice;
use cowblk::Options;
use cowblk::device::sim::SimDevice;

/// Sizes of a store, and what the device below it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Of the store. Those of the model are smaller or the same.
    pub block_size: u32,
    pub zone_blocks: u32,
    pub journal_bytes: u64,
    /// The store never grows beyond so many zones.
    pub zones_max: u64,
    pub limit: Limit,
    /// Whether the space of free blocks is given back.
    pub punches: bool,
}

/// What keeps a store from growing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Its options.
    Options,
    /// The medium is full.
    Medium,
    /// The device has a fixed size, like a block device.
    Fixed,
}

impl Shape {
    /// The smallest store that has room for a few disks.
    pub const SMALL: Self = Self {
        block_size: 4096,
        zone_blocks: 256,
        journal_bytes: 64 << 10,
        zones_max: 1000,
        limit: Limit::Options,
        punches: false,
    };

    /// Any small store.
    pub fn random(dice: &mut Dice) -> Self {
        let block_size = *dice.pick(&[4096, 4096, 4096, 4096, 4096, 8192, 65536]);
        let zone_blocks = *dice.pick(&[64, 100, 128, 256]);
        let journal_bytes = *dice.pick(&[64 << 10, 64 << 10, 96 << 10, 256 << 10]);
        let journal_bytes = if block_size == 65536 { 4 * journal_bytes } else { journal_bytes };
        let is_roomy = dice.one_in(2);
        Self {
            block_size,
            zone_blocks,
            journal_bytes,
            zones_max: if is_roomy { 1000 } else { 160 / u64::from(zone_blocks) + 1 + dice.below(2) },
            limit: if is_roomy {
                Limit::Options
            } else {
                *dice.pick(&[Limit::Options, Limit::Medium, Limit::Fixed])
            },
            punches: dice.one_in(3),
        }
    }

    fn bytes_max(self) -> u64 {
        let journal_bytes = self.journal_bytes.next_multiple_of(u64::from(self.block_size));
        let blocks = 2 + self.zones_max * u64::from(self.zone_blocks);
        (128 << 10) + journal_bytes + blocks * u64::from(self.block_size)
    }

    /// A device without a store.
    pub fn device(self, seed: u64) -> SimDevice {
        let bytes_max = usize::try_from(self.bytes_max()).unwrap();
        match self.limit {
            Limit::Options => SimDevice::new(0, seed),
            Limit::Medium => SimDevice::new(0, seed).with_capacity(bytes_max),
            Limit::Fixed => SimDevice::new(bytes_max, seed).with_fixed_size(),
        }
    }

    pub fn options(self) -> Options {
        let bytes_max = if self.limit == Limit::Options { self.bytes_max() } else { u64::MAX };
        Options::default()
            .block_size(self.block_size)
            .zone_blocks(self.zone_blocks)
            .journal_bytes(self.journal_bytes)
            .max_bytes(bytes_max)
            .cache_bytes(64 << 10)
            .background(false)
            .punch_holes(self.punches)
            .dedup_memory_bytes(8 << 10)
            // The model knows what verbs do, and not which write finds the store full; tests/full.rs has both.
            .keep_replaced_when_full(true)
            .clock(|| 1_700_000_000)
    }
}
