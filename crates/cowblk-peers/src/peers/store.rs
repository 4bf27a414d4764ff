//! cowblk at its defaults, through its public API, as an embedder has it.

use super::{Outcome, Peer};
use cowblk::{Disk, Options, Store};
use std::path::Path;

/// A store of one server with one disk.
pub(crate) struct CowBlk {
    disk: Disk,
}

impl CowBlk {
    pub(crate) const NAME: &str = "cowblk";

    pub(crate) fn new(dir: &Path, bytes: u64) -> Outcome<Self> {
        let store = Store::create(dir.join("store.cow"), Options::default())?;
        let disk = store.create_server("web")?.create_disk("vda", bytes)?;
        Ok(Self { disk })
    }
}

impl Peer for CowBlk {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn setting(&self) -> String {
        "this version, at its defaults: checksums verified on every read, checkpoints and collector in the background".into()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Outcome {
        Ok(self.disk.read_at(buf, offset)?)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Outcome {
        Ok(self.disk.write_at(buf, offset)?)
    }

    fn sync(&self) -> Outcome {
        Ok(self.disk.flush()?)
    }
}
