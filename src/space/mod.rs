//! Space: which blocks are free, and how many references each used block has.
//!
//! Floor 2. The refcount table is touched by checkpoints alone; writers only take runs of free blocks
//! and leave word of what they took and dropped. A data block is in exactly one state:
//!
//! ```text
//! free ──take──▶ reserved ──used──▶ referenced (≥ 1) ──last drop──▶ parked ──checkpoint durable,
//!  ▲                 │                                                 │      readers gone
//!  └────give back────┘                                                 └───────────▶ free
//! ```
//!
//! S1  A parked block is not handed out before the checkpoint that dropped its last reference is
//!     durable, so no durable generation, and no journal batch behind it, names a block that was reused.
//! S2  A parked block is not handed out while a reader that started before that moment is still at work.
//! S3  At rest, a block's refcount is the number of references to it in all maps (check: D014).
//! S4  A free block of a thin zone is not handed out before its zone has space on the medium again.

mod allocator;
mod free_map;
mod gate;
mod parked;
mod run_set;
mod tables;
mod thin;

pub(crate) use allocator::{Allocator, Direction};
pub(crate) use gate::{Gate, GateGuard};
pub(crate) use run_set::RunSet;
pub(crate) use tables::{Group, SpaceChanges, ZoneTables};
