//! Tests of the check: each kind of damage gives its own defect, and nothing else.

use super::image::{FIRST_SEQUENCE, Finished, Image, TERM};
use super::{CheckReport, check_device};
use crate::defect::Defect;
use crate::device::MemoryDevice;
use crate::error::ErrorKind;
use crate::format::{
    BatchBuilder, CatalogRecord, Collection, CollectionMode, Event, Garbage, Reference, Root, SLOT_OFFSETS,
};
use crate::limits::BLOCK_NO_MAX;
use crate::units::{BlockNo, DiskBlock, DiskId, Epoch, VersionId, index};
use zerocopy::little_endian::{U32, U64};

fn root(reference: Reference, height: u32, mapped: u64) -> Root {
    Root { reference, height, mapped }
}

/// The blocks of [`lineage`].
struct Parts {
    old: Reference,
    shared: Reference,
    frozen_leaf: Reference,
    frozen_root: Reference,
    new_leaf: Reference,
}

/// A disk with one snapshot, after which it wrote its block 1 again:
///
/// ```text
/// version 3 (epoch 11) ──▶ root ┬▶ leaf { 0: shared, 1: old }
///                               │
/// disk 2 (birth 12) ──▶ root' ──┼▶ leaf' { 0: shared, 1: new }
///                               └▶ (both) upper leaf { 300: upper }
/// ```
fn lineage() -> (Image, Parts) {
    let mut image = Image::new();
    let (shared, old, upper) = (image.data(10), image.data(10), image.data(9));
    let frozen_leaf = image.node(10, &[(0, shared), (1, old)]);
    let upper_leaf = image.node(9, &[(44, upper)]);
    let frozen_root = image.node(10, &[(0, frozen_leaf), (1, upper_leaf)]);
    let new = image.data(12);
    let new_leaf = image.node(12, &[(0, shared), (1, new)]);
    let new_root = image.node(12, &[(0, new_leaf), (1, upper_leaf)]);
    image.version(3, None, 11, Some(4), root(frozen_root, 2, 3));
    image.disk(2, Some(3), 12, root(new_root, 2, 3));
    let CatalogRecord::Version(version) = &mut image.records[1] else { panic!("the version comes first") };
    version.birth = Epoch(10);
    (image, Parts { old, shared, frozen_leaf, frozen_root, new_leaf })
}

fn checked(finished: Finished) -> CheckReport {
    check_device(&finished.device()).unwrap()
}

#[track_caller]
fn assert_clean(finished: Finished) -> CheckReport {
    let report = checked(finished);
    assert!(report.is_clean(), "{:#?}", report.findings);
    report
}

/// Asserts that exactly these defects are found. Returns the first one's place.
#[track_caller]
fn assert_found(finished: Finished, defects: &[Defect]) -> String {
    let report = checked(finished);
    let found: Vec<_> = report.findings.iter().map(|finding| finding.defect).collect();
    assert_eq!(found, defects, "{:#?}", report.findings);
    report.findings[0].place.clone()
}

fn disk_mut(image: &mut Image) -> &mut crate::format::DiskRecord {
    image
        .records
        .iter_mut()
        .find_map(|record| if let CatalogRecord::Disk(disk) = record { Some(disk) } else { None })
        .unwrap()
}

fn version_mut(image: &mut Image) -> &mut crate::format::VersionRecord {
    image
        .records
        .iter_mut()
        .find_map(|record| if let CatalogRecord::Version(version) = record { Some(version) } else { None })
        .unwrap()
}

#[test]
fn a_sound_store_is_clean_and_counted() {
    let report = assert_clean(lineage().0.finish());
    // 4 data blocks; 5 nodes of the disk; a catalog node, a page, and the record.
    assert_eq!(report.data_blocks_mapped, 4);
    assert_eq!(report.nodes, 6);
    assert_eq!(report.blocks_in_use, 12);
    assert_eq!((report.versions, report.journal_batches), (1, 0));
    assert_eq!(report.notes, Vec::<String>::new());
}

