//! Full: a store that is full to its last block loses nothing, can be emptied, tells that it fills up, and lets writes
//! wait for space.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

#[path = "../model/mod.rs"]
mod model;

mod holes;
mod last_resort;
mod pressure;
mod stamped;
mod states;
mod waiting;
mod watermarks;

use cowblk::{Options, Store};
use model::{Limit, Shape};
use std::sync::Arc;

/// What may keep a store from growing.
const LIMITS: [Limit; 3] = [Limit::Options, Limit::Medium, Limit::Fixed];

/// A store of four zones of 256 blocks, and its device.
fn small_store(limit: Limit, change: impl Fn(Options) -> Options) -> (cowblk::device::sim::SimDevice, Store) {
    let shape = shape(limit);
    let device = shape.device(7);
    let store = Store::create_on(Arc::new(device.clone()), change(options(limit))).unwrap();
    (device, store)
}

fn shape(limit: Limit) -> Shape {
    Shape { zones_max: 4, limit, ..Shape::SMALL }
}

fn options(limit: Limit) -> Options {
    shape(limit).options().keep_replaced_when_full(false)
}
