//! Pool: a store on a simulated medium whose disk has so much mapped.
//!
//! Every block is written through the public API, placed, checksummed, counted and mapped by a leaf of its own tree. Simulated is only the
//! medium: a [`SparseDevice`] keeps equal words once, and its syncs cost nothing.

use std::sync::Arc;

use cowblk::{Disk, Options, Server, Store};

use crate::ground::{BLOCK, GIB, MIB, is_quick, scattered};
use crate::sparse_device::{SparseDevice, block};

/// Room for the two superblock slots (docs/format.md).
const HEADER_BYTES: u64 = 128 << 10;

/// How a disk's blocks came to their places in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mapping {
    /// Written from the first to the last block, in large pieces.
    Sequential,
    /// Written block by block in a scattered order: neighbours on the disk are strangers in the store.
    Random,
    /// As `Sequential`, on two threads, and all blocks look the same: the medium then keeps a tebibyte of them, and their leaves, in
    /// some hundred megabytes.
    Uniform,
}

/// A store with one disk.
pub(crate) struct Pool {
    pub(crate) device: Arc<SparseDevice>,
    pub(crate) store: Store,
    pub(crate) server: Server,
    pub(crate) disk: Disk,
    /// Snapshots that [`take_snapshots`](Pool::take_snapshots) made.
    kept: u64,
}

/// Nothing runs beside what is measured: checkpoints and the collector have their turn outside of the clock.
pub(crate) fn options() -> Options {
    Options::default().background(false)
}

/// The sizes to measure on: name, mapped bytes, how they are mapped. `COWBLK_BENCH_TIB=0` leaves the largest out.
pub(crate) fn sizes() -> Vec<(&'static str, u64, Mapping)> {
    let [small, large, largest] =
        if is_quick() { [16 * MIB, 32 * MIB, 64 * MIB] } else { [GIB, 16 * GIB, 1024 * GIB] };
    let mut sizes = vec![
        ("empty", 0, Mapping::Sequential),
        ("1GiB-sequential", small, Mapping::Sequential),
        ("1GiB-random", small, Mapping::Random),
        ("16GiB-random", large, Mapping::Random),
    ];
    if std::env::var_os("COWBLK_BENCH_TIB").is_none_or(|wish| wish != "0") {
        sizes.push(("1TiB-sequential", largest, Mapping::Uniform));
    }
    sizes
}

impl Pool {
    /// A disk of which `mapped_bytes` hold data, settled by a checkpoint.
    pub(crate) fn new(mapped_bytes: u64, mapping: Mapping) -> Self {
        let device = SparseDevice::new();
        let store = Store::create_on(device.clone(), options()).unwrap();
        let server = store.create_server("web").unwrap();
        let disk = server.create_disk("vda", mapped_bytes.max(GIB)).unwrap();
        match mapping {
            Mapping::Sequential => write_sequentially(&disk, mapped_bytes),
            Mapping::Uniform => write_uniformly(&disk, mapped_bytes),
            Mapping::Random => write_scattered(&disk, mapped_bytes),
        }
        store.checkpoint().unwrap();
        let pool = Self { device, store, server, disk, kept: 0 };
        pool.assert_all_is_mapped(mapped_bytes);
        pool.assert_small_metadata(mapped_bytes);
        pool
    }

    /// What the figures are worth: each block of what counts as mapped is one of the store's, and a leaf holds it.
    fn assert_all_is_mapped(&self, mapped_bytes: u64) {
        assert_eq!(self.disk.mapped_bytes(), Some(mapped_bytes), "what the disk's own count says is mapped");
        let status = self.store.status();
        assert!(status.used_blocks >= mapped_bytes / BLOCK, "each mapped block has a block of the store");
        // A second store finds its way to some of them over what the medium kept, by leaves that have to match their seals.
        let store = Store::open_on(self.device.copy(), options()).unwrap();
        let disk = store.server("web").unwrap().disk("vda").unwrap();
        let mut buf = vec![0; 4096];
        for n in 0..64.min(mapped_bytes / BLOCK) {
            disk.read_at(&mut buf, scattered(n, mapped_bytes, BLOCK)).unwrap();
            assert!(buf.iter().any(|byte| *byte != 0), "a mapped block holds data");
        }
    }

    /// Claim: metadata takes at most 0.6 % of what is mapped. The journal and one zone that is not yet full are counted
    /// apart, for they do not grow with the data.
    fn assert_small_metadata(&self, mapped_bytes: u64) {
        let status = self.store.status();
        let block = u64::from(status.block_size);
        let zone_table = u64::from(status.zone_blocks) * 2 * 2;
        let fixed = status.journal_bytes + HEADER_BYTES + zone_table + 64 * block;
        let taken = (status.used_blocks + status.metadata_blocks) * block - mapped_bytes;
        let metadata = taken.saturating_sub(fixed);
        assert!(
            metadata * 1000 <= mapped_bytes * 6,
            "{metadata} bytes of metadata for {mapped_bytes} mapped bytes are more than 0.6 %"
        );
    }

    /// Snapshots until the store holds `count` of them, with one written block between each two.
    pub(crate) fn take_snapshots(&mut self, count: u64) {
        let mut buf = vec![0; 4096];
        for n in self.kept..count {
            block(&mut buf, n);
            self.disk.write_at(&buf, n % 1000 * BLOCK).unwrap();
            self.server.snapshot(&format!("kept-{n}"), "").unwrap();
        }
        self.kept = count;
        self.store.checkpoint().unwrap();
    }
}

fn write_sequentially(disk: &Disk, bytes: u64) {
    let mut buf = vec![0; 1 << 20];
    for offset in (0..bytes).step_by(1 << 20) {
        for (n, part) in (0..).zip(buf.chunks_mut(4096)) {
            block(part, offset / BLOCK + n);
        }
        disk.write_at(&buf, offset).unwrap();
    }
}

fn write_uniformly(disk: &Disk, bytes: u64) {
    let mut buf = vec![0; 1 << 20];
    block(&mut buf, 1);
    let half = bytes / 2;
    std::thread::scope(|scope| {
        for start in [0, half] {
            let buf = &buf;
            scope.spawn(move || {
                (start..start + half).step_by(1 << 20).for_each(|offset| disk.write_at(buf, offset).unwrap());
            });
        }
    });
}

pub(crate) fn write_scattered(disk: &Disk, bytes: u64) {
    let mut buf = vec![0; 4096];
    for n in 0..bytes / BLOCK {
        let offset = scattered(n, bytes, BLOCK);
        block(&mut buf, offset / BLOCK);
        disk.write_at(&buf, offset).unwrap();
    }
}
