//! Random lineages: events, checkpoints, counts and the collector in any order, with what is known of regions (C7, C8) compared with a
//! walk through all of each region.

use super::lineage::Child;
use super::records::Catalog;
use crate::format::{Event, NewDisk, NewVersion, ServerKind, SnapshotKind, SnapshotMarks};
use crate::units::{DiskId, Epoch, ServerId, SnapshotId, VersionId};
use std::collections::{BTreeSet, HashSet};

struct Scene {
    catalog: Catalog,
    state: u64,
    seed: u64,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut scene =
            Self { catalog: Catalog::default(), state: seed.wrapping_mul(2).wrapping_add(1), seed };
        scene.catalog.next_id = 1;
        scene.catalog.epoch = Epoch(1);
        scene.apply(&Event::CreateServer {
            id: ServerId(1),
            name: "s".into(),
            created_at: 0,
            kind: ServerKind::User,
        });
        for id in 2..4 {
            scene.apply(&Event::CreateDisk {
                id: DiskId(id),
                server: ServerId(1),
                name: format!("d{id}"),
                size_bytes: 4096,
                created_at: 0,
                birth: scene.next_epoch(),
            });
        }
        scene
    }

    fn below(&mut self, end: usize) -> usize {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.state >> 40).expect("24 bits") % end.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).copied()
    }

    fn next_epoch(&self) -> Epoch {
        Epoch(self.catalog.epoch.0 + 1)
    }

    fn apply(&mut self, event: &Event) {
        self.catalog.apply(event).unwrap_or_else(|error| panic!("seed {}: {event:?}: {error}", self.seed));
    }

    /// A new version for each of these disks, from an id on.
    fn versions(disks: &[DiskId], from: u64) -> Vec<NewVersion> {
        let ids = (from..).map(VersionId);
        disks.iter().zip(ids).map(|(&disk, version)| NewVersion { disk, version }).collect()
    }

    fn snapshot(&mut self, server: ServerId) {
        let id = self.catalog.next_id;
        self.apply(&Event::Snapshot {
            id: SnapshotId(id),
            server,
            name: format!("n{id}"),
            description: String::new(),
            created_at: 0,
            identity: [0; 16],
            marks: SnapshotMarks::default(),
            epoch: self.next_epoch(),
            versions: Self::versions(&self.catalog.disks_of(server), id + 1),
        });
    }

    fn clone_of(&mut self, snapshot: SnapshotId) {
        let id = self.catalog.next_id;
        let held = self.catalog.snapshots[&snapshot].versions.clone();
        let disks = held.iter().zip(id + 1..);
        let disks = disks.map(|(&version, disk)| NewDisk { disk: DiskId(disk), version }).collect();
        let (name, birth) = (format!("c{id}"), self.next_epoch());
        let (id, kind) = (ServerId(id), ServerKind::User);
        self.apply(&Event::CloneServer { snapshot, id, name, kind, created_at: 0, birth, disks });
    }

    fn restore(&mut self, snapshot: SnapshotId) {
        let server = self.catalog.snapshots[&snapshot].server;
        let id = self.catalog.next_id;
        self.apply(&Event::Restore {
            snapshot,
            replaced: SnapshotId(id),
            created_at: 0,
            identity: [0; 16],
            expires_at: None,
            epoch: self.next_epoch(),
            versions: Self::versions(&self.catalog.disks_of(server), id + 1),
        });
    }

    /// Any event that the catalog allows.
    fn event(&mut self) {
        let servers: Vec<ServerId> = self.catalog.servers.keys().copied().collect();
        let snapshots: Vec<SnapshotId> = self.catalog.snapshots.keys().copied().collect();
        let disks: Vec<DiskId> = self.catalog.disks.keys().copied().collect();
        let (epoch, id) = (self.next_epoch(), self.catalog.next_id);
        let (server, snapshot, disk) = (self.pick(&servers), self.pick(&snapshots), self.pick(&disks));
        let event = match (self.below(9), server, snapshot, disk) {
            (0..=2, Some(server), ..) => return self.snapshot(server),
            (3 | 4, _, Some(id), _) => Event::DeleteSnapshot { id },
            (5, _, Some(snapshot), _) => return self.restore(snapshot),
            (6, _, Some(snapshot), _) if servers.len() < 6 => return self.clone_of(snapshot),
            (7, .., Some(disk)) => Event::Reset { epoch, versions: Self::versions(&[disk], id) },
            (8, Some(id), ..) if id != ServerId(1) => {
                let versions = Self::versions(&self.catalog.disks_of(id), self.catalog.next_id);
                Event::DeleteServer { id, epoch, versions }
            }
            _ => return,
        };
        if self.catalog.is_possible(&event) {
            self.apply(&event);
            self.every_deleted_version_beside_a_new_one_is_quiet(id);
        }
    }

    /// What a checkpoint does that settles a changed head.
    fn settle(&mut self) {
        let disks: Vec<DiskId> = self.catalog.disks.keys().copied().collect();
        let Some(id) = self.pick(&disks) else { return };
        let (parent, birth) = (self.catalog.disks[&id].parent, self.catalog.disks[&id].birth);
        let mut disturbed = HashSet::new();
        let watch = parent.and_then(|parent| self.catalog.watch(parent, &mut disturbed));
        if let Some(watch) = watch.filter(|watch| self.catalog.still_adds(watch.parent)) {
            self.catalog.add_count(Child::Version(watch.parent), 1);
        }
        let is_known = parent.is_none_or(|parent| !self.catalog.is_hidden(parent));
        self.catalog.note_shared(id, birth, is_known.then_some(1), Some(1));
    }

    fn collect(&mut self) {
        let queue: Vec<VersionId> = self.catalog.lineage.queue.iter().copied().collect();
        let Some(victim) = self.pick(&queue) else { return };
        if self.catalog.lineage.child_count(victim) < 2 {
            self.catalog.splice_out(victim);
        } else {
            self.catalog.trim_above(victim);
            self.catalog.note_trimmed(victim);
        }
    }

    fn count(&mut self) {
        let uncounted: Vec<Child> = self.catalog.uncounted.iter().copied().collect();
        let ends = self.below(3);
        match self.catalog.counting {
            Some(point) if ends == 0 => self.catalog.give_up_count(point),
            Some(point) => {
                let count = self.below(2);
                self.catalog.set_count(point, count as u64);
            }
            None => {
                if let Some(point) = self.pick(&uncounted) {
                    match ends {
                        0 => self.catalog.give_up_count(point),
                        _ => self.catalog.begin_count(point),
                    }
                }
            }
        }
        if self.below(4) == 0 {
            self.catalog.counting = None; // somebody has more urgent things to do
        }
    }

    /// A head is set aside with those around it, or asked for.
    fn set_aside(&mut self) {
        let disks: Vec<DiskId> = self.catalog.disks.keys().copied().collect();
        let Some(id) = self.pick(&disks) else { return };
        self.catalog.set_aside_with(id);
        assert!(!self.catalog.uncounted.contains(&Child::Head(id)));
    }

    fn hidden(&self) -> BTreeSet<VersionId> {
        self.catalog.versions.keys().copied().filter(|id| self.catalog.is_hidden(*id)).collect()
    }

    /// What an event hid, it disturbed; and with it, all of its region.
    fn every_deleted_version_beside_a_new_one_is_quiet(&self, from: u64) {
        for id in self.hidden().into_iter().filter(|id| id.0 >= from) {
            assert!(self.catalog.regions.is_quiet(id), "seed {}: {id:?} was not disturbed", self.seed);
        }
    }

    fn verify(&self) {
        let (catalog, seed) = (&self.catalog, self.seed);
        let hidden = self.hidden();
        for &id in &hidden {
            let around = catalog.around(&[Child::Version(id)], |_| false).found;
            let is_quiet = catalog.regions.is_quiet(id);
            for &point in around.iter().filter(|_| is_quiet) {
                let waits = catalog.awaits_count(point) && catalog.counting != Some(point);
                let holds_nothing_alone = matches!(point, Child::Version(id)
                    if catalog.versions[&id].exclusive == Some(0) && catalog.lineage.child_count(id) > 0);
                assert!(waits || holds_nothing_alone, "seed {seed}: C7 of {id:?} at {point:?}");
            }
            for child in catalog.lineage.children(id) {
                let Child::Version(child) = child else { continue };
                assert!(
                    !hidden.contains(&child) || is_quiet == catalog.regions.is_quiet(child),
                    "seed {seed}: a region is quiet in part"
                );
            }
            let trimmed = self.below_in_region(id).into_iter().find(|id| catalog.versions[id].trimmed);
            assert!(!catalog.regions.is_calm(id) || trimmed.is_none(), "seed {seed}: C8 of {id:?}");
            let (waits, kept) = (catalog.lineage.queue.contains(&id), catalog.lineage.kept.contains(&id));
            assert!(waits != kept && kept == catalog.versions[&id].trimmed, "seed {seed}: C2 of {id:?}");
        }
        assert_eq!(hidden.len(), catalog.lineage.queue.len() + catalog.lineage.kept.len(), "seed {seed}: C2");
    }

    fn below_in_region(&self, id: VersionId) -> Vec<VersionId> {
        let (mut ways, mut below) = (vec![id], Vec::new());
        while let Some(at) = ways.pop() {
            for child in self.catalog.lineage.children(at) {
                if let Child::Version(child) = child
                    && self.catalog.is_hidden(child)
                {
                    below.push(child);
                    ways.push(child);
                }
            }
        }
        below
    }
}

