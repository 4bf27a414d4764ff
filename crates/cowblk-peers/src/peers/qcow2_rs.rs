//! qcow2-rs: qcow2 in process, by the library behind a ublk target.

use super::{Outcome, Peer};
use futures::executor::block_on;
use qcow2_rs::dev::{Qcow2Dev, Qcow2DevParams};
use qcow2_rs::meta::Qcow2Header;
use qcow2_rs::sync_io::Qcow2IoSync;
use qcow2_rs::utils::qcow2_setup_dev_sync;
use std::path::Path;

const CLUSTER_BITS: usize = 16;
const REFCOUNT_ORDER: u8 = 4;
/// A refcount slice of 4 KiB, 1 MiB of them; the same of mappings.
const CACHE: Option<(u8, usize)> = Some((12, 1 << 20));

/// A qcow2 image.
pub(crate) struct Qcow2Rs(Qcow2Dev<Qcow2IoSync>);

impl Qcow2Rs {
    pub(crate) const NAME: &str = "qcow2-rs";

    pub(crate) fn new(dir: &Path, bytes: u64) -> Outcome<Self> {
        let path = dir.join("qcow2-rs.qcow2");
        let (table, block, _) = Qcow2Header::calculate_meta_params(bytes, CLUSTER_BITS, REFCOUNT_ORDER, 512);
        let mut image = vec![0; ((1 + table.1 as usize + block.1 as usize) << CLUSTER_BITS) + 512];
        Qcow2Header::format_qcow2(&mut image, bytes, CLUSTER_BITS, REFCOUNT_ORDER, 512).map_err(text)?;
        std::fs::write(&path, image)?;
        let settings = Qcow2DevParams::new(9, CACHE, CACHE, false, false);
        let device = qcow2_setup_dev_sync(&path, &settings).map_err(text)?;
        block_on(device.qcow2_prep_io()).map_err(text)?;
        Ok(Self(device))
    }
}

/// Its errors are no `std::error::Error`.
fn text(error: impl std::fmt::Display) -> String {
    format!("qcow2-rs: {error}")
}

impl Peer for Qcow2Rs {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn setting(&self) -> String {
        "qcow2-rs 0.1 on its plain system calls (no event loop), 64 KiB clusters, through the page cache, 1 MiB for mappings; a sync is `flush_meta` \
         and `fsync_range`"
            .into()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Outcome {
        let count = block_on(self.0.read_at(buf, offset)).map_err(text)?;
        if count == buf.len() { Ok(()) } else { Err("qcow2-rs: a short read".into()) }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Outcome {
        Ok(block_on(self.0.write_at(buf, offset)).map_err(text)?)
    }

    fn sync(&self) -> Outcome {
        block_on(self.0.flush_meta()).map_err(text)?;
        Ok(block_on(self.0.fsync_range(0, usize::MAX)).map_err(text)?)
    }
}
