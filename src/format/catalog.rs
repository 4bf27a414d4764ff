//! Catalog records: servers, disks, snapshots, versions and what the collector still has to do.
//!
//! Floor 1. Records are bincode, packed into pages; the pages are the blocks of the catalog map, so
//! that a checkpoint writes only those that changed.
//!
//! ```text
//! page  =  length (u16) record | length (u16) record | … | 0 …
//! ```

use super::codec;
use super::marks::{ServerKind, ServerMarks, SnapshotMarks, WhenFull};
use super::reference::Reference;
use crate::units::{DiskBlock, DiskId, Epoch, ServerId, SnapshotId, VersionId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zerocopy::{FromBytes, IntoBytes};

/// Root of an extent map that is on the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Root {
    pub(crate) reference: Reference,
    /// Levels of nodes above the data: 1 is a single leaf.
    pub(crate) height: u32,
    /// How many blocks the map holds references to.
    pub(crate) mapped: u64,
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(self.as_bytes());
        bytes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <[u8; 16]>::deserialize(deserializer)?;
        let reference = Self::read_from_bytes(&bytes).map_err(|_| serde::de::Error::custom("16 bytes"))?;
        if reference.is_valid() { Ok(reference) } else { Err(serde::de::Error::custom("invalid reference")) }
    }
}

/// A machine whose disks are snapshotted together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerRecord {
    pub(crate) id: ServerId,
    pub(crate) name: String,
    /// UTC seconds since 1970.
    pub(crate) created_at: u64,
    pub(crate) kind: ServerKind,
    /// The snapshot that it was cloned from, which may be gone.
    pub(crate) origin: Option<SnapshotId>,
    pub(crate) marks: ServerMarks,
}

/// A head: a live disk, a leaf of the lineage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskRecord {
    pub(crate) id: DiskId,
    pub(crate) server: ServerId,
    pub(crate) name: String,
    pub(crate) created_at: u64,
    pub(crate) size_bytes: u64,
    /// The version that its content descends from.
    pub(crate) parent: Option<VersionId>,
    /// What it stamps on new references and nodes.
    pub(crate) birth: Epoch,
    /// The version that it was cloned from, which may be gone.
    pub(crate) origin: Option<VersionId>,
    pub(crate) when_full: WhenFull,
    /// How many of the references in `root` an ancestor or a sibling holds, too; `None` where that is to be counted.
    pub(crate) shared: Option<u64>,
    pub(crate) root: Root,
}

/// Who asked for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SnapshotKind {
    /// A user did.
    User,
    /// A restore did: it is what the restore replaced, so that the restore can be undone.
    BeforeRestore,
}

/// What users call a snapshot: the versions of a server's disks at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    pub(crate) id: SnapshotId,
    pub(crate) server: ServerId,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) created_at: u64,
    pub(crate) kind: SnapshotKind,
    /// Drawn when it was made. A snapshot that was received in another store keeps it.
    pub(crate) identity: [u8; 16],
    /// The store that it was made in, where that is not this one.
    pub(crate) origin: Option<[u8; 16]>,
    pub(crate) marks: SnapshotMarks,
    pub(crate) versions: Vec<VersionId>,
}

/// One frozen content of one disk: an inner node of the lineage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    pub(crate) id: VersionId,
    pub(crate) disk: DiskId,
    pub(crate) disk_name: String,
    pub(crate) size_bytes: u64,
    pub(crate) parent: Option<VersionId>,
    /// When it was frozen.
    pub(crate) epoch: Epoch,
    /// What its nodes are stamped with.
    pub(crate) birth: Epoch,
    /// The snapshot that shows it; `None` once that was deleted: the collector's.
    pub(crate) snapshot: Option<SnapshotId>,
    /// Deleted with several children, and already rid of what none of them holds.
    pub(crate) trimmed: bool,
    /// How many of the references in `root` no other snapshot or head holds; `None` where that is to be counted.
    pub(crate) exclusive: Option<u64>,
    pub(crate) root: Root,
}

/// A subtree that a discard cut off, for the collector to walk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Garbage {
    pub(crate) id: u64,
    pub(crate) reference: Reference,
    /// Levels of nodes in the subtree.
    pub(crate) height: u32,
    /// The disk block that it starts at.
    pub(crate) first: DiskBlock,
    /// What is younger than this, below `split`, is to be dropped…
    pub(crate) limit_below: Epoch,
    /// …and what is younger than this, from `split` on.
    pub(crate) limit_above: Epoch,
    pub(crate) split: DiskBlock,
    /// How far the collector has come.
    pub(crate) cursor: DiskBlock,
}

