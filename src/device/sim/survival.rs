//! Survival: which of the changes that were not synced yet a crash leaves on the medium.
//!
//! Floor 1. A crash is the durable image plus any of the unsynced changes, in any order, each torn at sectors.
//!
//! Y1  The same state and the same survival leave the same image.
//! Y2  A change beyond the length that survived is gone, as the file system no longer knows of its bytes.

use std::sync::Arc;

use super::image::{Image, split};
use super::{Call, Random};

/// The unit that a medium writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// What a crash leaves of the unsynced changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing: the medium is as of the last sync.
    Nothing,
    /// Everything, as if it had been synced.
    Everything,
    /// Exactly the changes whose bit is set, whole and in order: bit 0 is the oldest. Those past bit 63 are lost.
    /// Counting from 0 to `1 << device.unsynced_count()` goes through every subset.
    Exactly(u64),
    /// One fate for each change, in order. Changes without one are lost.
    Fates(Vec<Fate>),
    /// These changes by their positions in [`unsynced`](super::SimDevice::unsynced), in this order of arrival.
    Order(Vec<(usize, Fate)>),
    /// Any subset in any order, torn anywhere, by a seed of its own.
    Random(u64),
}

/// What becomes of one unsynced change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// None of it arrived.
    Lost,
    /// All of it arrived.
    Whole,
    /// Only its first sectors arrived. A growth got this many sectors far.
    Head(u64),
    /// All but its first sectors arrived. A growth has no tail, and is whole.
    Tail(u64),
    /// Each sector arrived or not, by a seed. A growth got anywhere between.
    Scattered(u64),
}

/// A change that no sync has made durable.
#[derive(Clone)]
pub(super) struct Unsynced {
    pub(super) call: Call,
    pub(super) change: Change,
}

#[derive(Clone)]
pub(super) enum Change {
    Write { offset: usize, bytes: Arc<[u8]> },
    Zero { offset: usize, len: usize },
    Grow { from: usize, to: usize },
}

impl Survival {
    /// What happens to each of `count` changes, as positions and fates in the order of arrival.
    fn arrivals(&self, count: usize) -> Vec<(usize, Fate)> {
        match self {
            Survival::Nothing => Vec::new(),
            Survival::Everything => (0..count).map(|index| (index, Fate::Whole)).collect(),
            Survival::Exactly(mask) => {
                let set = |index: &usize| (mask >> index) & 1 == 1;
                (0..count.min(64)).filter(set).map(|index| (index, Fate::Whole)).collect()
            }
            Survival::Fates(fates) => fates.iter().copied().take(count).enumerate().collect(),
            Survival::Order(arrivals) => {
                arrivals.iter().copied().filter(|(index, _)| *index < count).collect()
            }
            Survival::Random(seed) => random_arrivals(count, &mut Random::new(*seed)),
        }
    }
}

fn random_arrivals(count: usize, random: &mut Random) -> Vec<(usize, Fate)> {
    // Some crashes keep nearly everything, some nearly nothing: with one even chance for each change, a long list
    // would never lose exactly one write, or keep exactly one, and those are the telling cases.
    let kept_in_16 = [1, 8, 15][random.index(3)];
    let mut arrivals = Vec::new();
    for index in 0..count {
        let kept = random.below(16) < kept_in_16;
        let torn = random.one_in(4);
        let scatter = random.next_u64();
        match (kept, torn) {
            (true, true) => arrivals.push((index, Fate::Scattered(scatter))),
            (true, false) => arrivals.push((index, Fate::Whole)),
            (false, _) => {}
        }
    }
    if random.one_in(2) {
        random.shuffle(&mut arrivals);
    }
    arrivals
}

/// The image that a crash leaves.
pub(super) fn crash(durable: &Image, unsynced: &[Unsynced], survival: &Survival) -> Image {
    let arrivals = survival.arrivals(unsynced.len());
    let mut image = durable.clone();
    // Lengths first, whatever the order: a write that arrived before its growth did is not lost by that.
    for (index, fate) in &arrivals {
        unsynced[*index].change.lengthen(&mut image, *fate);
    }
    for (index, fate) in &arrivals {
        unsynced[*index].change.arrive(&mut image, *fate);
    }
    image
}

