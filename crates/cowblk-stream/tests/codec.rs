//! Codec: what was written is read back; what was changed on the way is noticed, and where.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]
#![allow(missing_docs, reason = "a test crate has no outside")]

mod pair;

#[allow(clippy::cast_possible_truncation, reason = "the numbers are those of small streams")]
#[allow(unreachable_pub, reason = "it is written for the fuzzer")]
#[path = "../../../fuzz/properties/stream.rs"]
mod property;

use cowblk_stream::{
    DiskEntry, ErrorKind, Frame, Header, Identity, Position, SnapshotEntry, StreamReader, StreamWriter,
};
use pair::{Dice, ReplayOnPanic, seeds};
use proptest::collection::vec;
use proptest::prelude::*;

const HEAD_BYTES: usize = 24;
const SEAL_BYTES: usize = 32;

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,64}"
}

prop_compose! {
    fn snapshot()(identity in any::<[u8; 16]>(), origin in any::<[u8; 16]>(), id in any::<u64>(), created_at in any::<u64>(), name in name(), description in ".{0,200}") -> SnapshotEntry {
        SnapshotEntry { identity: Identity(identity), origin, id, created_at, name, description }
    }
}

prop_compose! {
    fn disk(is_incremental: bool)(name in name(), sectors in 1..1_u64 << 41, base in 0..1_u64 << 41) -> DiskEntry {
        let base_bytes = (is_incremental && base % 2 == 0 && base > 0).then_some(base * 512);
        DiskEntry { name, size_bytes: sectors * 512, base_bytes }
    }
}

prop_compose! {
    fn header()(is_incremental in any::<bool>())
        (store in any::<[u8; 16]>(), server in name(), snapshot in snapshot(), base in snapshot(), disks in vec(disk(is_incremental), 0..10), at in 0..10_u32, sectors in any::<u64>(), data_bytes in any::<u64>(), is_incremental in Just(is_incremental)) -> Header {
        let mut disks = disks;
        disks.sort_by(|a, b| a.name.cmp(&b.name));
        disks.dedup_by(|a, b| a.name == b.name);
        let start = match disks.get(at as usize) {
            Some(disk) => Position { disk: at, offset: sectors % (disk.size_bytes / 512 + 1) * 512 },
            None => Position { disk: u32::try_from(disks.len()).unwrap(), offset: 0 },
        };
        Header { store, server, snapshot, base: is_incremental.then_some(base), disks, start, data_bytes }
    }
}

proptest! {
    #[test]
    fn any_header_comes_back(header in header()) {
        prop_assume!(header.base.as_ref().is_none_or(|base| base.identity != header.snapshot.identity));
        let encoded = header.encode().unwrap();
        prop_assert_eq!(&Header::decode(&encoded).unwrap(), &header);
        for end in 0..encoded.len() {
            prop_assert!(Header::decode(&encoded[..end]).is_err(), "cut to {} bytes", end);
        }
        prop_assert!(Header::decode(&[encoded, vec![0]].concat()).is_err());
    }

    #[test]
    fn no_header_panics(bytes in vec(any::<u8>(), 0..400)) {
        if let Ok(header) = Header::decode(&bytes) {
            prop_assert_eq!(header.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_a_stream_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        property::run(&bytes);
    }
}

/// Replays fuzz/regressions/stream: what the fuzz target once failed on goes there, beside one input for each way in which a stream is refused.
#[test]
fn inputs_of_the_fuzz_target_hold() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions/stream");
    let mut whole = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if property::run(&std::fs::read(entry.path()).unwrap()) {
            whole.push(entry.file_name().into_string().unwrap());
        }
    }
    assert_eq!(whole, ["a-whole-stream"], "the others are refused");
}

fn small_header() -> Header {
    let entry = |byte, name: &str| SnapshotEntry {
        identity: Identity([byte; 16]),
        origin: [1; 16],
        id: 7,
        created_at: 1_700_000_000,
        name: name.into(),
        description: "a remark".into(),
    };
    let disk = |name: &str| DiskEntry { name: name.into(), size_bytes: 1 << 20, base_bytes: None };
    Header {
        store: [1; 16],
        server: "web".into(),
        snapshot: entry(2, "second"),
        base: Some(entry(3, "first")),
        disks: vec![disk("vda"), disk("vdb")],
        start: Position::default(),
        data_bytes: 1536,
    }
}

const AT: [Position; 3] =
    [Position { disk: 0, offset: 512 }, Position { disk: 0, offset: 4096 }, Position { disk: 1, offset: 0 }];

/// A small stream, and where each of its parts ends: prologue and header, data, hole, data, end.
fn small_stream() -> (Vec<u8>, Vec<usize>) {
    let header = small_header();
    let mut stream = Vec::new();
    let mut writer = StreamWriter::new(&mut stream, &header).unwrap();
    writer.frame(Frame::Data { at: AT[0], bytes: &[5; 512] }).unwrap();
    writer.frame(Frame::Hole { at: AT[1], len: 8192 }).unwrap();
    writer.frame(Frame::Data { at: AT[2], bytes: &[6; 1024] }).unwrap();
    writer.finish().unwrap();
    let frame = |data: usize| HEAD_BYTES + data + SEAL_BYTES;
    let header_end = 16 + header.encode().unwrap().len() + SEAL_BYTES;
    let ends = [frame(512), frame(0), frame(1024), frame(0)];
    let ends = ends.iter().scan(header_end, |at, length| {
        *at += length;
        Some(*at)
    });
    (stream, [header_end].into_iter().chain(ends).collect())
}

