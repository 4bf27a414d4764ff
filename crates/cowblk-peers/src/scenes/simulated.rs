//! Simulated: what only counts bytes and calls of the device, over disks that no file has room for here.

use super::Stage;
use crate::buffer::Buffer;
use crate::figures::Rounds;
use crate::load::Scatter;
use crate::peers::Outcome;
use crate::sparse_device::{SparseDevice, block};
use cowblk::{Disk, Options, Store};

const MIB: u64 = 1 << 20;

pub(super) fn run(stage: &mut Stage) -> Outcome {
    amplification(stage)?;
    cold_map(stage)
}

fn one(value: f64) -> Rounds {
    std::iter::once(value).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of bytes and calls")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

fn fill(disk: &Disk) -> Outcome {
    let mut buf = vec![0; 1 << 20];
    for offset in (0..disk.size_bytes()).step_by(1 << 20) {
        for (n, part) in (offset / 4096..).zip(buf.chunks_mut(4096)) {
            block(part, n);
        }
        disk.write_at(&buf, offset)?;
    }
    Ok(())
}

/// Metadata of a full disk, and bytes written to the device for each byte that was acknowledged.
fn amplification(stage: &mut Stage) -> Outcome {
    let bytes = if stage.arguments.is_quick { 64 * MIB } else { 8 << 30 };
    let store = Store::create_on(SparseDevice::new(), Options::default())?;
    let disk = store.create_server("web")?.create_disk("vda", bytes)?;
    fill(&disk)?;
    store.checkpoint()?;
    store.checkpoint()?;
    let status = store.status();
    // The journal has one size; the last zone is not yet full, but its tables are there.
    let tables = status.metadata_blocks * 4096 - status.journal_bytes;
    let share_of_data = share(status.used_blocks * 4096 + tables - bytes, bytes) * 100.0;
    stage.targets.at_most(
        format!(
            "metadata in % of {} MiB mapped, all tables, without the journal of {} MiB",
            bytes / MIB,
            status.journal_bytes / MIB
        ),
        &one(share_of_data),
        0.5,
    );
    let (order, mut buf) = (Scatter::new(bytes / 4096, 3), Buffer::noise(4096));
    let (before, writes) = (store.stats(), (bytes / 4096) * 5 / 4);
    for n in 0..writes {
        block(&mut buf, n);
        disk.write_at(&buf, order.place(n) * 4096)?;
        if (n + 1).is_multiple_of(32) {
            disk.flush()?;
        }
    }
    store.checkpoint()?;
    let written = store.stats().device_bytes_written - before.device_bytes_written;
    stage.targets.at_most(
        format!(
            "bytes written per byte acknowledged, random 4 KiB, sync every 32, {} MiB over a disk of {} MiB",
            writes / 256,
            bytes / MIB
        ),
        &one(share(written, writes * 4096)),
        1.15,
    );
    Ok(())
}

/// Device reads for each read over a map ten times as large as the cache.
fn cold_map(stage: &mut Stage) -> Outcome {
    let bytes = if stage.arguments.is_quick { 256 * MIB } else { 8 << 30 };
    let device = SparseDevice::new();
    let store = Store::create_on(device.clone(), Options::default())?;
    fill(&store.create_server("web")?.create_disk("vda", bytes)?)?;
    store.close()?;
    let map_bytes = bytes / 256;
    let store = Store::open_on(device, Options::default().cache_bytes(map_bytes / 10))?;
    let disk = store.server("web")?.disk("vda")?;
    let (order, mut buf) = (Scatter::new(bytes / 4096, 5), Buffer::noise(4096));
    let (before, reads) = (store.stats(), bytes / 4096 / 8);
    for n in 0..reads {
        disk.read_at(&mut buf, order.place(n) * 4096)?;
    }
    let device_reads = store.stats().device_reads - before.device_reads;
    stage.targets.at_most(
        format!("device reads per random read over {} MiB of map, with a cache of a tenth", map_bytes / MIB),
        &one(share(device_reads, reads)),
        2.0,
    );
    Ok(())
}
