//! Catalog: servers, disks, snapshots, and the lineage that says who descends from whom.
//!
//! Floor 3. All records are in memory; those that changed since the last checkpoint are known, so that
//! a checkpoint writes only their pages. No I/O here.
//!
//! ```text
//! version 3 ◀── version 7 ◀── head "vda"        each points at the version its content descends from
//!     ▲
//!     └──────── version 9 (hidden: deleted, the collector's)
//! ```
//!
//! C1  A version's epoch is above its parent's epoch, and its birth is between the two.
//! C2  Every version is shown by exactly one snapshot, or hidden and either in the collector's queue or kept for its children.
//! C3  A hidden version never gets a new child.
//! C5  No two heads ever stamp the same birth: a reference (place, block, birth) has one maker, and its holders in a
//!     lineage hold it through him.

mod apply;
mod clones;
mod holders;
mod lineage;
mod names;
mod pages;
mod possible;
mod records;
mod regions;
#[cfg(test)]
mod tests;

pub(crate) use holders::{SizeOf, Watch};
pub(crate) use lineage::Child;
pub(crate) use names::{check_description, check_labels, check_name};
pub(crate) use pages::PageStore;
pub(crate) use records::Catalog;