impl Change {
    /// Makes the change, whole: what a reader sees at once, and what a sync makes durable.
    pub(super) fn apply(&self, image: &mut Image) {
        self.lengthen(image, Fate::Whole);
        self.arrive(image, Fate::Whole);
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Change::Write { bytes, .. } => bytes.is_empty(),
            Change::Zero { len, .. } => *len == 0,
            Change::Grow { from, to } => from == to,
        }
    }

    /// Whether it decides what a reader sees at `offset`.
    pub(super) fn covers(&self, offset: usize) -> bool {
        match self {
            Change::Write { offset: start, bytes } => (*start..start + bytes.len()).contains(&offset),
            Change::Zero { offset: start, len } => (*start..start + len).contains(&offset),
            Change::Grow { .. } => false,
        }
    }

    fn lengthen(&self, image: &mut Image, fate: Fate) {
        let Change::Grow { from, to } = self else { return };
        let sectors = (to - from).div_ceil(SECTOR_BYTES) as u64;
        let sectors = match fate {
            Fate::Lost => return,
            Fate::Whole | Fate::Tail(_) => sectors,
            Fate::Head(count) => count.min(sectors),
            Fate::Scattered(seed) => Random::new(seed).below(sectors + 1),
        };
        let grown = usize::try_from(sectors).expect("no more sectors than bytes") * SECTOR_BYTES;
        image.grow((from + grown).min(*to));
    }

    fn arrive(&self, image: &mut Image, fate: Fate) {
        let (offset, len) = match self {
            Change::Write { offset, bytes } => (*offset, bytes.len()),
            Change::Zero { offset, len } => (*offset, *len),
            Change::Grow { .. } => return,
        };
        let len = len.min(image.len().saturating_sub(offset));
        if fate == Fate::Whole {
            return self.arrive_part(image, offset, len);
        }
        for (index, sector) in split(offset, len, SECTOR_BYTES).enumerate() {
            if fate.keeps(index as u64) {
                self.arrive_part(image, sector.start, sector.len());
            }
        }
    }

    fn arrive_part(&self, image: &mut Image, start: usize, len: usize) {
        match self {
            _ if len == 0 => {}
            Change::Write { offset, bytes } => {
                image.write(start, &bytes[start - offset..start - offset + len]);
            }
            Change::Zero { .. } => image.zero(start, len),
            Change::Grow { .. } => {}
        }
    }
}

