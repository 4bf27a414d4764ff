//! Status: what a metadata context says of a range.

use super::{Export, Failed};
use crate::codec::{Extent, Style, allocation};
use cowblk::ExtentKind;

/// Most extents of one context in one reply.
const EXTENTS_MAX: usize = 4096;
/// What is looked at first; each further look is twice as long (bytes).
const LOOK_BYTES: u64 = 1 << 30;
/// A reply ends once it has told of this much (bytes), unless it is a hole, which costs nothing to pass.
const DATA_BYTES_MAX: u64 = 64 << 30;

/// A metadata context of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContextKind {
    /// `base:allocation`: data, or a hole that reads as zeros.
    Allocation,
    /// `qemu:allocation-depth`: 0 for a hole, 1 for what was written since the last snapshot, 2 for what
    /// a snapshot holds, too.
    Depth,
}

impl ContextKind {
    /// The context of this name.
    pub(crate) fn named(name: &str, _export: &Export) -> Option<Self> {
        match name {
            "base:allocation" => Some(Self::Allocation),
            "qemu:allocation-depth" => Some(Self::Depth),
            _ => None,
        }
    }

    /// The names of all contexts of an export.
    pub(crate) fn names(_export: &Export) -> Vec<String> {
        ["base:allocation", "qemu:allocation-depth"].map(String::from).to_vec()
    }

    fn status(self, kind: ExtentKind) -> u64 {
        match (self, kind) {
            (Self::Allocation, ExtentKind::Hole) => allocation::HOLE | allocation::ZERO,
            (Self::Allocation, ExtentKind::Data { .. }) | (Self::Depth, ExtentKind::Hole) => 0,
            (Self::Depth, ExtentKind::Data { shared: false }) => 1,
            (Self::Depth, ExtentKind::Data { shared: true }) => 2,
        }
    }
}

/// Gathers extents that go on from each other.
struct Gathered {
    extents: Vec<Extent>,
    count_max: usize,
    len_max: u64,
}

impl Gathered {
    /// Adds an extent; `false` if there was no room for all of it.
    fn add(&mut self, mut extent: Extent) -> bool {
        if let Some(last) = self.extents.last_mut()
            && last.status == extent.status
        {
            let joined = extent.len.min(self.len_max - last.len);
            last.len += joined;
            extent.len -= joined;
        }
        while extent.len > 0 {
            if self.extents.len() == self.count_max {
                return false;
            }
            let len = extent.len.min(self.len_max);
            self.extents.push(Extent { len, ..extent });
            extent.len -= len;
        }
        true
    }
}

/// The extents of a range, which begins at `offset` and has at least one byte: at least one, and not
/// always all of them.
pub(crate) fn statuses(
    export: &Export,
    kind: ContextKind,
    (offset, len): (u64, u64),
    style: Style,
    only_one: bool,
) -> Result<Vec<Extent>, Failed> {
    let count_max = if only_one { 1 } else { EXTENTS_MAX };
    let mut gathered = Gathered { extents: Vec::new(), count_max, len_max: Extent::len_max(style) };
    let (mut at, end, mut look, mut data) = (offset, offset + len, LOOK_BYTES, 0);
    while at < end && data < DATA_BYTES_MAX {
        let until = at.saturating_add(look).min(end);
        for extent in export.extents(at..until) {
            let extent = extent?;
            if extent.is_data() {
                data += extent.len;
            }
            if !gathered.add(Extent { len: extent.len, status: kind.status(extent.kind) }) {
                return Ok(gathered.extents);
            }
        }
        at = until;
        look *= 2;
    }
    Ok(gathered.extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(count_max: usize, len_max: u64, extents: &[(u64, u64)]) -> (Vec<(u64, u64)>, bool) {
        let mut gathered = Gathered { extents: Vec::new(), count_max, len_max };
        let all = extents.iter().all(|&(len, status)| gathered.add(Extent { len, status }));
        (gathered.extents.iter().map(|extent| (extent.len, extent.status)).collect(), all)
    }

    #[test]
    fn neighbours_of_one_status_are_joined() {
        assert_eq!(gathered(9, 100, &[(1, 0), (2, 0), (3, 1)]), (vec![(3, 0), (3, 1)], true));
    }

    #[test]
    fn what_is_too_long_for_one_descriptor_is_told_in_several() {
        assert_eq!(gathered(9, 10, &[(8, 0), (15, 0)]), (vec![(10, 0), (10, 0), (3, 0)], true));
        assert_eq!(gathered(2, 10, &[(8, 0), (15, 0)]), (vec![(10, 0), (10, 0)], false));
    }
}