/// What the collector is doing with a deleted version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CollectionMode {
    /// No child: drop all that it owns.
    Drop,
    /// One child: drop what it owns and the child does not hold; the child inherits the rest.
    Merge,
    /// Several children: drop, and clear from it, what it owns and none of them holds.
    Trim,
}

/// Where the collector stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Collection {
    pub(crate) victim: VersionId,
    pub(crate) mode: CollectionMode,
    pub(crate) cursor: DiskBlock,
}

/// Anything that the catalog holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CatalogRecord {
    Server(ServerRecord),
    Disk(DiskRecord),
    Snapshot(SnapshotRecord),
    Version(VersionRecord),
    Garbage(Garbage),
    Collection(Collection),
}

/// What a record is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CatalogKey {
    Server(ServerId),
    Disk(DiskId),
    Snapshot(SnapshotId),
    Version(VersionId),
    Garbage(u64),
    Collection,
}

impl CatalogRecord {
    /// What the record is found by.
    pub(crate) fn key(&self) -> CatalogKey {
        match self {
            Self::Server(record) => CatalogKey::Server(record.id),
            Self::Disk(record) => CatalogKey::Disk(record.id),
            Self::Snapshot(record) => CatalogKey::Snapshot(record.id),
            Self::Version(record) => CatalogKey::Version(record.id),
            Self::Garbage(record) => CatalogKey::Garbage(record.id),
            Self::Collection(_) => CatalogKey::Collection,
        }
    }
}

/// A record's bytes, as they stand in a page.
pub(crate) fn encoded_record(record: &CatalogRecord) -> Vec<u8> {
    codec::encode(record)
}

/// Bytes that an encoded record takes in a page.
pub(crate) fn page_room(encoded: &[u8]) -> usize {
    encoded.len() + 2
}

/// A page of `block_bytes` bytes with these encoded records, which the caller knows to fit.
pub(crate) fn encode_page<'a>(records: impl Iterator<Item = &'a [u8]>, block_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(block_bytes);
    for record in records {
        let length = u16::try_from(record.len()).expect("a record is bounded by RECORD_BYTES_MAX");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(record);
    }
    assert!(bytes.len() <= block_bytes, "{} bytes of records overflow a page", bytes.len());
    bytes.resize(block_bytes, 0);
    bytes
}

/// The records of a page; `None` where it does not decode, or has anything behind its end.
pub(crate) fn decode_page(bytes: &[u8]) -> Option<Vec<CatalogRecord>> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length));
        if length == 0 {
            break;
        }
        let (record, tail) = tail.split_at_checked(length)?;
        records.push(codec::decode(record)?);
        rest = tail;
    }
    rest.iter().all(|&byte| byte == 0).then_some(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::BlockNo;

    #[test]
    fn a_page_comes_back_as_it_went() {
        let version = CatalogRecord::Version(VersionRecord {
            id: VersionId(3),
            disk: DiskId(2),
            disk_name: "vda".into(),
            size_bytes: 80 << 30,
            parent: None,
            epoch: Epoch(5),
            birth: Epoch(4),
            snapshot: Some(SnapshotId(9)),
            trimmed: false,
            exclusive: Some(2),
            root: Root { reference: Reference::new(BlockNo(7), Epoch(4), 1), height: 3, mapped: 11 },
        });
        let collection = CatalogRecord::Collection(Collection {
            victim: VersionId(3),
            mode: CollectionMode::Merge,
            cursor: DiskBlock(0),
        });
        let encoded = [encoded_record(&version), encoded_record(&collection)];
        let page = encode_page(encoded.iter().map(Vec::as_slice), 4096);
        assert_eq!(decode_page(&page), Some(vec![version, collection]));
        assert_eq!(decode_page(&vec![0xff; 4096]), None);
        assert_eq!(decode_page(&vec![0; 4096]), Some(vec![]));
    }

    #[test]
    fn the_largest_records_fit_a_page() {
        let snapshot = CatalogRecord::Snapshot(SnapshotRecord {
            id: SnapshotId(u64::MAX),
            server: ServerId(u64::MAX),
            name: "n".repeat(crate::limits::NAME_CHARS_MAX),
            description: "d".repeat(crate::limits::DESCRIPTION_BYTES_MAX),
            created_at: u64::MAX,
            kind: SnapshotKind::BeforeRestore,
            identity: [0xff; 16],
            origin: Some([0xff; 16]),
            marks: SnapshotMarks {
                protected: true,
                expires_at: Some(u64::MAX),
                labels: [("l".repeat(crate::limits::LABEL_BYTES_MAX), String::new())].into(),
            },
            versions: vec![VersionId(u64::MAX); crate::limits::DISKS_PER_SERVER_MAX],
        });
        assert!(encoded_record(&snapshot).len() <= crate::limits::RECORD_BYTES_MAX);
    }
}
