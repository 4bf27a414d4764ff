//! Transfers: what is received is what was sent, over any history, from store to store and back.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(missing_docs, reason = "a test crate has no outside")]

mod pair;

use cowblk::Extent;
use cowblk_stream::{
    DiskEntry, ErrorKind, Frame, HeadPolicy, Header, Identity, Position, Receive, Send, SnapshotEntry,
    StreamWriter,
};
use pair::{
    Dice, MIB, ReplayOnPanic, assert_clean, assert_head, assert_same, change, receive, seeds, store, stream,
    three_snapshots,
};

#[test]
fn a_replica_follows_any_history() {
    for seed in seeds(40) {
        let _replay = ReplayOnPanic { test: "-p cowblk-stream --test transfers", seed };
        let mut dice = Dice::new(seed);
        let ((_, source), (device, target)) = (store(), store());
        let web = source.create_server("web").unwrap();
        web.create_disk("vda", 2 * MIB).unwrap();
        let mut sent: Vec<cowblk::Snapshot> = Vec::new();
        for step in 0..8 {
            change(&web, &mut dice, step);
            if dice.chance(30) && !sent.is_empty() {
                web.restore(sent[dice.index(sent.len())].id()).unwrap();
                change(&web, &mut dice, step);
            }
            let snapshot = web.snapshot(&format!("s{step}"), &format!("of step {step}")).unwrap();
            if dice.chance(30) {
                source.collect().unwrap();
                target.collect().unwrap();
            }
            // Mostly since the last one, as replicas do; sometimes since any that the target has.
            let base = if dice.chance(70) { sent.last() } else { sent.get(dice.index(sent.len() + 1)) };
            let base = base.or_else(|| sent.last());
            let received = receive(&target, &stream(&source, &snapshot, base)).unwrap();
            let when = format!("seed {seed}, step {step}");
            assert_same(&snapshot, &received.snapshot, &when);
            if received.is_head_moved {
                assert_head(&received.server, &snapshot, &when);
            }
            sent.push(snapshot);
        }
        assert_eq!(target.staging_servers().len(), 0, "nothing is left of the receiving");
        for snapshot in &sent {
            let there = target.server("web").unwrap().snapshots();
            let there = there.iter().find(|there| there.identity() == snapshot.identity()).unwrap();
            assert_same(snapshot, there, &format!("seed {seed}, at the end"));
        }
        target.collect().unwrap();
        assert_clean(&*device, target);
    }
}

#[test]
fn a_stream_carries_what_changed_and_no_more() {
    let ((_, source), (_, target)) = (store(), store());
    let [first, second, third] = three_snapshots(&source);
    receive(&target, &stream(&source, &first, None)).unwrap();
    let stream = stream(&source, &second, Some(&first));
    // 50,000 bytes lie in 13 blocks, 20,000 in 6; the rest is heads, seals and the header.
    assert!(stream.len() < 19 * 4096 + 1000, "{} bytes", stream.len());
    let received = receive(&target, &stream).unwrap();
    assert_eq!((received.data_bytes, received.hole_bytes), (19 * 4096, 10 * 4096));
    let skipped = pair::stream(&source, &third, Some(&first));
    assert!(
        skipped.len() < 20 * 4096 + 1100,
        "from the first to the third in one step: {} bytes",
        skipped.len()
    );
}

