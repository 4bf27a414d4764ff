//! Store: the engine. Opens and closes stores, moves bytes, and runs checkpoints and the collector.
//!
//! Floor 5.
//!
//! Locks are taken in this order, and none is held while waiting for one to its left:
//!
//! ```text
//! relief ▶ maintenance ▶ journal lead ▶ barrier ▶ state ▶ heads (by id) ▶ allocator, journal batch, drop list
//! ```
//!
//! T1  A change of a head and its journal record are made under the head's lock and one hold of the
//!     barrier, so that a checkpoint, which closes the barrier, freezes both or neither.
//! T2  Checkpoints and collector steps exclude one another (the maintenance lock): both decide who owns a
//!     reference from the same trees and the same cursor.
//! T3  A reader enters the gate before it looks at a root, and leaves after its last read. Inside, it may wait for a lock;
//!     so nobody waits for readers to leave while holding one.

mod block_index;
mod block_sizes;
mod blocks;
mod changes;
mod checkpoint;
mod collector;
mod dedup;
mod discard;
mod disk;
mod disk_io;
mod engine;
mod expiry;
mod extents;
mod full;
mod head;
mod holes;
mod latencies;
mod maintenance;
mod notices;
mod open;
mod options;
mod pace;
mod read;
mod reclaimable;
mod replay;
mod server;
mod settled;
mod share;
mod sizes;
mod sparsify;
mod state;
mod statistics;
mod takeover;
mod templates;
mod verbs;
mod watermarks;
mod write;
mod write_behind;

pub(crate) use blocks::Purpose;
pub use changes::{Change, ChangeKind, Changes, Point};
pub use dedup::{DedupCursor, DedupOptions, Deduplicated};
pub use disk::Disk;
pub use disk_io::DiskIo;
pub(crate) use expiry::plan_deletion;
pub use extents::{Extent, ExtentKind, Extents};
pub use latencies::{Latencies, Waits};
pub use notices::{Notice, Notices};
pub(crate) use open::Shared;
pub use open::Store;
pub use options::Options;
pub(crate) use read::Source;
pub use server::Server;
pub(crate) use server::{NextIds, refuse_disk, refuse_taken_server};
pub use sizes::{Freed, Space};
pub use sparsify::Sparsified;
pub(crate) use state::State;
pub use statistics::{Stats, Status};
pub use templates::Template;
pub(crate) use verbs::new_identity;
