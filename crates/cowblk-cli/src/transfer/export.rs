//! `cowblk disk export` and `cowblk snapshot export`: a disk into a raw image.

use std::path::{Path, PathBuf};

use clap::Args;
use cowblk::ExtentKind;

use super::image::Image;
use super::progress::Progress;
use super::target::Target;
use super::{CHUNK_BYTES, Digest, Transferred, chunks};
use crate::args::{DiskPath, SnapshotPath};
use crate::failure::{Failure, Kind};
use crate::output::Output;
use crate::session::{self, Session};

/// The help below the commands that export.
pub(crate) const AFTER_HELP: &str = "\
Examples:
  cowblk --store pool.cow disk export web-1/vda vda.raw
  cowblk --store pool.cow disk export web-1/vda - | zstd > vda.raw.zst
  cowblk --store pool.cow snapshot export web-1/vda@before-upgrade vda-before.raw

Ranges that the disk does not hold become holes in a file, and zeros in a stream or on a device. With - as the file, the result is printed on standard error.";

/// Where an export goes, and how.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The raw image to write; - for standard output
    file: PathBuf,
    /// Replace a file or block device that exists
    #[arg(long)]
    overwrite: bool,
    /// Neither hash the image nor read the file back
    #[arg(long)]
    no_verify: bool,
}

pub(crate) fn export_disk(session: &Session, path: &DiskPath, arguments: &Arguments) -> Result<(), Failure> {
    let job = Job { arguments, output: session.output };
    session.refuse_as_target(&arguments.file)?;
    let name = format!("{}/{}", path.server, path.disk);
    let done = session.read(|store| job.run(&session::disk(store, path)?, name))?;
    job.say(&done)
}

pub(crate) fn export_snapshot(
    session: &Session,
    path: &SnapshotPath,
    arguments: &Arguments,
) -> Result<(), Failure> {
    let job = Job { arguments, output: session.output };
    session.refuse_as_target(&arguments.file)?;
    let name = format!("{}/{}@{}", path.disk.server, path.disk.disk, path.snapshot);
    let done = session.read(|store| job.run(&session::snapshot_disk(store, path)?, name))?;
    job.say(&done)
}

/// One export, of whatever can be read like a disk.
struct Job<'a> {
    arguments: &'a Arguments,
    output: Output,
}

impl Job<'_> {
    fn run(&self, image: &impl Image, name: String) -> Result<Transferred, Failure> {
        let mut target = Target::open(&self.arguments.file, self.arguments.overwrite, image.size_bytes())?;
        let done = self.copy(image, &mut target, name);
        if done.is_err() {
            target.abandon();
        }
        done
    }

    fn copy(&self, image: &impl Image, target: &mut Target, name: String) -> Result<Transferred, Failure> {
        let image_bytes = image.size_bytes();
        let mut digest = Digest::new(!self.arguments.no_verify);
        let data_bytes = self.write(image, target, &mut digest)?;
        target.finish()?;
        let blake3 = digest.finish();
        let mut verified = false;
        if let Some(expected) = blake3 {
            let progress = Progress::new(self.output, "verifying", image_bytes);
            verified = match target.digest(image_bytes, &progress)? {
                None => false,
                Some(found) if found == expected => true,
                Some(_) => {
                    let message =
                        format!("{} does not read back as what was exported", self.arguments.file.display());
                    return Err(Failure::new(Kind::Mismatch, message));
                }
            };
        }
        Ok(Transferred {
            disk: name,
            file: self.arguments.file.display().to_string(),
            image_bytes,
            data_bytes,
            blake3: blake3.map(|hash| hash.to_string()),
            verified,
        })
    }

    /// Writes every extent and returns how many bytes of them were data.
    fn write(&self, image: &impl Image, target: &mut Target, digest: &mut Digest) -> Result<u64, Failure> {
        let progress = Progress::new(self.output, "exporting", image.size_bytes());
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut data_bytes = 0;
        for extent in image.extents(0..image.size_bytes()) {
            let extent = extent?;
            match extent.kind {
                ExtentKind::Hole => {
                    target.hole(extent.offset, extent.len)?;
                    digest.zeros(extent.len);
                    progress.advance(extent.len);
                }
                ExtentKind::Data { .. } => {
                    data_bytes += extent.len;
                    for (at, len) in chunks(extent.offset..extent.offset + extent.len) {
                        let piece = buffer.get_mut(..len).unwrap_or_default();
                        image.read_at(piece, at)?;
                        target.data(at, piece)?;
                        digest.update(piece);
                        progress.advance(len as u64);
                    }
                }
            }
        }
        Ok(data_bytes)
    }

    /// Standard output may be carrying the image; the result then goes beside it.
    fn say(&self, done: &Transferred) -> Result<(), Failure> {
        let text = done.sentence("exported");
        if self.arguments.file == Path::new("-") {
            self.output.beside(done, &text)
        } else {
            self.output.item(done, &text)
        }
    }
}
