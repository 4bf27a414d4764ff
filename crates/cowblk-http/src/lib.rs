//! Serves a cowblk store over a REST API: servers, their disks and their snapshots, beside NBD if wanted.
//!
//! Floor 7: it uses the public API of the library only. Its own floors; imports point down:
//!
//! ```text
//! client notice_log           asks a daemon; writes what a store says to the log; know nothing of the rest
//! serve                       listeners, TLS, signals, the order of a shutdown
//! api                         one file per noun: what a request means
//! flows  schedule             verbs that take several steps: restore, start, stop, snapshot, creation
//! app                         what all requests share
//! engine hooks gate           the store behind a bounded pool; commands, QMP, guest agents; who may come in
//! state                       what outlives a crash beside the store: tokens, details, the journal of requests, the audit log
//! model  refusal              what goes over the wire
//! ```
//!
//! Asynchronous code ends at `engine`: the store is called from a bounded pool of threads that may block.

mod api;
mod app;
pub mod client;
mod engine;
mod flows;
mod gate;
mod hooks;
mod metrics;
mod model;
mod notice_log;
mod refusal;
mod schedule;
mod serve;
mod state;
mod times;

pub use hooks::{HookSettings, HookSpec};
pub use notice_log::NoticeLog;
pub use serve::{Address, Certificate, Outcome, Settings, serve, serve_until};
pub use state::{NewToken, Scope, TokenView, Tokens, serving_at, state_folder};
