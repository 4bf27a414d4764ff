//! Ground: what all benchmarks stand on, and a store in a real file.

use std::path::PathBuf;
use std::time::Duration;

use cowblk::{Disk, Options, Server, Store};
use criterion::Criterion;
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const BLOCK: u64 = 4096;

/// Whether everything should run once, quickly, and prove only that it runs.
pub(crate) fn is_quick() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    arguments.iter().any(|a| a == "--test") || !arguments.iter().any(|a| a == "--bench")
}

/// Whether the command line asks for a benchmark with this in its name: no store is filled for the others.
pub(crate) fn is_wanted(name: &str) -> bool {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    filter.is_none_or(|filter| name.contains(&filter))
}

/// Settings under which all benchmarks together stay within a quarter of an hour.
pub(crate) fn settings() -> Criterion {
    let criterion = Criterion::default().sample_size(10);
    criterion.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(1200))
}

/// A directory in `COWBLK_BENCH_DIR`, or in that for temporary files. Compare only runs on the same medium.
pub(crate) fn directory() -> TempDir {
    let dir = std::env::var_os("COWBLK_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(dir).unwrap()
}

/// Bytes that no store can share or leave out.
pub(crate) fn noise(buf: &mut [u8], mut seed: u64) {
    for chunk in buf.chunks_mut(8) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.copy_from_slice(&seed.to_le_bytes()[..chunk.len()]);
    }
}

/// The offset of the `n`th of the pieces of a disk, scattered. An odd factor visits every piece of a power of two once.
pub(crate) fn scattered(n: u64, disk_bytes: u64, piece_bytes: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9) % (disk_bytes / piece_bytes) * piece_bytes
}

/// A store in a file, with one server that has one disk.
pub(crate) struct Ground {
    pub(crate) store: Store,
    pub(crate) server: Server,
    pub(crate) disk: Disk,
    /// Goes last: the store closes first.
    pub(crate) dir: TempDir,
}

impl Ground {
    /// An empty disk.
    pub(crate) fn new(disk_bytes: u64, options: Options) -> Self {
        let dir = directory();
        let store = Store::create(dir.path().join("bench.cow"), options).unwrap();
        let server = store.create_server("web").unwrap();
        let disk = server.create_disk("vda", disk_bytes).unwrap();
        Self { store, server, disk, dir }
    }

    /// A disk full of data, settled by a checkpoint.
    pub(crate) fn full(disk_bytes: u64) -> Self {
        let ground = Self::new(disk_bytes, Options::default());
        fill(&ground.disk);
        ground.store.checkpoint().unwrap();
        ground
    }
}

/// Fills a disk with noise.
pub(crate) fn fill(disk: &Disk) {
    let mut buf = vec![0; 1 << 20];
    for offset in (0..disk.size_bytes()).step_by(1 << 20) {
        noise(&mut buf, offset);
        disk.write_at(&buf, offset).unwrap();
    }
}
