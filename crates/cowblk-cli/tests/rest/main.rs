//! `cowblk serve` from outside: the real program is started, and asked as its clients ask it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test stops where it is surprised, and says so where it skips"
)]

#[path = "../../../cowblk-nbd/tests/client/mod.rs"]
mod client;

mod api;
mod backups;
mod clients;
mod crashes;
mod daemon;
mod disks;
mod every_verb;
mod hooks;
mod operations;
mod page;
mod remote;
mod security;
mod space;
mod verbs;
