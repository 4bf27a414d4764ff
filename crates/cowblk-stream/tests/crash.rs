//! Crash: power is cut at each operation of a receive. No half snapshot is ever seen, and the receive goes on from what is
//! durable: what a token says is there is there.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(clippy::print_stdout, reason = "the number of crash states is part of the result")]
#![allow(missing_docs, reason = "a test crate has no outside")]

mod pair;

use std::sync::Arc;

use cowblk::device::sim::{Fault, Faults, SimDevice, Survival, When};
use cowblk::{Snapshot, Store};
use cowblk_stream::{Receive, Received, Result, Send, partials};
use pair::{assert_clean, assert_same, options, store, stream, three_snapshots};

fn open(device: &SimDevice) -> Store {
    Store::open_on(Arc::new(device.clone()), options()).unwrap()
}

fn receive(target: &Store, mut stream: &[u8]) -> Result<Received> {
    Receive::new(target).note_every_bytes(10_000).read(&mut stream)
}

fn here(target: &Store, snapshot: &Snapshot) -> Option<Snapshot> {
    target.snapshots().into_iter().find(|here| here.identity() == snapshot.identity())
}

/// Opens what a crash left, goes on with the receive, and judges.
fn go_on(source: &Store, device: &SimDevice, wanted: (&Snapshot, &[u8]), when: &str) {
    let (snapshot, stream) = wanted;
    let target = open(device);
    let servers = target.servers();
    assert!(servers.iter().all(|server| server.name() == "web"), "{when}: {servers:?}");
    if let Some(whole) = here(&target, snapshot) {
        assert_same(snapshot, &whole, when);
    } else {
        let mut rest = Vec::new();
        match partials(&target).unwrap().first() {
            Some(partial) => {
                {
                    Send::resume(source, &partial.token).unwrap().write(&mut rest).unwrap();
                };
            }
            None => rest.extend_from_slice(stream),
        }
        let received = receive(&target, &rest).unwrap();
        assert_same(snapshot, &received.snapshot, when);
    }
    let _ = target.collect();
    assert_clean(device, target);
}

#[test]
fn power_can_go_at_any_moment_of_a_receive() {
    let (_, source) = store();
    let [first, second, _] = three_snapshots(&source);
    let (whole, increment) = (stream(&source, &first, None), stream(&source, &second, Some(&first)));
    let empty = SimDevice::new(0, 1);
    Store::create_on(Arc::new(empty.clone()), options()).unwrap().close().unwrap();
    let furnished = empty.crash(&Survival::Everything);
    let target = open(&furnished);
    receive(&target, &whole).unwrap();
    target.close().unwrap();
    let mut states = 0;
    for (image, snapshot, stream) in [(&empty, &first, &whole), (&furnished, &second, &increment)] {
        for cut in 1.. {
            let device = image.crash(&Survival::Everything);
            let target = open(&device);
            let at = device.operations() + cut;
            device.set_faults(Faults::none().with(Fault::PowerCut, When::At(at)));
            let outcome = receive(&target, stream);
            drop(target);
            for survival in [Survival::Nothing, Survival::Everything, Survival::Random(cut)] {
                states += 1;
                let crashed = device.crash(&survival);
                let when = format!("{:?}, power cut at operation {cut}, {survival:?}", snapshot.name());
                go_on(&source, &crashed, (snapshot, stream), &when);
            }
            if outcome.is_ok() && !device.is_cut() {
                break;
            }
        }
    }
    println!("{states} crash states");
    assert!(states > 100, "{states} crash states");
}
