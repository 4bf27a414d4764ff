//! Shape: the sizes that a small store is made with.

use super::content::BLOCK;
use super::verb::Dice;
use cowblk::Options;

/// Sizes of a store, and what the device below it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub zone_blocks: u32,
    pub journal_bytes: u64,
    /// The store never grows beyond so many zones.
    pub zones_max: u64,
}

impl Shape {
    /// The smallest store that has room for a few disks.
    pub const SMALL: Self = Self { zone_blocks: 256, journal_bytes: 64 << 10, zones_max: 1000 };

    /// Any small store.
    pub fn random(dice: &mut Dice) -> Self {
        Self {
            zone_blocks: *dice.pick(&[64, 100, 128, 256]),
            journal_bytes: *dice.pick(&[64 << 10, 64 << 10, 96 << 10, 256 << 10]),
            zones_max: *dice.pick(&[1000, 1000, 1000, 4]),
        }
    }

    pub fn options(self) -> Options {
        let header = (128 << 10) + self.journal_bytes + 64 * BLOCK;
        Options::default()
            .zone_blocks(self.zone_blocks)
            .journal_bytes(self.journal_bytes)
            .max_bytes(header + self.zones_max * u64::from(self.zone_blocks) * BLOCK)
            .cache_bytes(64 << 10)
            .background(false)
            .clock(|| 1_700_000_000)
    }
}