#[test]
fn stores_hand_snapshots_on_and_back() {
    let ((_, a), (_, b), (_, c)) = (store(), store(), store());
    let [first, second, third] = three_snapshots(&a);
    receive(&b, &stream(&a, &first, None)).unwrap();
    receive(&b, &stream(&a, &second, Some(&first))).unwrap();
    let of_b = b.server("web").unwrap().snapshots();
    let received = receive(&c, &stream(&b, &of_b[1], None)).unwrap();
    assert_eq!(
        received.snapshot.origin(),
        first.origin().or(of_b[1].origin()),
        "it was made in the first store"
    );
    assert!(received.snapshot.origin().is_some());
    receive(&c, &stream(&b, &of_b[0], Some(&of_b[1]))).unwrap();
    let last = receive(&c, &stream(&a, &third, Some(&second))).unwrap();
    assert_same(&third, &last.snapshot, "from the first store, on top of what came through the second");
    // And back: work that was done on the replica.
    let replica = last.server;
    replica.disk("vda").unwrap().write_at(&[9; 5000], 0).unwrap();
    let work = replica.snapshot("work", "done elsewhere").unwrap();
    let back = receive(&a, &stream(&c, &work, Some(&last.snapshot))).unwrap();
    assert_same(&work, &back.snapshot, "back");
    assert!(back.is_head_moved, "nobody had written to the first store's disks meanwhile");
    assert_head(&back.server, &work, "back");
}

#[test]
fn a_snapshot_that_comes_home_has_no_origin() {
    let ((_, a), (_, b)) = (store(), store());
    let [first, second, _] = three_snapshots(&a);
    receive(&b, &stream(&a, &first, None)).unwrap();
    let there = receive(&b, &stream(&a, &second, Some(&first))).unwrap();
    a.delete_snapshot(second.id()).unwrap();
    let there_first = b.server("web").unwrap().snapshots().pop().unwrap();
    let home = receive(&a, &stream(&b, &there.snapshot, Some(&there_first))).unwrap();
    assert_eq!(home.snapshot.origin(), None);
    assert_same(&there.snapshot, &home.snapshot, "home again");
}

#[test]
fn the_disks_follow_unless_somebody_wrote_to_them() {
    let ((_, source), (_, target)) = (store(), store());
    let [first, second, third] = three_snapshots(&source);
    let web = receive(&target, &stream(&source, &first, None)).unwrap().server;
    assert_head(&web, &first, "a new server");
    web.disk("vda").unwrap().write_at(b"mine", 5 * MIB).unwrap();
    let received = receive(&target, &stream(&source, &second, Some(&first))).unwrap();
    assert!(!received.is_head_moved);
    let mut mine = [0; 4];
    web.disk("vda").unwrap().read_at(&mut mine, 5 * MIB).unwrap();
    assert_eq!(&mine, b"mine", "what somebody wrote stays");
    assert_same(&second, &received.snapshot, "beside it");
    let third_stream = stream(&source, &third, Some(&second));
    let forced = Receive::new(&target).head(HeadPolicy::Force).read(&mut third_stream.as_slice()).unwrap();
    assert!(forced.is_head_moved);
    assert_head(&web, &third, "forced");
    web.restore(web.before_restore().unwrap().id()).unwrap();
    web.disk("vda").unwrap().read_at(&mut mine, 5 * MIB).unwrap();
    assert_eq!(&mine, b"mine", "and a forced move can be undone");
}

#[test]
fn disks_that_are_to_stay_stay() {
    let ((_, source), (_, target)) = (store(), store());
    let [first, second, _] = three_snapshots(&source);
    let web = receive(&target, &stream(&source, &first, None)).unwrap().server;
    let kept = stream(&source, &second, Some(&first));
    let kept = Receive::new(&target).head(HeadPolicy::Keep).read(&mut kept.as_slice()).unwrap();
    assert!(!kept.is_head_moved);
    assert_head(&web, &first, "kept");
    assert_same(&second, &kept.snapshot, "kept");
}

#[test]
fn a_clone_is_sent_on_top_of_what_it_was_cloned_from() {
    let ((_, source), (device, target)) = (store(), store());
    let [first, ..] = three_snapshots(&source);
    receive(&target, &stream(&source, &first, None)).unwrap();
    let clone = first.clone_server("clone").unwrap();
    clone.disk("vda").unwrap().write_at(&[8; 4096], 3 * MIB).unwrap();
    let snapshot = clone.snapshot("grown", "").unwrap();
    let stream = stream(&source, &snapshot, Some(&first));
    assert!(stream.len() < 4096 + 1000, "{} bytes for one block", stream.len());
    let received = Receive::new(&target).server("clone").read(&mut stream.as_slice()).unwrap();
    assert_eq!(received.server.name(), "clone");
    assert_same(&snapshot, &received.snapshot, "the clone");
    assert_head(&received.server, &snapshot, "the clone");
    assert_head(&target.server("web").unwrap(), &first, "what it was cloned from");
    assert_clean(&*device, target);
}

