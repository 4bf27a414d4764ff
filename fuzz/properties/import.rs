//! Import: what the command line does with an image, in memory: files with holes, which change while they are read, streams
//! that give a little at a time, and disks of any size that are new or hold something.
//!
//! An image that fits is what the disk reads as afterwards, with zeros behind it, and the digest is that of the image. One
//! that does not fit is refused, and so is one that cannot be read.

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};

use cowblk::{Disk, Store};

use super::bases::options;
use super::input::Input;
use super::medium::Medium;
use super::pages::Pages;

#[allow(dead_code, reason = "the command line uses the rest")]
#[path = "../../crates/cowblk-cli/src/transfer/digest.rs"]
mod digest;
#[path = "../../crates/cowblk-cli/src/transfer/filling.rs"]
mod filling;
#[allow(dead_code, reason = "the command line uses the rest")]
#[path = "../../crates/cowblk-cli/src/transfer/sparse.rs"]
mod sparse;

use filling::{Copied, Filling};
use sparse::{Reader, Sparse, next_of_stream};

const SECTOR: usize = 512;
const SECTORS_MAX: usize = 96;
const RUNS_MAX: usize = 10;

/// The property.
pub fn run(data: &[u8]) {
    let input = &mut Input(data);
    let sectors = 1 + input.below(SECTORS_MAX);
    let is_new = input.chance();
    let store = Store::open_on(Medium::new(Pages::new(empty())), options()).unwrap();
    let disk = store.server("web").unwrap().create_disk("vda", (sectors * SECTOR) as u64).unwrap();
    if !is_new {
        disk.write_at(&vec![0xEE; sectors * SECTOR], 0).unwrap();
    }
    let file = File::make(input);
    let mut buffer = vec![0xBB; (1 + input.below(16)) * SECTOR];
    let filling = Filling { disk: &disk, is_new, wants_digest: true };
    let is_stream = input.chance();
    let copied = if is_stream {
        let mut stream = Stream { rest: &file.image, steps: input.0 };
        filling.fill(&mut buffer, &mut |buf| Ok(next_of_stream(&mut stream, buf)?), &|| Stop::TooLong)
    } else {
        let mut reader = Reader::new(&file, file.image.len() as u64);
        filling.fill(&mut buffer, &mut |buf| Ok(reader.next(buf)?), &|| Stop::TooLong)
    };
    expect(&disk, &file, copied, is_stream);
    drop(disk);
}

fn expect(disk: &Disk, file: &File, copied: Result<Copied, Stop>, is_stream: bool) {
    let (image, size) = (&file.image, disk.size_bytes() as usize);
    match copied {
        Ok(copied) => {
            let mut held = vec![0xAA; size];
            disk.read_at(&mut held, 0).unwrap();
            assert!(image.len() <= size, "an image of {} bytes went into {size}", image.len());
            let (start, rest) = held.split_at(image.len());
            assert!(start == image, "the disk does not read as the image");
            assert!(rest.iter().all(|byte| *byte == 0), "the disk does not read as zeros behind the image");
            assert_eq!(copied.image_bytes, image.len() as u64);
            assert!(copied.data_bytes <= copied.image_bytes);
            assert_eq!(copied.blake3, Some(blake3::hash(image)));
        }
        Err(Stop::TooLong) => assert!(image.len() > size, "{} bytes fit into {size}", image.len()),
        Err(Stop::Io) => assert!(!is_stream && file.fails_from < image.len(), "nothing failed"),
        Err(Stop::Store(error)) => panic!("the store says {error}"),
    }
}

/// The image of a store with one server and no disk.
fn empty() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let device = Arc::new(cowblk::device::MemoryDevice::new(0));
        let store = Store::create_on(device.clone(), options()).unwrap();
        store.create_server("web").unwrap();
        store.close().unwrap();
        device.to_bytes()
    })
}

#[derive(Debug)]
enum Stop {
    TooLong,
    Io,
    Store(cowblk::Error),
}

impl From<cowblk::Error> for Stop {
    fn from(error: cowblk::Error) -> Self {
        Stop::Store(error)
    }
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Stop::Io
    }
}

/// A file: where it holds data, at the granularity of its file system, and where it cannot be read.
struct File {
    image: Vec<u8>,
    /// Ends of runs: data, hole, data, and so on.
    ends: Vec<usize>,
    fails_from: usize,
}

impl File {
    fn make(input: &mut Input<'_>) -> Self {
        let (mut image, mut ends) = (Vec::new(), Vec::new());
        for run in 0..RUNS_MAX {
            let length = match input.byte() {
                0..=60 => break,
                61..=160 => input.below(9) * SECTOR,
                161..=220 => 4096,
                _ => input.below(6000),
            };
            let is_data = run % 2 == 0;
            let byte = if is_data { input.byte() } else { 0 };
            image.resize(image.len() + length, byte);
            ends.push(image.len());
        }
        let fails_from = if input.byte() < 230 { usize::MAX } else { input.below(image.len().max(1)) };
        Self { image, ends, fails_from }
    }

    /// The first place from `at` on that is in a run of the kind.
    fn seek(&self, at: u64, wants_data: bool) -> Option<u64> {
        let at = usize::try_from(at).unwrap();
        let mut start = 0;
        for (run, &end) in self.ends.iter().enumerate() {
            let from = at.max(start);
            if (run % 2 == 0) == wants_data && from < end {
                return Some(from as u64);
            }
            start = end;
        }
        None
    }
}

impl Sparse for &File {
    fn data_from(&self, at: u64) -> io::Result<Option<u64>> {
        Ok(self.seek(at, true))
    }

    fn hole_from(&self, at: u64) -> io::Result<Option<u64>> {
        Ok(self.seek(at, false))
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let at = at as usize;
        let bytes = self.image.get(at..at + buf.len()).filter(|_| at + buf.len() <= self.fails_from);
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Gives as many bytes at a time as its steps say, or is interrupted.
struct Stream<'a> {
    rest: &'a [u8],
    steps: &'a [u8],
}

impl Read for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let step = match self.steps.split_first() {
            Some((0, rest)) => {
                self.steps = rest;
                return Err(io::ErrorKind::Interrupted.into());
            }
            Some((step, rest)) => {
                self.steps = rest;
                usize::from(*step) * 32
            }
            None => usize::MAX,
        };
        let count = step.min(buf.len()).min(self.rest.len());
        buf[..count].copy_from_slice(&self.rest[..count]);
        self.rest = &self.rest[count..];
        Ok(count)
    }
}
