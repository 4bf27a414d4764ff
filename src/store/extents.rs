//! Extents: where a disk or snapshot has data, and where holes.
//!
//! Floor 5.

use super::engine::Engine;
use super::read::{Source, check_range};
use crate::catalog::Child;
use crate::error::Result;
use crate::extent::{Scan, View, scan};
use crate::format::Reference;
use crate::units::{DiskBlock, Epoch, VersionId, index, wide};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// A run of bytes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// What is there.
    pub kind: ExtentKind,
}

/// What an extent holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// Data. `shared` if a snapshot, or a disk that descends from this one, holds the same blocks.
    Data {
        /// Whether somebody else holds the same blocks.
        shared: bool,
    },
    /// Nothing: reads as zeros. Blocks of zeros are holes, too.
    Hole,
}

impl Extent {
    /// Whether there is data.
    pub fn is_data(&self) -> bool {
        matches!(self.kind, ExtentKind::Data { .. })
    }
}

/// Iterates over the extents of a range: in order, without gaps, neighbours of one kind joined. Each
/// step looks at the disk as it is then.
pub struct Extents {
    engine: Arc<Engine>,
    source: Source,
    at: u64,
    end: u64,
    found: VecDeque<Extent>,
    failed: bool,
}

/// The maps that say what a place is.
struct Maps {
    view: View,
    /// References that are no younger belong to an ancestor, too.
    inherited: Epoch,
    children: Vec<View>,
}

impl Extents {
    pub(crate) fn new(engine: Arc<Engine>, source: Source, range: Range<u64>) -> Self {
        Self { engine, source, at: range.start, end: range.end, found: VecDeque::new(), failed: false }
    }

    /// Looks at the leaf or hole around the current place.
    fn step(&mut self) -> Result<()> {
        check_range(self.engine.size_of(&self.source)?, self.at, self.end - self.at)?;
        let engine = self.engine.clone();
        let _reading = engine.gate.enter();
        let maps = engine.maps(&self.source)?;
        let block_size = u64::from(engine.block_size());
        match scan(&maps.view, &engine.nodes, DiskBlock(self.at / block_size))? {
            Scan::Hole { until } => self.push(until.0.saturating_mul(block_size), ExtentKind::Hole),
            Scan::Leaf { first, references } => {
                let shared = engine.shared_with_children(&maps, first, &references)?;
                for (at, (reference, shared)) in references.iter().zip(shared).enumerate() {
                    let end = (first.0 + wide(at) + 1) * block_size;
                    if end <= self.at || self.at == self.end {
                        continue;
                    }
                    let shared = shared || reference.birth() <= maps.inherited;
                    let kind =
                        if reference.is_hole() { ExtentKind::Hole } else { ExtentKind::Data { shared } };
                    self.push(end, kind);
                }
            }
        }
        Ok(())
    }

    /// Everything up to `end` is of one kind.
    fn push(&mut self, end: u64, kind: ExtentKind) {
        let len = end.min(self.end) - self.at;
        match self.found.back_mut() {
            Some(last) if last.kind == kind => last.len += len,
            _ => self.found.push_back(Extent { offset: self.at, len, kind }),
        }
        self.at += len;
    }
}

impl Iterator for Extents {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        // The last extent found may go on in the next leaf.
        while self.found.len() < 2 && self.at < self.end && !self.failed {
            if let Err(error) = self.step() {
                self.failed = true;
                return Some(Err(error));
            }
        }
        if self.failed { None } else { self.found.pop_front().map(Ok) }
    }
}

impl Engine {
    fn maps(&self, source: &Source) -> Result<Maps> {
        match source {
            Source::Head(head) => {
                self.size_of(source)?;
                let own = head.state.read();
                Ok(Maps { view: own.view.clone(), inherited: own.owned_after, children: Vec::new() })
            }
            Source::Version(id) => self.maps_of_version(*id),
        }
    }

    fn maps_of_version(&self, id: VersionId) -> Result<Maps> {
        let state = self.state.read();
        let version = state.shown(id)?;
        let children = state.catalog.lineage.children(id).into_iter().filter_map(|child| match child {
            Child::Head(disk) => Some(state.heads.get(&disk)?.state.read().view.clone()),
            Child::Version(version) => Some(state.view_of(state.catalog.versions.get(&version)?)),
        });
        let inherited = state.catalog.epoch_of(version.parent);
        Ok(Maps { view: state.view_of(version), inherited, children: children.collect() })
    }

    /// For each reference, whether a child holds it at the same place.
    fn shared_with_children(
        &self,
        maps: &Maps,
        first: DiskBlock,
        references: &[Reference],
    ) -> Result<Vec<bool>> {
        let mut shared = vec![false; references.len()];
        for child in &maps.children {
            let theirs = match scan(child, &self.nodes, first)? {
                Scan::Hole { .. } => continue,
                Scan::Leaf { references, .. } => references,
            };
            for (at, place) in shared.iter_mut().enumerate() {
                *place |= !references[at].is_hole() && theirs.get(index(wide(at))) == references.get(at);
            }
        }
        Ok(shared)
    }
}
