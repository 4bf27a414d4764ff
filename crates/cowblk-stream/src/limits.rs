//! Limits: every bound that a stream's bytes are held to before anything is made of them.

/// The first bytes of a stream.
pub(crate) const MAGIC: [u8; 8] = *b"cowblkST";
/// The version that this crate writes, and the only one that it reads.
pub(crate) const VERSION: u32 = 1;
/// Bytes of the prologue: magic, version, length of the header.
pub(crate) const PROLOGUE_BYTES: usize = 16;
/// The longest header. 64 disks with the longest names, and the longest description, need less than 8 KiB.
pub(crate) const HEADER_BYTES_MAX: usize = 64 << 10;
/// Bytes of a frame's head.
pub(crate) const FRAME_HEAD_BYTES: usize = 24;
/// Bytes of a seal.
pub(crate) const SEAL_BYTES: usize = blake3::OUT_LEN;
/// The most data in one frame: what a receiver holds in memory before it knows that it is whole.
pub(crate) const FRAME_DATA_BYTES_MAX: usize = 1 << 20;
/// Disks of one snapshot.
pub(crate) const DISKS_MAX: usize = 64;
/// Bytes in a name.
pub(crate) const NAME_BYTES_MAX: usize = 64;
/// Bytes in a snapshot's description.
pub(crate) const DESCRIPTION_BYTES_MAX: usize = 1024;
/// What sizes and places of disks are multiples of.
pub(crate) const SECTOR_BYTES: u64 = 512;
/// The largest disk, in bytes (1 PiB).
pub(crate) const DISK_BYTES_MAX: u64 = 1 << 50;
