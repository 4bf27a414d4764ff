//! Status: what a metadata context says of a range.

use super::directory::{export_name_of, snapshot_of, snapshots_of};
use super::{Export, Failed};
use crate::codec::{Extent, Style, allocation};
use cowblk::{ExtentKind, SnapshotId};

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
    /// `qemu:dirty-bitmap:SNAPSHOT`: 1 for what was written or discarded since the snapshot.
    Dirty(SnapshotId),
    /// `cowblk:changed-since/SNAPSHOT`: the same, and 2 more where nothing is left now.
    Changed(SnapshotId),
}

const DIRTY: &str = "qemu:dirty-bitmap:";
const CHANGED: &str = "cowblk:changed-since/";

impl ContextKind {
    /// The context of this name.
    pub(crate) fn named(name: &str, export: &Export) -> Option<Self> {
        let snapshot = |name: &str| {
            let snapshot = snapshot_of(&export.server, name)?;
            // It may hold other disks than this one.
            export.changes_since(snapshot.id()).is_ok().then(|| snapshot.id())
        };
        match name {
            "base:allocation" => Some(Self::Allocation),
            "qemu:allocation-depth" => Some(Self::Depth),
            _ => match (name.strip_prefix(DIRTY), name.strip_prefix(CHANGED)) {
                (Some(name), _) => snapshot(name).map(Self::Dirty),
                (_, Some(name)) => snapshot(name).map(Self::Changed),
                (None, None) => None,
            },
        }
    }

    /// The names of all contexts of an export.
    pub(crate) fn names(export: &Export) -> Vec<String> {
        let mut names = ["base:allocation", "qemu:allocation-depth"].map(String::from).to_vec();
        for snapshot in snapshots_of(&export.server) {
            if export.changes_since(snapshot.id()).is_ok() {
                let name = export_name_of(&snapshot);
                names.extend([format!("{DIRTY}{name}"), format!("{CHANGED}{name}")]);
            }
        }
        names
    }
}

/// What a range is, as the contexts that look at one content have it.
fn of_content(is_depth: bool, kind: ExtentKind) -> u64 {
    match (is_depth, kind) {
        (false, ExtentKind::Hole) => allocation::HOLE | allocation::ZERO,
        (false, ExtentKind::Data { .. }) | (true, ExtentKind::Hole) => 0,
        (true, ExtentKind::Data { shared: false }) => 1,
        (true, ExtentKind::Data { shared: true }) => 2,
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
        let told = match kind {
            ContextKind::Allocation => gathered.content(export, false, (at, until), &mut data)?,
            ContextKind::Depth => gathered.content(export, true, (at, until), &mut data)?,
            ContextKind::Dirty(since) => gathered.changes(export, since, (at, until), (&mut data, 1))?,
            ContextKind::Changed(since) => gathered.changes(export, since, (at, until), (&mut data, 3))?,
        };
        if !told {
            break;
        }
        at = until;
        look *= 2;
    }
    Ok(gathered.extents)
}

impl Gathered {
    /// Adds what a range holds; `false` if there was no room for all of it.
    fn content(
        &mut self,
        export: &Export,
        is_depth: bool,
        (at, until): (u64, u64),
        data: &mut u64,
    ) -> Result<bool, Failed> {
        for extent in export.extents(at..until) {
            let extent = extent?;
            if extent.is_data() {
                *data += extent.len;
            }
            if !self.add(Extent { len: extent.len, status: of_content(is_depth, extent.kind) }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds what changed of a range, with the bits of `mask`; `false` if there was no room for all of it.
    fn changes(
        &mut self,
        export: &Export,
        since: SnapshotId,
        (mut at, until): (u64, u64),
        (data, mask): (&mut u64, u64),
    ) -> Result<bool, Failed> {
        for change in export.changes_since(since)?.starting_at(at).ending_at(until) {
            let change = change?;
            let (start, end) = (change.offset.max(at), (change.offset + change.len).min(until));
            let status = mask & if change.is_data() { 1 } else { 3 };
            *data += end - start;
            if !self.add(Extent { len: start - at, status: 0 })
                || !self.add(Extent { len: end - start, status })
            {
                return Ok(false);
            }
            at = end;
        }
        Ok(self.add(Extent { len: until - at, status: 0 }))
    }
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