#[test]
fn a_store_without_disks_is_clean() {
    assert_clean(Image::new().finish());
}

// Superblocks.

#[test]
fn a_torn_slot_beside_a_whole_one_is_a_note() {
    for slot in [0, 1] {
        let mut finished = lineage().0.finish();
        finished.bytes[index(SLOT_OFFSETS[slot]) + 100] ^= 1;
        let report = assert_clean(finished);
        assert_eq!(report.notes.len(), 1);
    }
}

#[test]
fn a_slot_with_bytes_that_no_write_puts_there_is_damage() {
    let mut finished = lineage().0.finish();
    finished.bytes[index(SLOT_OFFSETS[1]) + 3000] ^= 1;
    assert_found(finished, &[Defect::Superblock]);
}

#[test]
fn an_older_slot_b_is_a_note_and_an_older_slot_a_is_damage() {
    let mut finished = lineage().0.finish();
    finished.set_superblock(1, |superblock| superblock.writes = U64::new(7));
    assert_eq!(assert_clean(finished).notes.len(), 1);
    let mut finished = lineage().0.finish();
    finished.set_superblock(0, |superblock| superblock.writes = U64::new(7));
    assert_found(finished, &[Defect::Superblock]);
}

#[test]
fn two_slots_of_one_write_that_differ_are_damage() {
    let mut finished = lineage().0.finish();
    finished.set_superblock(1, |superblock| superblock.recovered = U64::new(1));
    assert_found(finished, &[Defect::Superblock]);
}

#[test]
fn slots_of_two_stores_are_damage() {
    let mut finished = lineage().0.finish();
    finished.set_superblock(1, |superblock| superblock.uuid = [9; 16]);
    assert_found(finished, &[Defect::Superblock]);
}

#[test]
fn a_foreign_slot_is_damage_unless_it_was_never_written() {
    let mut finished = lineage().0.finish();
    finished.bytes[index(SLOT_OFFSETS[0])] ^= 1;
    assert_found(finished, &[Defect::Superblock]);
    let mut finished = lineage().0.finish();
    finished.bytes[index(SLOT_OFFSETS[1])] ^= 1;
    assert_found(finished, &[Defect::Superblock]);
    let mut finished = lineage().0.finish();
    finished.bytes[index(SLOT_OFFSETS[1])..][..4096].fill(0);
    assert_eq!(assert_clean(finished).notes.len(), 1);
}

#[test]
fn two_torn_slots_end_the_check() {
    let mut finished = lineage().0.finish();
    for slot in SLOT_OFFSETS {
        finished.bytes[index(slot) + 100] ^= 1;
    }
    assert_found(finished, &[Defect::Superblock]);
}

