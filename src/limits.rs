//! Limits: every bound of the library in one place.
//!
//! Floor 0. Each loop, queue, name, depth and count that input can drive is bounded by one of these.

/// The smallest block, in bytes.
pub(crate) const BLOCK_SIZE_MIN: u32 = 4 << 10;
/// The largest block, in bytes.
pub(crate) const BLOCK_SIZE_MAX: u32 = 64 << 10;
/// What guests see as a sector; disk sizes are multiples of it.
pub(crate) const SECTOR_BYTES: u64 = 512;
/// The largest disk, in bytes (1 PiB).
pub(crate) const DISK_BYTES_MAX: u64 = 1 << 50;
/// The deepest extent map: 64-bit block numbers never need more levels of 256.
pub(crate) const MAP_HEIGHT_MAX: u32 = 8;
/// The largest block number that a reference can hold (48 bits).
pub(crate) const BLOCK_NO_MAX: u64 = (1 << 48) - 1;
/// The largest epoch (40 bits): a snapshot every millisecond for 17 years.
pub(crate) const EPOCH_MAX: u64 = (1 << 40) - 1;
/// Epochs that one event gives out at most: one for each disk that it freezes or brings back.
pub(crate) const EPOCHS_PER_EVENT_MAX: u64 = 1 << 24;
/// The largest of the numbers that only ever grow by a few (ids, generations, terms, batches): no store comes to it,
/// and a forged one that begins there could overflow them.
pub(crate) const COUNTER_MAX: u64 = 1 << 62;
/// The largest id that a caller can ask for: exact in every language's numbers, and far from the end of the counter.
pub(crate) const WANTED_ID_MAX: u64 = 1 << 40;

/// Characters in the name of a server, disk or snapshot.
pub(crate) const NAME_CHARS_MAX: usize = 64;
/// Bytes in a snapshot's description.
pub(crate) const DESCRIPTION_BYTES_MAX: usize = 1024;
/// Labels of one server or snapshot.
pub(crate) const LABELS_MAX: usize = 16;
/// Bytes of all labels of one server or snapshot.
pub(crate) const LABEL_BYTES_MAX: usize = 512;
/// Disks of one server: so that one journal record can freeze them all.
pub(crate) const DISKS_PER_SERVER_MAX: usize = 64;

/// The smallest journal, in bytes.
pub(crate) const JOURNAL_BYTES_MIN: u64 = 64 << 10;
/// The largest journal, in bytes.
pub(crate) const JOURNAL_BYTES_MAX: u64 = 16 << 30;
/// The smallest zone, in blocks.
pub(crate) const ZONE_BLOCKS_MIN: u32 = 32;
/// Refcount pages of one zone: its slots are one bit each in a 64-bit word.
pub(crate) const ZONE_PAGES_MAX: u32 = 64;
/// Blocks in a write run: 1 MiB of the smallest blocks.
pub(crate) const RUN_BLOCKS_MAX: u64 = 256;
/// Most bytes that one step of a write places: with its records they fit into a segment of a handover file, whatever the block size.
pub(crate) const WRITE_STEP_BYTES_MAX: u64 = 4 << 20;
/// Most bytes of blocks that a flush carries inside its journal batch.
pub(crate) const INLINE_BYTES_MAX: u64 = 64 << 10;
/// Records are sealed into a batch when this many bytes of them wait.
pub(crate) const BATCH_BYTES_SOFT: usize = 256 << 10;
/// The largest batch, in bytes, that recovery will believe.
pub(crate) const BATCH_BYTES_MAX: u64 = 16 << 20;
/// Bytes of one encoded catalog record or event.
pub(crate) const RECORD_BYTES_MAX: usize = 3 << 10;
/// Disks and snapshots of one server whose loss is counted together: each is looked at beside all others.
pub(crate) const COUNTED_TOGETHER_MAX: usize = 1024;
/// A disk that may share what deleted snapshots left with more others than this is counted when somebody asks for its size.
pub(crate) const COUNTED_UNASKED_MAX: usize = 1024;
/// A deleted version with more children than this is trimmed once, and not again when a child goes.
pub(crate) const TRIMMED_CHILDREN_MAX: usize = 64;
/// Blocks that one collector step looks at.
pub(crate) const COLLECT_STEP_BLOCKS: u64 = 64 << 10;
/// Blocks that one collector step looks at while others are at work.
pub(crate) const COLLECT_STEP_BLOCKS_BUSY: u64 = 4 << 10;
/// Subtrees that one checkpoint cuts off for the collector; what more a discard covers is dropped at once.
pub(crate) const CUTS_PER_CHECKPOINT_MAX: u64 = 1024;
/// Blocks of data that a subtree gives back at least, if it is cut off: fewer are dropped where they are met.
pub(crate) const CUT_BLOCKS_MIN: u64 = 4096;
/// Records of what was cut off that surely fit into the blocks that a catalog page and its map take.
pub(crate) const CUTS_PER_BLOCK: u64 = 8;
/// References that the collector drops before it lets a checkpoint make them free.
pub(crate) const DROPS_PER_CHECKPOINT: usize = 1 << 20;
