//! Every call: a workload of over 2,000 calls of a device, of every kind, and an I/O error at each of them.
//!
//! Three ways for each call: it alone fails; it and all later ones of its kind; it and all later ones of any kind. The
//! store never lies, and when the medium works again, it opens with a prefix of the history that holds all promises.
//!
//! `cargo test` takes a sample. `COWBLK_CALLS=all cargo test --release --test every_call -- --nocapture` takes all.

#![allow(clippy::similar_names, reason = "a store has a story")]
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "the number of cases is part of the result")]

mod failing;
mod model;

use cowblk::Store;
use cowblk::device::sim::{Call, Fault, Random, SimDevice, When};
use failing::Case;
use model::{Dice, Model, Shape, Story, Tally, Verb};
use std::collections::BTreeMap;
use std::sync::Arc;

const SHAPE: Shape = Shape { zone_blocks: 64, journal_bytes: 64 << 10, ..Shape::SMALL };
const CALLS_MIN: usize = 2000;
const SEED: u64 = 20_261_121;

/// Which calls are taken: all, or one in so many and the rare ones.
fn is_taken(call: Call, random: &mut Random) -> bool {
    if matches!(call, Call::Grow { .. } | Call::Discard { .. }) {
        return true;
    }
    match std::env::var("COWBLK_CALLS").as_deref() {
        Ok("all") => true,
        Ok(text) => {
            random.one_in(text.parse().expect("COWBLK_CALLS is `all`, or a number: one call in so many"))
        }
        Err(_) => random.one_in(50),
    }
}

/// Random verbs that make sense, until the device was called often enough; and those calls.
fn workload(base: &SimDevice) -> (Vec<Verb>, Vec<Call>) {
    let device = base.fork().with_log();
    let store = Store::open_on(Arc::new(device.clone()), SHAPE.options()).unwrap();
    let (mut dice, mut story, mut verbs) = (Dice::new(SEED), Story::new(Model::default()), Vec::new());
    while device.log().len() < CALLS_MIN {
        let verb = Verb::random(&mut dice, story.last(), verbs.len() as u64 + 1);
        let is_rare = matches!(verb, Verb::DeleteServer(_)) && !dice.one_in(4);
        if is_rare || story.ask(&verb).is_err() {
            continue;
        }
        verb.run(&store).unwrap_or_else(|error| panic!("{verb}: {error}"));
        let only_last = story.states.len() - 1;
        story.go_on_from(only_last);
        verbs.push(verb);
    }
    store.close().unwrap();
    let calls = device.log().iter().map(|operation| operation.call).collect();
    (verbs, calls)
}

/// The error that fits this kind of call and no other.
fn own_error(call: Call) -> Fault {
    match call {
        Call::Read { .. } => Fault::ReadError,
        Call::Write { .. } => Fault::WriteError,
        Call::Sync => Fault::SyncError,
        Call::Grow { .. } | Call::Allocate { .. } => Fault::GrowError,
        Call::Discard { .. } => Fault::DiscardError,
    }
}

fn sweep(what: &str, when: fn(u64) -> When, fault_at: fn(Call) -> Fault) {
    let base = failing::base(SHAPE);
    let (workload, calls) = workload(&base);
    assert!(calls.len() >= CALLS_MIN);
    let (mut random, tally, mut kinds) = (Random::new(SEED), Tally::default(), BTreeMap::new());
    for (nth, call) in (1..).zip(&calls) {
        if !is_taken(*call, &mut random) {
            continue;
        }
        let fault = fault_at(*call);
        let is_blind =
            matches!(fault, Fault::ReadError | Fault::AnyError) && matches!(when(1), When::From(_));
        let case = Case { shape: SHAPE, base: &base, workload: &workload, fault, when, seed: SEED, is_blind };
        assert!(case.run(nth, &tally), "{what}: the workload makes call {nth}");
        *kinds.entry(own_error(*call).to_string()).or_insert(0u64) += 1;
    }
    println!(
        "{what}: {} verbs, {} calls; struck: {kinds:?}; {} states after it",
        workload.len(),
        calls.len(),
        tally.count()
    );
}

#[test]
fn every_call_fails_once() {
    sweep("once", When::At, |_| Fault::AnyError);
}

#[test]
fn every_call_fails_and_all_of_its_kind_after_it() {
    sweep("its kind for good", When::From, own_error);
}

#[test]
fn every_call_fails_and_all_after_it() {
    sweep("all for good", When::From, |_| Fault::AnyError);
}

/// The length is asked for while a store is opened, and before it grows.
#[test]
fn the_length_cannot_be_asked_for() {
    let base = failing::base(SHAPE);
    let (workload, calls) = workload(&base);
    let (mut cases, tally) = (0, Tally::default());
    for (nth, call) in (1..).zip(&calls) {
        if nth > 12 && !matches!(call, Call::Grow { .. }) {
            continue;
        }
        for when in [When::At as fn(u64) -> When, When::From] {
            let (workload, fault) = (workload.as_slice(), Fault::LengthError);
            let case = Case { shape: SHAPE, base: &base, workload, fault, when, seed: SEED, is_blind: false };
            case.run(nth, &tally);
            cases += 1;
        }
    }
    println!("{cases} cases, {} states", tally.count());
}