/// How many parts (the header is one) are read before what error.
fn read(stream: &[u8]) -> (usize, Option<ErrorKind>) {
    let mut reader = match StreamReader::new(stream) {
        Ok(reader) => reader,
        Err(error) => return (0, Some(error.kind())),
    };
    for parts in 1.. {
        match reader.next_frame() {
            Ok(Frame::End { .. }) => return (parts + 1, None),
            Ok(_) => {}
            Err(error) => return (parts, Some(error.kind())),
        }
    }
    unreachable!()
}

#[test]
fn every_flipped_bit_is_noticed_in_the_part_that_it_is_in() {
    let (stream, ends) = small_stream();
    assert_eq!(stream.len(), *ends.last().unwrap());
    assert_eq!(read(&stream), (5, None));
    for at in 0..stream.len() {
        for bit in 0..8 {
            let mut flipped = stream.clone();
            flipped[at] ^= 1 << bit;
            let part = ends.iter().position(|end| at < *end).unwrap();
            let (read, error) = read(&flipped);
            assert_eq!(read, part, "bit {bit} of byte {at}: {error:?}");
            assert!(error.is_some());
        }
    }
}

#[test]
fn every_cut_is_noticed() {
    let (stream, ends) = small_stream();
    for length in 0..stream.len() {
        let part = ends.iter().position(|end| length < *end).unwrap();
        let (read, error) = read(&stream[..length]);
        let expected = if length == 0 { ErrorKind::NotAStream } else { ErrorKind::Truncated };
        assert_eq!((read, error), (part, Some(expected)), "cut to {length} bytes");
    }
}

#[test]
fn frames_that_are_lost_repeated_or_moved_are_noticed() {
    let (stream, ends) = small_stream();
    let part = |at: usize| &stream[if at == 0 { 0 } else { ends[at - 1] }..ends[at]];
    for order in [
        &[0, 2, 3, 4][..],
        &[0, 1, 1, 2, 3, 4],
        &[0, 2, 1, 3, 4],
        &[0, 1, 2, 4],
        &[0, 4],
        &[0, 1, 2, 3, 3, 4],
    ] {
        let changed: Vec<u8> = order.iter().flat_map(|at| part(*at)).copied().collect();
        assert_eq!(read(&changed).1, Some(ErrorKind::Damaged), "{order:?}");
    }
    // The frames of another stream, behind this one's header.
    let mut other = small_header();
    other.data_bytes += 1;
    let mut foreign = Vec::new();
    StreamWriter::new(&mut foreign, &other).map(|_| ()).unwrap();
    foreign.extend_from_slice(&stream[ends[0]..]);
    assert_eq!(read(&foreign), (1, Some(ErrorKind::Damaged)));
}

#[test]
fn what_is_no_stream_is_said_to_be_none() {
    assert_eq!(read(b""), (0, Some(ErrorKind::NotAStream)));
    assert_eq!(read(b"PK\x03\x04 something else entirely"), (0, Some(ErrorKind::NotAStream)));
    let (mut stream, _) = small_stream();
    stream[8] = 2;
    let error = StreamReader::new(stream.as_slice()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("version 2"), "{error}");
}

#[test]
fn an_unknown_feature_is_refused_by_number() {
    let mut encoded = small_header().encode().unwrap();
    encoded[16] |= 4;
    let error = Header::decode(&encoded).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("0x5"), "{error}");
}

#[test]
fn a_reader_takes_no_byte_too_many() {
    let (stream, _) = small_stream();
    let twice = [stream.clone(), stream].concat();
    let mut input = twice.as_slice();
    for _ in 0..2 {
        let mut reader = StreamReader::new(&mut input).unwrap();
        while !matches!(reader.next_frame().unwrap(), Frame::End { .. }) {}
    }
    assert!(input.is_empty());
}

/// Inputs that the fuzzer would come to: the generator that fills its corpus.
#[test]
fn the_property_of_the_fuzzer_holds() {
    let (mut runs, mut whole) = (0, 0);
    for seed in seeds(3000) {
        let _replay = ReplayOnPanic { test: "-p cowblk-stream --test codec", seed };
        let mut dice = Dice::new(seed);
        // A header of two disks and frames that make sense; then, often, a few bytes that are anything.
        let mut bytes = vec![2, 0, 9, 9, 1, 200, 200, 1];
        for _ in 0..dice.below(12) {
            let kind = if dice.chance(60) { 1 } else { 200 };
            let frame = [kind, dice.below(2) * 99, dice.below(4), 1 + dice.below(15)];
            bytes.extend(frame.map(|choice| u8::try_from(choice).unwrap()));
        }
        for _ in 0..dice.below(4) {
            let at = dice.index(bytes.len());
            bytes[at] = dice.next().to_le_bytes()[0];
        }
        runs += 1;
        whole += usize::from(property::run(&bytes));
    }
    assert!(
        runs < 1000 || whole > runs / 20,
        "{whole} of {runs} streams were whole: too few to say anything"
    );
}
