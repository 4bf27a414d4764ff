//! Stream: what a receiver makes of any bytes, with seals that fit.
//!
//! Bytes that are read as a stream are, written again, the same bytes. What a store receives is what the frames say, put one
//! after another on disks of zeros; and a stream that is refused leaves no snapshot.
//!
//! The stream is put together here from docs/stream.md alone. `crates/cowblk-stream/tests/codec.rs` includes this file.

use std::collections::BTreeMap;
use std::sync::Arc;

use cowblk::device::MemoryDevice;
use cowblk::{Options, Store};
use cowblk_stream::{Frame, Header, Position, Receive, StreamReader, StreamWriter};

/// Beyond this many bytes, contents are not compared.
const COMPARED_BYTES_MAX: u64 = 1 << 22;

/// Reads choices out of a fuzzer's bytes.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn word(&mut self, count: usize) -> u64 {
        let mut word = [0; 8];
        let taken = self.take(count);
        word[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(word)
    }
}

/// The property. Whether the stream was whole, and a snapshot came of it.
pub fn run(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    let stream = match choices.word(1) % 4 {
        0 => choices.0.to_vec(),
        1 => {
            let length = usize::try_from(choices.word(2)).unwrap();
            let header = choices.take(length).to_vec();
            sealed(&header, &mut choices)
        }
        _ => {
            let header = plausible_header(&mut choices);
            sealed(&header, &mut choices)
        }
    };
    let frames = read(&stream);
    receive(&stream, frames)
}

/// A header of one or two small disks, as docs/stream.md lays it out.
fn plausible_header(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut header = vec![7; 16];
    let text = |header: &mut Vec<u8>, text: &str| {
        header.extend((text.len() as u16).to_le_bytes());
        header.extend(text.as_bytes());
    };
    let start = choices.word(1);
    header.extend(0_u32.to_le_bytes());
    header.extend(u32::from(start == 255).to_le_bytes());
    header.extend((if start > 250 { 512 * (start % 3) } else { 0 }).to_le_bytes());
    header.extend(choices.word(2).to_le_bytes());
    text(&mut header, "web");
    header.extend([9; 32]);
    header.extend([0; 16]);
    text(&mut header, "s");
    text(&mut header, "");
    let disks = 1 + choices.word(1) % 2;
    header.extend((disks as u32).to_le_bytes());
    for disk in 0..disks {
        header.extend((512 * (1 + choices.word(1))).to_le_bytes());
        header.extend(0_u64.to_le_bytes());
        text(&mut header, ["vda", "vdb"][usize::try_from(disk).unwrap()]);
    }
    header
}

/// A stream with this header, and frames by choice; every seal fits.
fn sealed(header: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let mut stream = b"cowblkST".to_vec();
    stream.extend(1_u32.to_le_bytes());
    stream.extend((header.len() as u32).to_le_bytes());
    stream.extend(header);
    let mut seal = blake3::hash(&stream);
    stream.extend(seal.as_bytes());
    let is_whole = !choices.word(1).is_multiple_of(4);
    let (mut frames, mut bytes, mut offset) = (0_u64, 0_u64, 0_u64);
    while !choices.0.is_empty() || is_whole {
        let (kind, disk) = if choices.0.is_empty() { (243, 0) } else { (choices.word(1), choices.word(1)) };
        let mut head = [0; 24];
        let skip = choices.word(1);
        let length = choices.word(1) * if skip > 250 { 511 } else { 512 };
        let (kind, disk) = (
            if kind < 120 {
                1
            } else if kind < 240 {
                2
            } else {
                kind % 5
            },
            disk / 100,
        );
        if skip < 200 {
            offset += 512 * (skip % 4);
        } else {
            offset = 512 * (skip % 8);
        }
        let end = (frames, bytes);
        let (second, third) = if kind == 3 { (end.1, end.0) } else { (offset, length) };
        head[..4].copy_from_slice(&(kind as u32).to_le_bytes());
        head[4..8].copy_from_slice(&(disk as u32).to_le_bytes());
        head[8..16].copy_from_slice(&second.to_le_bytes());
        head[16..].copy_from_slice(&third.to_le_bytes());
        let data = vec![(frames % 7) as u8; if kind == 1 { usize::try_from(length).unwrap() } else { 0 }];
        let mut hasher = blake3::Hasher::new();
        hasher.update(seal.as_bytes()).update(&head).update(&data);
        seal = hasher.finalize();
        stream.extend(head);
        stream.extend(&data);
        stream.extend(seal.as_bytes());
        if kind == 3 {
            return stream;
        }
        offset += length;
        frames += 1;
        bytes += data.len() as u64;
    }
    stream
}

/// A disk's frames: offset, length, and the byte that fills it.
type Pieces = Vec<(Position, u64, u8)>;

/// Reads a stream to its end, and writes it again. What it held, if it was a whole one.
fn read(stream: &[u8]) -> Option<(Header, Pieces)> {
    let mut rest = stream;
    let mut reader = StreamReader::new(&mut rest).ok()?;
    let header = reader.header().clone();
    let mut again = Vec::new();
    let mut writer = StreamWriter::new(&mut again, &header).unwrap();
    let (mut pieces, mut reached) = (Pieces::new(), header.start);
    loop {
        let (at, len, byte) = match reader.next_frame().ok()? {
            Frame::End { .. } => break,
            frame @ Frame::Data { at, bytes } => {
                writer.frame(frame).unwrap();
                (at, bytes.len() as u64, bytes[0])
            }
            frame @ Frame::Hole { at, len } => {
                writer.frame(frame).unwrap();
                (at, len, 0)
            }
        };
        assert!(at >= reached && len > 0, "frames come in order, and each holds something");
        let size = header.disks[usize::try_from(at.disk).unwrap()].size_bytes;
        assert!(at.offset.checked_add(len).is_some_and(|end| end <= size), "a frame lies inside its disk");
        reached = Position { offset: at.offset + len, ..at };
        pieces.push((at, len, byte));
    }
    drop(reader);
    writer.finish().unwrap();
    assert!(again == stream[..stream.len() - rest.len()], "what was read is not what is written");
    Some((header, pieces))
}

fn receive(stream: &[u8], whole: Option<(Header, Pieces)>) -> bool {
    let device = Arc::new(MemoryDevice::new(0));
    let options = Options::default().journal_bytes(64 << 10).zone_blocks(128).background(false);
    let store = Store::create_on(device, options).unwrap();
    let received = Receive::new(&store).read(&mut &*stream);
    let Ok(received) = received else {
        assert!(store.snapshots().is_empty(), "a stream that was refused left a snapshot");
        return false;
    };
    let (header, pieces) = whole.expect("what was received can be read");
    assert_eq!(received.snapshot.name(), header.snapshot.name);
    let mut expected: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for (index, disk) in (0..).zip(&header.disks) {
        if disk.size_bytes <= COMPARED_BYTES_MAX {
            expected.insert(index, vec![0; usize::try_from(disk.size_bytes).unwrap()]);
        }
    }
    for (at, len, byte) in pieces {
        if let Some(content) = expected.get_mut(&at.disk) {
            let start = usize::try_from(at.offset).unwrap();
            content[start..start + usize::try_from(len).unwrap()].fill(byte);
        }
    }
    for (index, content) in expected {
        let disk = received.snapshot.disk(&header.disks[usize::try_from(index).unwrap()].name).unwrap();
        let mut found = vec![0; content.len()];
        disk.read_at(&mut found, 0).unwrap();
        assert!(found == content, "disk {index} holds something else");
    }
    true
}