#[test]
fn a_disk_that_was_made_anew_under_an_old_name_is_whole() {
    let ((_, source), (_, target)) = (store(), store());
    let [first, ..] = three_snapshots(&source);
    receive(&target, &stream(&source, &first, None)).unwrap();
    let web = source.server("web").unwrap();
    web.delete_disk("vda").unwrap();
    web.create_disk("vda", 3 * MIB).unwrap().write_at(&[6; 6000], 4096).unwrap();
    let anew = web.snapshot("anew", "").unwrap();
    let received = receive(&target, &stream(&source, &anew, Some(&first))).unwrap();
    assert_same(&anew, &received.snapshot, "anew");
    assert_head(&received.server, &anew, "anew");
}

#[test]
fn an_empty_server_and_empty_disks_can_be_sent() {
    let ((_, source), (_, target)) = (store(), store());
    let bare = source.create_server("bare").unwrap().snapshot("nothing", "").unwrap();
    let received = receive(&target, &stream(&source, &bare, None)).unwrap();
    assert_same(&bare, &received.snapshot, "no disk");
    let web = source.create_server("web").unwrap();
    web.create_disk("vda", 512).unwrap();
    let empty = web.snapshot("empty", "").unwrap();
    let received = receive(&target, &stream(&source, &empty, None)).unwrap();
    assert_same(&empty, &received.snapshot, "an empty disk");
    assert_head(&received.server, &empty, "an empty disk");
}

#[test]
fn a_wrong_base_is_refused() {
    let ((_, source), (_, target)) = (store(), store());
    let [first, second, third] = three_snapshots(&source);
    let increment = stream(&source, &second, Some(&first));
    let refusal = receive(&target, &increment).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::WrongBase, "{refusal}");
    assert!(refusal.to_string().contains("\"first\""), "{refusal}");
    // A snapshot with the same name, the same id and the same content, but not the same one.
    let twins = three_snapshots(&target);
    assert_eq!(twins[0].id(), first.id());
    assert_eq!(receive(&target, &increment).unwrap_err().kind(), ErrorKind::WrongBase);
    // The right server, and an older snapshot than the stream builds on.
    let (_, other) = store();
    receive(&other, &stream(&source, &first, None)).unwrap();
    let refusal = receive(&other, &stream(&source, &third, Some(&second))).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::WrongBase, "{refusal}");
    assert!(target.staging_servers().is_empty() && other.staging_servers().is_empty());
}

#[test]
fn a_stream_that_comes_twice_is_refused() {
    let ((_, source), (_, target)) = (store(), store());
    let [first, second, _] = three_snapshots(&source);
    let (whole, increment) = (stream(&source, &first, None), stream(&source, &second, Some(&first)));
    receive(&target, &whole).unwrap();
    receive(&target, &increment).unwrap();
    for replayed in [&whole, &increment] {
        let refusal = receive(&target, replayed).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Exists, "{refusal}");
        assert!(refusal.to_string().contains("is here already"), "{refusal}");
    }
    assert_eq!(target.snapshots().len(), 2);
}

#[test]
fn names_that_are_taken_are_refused_before_anything_is_received() {
    let ((_, source), (_, target)) = (store(), store());
    let [first, second, _] = three_snapshots(&source);
    target.create_server("web").unwrap().create_disk("vda", 512).unwrap();
    let whole = stream(&source, &first, None);
    let refusal = receive(&target, &whole).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Exists, "{refusal}");
    let copy = Receive::new(&target).server("copy").read(&mut whole.as_slice()).unwrap().server;
    copy.snapshot("second", "not the same one").unwrap();
    let refusal = receive(&target, &stream(&source, &second, Some(&first))).unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Exists, "{refusal}");
    assert!(refusal.to_string().contains("\"copy\""), "it would go where its base is: {refusal}");
    assert!(target.staging_servers().is_empty());
}