#[test]
fn what_is_known_of_a_region_is_what_a_walk_through_it_finds() {
    let (mut kept, mut quiet) = (0, 0);
    for seed in 0..200 {
        let mut scene = Scene::new(seed);
        for _ in 0..200 {
            match scene.below(8) {
                0..=3 => scene.event(),
                4 => scene.settle(),
                5 => scene.collect(),
                6 if scene.below(3) == 0 => scene.set_aside(),
                _ => scene.count(),
            }
            scene.verify();
        }
        kept += scene.catalog.lineage.kept.len();
        quiet += scene.hidden().iter().filter(|id| scene.catalog.regions.is_quiet(**id)).count();
    }
    assert!(kept > 20 && quiet > 100, "{kept} kept, {quiet} quiet: too few to tell");
}

/// A thousand deleted snapshots that the collector has not come to, in one region: what deleting looks at does not grow with it.
#[test]
fn a_deletion_looks_at_its_neighbours_only() {
    let mut scene = Scene::new(0);
    for _ in 0..1001 {
        scene.snapshot(ServerId(1));
    }
    let ids: Vec<SnapshotId> = scene.catalog.snapshots.keys().copied().collect();
    assert!(scene.catalog.snapshots.values().all(|record| record.kind == SnapshotKind::User));
    for id in ids.into_iter().take(1000) {
        let before = scene.catalog.regions.looked_at;
        scene.apply(&Event::DeleteSnapshot { id });
        let looked_at = scene.catalog.regions.looked_at - before;
        assert!(looked_at <= 12, "{looked_at} records");
    }
    assert_eq!(scene.catalog.lineage.queue.len(), 2000, "two disks each");
}
