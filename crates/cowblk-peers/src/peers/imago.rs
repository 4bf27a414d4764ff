//! imago: qcow2 in process, by the library that came out of QEMU's.

use super::{Outcome, Peer, Snapshots};
use imago::file::File;
use imago::qcow2::Qcow2;
use imago::{
    DenyImplicitOpenGate, FormatAccess, FormatCreateBuilder, FormatDriverBuilder, Storage,
    StorageCreateOptions, StorageOpenOptions,
};
use std::path::{Path, PathBuf};

/// A qcow2 image, or an overlay over one.
pub(crate) struct Imago {
    dir: PathBuf,
    bytes: u64,
    /// Always there, but while images change hands.
    image: Option<FormatAccess<File>>,
}

impl Imago {
    pub(crate) const NAME: &str = "imago";

    pub(crate) fn new(dir: &Path, bytes: u64) -> Outcome<Self> {
        let image = create(&dir.join("imago.qcow2"), bytes, None)?;
        Ok(Self { dir: dir.to_owned(), bytes, image: Some(image) })
    }

    fn image(&self) -> Outcome<&FormatAccess<File>> {
        self.image.as_ref().ok_or_else(|| "no image is open".into())
    }
}

fn create(path: &Path, bytes: u64, backing: Option<FormatAccess<File>>) -> Outcome<FormatAccess<File>> {
    let file = File::create_open(StorageCreateOptions::new().filename(path))?;
    let builder = Qcow2::<File>::create_builder(file).size(bytes);
    let builder = match backing {
        Some(_) => builder.backing("imago.qcow2".into(), "qcow2".into()),
        None => builder,
    };
    let open = |file| Ok(Qcow2::<File>::builder(file).write(true).backing(backing));
    Ok(FormatAccess::new(builder.create_open(DenyImplicitOpenGate::default(), open)?))
}

impl Peer for Imago {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn setting(&self) -> String {
        "imago 0.2, feature `sync`, on a qcow2 image of 64 KiB clusters through the page cache; a sync is `flush` and `sync`; a snapshot is an \
         overlay, for it makes no others"
            .into()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Outcome {
        Ok(self.image()?.read(buf, offset)?)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Outcome {
        Ok(self.image()?.write(buf, offset)?)
    }

    fn sync(&self) -> Outcome {
        self.image()?.flush()?;
        Ok(self.image()?.sync()?)
    }

    fn snapshots(&mut self) -> Option<&mut dyn Snapshots> {
        Some(self)
    }
}

impl Snapshots for Imago {
    fn take(&mut self) -> Outcome {
        self.sync()?;
        let base = self.image.take();
        self.image = Some(create(&self.dir.join("overlay.qcow2"), self.bytes, base)?);
        self.sync()
    }

    /// The overlay goes, and what it held: nothing that this library has merges it into the image below.
    fn forget(&mut self) -> Outcome {
        self.image = None;
        std::fs::remove_file(self.dir.join("overlay.qcow2"))?;
        let file = File::open(StorageOpenOptions::new().filename(self.dir.join("imago.qcow2")).write(true))?;
        let image = Qcow2::<File>::builder(file).write(true).open(DenyImplicitOpenGate::default())?;
        self.image = Some(FormatAccess::new(image));
        Ok(())
    }
}
