//! cowblk at its defaults, and with snapshots or mapped reads, through its public API, as an embedder has it.

use super::{Outcome, Peer, Snapshots, fill};
use crate::buffer::Buffer;
use crate::load::Scatter;
use cowblk::{Disk, Options, Server, SnapshotId, Store};
use std::path::Path;

/// A store of one server with one disk.
pub(crate) struct CowBlk {
    name: &'static str,
    pub(crate) store: Store,
    pub(crate) server: Server,
    pub(crate) disk: Disk,
    snapshot: Option<SnapshotId>,
}

impl CowBlk {
    pub(crate) const NAME: &str = "cowblk";
    /// A disk with 1,000 snapshots, 64 scattered blocks apart.
    pub(crate) const NAME_THOUSAND: &str = "cowblk-1000";
    /// With the option for reads that its users turn on who trust their medium.
    pub(crate) const NAME_MAPPED: &str = "cowblk-mapped";

    /// A store; one of [`NAME_THOUSAND`](Self::NAME_THOUSAND) is full of data, with its snapshots.
    pub(crate) fn new(dir: &Path, name: &'static str, bytes: u64) -> Outcome<Self> {
        let options = Options::default().mapped_reads(name == Self::NAME_MAPPED);
        let store = Store::create(dir.join(name).with_extension("cow"), options)?;
        let server = store.create_server("web")?;
        let disk = server.create_disk("vda", bytes)?;
        let new = Self { name, store, server, disk, snapshot: None };
        if name == Self::NAME_THOUSAND {
            fill(&new, bytes)?;
            new.take_thousand(bytes)?;
        }
        Ok(new)
    }

    fn take_thousand(&self, bytes: u64) -> Outcome {
        let (order, mut buf) = (Scatter::new(bytes / 4096, 99), Buffer::noise(4096));
        for snapshot in 0..1000 {
            for n in 0..64 {
                buf.stamp(snapshot << 32 | n);
                self.disk.write_at(&buf, order.place(snapshot * 64 + n) * 4096)?;
            }
            self.server.snapshot(&format!("kept-{snapshot}"), "")?;
        }
        Ok(self.store.checkpoint()?)
    }
}

impl Peer for CowBlk {
    fn name(&self) -> &'static str {
        self.name
    }

    fn setting(&self) -> String {
        if self.name == Self::NAME_THOUSAND {
            return "the same, with 1,000 snapshots, 64 scattered blocks from one to the next".into();
        }
        if self.name == Self::NAME_MAPPED {
            return "the same, with `Options::mapped_reads`: a read error of the medium ends the process"
                .into();
        }
        "this version, at its defaults: checksums verified on every read, checkpoints and collector in the background".into()
    }

    fn comes_full(&self) -> bool {
        self.name == Self::NAME_THOUSAND
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

    fn snapshots(&mut self) -> Option<&mut dyn Snapshots> {
        Some(self)
    }
}

impl Snapshots for CowBlk {
    fn take(&mut self) -> Outcome {
        self.snapshot = Some(self.server.snapshot("measured", "")?.id());
        Ok(())
    }

    fn forget(&mut self) -> Outcome {
        if let Some(snapshot) = self.snapshot.take() {
            self.store.delete_snapshot(snapshot)?;
        }
        Ok(self.store.collect()?)
    }
}