#[test]
fn something_else_is_no_store() {
    for bytes in [vec![], vec![0; 100], vec![0xff; 1 << 20]] {
        let error = check_device(&MemoryDevice::from_bytes(bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let mut finished = lineage().0.finish();
    finished.set_superblocks(|superblock| superblock.incompatible = U64::new(2));
    assert_eq!(check_device(&finished.device()).unwrap_err().kind(), ErrorKind::Unsupported);
    let mut finished = lineage().0.finish();
    finished.set_superblocks(|superblock| superblock.version = U32::new(77));
    assert_eq!(check_device(&finished.device()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn impossible_geometry_ends_the_check() {
    let mut finished = lineage().0.finish();
    finished.set_superblocks(|superblock| superblock.zone_blocks = U32::new(3));
    assert_found(finished, &[Defect::Geometry]);
    let mut finished = lineage().0.finish();
    finished.set_superblocks(|superblock| superblock.journal_offset = U64::new(77));
    assert_found(finished, &[Defect::Geometry]);
}

#[test]
fn reserved_bytes_of_the_superblock_are_zero() {
    let mut finished = lineage().0.finish();
    finished.set_superblocks(|superblock| superblock.reserved[3000] = 1);
    assert_found(finished, &[Defect::Geometry]);
}

#[test]
fn a_store_that_is_cut_short_is_found_out() {
    let mut finished = lineage().0.finish();
    let length = finished.bytes.len();
    finished.bytes.truncate(length - 1);
    assert_found(finished, &[Defect::Truncated]);
    let mut finished = lineage().0.finish();
    finished.bytes.truncate(140 << 10);
    assert_found(finished, &[Defect::Truncated]);
}

// The checkpoint record.

#[test]
fn a_damaged_checkpoint_record_is_found() {
    let mut finished = lineage().0.finish();
    finished.damage(finished.record);
    assert_found(finished, &[Defect::Checkpoint]);
}

#[test]
fn a_checkpoint_record_outside_the_data_blocks_is_found() {
    for block in [0, 1, BLOCK_NO_MAX, u64::MAX] {
        let mut finished = lineage().0.finish();
        finished.set_superblocks(|superblock| superblock.checkpoint_block = U64::new(block));
        assert_eq!(checked(finished).findings.len(), 1, "block {block}");
    }
}

// The catalog.

#[test]
fn a_damaged_catalog_page_is_found_and_what_is_missing_is_not_blamed() {
    let mut finished = lineage().0.finish();
    finished.damage(finished.page);
    let report = checked(finished);
    assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
    assert_eq!(report.findings[0].defect, Defect::CatalogPage);
    assert_eq!(report.notes.len(), 1, "blocks that were not reached are a note");
}

#[test]
fn a_damaged_catalog_node_is_found() {
    let mut finished = lineage().0.finish();
    finished.damage(finished.catalog_node);
    assert_found(finished, &[Defect::Node]);
}

/// Asserts that a change of the records is found as a contradiction, and nothing else.
#[track_caller]
fn assert_contradiction(change: impl FnOnce(&mut Image)) {
    let (mut image, _) = lineage();
    change(&mut image);
    assert_found(image.finish(), &[Defect::CatalogRecord]);
}

#[test]
fn records_that_contradict_one_another_are_found() {
    assert_contradiction(|image| image.records.push(image.records[0].clone()));
    assert_contradiction(|image| disk_mut(image).birth = Epoch(101));
    assert_contradiction(|image| disk_mut(image).server = crate::units::ServerId(9));
    assert_contradiction(|image| disk_mut(image).size_bytes = 512 * 4096 + 1);
    assert_contradiction(|image| version_mut(image).epoch = Epoch(9));
    assert_contradiction(|image| image.next_id = 4);
    assert_contradiction(|image| {
        let twin = crate::format::DiskRecord {
            id: DiskId(6),
            root: Root::default(),
            parent: None,
            ..disk_mut(image).clone()
        };
        image.records.push(CatalogRecord::Disk(twin));
    });
    assert_contradiction(|image| image.snapshot(7, &[99]));
    assert_contradiction(|image| {
        image.records.push(CatalogRecord::Collection(Collection {
            victim: VersionId(99),
            mode: CollectionMode::Trim,
            cursor: DiskBlock(0),
        }));
    });
    assert_contradiction(|image| {
        image.records.push(CatalogRecord::Collection(Collection {
            victim: VersionId(3),
            mode: CollectionMode::Trim,
            cursor: DiskBlock(0),
        }));
    });
    assert_contradiction(|image| {
        image.records.push(CatalogRecord::Garbage(Garbage {
            id: 1,
            reference: Reference::HOLE,
            height: 2,
            first: DiskBlock(0),
            limit_below: Epoch(0),
            limit_above: Epoch(101),
            split: DiskBlock(0),
            cursor: DiskBlock(0),
        }));
    });
}

#[test]
fn a_disk_may_descend_from_a_version_of_another_one() {
    let (mut image, _) = lineage();
    disk_mut(&mut image).id = DiskId(5); // a clone
    assert_clean(image.finish());
}

#[test]
fn a_disk_whose_parent_is_gone_is_found_besides_the_blocks_that_count_apart() {
    let (mut image, _) = lineage();
    disk_mut(&mut image).parent = Some(VersionId(40));
    let report = checked(image.finish());
    assert_eq!(report.findings[0].defect, Defect::CatalogRecord);
}

#[test]
fn parents_in_a_circle_are_found_and_end() {
    let (mut image, _) = lineage();
    image.version(5, Some(6), 20, None, Root::default());
    image.version(6, Some(5), 21, None, Root::default());
    let report = checked(image.finish());
    assert!(report.findings.iter().all(|finding| finding.defect == Defect::CatalogRecord));
    assert!(!report.is_clean());
}

// Trees.

#[test]
fn a_damaged_node_is_found_once_though_two_trees_share_it() {
    let (image, _) = lineage();
    let upper_leaf = BlockNo(image.geometry.block_at(crate::format::Place { zone: 0, index: 4 }).0);
    let mut finished = image.finish();
    finished.damage(upper_leaf);
    let place = assert_found(finished, &[Defect::Node]);
    assert!(place.contains(&format!("block {upper_leaf}")), "{place}");
}

#[test]
fn a_reference_outside_the_data_blocks_is_found() {
    for block in [1, 40, 10_000, BLOCK_NO_MAX] {
        let (mut image, _) = lineage();
        let leaf = image.node(12, &[(3, Reference::new(BlockNo(block), Epoch(12), 0))]);
        image.disk(5, None, 12, root(leaf, 1, 1));
        assert_found(image.finish(), &[Defect::Reference]);
    }
}

#[test]
fn a_reference_younger_than_its_node_is_found() {
    let mut image = Image::new();
    let young = image.data(12);
    let leaf = image.node(11, &[(0, young)]);
    image.disk(2, None, 12, root(leaf, 1, 1));
    let place = assert_found(image.finish(), &[Defect::Reference]);
    assert!(place.contains("was born in 12, the node in 11"), "{place}");
}

#[test]
fn a_root_younger_than_its_disk_is_found() {
    let (mut image, _) = lineage();
    let leaf = image.node(30, &[]);
    image.disk(5, None, 12, root(leaf, 1, 0));
    assert_found(image.finish(), &[Defect::Reference]);
}

#[test]
fn a_reference_with_unknown_flags_is_found() {
    let mut image = Image::new();
    let mut strange = Reference::HOLE;
    strange.flags = 1;
    let leaf = image.node(12, &[(0, strange)]);
    image.disk(2, None, 12, root(leaf, 1, 0));
    assert_found(image.finish(), &[Defect::Reference]);
}

#[test]
fn what_is_mapped_beyond_a_disks_size_is_found() {
    let (mut image, _) = lineage();
    disk_mut(&mut image).size_bytes = 300 * 4096;
    let place = assert_found(image.finish(), &[Defect::Reference]);
    assert!(place.contains("disk 2 maps disk block 300, and has 300 blocks"), "{place}");
}

#[test]
fn a_tree_that_is_too_high_is_found_and_not_followed() {
    for height in [0, 9, u32::MAX] {
        let (mut image, parts) = lineage();
        image.disk(5, None, 12, root(parts.new_leaf, height, 1));
        assert_found(image.finish(), &[Defect::Reference]);
    }
}

#[test]
fn an_empty_tree_is_not_too_high_either() {
    let (mut image, _) = lineage();
    image.disk(5, None, 12, root(Reference::HOLE, u32::MAX, 0));
    assert_found(image.finish(), &[Defect::Reference]);
}

#[test]
fn a_tree_that_maps_beyond_the_largest_disk_is_found() {
    let mut image = Image::new();
    let data = image.data(12);
    let mut node = image.node(12, &[(255, data)]);
    for _ in 0..7 {
        node = image.node(12, &[(255, node)]);
    }
    image.disk(2, None, 12, root(node, 8, 1));
    assert_found(image.finish(), &[Defect::Reference]);
}

#[test]
fn a_node_in_two_places_is_found_and_followed_once() {
    let mut image = Image::new();
    let data = image.data(12);
    let leaf = image.node(12, &[(0, data)]);
    let top = image.node(12, &[(0, leaf), (1, leaf)]);
    image.disk(2, None, 12, root(top, 2, 1));
    assert_found(image.finish(), &[Defect::Reference]);
}

#[test]
fn a_node_that_two_unrelated_disks_hold_is_found() {
    let (mut image, parts) = lineage();
    image.disk(5, None, 12, root(parts.new_leaf, 1, 2));
    assert_found(image.finish(), &[Defect::Reference]);
}

#[test]
fn a_wrong_count_of_mapped_blocks_is_found() {
    let (mut image, _) = lineage();
    version_mut(&mut image).root.mapped = 4;
    let place = assert_found(image.finish(), &[Defect::MappedCount]);
    assert_eq!(place, "version 3 says 4, found 3");
}

// Refcounts.

#[test]
fn a_refcount_that_is_too_high_is_a_leak_and_one_too_low_is_worse() {
    let (mut image, parts) = lineage();
    *image.count_of(parts.shared.block()) = 2;
    let place = assert_found(image.finish(), &[Defect::Refcount]);
    assert_eq!(place, format!("block {} has 2, found 1", parts.shared.block()));
    let (mut image, parts) = lineage();
    *image.count_of(parts.old.block()) = 0;
    let place = assert_found(image.finish(), &[Defect::Refcount]);
    assert_eq!(place, format!("block {} has 0, found 1", parts.old.block()));
}

#[test]
fn a_node_that_is_not_counted_is_found() {
    let (mut image, parts) = lineage();
    *image.count_of(parts.frozen_leaf.block()) = 0;
    assert_found(image.finish(), &[Defect::Refcount]);
}

#[test]
fn leaks_in_a_row_are_one_finding() {
    let (mut image, _) = lineage();
    for index in 40..45 {
        let block = image.geometry.block_at(crate::format::Place { zone: 1, index });
        *image.count_of(block) = 1;
    }
    let place = assert_found(image.finish(), &[Defect::Refcount]);
    assert!(place.ends_with("have 1, found 0"), "{place}");
}

#[test]
fn a_block_in_a_zone_whose_table_was_never_written_is_found() {
    let (mut image, _) = lineage();
    let block = image.geometry.block_at(crate::format::Place { zone: 2, index: 5 });
    let leaf = image.node(12, &[(0, Reference::new(block, Epoch(12), 0))]);
    image.disk(5, None, 12, root(leaf, 1, 1));
    let place = assert_found(image.finish(), &[Defect::Refcount]);
    assert_eq!(place, format!("block {block} has 0, found 1"));
}

#[test]
fn a_block_that_two_places_hold_counts_twice() {
    let mut image = Image::new();
    let data = image.data(12);
    let leaf = image.node(12, &[(0, data), (1, data)]);
    image.disk(2, None, 12, root(leaf, 1, 2));
    let other = image.node(12, &[(0, data)]);
    image.disk(3, None, 12, root(other, 1, 1));
    *image.count_of(data.block()) = 3;
    assert_clean(image.finish());
}

#[test]
fn used_counts_that_are_wrong_are_found() {
    for which in 0..3 {
        let (mut image, _) = lineage();
        image.used_wrong[which] = 1;
        assert_found(image.finish(), &[Defect::FreeCount]);
    }
}

#[test]
fn a_damaged_summary_or_refcount_page_is_found_alone() {
    let mut finished = lineage().0.finish();
    finished.damage(finished.geometry.summary_block(0, 1));
    assert_found(finished, &[Defect::ZoneSummary]);
    let mut finished = lineage().0.finish();
    finished.damage(finished.geometry.refcount_block(0, 0, 0));
    assert_found(finished, &[Defect::RefcountPage]);
}

// The collector in the midst of its work.

/// As [`lineage`], but the snapshot was deleted and the collector merges it into the disk.
fn merging(cursor: u64) -> (Image, Parts) {
    let (mut image, parts) = lineage();
    image.records.retain(|record| !matches!(record, CatalogRecord::Snapshot(_)));
    version_mut(&mut image).snapshot = None;
    image.records.push(CatalogRecord::Collection(Collection {
        victim: VersionId(3),
        mode: CollectionMode::Merge,
        cursor: DiskBlock(cursor),
    }));
    (image, parts)
}

#[test]
fn a_merge_that_has_not_begun_still_holds_everything() {
    assert_clean(merging(0).0.finish());
}

#[test]
fn what_a_merge_has_passed_is_not_followed() {
    let (mut image, parts) = merging(256);
    for gone in [parts.old, parts.frozen_leaf] {
        *image.count_of(gone.block()) = 0;
    }
    let mut finished = image.finish();
    finished.damage(parts.frozen_leaf.block());
    assert_clean(finished);
}

#[test]
fn what_a_merge_has_not_passed_is_counted() {
    let (mut image, parts) = merging(256);
    *image.count_of(parts.old.block()) = 0;
    *image.count_of(parts.frozen_leaf.block()) = 0;
    *image.count_of(parts.frozen_root.block()) = 0;
    let place = assert_found(image.finish(), &[Defect::Refcount]);
    assert_eq!(place, format!("block {} has 0, found 1", parts.frozen_root.block()));
}

#[test]
fn a_collection_with_the_wrong_number_of_children_is_found() {
    let (mut image, _) = merging(0);
    for record in &mut image.records {
        if let CatalogRecord::Collection(collection) = record {
            collection.mode = CollectionMode::Drop;
        }
    }
    let report = checked(image.finish());
    assert_eq!(report.findings[0].defect, Defect::CatalogRecord);
}

#[test]
fn a_hidden_version_that_waits_counts_like_any_other() {
    let (mut image, _) = merging(0);
    image.records.retain(|record| !matches!(record, CatalogRecord::Collection(_)));
    assert_clean(image.finish());
}

/// As [`lineage`], but a discard cut the disk's whole tree off, and the collector is at `cursor`.
fn discarded(cursor: u64) -> (Image, Parts) {
    let (mut image, parts) = lineage();
    let disk = disk_mut(&mut image);
    let cut = std::mem::replace(&mut disk.root, root(Reference::HOLE, 2, 0));
    image.records.push(CatalogRecord::Garbage(Garbage {
        id: 1,
        reference: cut.reference,
        height: cut.height,
        first: DiskBlock(0),
        limit_below: Epoch(11),
        limit_above: Epoch(11),
        split: DiskBlock(0),
        cursor: DiskBlock(cursor),
    }));
    (image, parts)
}

#[test]
fn garbage_holds_what_is_younger_than_its_limit() {
    assert_clean(discarded(0).0.finish());
}

#[test]
fn what_the_collector_has_passed_of_garbage_is_not_followed() {
    let (mut image, parts) = discarded(256);
    let new = BlockNo(parts.new_leaf.block().0 - 1);
    *image.count_of(parts.new_leaf.block()) = 0;
    *image.count_of(new) = 0;
    assert_clean(image.finish());
}

#[test]
fn garbage_that_is_not_counted_is_found() {
    let (mut image, parts) = discarded(0);
    *image.count_of(parts.new_leaf.block()) = 0;
    assert_found(image.finish(), &[Defect::Refcount]);
}

#[test]
fn garbage_below_the_split_holds_what_is_younger_than_the_lower_limit() {
    let (mut image, parts) = discarded(0);
    for record in &mut image.records {
        if let CatalogRecord::Garbage(garbage) = record {
            (garbage.limit_below, garbage.split) = (Epoch(9), DiskBlock(256));
        }
    }
    // The shared block is the garbage's now, besides the version's.
    *image.count_of(parts.shared.block()) = 2;
    assert_clean(image.finish());
}

// The journal.

fn mapped(image: &Image) -> BatchBuilder {
    let mut builder = BatchBuilder::default();
    let free = image.geometry.block_at(crate::format::Place { zone: 2, index: 0 });
    builder.map(DiskId(2), DiskBlock(7), free, Epoch(12), &[1, 2]);
    builder
}

#[test]
fn journal_batches_are_counted_up_to_the_first_that_is_not_sealed() {
    let (image, _) = lineage();
    let builder = || mapped(&image);
    let (mut first, mut second, mut third) = (builder(), builder(), builder());
    let mut finished = image.finish();
    let at = finished.batch(0, (FIRST_SEQUENCE, TERM, FIRST_SEQUENCE - 1), &mut first);
    let torn = finished.batch(at, (FIRST_SEQUENCE + 1, TERM, FIRST_SEQUENCE), &mut second);
    finished.batch(torn, (FIRST_SEQUENCE + 2, TERM, FIRST_SEQUENCE), &mut third);
    finished.bytes[index(crate::format::HEADER_BYTES + at) + 70] ^= 1;
    assert_eq!(assert_clean(finished).journal_batches, 1);
}

#[test]
fn a_missing_batch_that_a_later_one_knew_durable_is_damage() {
    let (image, _) = lineage();
    let (mut first, mut second) = (mapped(&image), mapped(&image));
    let mut finished = image.finish();
    let at = finished.batch(0, (FIRST_SEQUENCE, TERM, FIRST_SEQUENCE - 1), &mut first);
    finished.batch(at, (FIRST_SEQUENCE + 1, TERM, FIRST_SEQUENCE), &mut second);
    finished.bytes[index(crate::format::HEADER_BYTES) + 70] ^= 1;
    assert_found(finished, &[Defect::Journal]);
}

#[test]
fn a_missing_batch_that_an_opening_accepted_is_damage() {
    let mut finished = lineage().0.finish();
    finished.set_superblocks(|superblock| superblock.recovered = U64::new(FIRST_SEQUENCE));
    assert_found(finished, &[Defect::Journal]);
}

#[test]
fn batches_of_an_earlier_term_count_only_as_far_as_they_were_accepted() {
    let (image, _) = lineage();
    let (mut first, mut second) = (mapped(&image), mapped(&image));
    let mut finished = image.finish();
    let at = finished.batch(0, (FIRST_SEQUENCE, TERM - 1, FIRST_SEQUENCE - 1), &mut first);
    finished.batch(at, (FIRST_SEQUENCE + 1, TERM - 1, FIRST_SEQUENCE), &mut second);
    finished.set_superblocks(|superblock| superblock.recovered = U64::new(FIRST_SEQUENCE));
    assert_eq!(assert_clean(finished).journal_batches, 1);
}

#[test]
fn the_journal_goes_on_at_its_beginning() {
    let (image, _) = lineage();
    let (mut first, mut second) = (mapped(&image), mapped(&image));
    let mut finished = image.finish();
    let last = finished.geometry.journal_bytes() - 4096;
    finished.set_superblocks(|superblock| superblock.journal_offset = U64::new(last));
    finished.batch(last, (FIRST_SEQUENCE, TERM, FIRST_SEQUENCE - 1), &mut first);
    finished.batch(0, (FIRST_SEQUENCE + 1, TERM, FIRST_SEQUENCE), &mut second);
    assert_eq!(assert_clean(finished).journal_batches, 2);
}

#[test]
fn the_journal_of_a_store_that_was_closed_is_not_looked_at() {
    let (image, _) = lineage();
    let mut builder = mapped(&image);
    let mut finished = image.finish();
    finished.batch(0, (FIRST_SEQUENCE, TERM, FIRST_SEQUENCE - 1), &mut builder);
    finished.set_superblocks(|superblock| superblock.clean = U64::new(1));
    assert_eq!(assert_clean(finished).journal_batches, 0);
}

#[test]
fn sealed_records_that_make_no_sense_are_found() {
    let nonsense: [fn(&mut BatchBuilder); 3] = [
        |builder| builder.map(DiskId(2), DiskBlock(7), BlockNo(3), Epoch(12), &[1]),
        |builder| builder.map(DiskId(2), DiskBlock(1 << 60), BlockNo(60), Epoch(12), &[1]),
        |builder| builder.clear(DiskId(2), DiskBlock(7), u64::MAX),
    ];
    for add in nonsense {
        let mut builder = BatchBuilder::default();
        add(&mut builder);
        let mut finished = lineage().0.finish();
        finished.batch(0, (FIRST_SEQUENCE, TERM, FIRST_SEQUENCE - 1), &mut builder);
        assert_found(finished, &[Defect::JournalRecord]);
    }
}

#[test]
fn a_batch_that_says_that_it_was_durable_itself_is_found() {
    let (image, _) = lineage();
    let mut builder = mapped(&image);
    let mut finished = image.finish();
    finished.batch(0, (FIRST_SEQUENCE, TERM, FIRST_SEQUENCE), &mut builder);
    assert_found(finished, &[Defect::JournalRecord]);
}

#[test]
fn a_growth_that_the_checkpoint_counts_already_is_possible() {
    let mut builder = BatchBuilder::default();
    builder.event(&Event::Grow { zones: 2 });
    let mut finished = lineage().0.finish();
    finished.batch(0, (FIRST_SEQUENCE, TERM, FIRST_SEQUENCE - 1), &mut builder);
    assert_clean(finished);
}

#[test]
fn a_hidden_version_may_map_beyond_its_size() {
    let (mut image, _) = merging(0);
    version_mut(&mut image).size_bytes = 4096;
    assert_clean(image.finish());
}

#[test]
fn blocks_of_a_zone_that_the_journal_itself_adds_are_possible() {
    let (image, _) = lineage();
    let beyond = image.geometry.block_at(crate::format::Place { zone: 3, index: 0 });
    let map = |builder: &mut BatchBuilder| builder.map(DiskId(2), DiskBlock(7), beyond, Epoch(12), &[1]);
    let mut alone = BatchBuilder::default();
    map(&mut alone);
    let mut finished = image.finish();
    finished.batch(0, (FIRST_SEQUENCE, TERM, FIRST_SEQUENCE - 1), &mut alone);
    assert_found(finished, &[Defect::JournalRecord]);
    let mut grown = BatchBuilder::default();
    grown.event(&Event::Grow { zones: 4 });
    map(&mut grown);
    let mut finished = lineage().0.finish();
    finished.batch(0, (FIRST_SEQUENCE, TERM, FIRST_SEQUENCE - 1), &mut grown);
    assert_clean(finished);
}

// Hostile bytes.

#[test]
fn any_flipped_bit_of_metadata_is_found_or_explained() {
    let image = lineage().0.finish();
    let clean = image.bytes.clone();
    // Superblocks, current summary and refcount pages, nodes, catalog, record: everything but data blocks.
    let first = image.geometry.summary_block(0, 0);
    let blocks = (0..1).chain(16..17).chain(first.0 + 1..first.0 + 3).chain([image.record.0]);
    let nodes = [3, 4, 5, 7, 8, 9, 10]
        .map(|index| image.geometry.block_at(crate::format::Place { zone: 0, index }).0);
    let record_bytes = u64::from(image.superblock.checkpoint_bytes.get());
    for block in blocks.chain(nodes) {
        let length = if block == image.record.0 { record_bytes } else { 4096 };
        for byte in (0..length).step_by(3) {
            let mut bytes = clean.clone();
            bytes[index(block * 4096 + byte)] ^= 1 << (byte % 8);
            match check_device(&MemoryDevice::from_bytes(bytes)) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
                Ok(report) => {
                    assert!(!report.is_clean() || !report.notes.is_empty(), "byte {byte} of block {block}");
                }
            }
        }
    }
}

#[test]
fn a_tree_that_leads_back_to_itself_ends() {
    // A node cannot hold its own seal, but a check must not rely on that: the second meeting is a finding.
    let mut image = Image::new();
    let inner = image.node(12, &[]);
    let mut node = inner;
    for _ in 0..6 {
        node = image.node(12, &[(0, node), (1, inner), (2, inner)]);
    }
    image.disk(2, None, 12, root(node, 7, 0));
    let report = checked(image.finish());
    assert!(report.findings.iter().all(|finding| finding.defect == Defect::Reference));
    assert!(!report.is_clean());
}
