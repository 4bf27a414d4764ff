//! Cuts: a stream that ends anywhere leaves no snapshot, and can be gone on with from there.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(missing_docs, reason = "a test crate has no outside")]

mod pair;

use cowblk::{Snapshot, Store};
use cowblk_stream::{ErrorKind, Identity, Receive, Send, Token, abandon, partials};
use pair::{Dice, ReplayOnPanic, assert_clean, assert_same, receive, seeds, store, stream, three_snapshots};

/// A target that holds the first snapshot; the second one, and the stream from the first to it.
fn scene() -> (Store, [Snapshot; 3], Vec<u8>) {
    let (_, source) = store();
    let snapshots = three_snapshots(&source);
    let stream = stream(&source, &snapshots[1], Some(&snapshots[0]));
    (source, snapshots, stream)
}

fn visible(target: &Store) -> Vec<(String, Vec<String>)> {
    let servers = target.servers();
    servers.iter().map(|s| (s.name(), s.snapshots().iter().map(Snapshot::name).collect())).collect()
}

#[test]
fn a_stream_can_be_cut_anywhere_and_gone_on_with() {
    let (source, [first, second, _], incremental) = scene();
    let whole = stream(&source, &first, None);
    for seed in seeds(60) {
        let _replay = ReplayOnPanic { test: "-p cowblk-stream --test cuts", seed };
        let mut dice = Dice::new(seed);
        let (device, target) = store();
        let (snapshot, stream) = if dice.chance(50) {
            (&first, &whole)
        } else {
            receive(&target, &whole).unwrap();
            (&second, &incremental)
        };
        let before = visible(&target);
        let mut token: Option<Token> = None;
        let mut cuts = 1 + dice.below(4);
        let received = loop {
            let mut rest = Vec::new();
            match &token {
                None => rest.clone_from(stream),
                Some(token) => {
                    Send::resume(&source, token).unwrap().write(&mut rest).unwrap();
                }
            }
            if cuts > 0 {
                rest.truncate(dice.index(rest.len()));
                cuts -= 1;
            }
            let every = 1 + dice.below(100_000);
            let receiving = Receive::new(&target).note_every_bytes(every);
            match receiving.read(&mut rest.as_slice()) {
                Ok(received) => break received,
                Err(error) => {
                    let cut_short = rest.is_empty() && error.kind() == ErrorKind::NotAStream;
                    assert!(cut_short || error.kind() == ErrorKind::Truncated, "seed {seed}: {error}");
                    assert_eq!(visible(&target), before, "seed {seed}: a half snapshot is to be seen");
                    let text = error.token().map(ToString::to_string);
                    token = text.map(|text| text.parse().unwrap()).or(token);
                }
            }
        };
        assert_same(snapshot, &received.snapshot, &format!("seed {seed}"));
        assert!(partials(&target).unwrap().is_empty() && target.staging_servers().is_empty());
        assert_clean(&*device, target);
    }
}

#[test]
fn going_on_sends_only_what_is_missing() {
    let (source, [first, ..], _) = scene();
    let whole = stream(&source, &first, None);
    let (_, target) = store();
    let error = Receive::new(&target).read(&mut &whole[..whole.len() - 300]).unwrap_err();
    let token = error.token().unwrap();
    let mut rest = Vec::new();
    Send::resume(&source, token).unwrap().write(&mut rest).unwrap();
    assert!(rest.len() < 6000, "{} of {} bytes are sent again", rest.len(), whole.len());
    let received = Receive::new(&target).read(&mut rest.as_slice()).unwrap();
    assert_same(&first, &received.snapshot, "the rest");
    let sent = stream(&source, &first, None).len();
    assert!(
        received.data_bytes + 10_000 > sent as u64,
        "the first part counts, too: {}",
        received.data_bytes
    );
}

