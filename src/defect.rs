//! Defects: every kind of damage has a permanent number.
//!
//! Floor 0. The same value is used by opening, reading, checking, fuzzing and the documents. A
//! number is never reused; each is listed with its meaning in docs/format.md.

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Defect {
    /// Neither superblock slot holds a sealed superblock.
    Superblock,
    /// The superblock's numbers contradict one another or the device.
    Geometry,
    /// The device is shorter than its checkpoint, or a journal batch that was durable, says.
    Truncated,
    /// The checkpoint record's seal does not match, or its numbers are impossible.
    Checkpoint,
    /// A journal batch that was durable is damaged.
    Journal,
    /// A sealed journal batch holds a record that makes no sense.
    JournalRecord,
    /// An extent node does not match the seal in its parent.
    Node,
    /// A reference points outside the store's data blocks, or is younger than what holds it.
    Reference,
    /// A catalog page does not match its seal, or does not decode.
    CatalogPage,
    /// Catalog records contradict one another.
    CatalogRecord,
    /// A zone summary page does not match its seal.
    ZoneSummary,
    /// A refcount page does not match its seal.
    RefcountPage,
    /// A block of a disk does not match its checksum.
    Data,
    /// A block's refcount differs from the references found by walking every root.
    Refcount,
    /// A zone's free count differs from its refcounts.
    FreeCount,
    /// A map's count of mapped blocks differs from the references found in it.
    MappedCount,
    /// A snapshot's or disk's count of what it alone refers to differs from a recount.
    SizeCount,
}

impl Defect {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::Superblock,
        Self::Geometry,
        Self::Truncated,
        Self::Checkpoint,
        Self::Journal,
        Self::JournalRecord,
        Self::Node,
        Self::Reference,
        Self::CatalogPage,
        Self::CatalogRecord,
        Self::ZoneSummary,
        Self::RefcountPage,
        Self::Data,
        Self::Refcount,
        Self::FreeCount,
        Self::MappedCount,
        Self::SizeCount,
    ];

    /// The permanent number, as `D` and three digits.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Superblock => "D001",
            Self::Geometry => "D002",
            Self::Truncated => "D003",
            Self::Checkpoint => "D004",
            Self::Journal => "D005",
            Self::JournalRecord => "D006",
            Self::Node => "D007",
            Self::Reference => "D008",
            Self::CatalogPage => "D009",
            Self::CatalogRecord => "D010",
            Self::ZoneSummary => "D011",
            Self::RefcountPage => "D012",
            Self::Data => "D013",
            Self::Refcount => "D014",
            Self::FreeCount => "D015",
            Self::MappedCount => "D016",
            Self::SizeCount => "D017",
        }
    }

    /// What is damaged, in a few words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Superblock => "no sealed superblock",
            Self::Geometry => "impossible geometry",
            Self::Truncated => "store is cut short",
            Self::Checkpoint => "checkpoint record is damaged",
            Self::Journal => "durable journal batch is damaged",
            Self::JournalRecord => "journal record makes no sense",
            Self::Node => "extent node does not match its seal",
            Self::Reference => "impossible block reference",
            Self::CatalogPage => "catalog page is damaged",
            Self::CatalogRecord => "catalog records contradict one another",
            Self::ZoneSummary => "zone summary does not match its seal",
            Self::RefcountPage => "refcount page does not match its seal",
            Self::Data => "data block does not match its checksum",
            Self::Refcount => "refcount differs from the references found",
            Self::FreeCount => "free count differs from the refcounts",
            Self::MappedCount => "mapped count differs from the references found",
            Self::SizeCount => "count of what nobody else refers to differs from a recount",
        }
    }
}