#[test]
fn streams_can_follow_on_one_another() {
    let ((_, source), (_, target)) = (store(), store());
    let [first, second, third] = three_snapshots(&source);
    let all = [
        stream(&source, &first, None),
        stream(&source, &second, Some(&first)),
        stream(&source, &third, Some(&second)),
    ];
    let all = all.concat();
    let mut rest = all.as_slice();
    for snapshot in [&first, &second, &third] {
        assert_same(snapshot, &Receive::new(&target).read(&mut rest).unwrap().snapshot, "one after another");
    }
    assert_eq!(Receive::new(&target).read(&mut rest).unwrap_err().kind(), ErrorKind::NotAStream);
}

#[test]
fn both_ends_tell_how_far_they_are() {
    let ((_, source), (_, target)) = (store(), store());
    let [first, ..] = three_snapshots(&source);
    let (mut sent, mut received, mut stream) = (Vec::new(), Vec::new(), Vec::new());
    let done =
        Send::new(&source, &first).progress(|done, all| sent.push((done, all))).write(&mut stream).unwrap();
    let mut input = stream.as_slice();
    Receive::new(&target).progress(|done, all| received.push((done, all))).read(&mut input).unwrap();
    assert_eq!(sent, received);
    assert!(sent.is_sorted());
    assert_eq!(sent.last(), Some(&(done.data_bytes, done.data_bytes)));
}

#[test]
fn a_snapshot_that_is_gone_cannot_be_sent() {
    let (_, source) = store();
    let [first, second, _] = three_snapshots(&source);
    source.delete_snapshot(first.id()).unwrap();
    for sending in [Send::new(&source, &first), Send::new(&source, &second).since(&first)] {
        let refusal = sending.write(&mut Vec::new()).unwrap_err();
        assert_eq!(refusal.store().unwrap().kind(), cowblk::ErrorKind::NotFound, "{refusal}");
    }
}

/// Blocks of zeros in a stream that another program made: they take no space in the store that receives it.
#[test]
fn zeros_that_a_stream_carries_take_no_space() {
    let snapshot = SnapshotEntry {
        identity: Identity([2; 16]),
        origin: [1; 16],
        id: 7,
        created_at: 1_700_000_000,
        name: "odd".into(),
        description: String::new(),
    };
    let disks = vec![DiskEntry { name: "vda".into(), size_bytes: MIB, base_bytes: None }];
    let header = Header {
        store: [1; 16],
        server: "web".into(),
        snapshot,
        base: None,
        disks,
        start: Position::default(),
        data_bytes: 40 * 4096,
    };
    let mut bytes = vec![0; 40 * 4096];
    bytes[7 * 4096..8 * 4096].fill(9);
    let mut writer = StreamWriter::new(Vec::new(), &header).unwrap();
    for (offset, part) in [(0, &bytes[..20 * 4096]), (20 * 4096, &bytes[20 * 4096..])] {
        writer.frame(Frame::Data { at: Position { disk: 0, offset }, bytes: part }).unwrap();
    }
    let stream = writer.finish().unwrap();

    let (device, target) = store();
    receive(&target, &stream).unwrap();
    let web = target.server("web").unwrap();
    let held = web.snapshots()[0].disk("vda").unwrap();
    let data: Vec<_> = held.extents(0..MIB).map(|extent| extent.unwrap()).filter(Extent::is_data).collect();
    assert_eq!(data.iter().map(|extent| (extent.offset, extent.len)).collect::<Vec<_>>(), [(7 * 4096, 4096)]);
    let mut found = vec![1; 40 * 4096];
    held.read_at(&mut found, 0).unwrap();
    assert!(found == bytes);
    drop((web, held));
    assert_clean(&*device, target);
}