#[test]
fn a_receive_that_was_cut_can_be_listed_and_given_up() {
    let (source, [first, second, _], incremental) = scene();
    let (device, target) = store();
    receive(&target, &stream(&source, &first, None)).unwrap();
    target.collect().unwrap();
    let used = target.status().used_blocks;
    let error = receive(&target, &incremental[..incremental.len() / 2]).unwrap_err();
    let partial = partials(&target).unwrap();
    assert_eq!(partial.len(), 1);
    assert_eq!(Some(&partial[0].token), error.token());
    assert!(abandon(&target, Identity(second.identity())).unwrap());
    assert!(partials(&target).unwrap().is_empty() && target.staging_servers().is_empty());
    target.collect().unwrap();
    assert_eq!(target.status().used_blocks, used, "nothing is left of it");
    assert!(!abandon(&target, Identity(second.identity())).unwrap());
    assert_same(&second, &receive(&target, &incremental).unwrap().snapshot, "from the start");
    assert_clean(&*device, target);
}

#[test]
fn a_stream_that_begins_too_late_is_refused() {
    let (source, [first, ..], _) = scene();
    let whole = stream(&source, &first, None);
    let (_, target) = store();
    let error = receive(&target, &whole[..whole.len() - 300]).unwrap_err();
    let mut rest = Vec::new();
    Send::resume(&source, error.token().unwrap()).unwrap().write(&mut rest).unwrap();
    let (_, fresh) = store();
    let refusal = receive(&fresh, &rest).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::WrongPosition, "{refusal}");
    assert!(fresh.snapshots().is_empty());
    let mut from_start = Vec::new();
    Send::resume(&source, refusal.token().unwrap()).unwrap().write(&mut from_start).unwrap();
    assert_same(&first, &receive(&fresh, &from_start).unwrap().snapshot, "from where it says");
}

#[test]
fn a_token_of_another_store_is_refused() {
    let (source, [first, second, _], _) = scene();
    let (_, stranger) = store();
    let (_, target) = store();
    let whole = stream(&source, &first, None);
    let error = receive(&target, &whole[..whole.len() / 2]).unwrap_err();
    let refusal = Send::resume(&stranger, error.token().unwrap()).err().unwrap();
    assert_eq!(refusal.kind(), ErrorKind::NotFound, "{refusal}");
    // A token whose place lies outside of the snapshot.
    let mut forged = error.token().unwrap().clone();
    forged.position.offset = 1 << 40;
    let refusal = Send::resume(&source, &forged).unwrap().write(&mut Vec::new()).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Damaged, "{refusal}");
    forged.snapshot = Identity(second.identity());
    forged.base = forged.snapshot.into();
    assert!(Send::resume(&source, &forged).unwrap().write(&mut Vec::new()).is_err());
}

#[test]
fn a_change_of_many_frames_can_be_cut_between_any_two() {
    let (_, source) = store();
    let web = source.create_server("web").unwrap();
    let disk = web.create_disk("vda", 4 << 20).unwrap();
    let bytes: Vec<u8> = (0..4 << 20).map(|at: u32| (at / 4096 + 1).to_le_bytes()[0] | 1).collect();
    disk.write_at(&bytes, 0).unwrap();
    let snapshot = web.snapshot("long", "").unwrap();
    let whole = stream(&source, &snapshot, None);
    for frames in 1..4 {
        let (_, target) = store();
        let error = receive(&target, &whole[..frames * (1 << 20) + 1000]).unwrap_err();
        let mut rest = Vec::new();
        Send::resume(&source, error.token().unwrap()).unwrap().write(&mut rest).unwrap();
        assert_same(&snapshot, &receive(&target, &rest).unwrap().snapshot, &format!("after {frames} frames"));
    }
}

#[test]
fn what_came_on_one_base_is_not_used_on_another() {
    let (_, source) = store();
    let [first, second, third] = three_snapshots(&source);
    let (_, target) = store();
    receive(&target, &stream(&source, &first, None)).unwrap();
    receive(&target, &stream(&source, &second, Some(&first))).unwrap();
    let on_second = stream(&source, &third, Some(&second));
    receive(&target, &on_second[..on_second.len() - 100]).unwrap_err();
    let received = receive(&target, &stream(&source, &third, Some(&first))).unwrap();
    assert_same(&third, &received.snapshot, "on the first");
    assert_eq!(
        received.snapshot.parent().map(|id| target.snapshot(id).unwrap().name()),
        Some("first".into())
    );
}