impl Fate {
    /// Whether the sector of this number, counted within the change, arrives.
    fn keeps(self, index: u64) -> bool {
        match self {
            Fate::Lost => false,
            Fate::Whole => true,
            Fate::Head(count) => index < count,
            Fate::Tail(count) => index >= count,
            Fate::Scattered(seed) => Random::new(seed ^ index.wrapping_mul(0xA24B_AED4_963E_E407)).one_in(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_CALL: Call = Call::Sync;

    fn write(offset: usize, value: u8, len: usize) -> Unsynced {
        Unsynced { call: NO_CALL, change: Change::Write { offset, bytes: Arc::from(vec![value; len]) } }
    }

    fn grow(from: usize, to: usize) -> Unsynced {
        Unsynced { call: NO_CALL, change: Change::Grow { from, to } }
    }

    fn left(durable: &[u8], unsynced: &[Unsynced], survival: &Survival) -> Vec<u8> {
        crash(&Image::from_bytes(durable), unsynced, survival).to_bytes()
    }

    /// The first byte of each sector.
    fn sectors(image: &[u8]) -> Vec<u8> {
        image.iter().step_by(SECTOR_BYTES).copied().collect()
    }

    #[test]
    fn a_mask_goes_through_every_subset() {
        let unsynced = [write(0, 1, 1), write(1, 2, 1), write(0, 3, 1)];
        let all: Vec<_> = (0..8).map(|mask| left(&[0, 0], &unsynced, &Survival::Exactly(mask))).collect();
        assert_eq!(all, [[0, 0], [1, 0], [0, 2], [1, 2], [3, 0], [3, 0], [3, 2], [3, 2]]);
        assert_eq!(left(&[0, 0], &unsynced, &Survival::Nothing), all[0]);
        assert_eq!(left(&[0, 0], &unsynced, &Survival::Everything), all[7]);
    }

    #[test]
    fn changes_arrive_in_the_order_that_is_asked_for() {
        let unsynced = [write(0, 1, 1), write(0, 2, 1), grow(2, 3)];
        let order = |order: &[usize]| {
            let arrivals = order.iter().map(|index| (*index, Fate::Whole)).collect();
            left(&[0, 0], &unsynced, &Survival::Order(arrivals))
        };
        assert_eq!(order(&[0, 1]), [2, 0]);
        assert_eq!(order(&[1, 0]), [1, 0]);
        assert_eq!(order(&[1, 2, 0]), [1, 0, 0]);
        assert_eq!(order(&[7]), [0, 0], "there is no such change");
    }

    /// A store that discards a block, and writes it anew before the next sync, may find it discarded.
    #[test]
    fn a_discard_may_arrive_after_the_write_that_came_later() {
        let zero = Unsynced { call: NO_CALL, change: Change::Zero { offset: 0, len: 1024 } };
        let unsynced = [zero, write(0, 9, 1024)];
        let swapped = Survival::Order(vec![(1, Fate::Whole), (0, Fate::Head(1))]);
        assert_eq!(left(&[5; 1024], &unsynced, &swapped), [[0; 512], [9; 512]].concat());
        assert_eq!(left(&[5; 1024], &unsynced, &Survival::Exactly(0b01)), [0; 1024]);
        assert_eq!(left(&[5; 1024], &unsynced, &Survival::Nothing), [5; 1024]);
    }

    #[test]
    fn changes_past_bit_63_are_lost() {
        let unsynced: Vec<_> = (0..66).map(|offset| write(offset, 1, 1)).collect();
        let image = left(&[0; 66], &unsynced, &Survival::Exactly(u64::MAX));
        assert_eq!(image, [vec![1; 64], vec![0; 2]].concat());
    }

    #[test]
    fn a_torn_write_is_torn_at_sectors_of_the_medium() {
        let durable = vec![0; 2048];
        let unsynced = [write(256, 1, 1024)]; // half a sector, a sector, half a sector
        let head = left(&durable, &unsynced, &Survival::Fates(vec![Fate::Head(1)]));
        assert_eq!(head, [vec![0; 256], vec![1; 256], vec![0; 1536]].concat());
        let tail = left(&durable, &unsynced, &Survival::Fates(vec![Fate::Tail(1)]));
        assert_eq!(tail, [vec![0; 512], vec![1; 768], vec![0; 768]].concat());
        assert_eq!(left(&durable, &unsynced, &Survival::Fates(vec![Fate::Lost])), durable);
        assert_eq!(left(&durable, &unsynced, &Survival::Fates(vec![])), durable);
    }

    #[test]
    fn a_scattered_write_keeps_some_sectors_and_each_of_them_whole() {
        let image =
            left(&vec![0; 64 * 512], &[write(0, 1, 64 * 512)], &Survival::Fates(vec![Fate::Scattered(9)]));
        let kept = sectors(&image);
        assert!(kept.contains(&0) && kept.contains(&1));
        assert!(image.chunks(SECTOR_BYTES).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
    }

    #[test]
    fn a_write_beyond_the_length_that_survived_is_gone() {
        let unsynced = [grow(512, 2048), write(256, 1, 1024)];
        assert_eq!(left(&[0; 512], &unsynced, &Survival::Exactly(0b10)), [[0; 256], [1; 256]].concat());
        assert_eq!(left(&[0; 512], &unsynced, &Survival::Exactly(0b01)), [0; 2048]);
        let halfway = left(&[0; 512], &unsynced, &Survival::Fates(vec![Fate::Head(1), Fate::Whole]));
        assert_eq!(halfway, [vec![0; 256], vec![1; 768]].concat());
    }

    #[test]
    fn a_growth_that_was_lost_does_not_hinder_a_later_one() {
        let unsynced = [grow(512, 1024), grow(1024, 1500)];
        assert_eq!(left(&[5; 512], &unsynced, &Survival::Exactly(0b10)).len(), 1500);
        assert_eq!(left(&[5; 512], &unsynced, &Survival::Exactly(0b01)).len(), 1024);
    }

    /// Chance must reach the outcomes that break stores: exactly one write missing, exactly one there, a newer
    /// write overtaken by an older one, a torn one.
    #[test]
    fn random_crashes_reach_every_kind_of_outcome() {
        let unsynced: Vec<_> =
            (0..4u8).map(|index| write(usize::from(index) * 1024, index + 1, 1024)).collect();
        let overtaking = [write(0, 1, 512), write(0, 2, 512)];
        let (mut counts, mut torn, mut overtaken) = ([0; 5], 0, 0);
        for seed in 0..1000 {
            let kept = sectors(&left(&[0; 4096], &unsynced, &Survival::Random(seed)));
            let whole = kept.chunks(2).filter(|pair| pair[0] != 0 && pair[0] == pair[1]).count();
            counts[whole] += 1;
            torn += usize::from(kept.chunks(2).any(|pair| pair[0] != pair[1]));
            overtaken += usize::from(left(&[0; 512], &overtaking, &Survival::Random(seed))[0] == 1);
        }
        assert!(counts.iter().all(|count| *count > 20), "whole writes that survived: {counts:?}");
        assert!(torn > 50 && overtaken > 50, "{torn} torn, {overtaken} overtaken");
    }

    #[test]
    fn the_same_seed_leaves_the_same_image() {
        let unsynced: Vec<_> = (0..20).map(|index| write(index * 300, 7, 900)).collect();
        for seed in 0..50 {
            let images = [(); 2].map(|()| left(&[0; 8192], &unsynced, &Survival::Random(seed)));
            assert_eq!(images[0], images[1]);
        }
    }
}
