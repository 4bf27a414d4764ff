//! `cowblk disk import`: a raw image into a disk.
//!
//! T1  Afterwards the disk reads exactly like the image, and as zeros beyond it.
//! T2  A disk that the import created is deleted again when the import fails.

use std::path::PathBuf;

use clap::Args;
use cowblk::{Disk, ErrorKind, Server, Store};

use super::filling::{Copied, Filling};
use super::image::digest;
use super::progress::Progress;
use super::source::Source;
use super::{CHUNK_BYTES, Transferred};
use crate::args::DiskPath;
use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::session::{self, Session};
use crate::sizes;

/// Disks are made of sectors of this many bytes.
const SECTOR_BYTES: u64 = 512;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store pool.cow disk import debian.raw web-1/vda
  cowblk --store pool.cow disk import /dev/vg0/old-disk web-1/vda
  zstdcat debian.raw.zst | cowblk --store pool.cow disk import - web-1/vda --size 10G

The image is raw: convert others first, as with `qemu-img convert -O raw`. A disk that exists already is replaced by the image, and reads as zeros beyond it; take a snapshot first to keep what it holds.")]
pub(crate) struct Arguments {
    /// A raw image or a block device; - for standard input
    file: PathBuf,
    /// The disk to write, as in web-1/vda
    #[arg(value_name = "SERVER/DISK")]
    disk: DiskPath,
    /// The size of the disk that is created; needed for standard input [default: the size of the image]
    #[arg(long, value_parser = sizes::parse_nonzero)]
    size: Option<u64>,
    /// Neither hash the image nor read the disk back
    #[arg(long)]
    no_verify: bool,
}

pub(crate) fn import(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let mut source = Source::open(&arguments.file)?;
    let done = session.write(|store| {
        let target = Target::prepare(store, arguments, source.len_bytes())?;
        let copied = target.fill(&mut source, arguments, session.output);
        copied.map_err(|failure| target.abandon(failure))
    })?;
    session.output.item(&done, &done.sentence("imported"))
}

/// The disk to write, and whether it was made for this.
struct Target {
    server: Server,
    disk: Disk,
    is_new: bool,
}

impl Target {
    fn prepare(store: &Store, arguments: &Arguments, len_bytes: Option<u64>) -> Result<Target, Failure> {
        let server = session::server(store, &arguments.disk.server)?;
        match server.disk(&arguments.disk.disk) {
            Ok(disk) => {
                check_same_size(&disk, arguments.size)?;
                Ok(Target { server, disk, is_new: false })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let size = wanted_size(arguments.size, len_bytes)?;
                let disk = server.create_disk(&arguments.disk.disk, size)?;
                Ok(Target { server, disk, is_new: true })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn fill(
        &self,
        source: &mut Source,
        arguments: &Arguments,
        output: Output,
    ) -> Result<Transferred, Failure> {
        if let Some(len) = source.len_bytes() {
            self.check_fits(len)?;
        }
        let copied = self.copy(source, !arguments.no_verify, output)?;
        self.disk.flush()?;
        if let Some(blake3) = copied.blake3 {
            let progress = Progress::new(output, "verifying", copied.image_bytes);
            if digest(&self.disk, copied.image_bytes, &progress)? != Some(blake3) {
                return Err(Failure::new(
                    Kind::Mismatch,
                    "the disk does not read back as the image that was imported",
                ));
            }
        }
        Ok(Transferred {
            disk: format!("{}/{}", arguments.disk.server, arguments.disk.disk),
            file: arguments.file.display().to_string(),
            image_bytes: copied.image_bytes,
            data_bytes: copied.data_bytes,
            blake3: copied.blake3.map(|hash| hash.to_string()),
            verified: copied.blake3.is_some(),
        })
    }

    fn copy(&self, source: &mut Source, wants_digest: bool, output: Output) -> Result<Copied, Failure> {
        let progress =
            Progress::new(output, "importing", source.len_bytes().unwrap_or(self.disk.size_bytes()));
        let filling = Filling { disk: &self.disk, is_new: self.is_new, wants_digest };
        let mut next = |buf: &mut [u8]| {
            let piece = source.next(buf)?;
            progress.advance(piece.len_bytes());
            Ok(piece)
        };
        filling.fill(&mut vec![0; CHUNK_BYTES], &mut next, &|| self.too_long())
    }

    fn check_fits(&self, image_bytes: u64) -> Result<(), Failure> {
        if image_bytes <= self.disk.size_bytes() { Ok(()) } else { Err(self.too_long()) }
    }

    fn too_long(&self) -> Failure {
        let (name, size) = (self.disk.name(), self.disk.size_bytes());
        let remedy = if self.is_new { "give a larger --size" } else { "resize the disk first" };
        Failure::new(
            Kind::OutOfRange,
            format!("the image is longer than disk `{name}` of {size} bytes: {remedy}"),
        )
    }

    /// Takes back the creation of the disk (T2) and returns the failure that led here.
    fn abandon(&self, failure: Failure) -> Failure {
        if self.is_new {
            // The first failure says more than a second one would.
            let _ = self.server.delete_disk(&self.disk.name());
        }
        failure
    }
}

fn wanted_size(size: Option<u64>, len_bytes: Option<u64>) -> Result<u64, Failure> {
    match size.or(len_bytes) {
        None => Err(Failure::new(
            Kind::Usage,
            "the length of a stream is not known before it ends: give --size, or create the disk first",
        )),
        Some(0) => Err(Failure::new(Kind::Invalid, "the image is empty")),
        Some(bytes) if size.is_some() => Ok(bytes),
        Some(bytes) => Ok(bytes.next_multiple_of(SECTOR_BYTES)),
    }
}

/// An import does not resize: a --size that an existing disk does not have is a mistake.
fn check_same_size(disk: &Disk, wanted: Option<u64>) -> Result<(), Failure> {
    let size = disk.size_bytes();
    if wanted.is_none_or(|wanted| wanted == size) {
        return Ok(());
    }
    let name = disk.name();
    let message =
        format!("disk `{name}` exists and has {size} bytes: leave --size away, or resize the disk first");
    Err(Failure::new(Kind::Invalid, message))
}
