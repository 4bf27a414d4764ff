//! Flat: create, restore and the delete call on large, scattered and much-snapshotted disks against small and plain ones.
//!
//! On a simulated medium whose syncs cost nothing: what is compared is the store's own work.

use super::Stage;
use crate::figures::Rounds;
use crate::load::Scatter;
use crate::peers::Outcome;
use crate::sparse_device::{SparseDevice, block};
use cowblk::{Disk, Options, Server, Store};
use std::time::Instant;

const REPEATS: u64 = 101;

struct Pool {
    store: Store,
    server: Server,
    disk: Disk,
}

pub(super) fn run(stage: &mut Stage) -> Outcome {
    let (small, large, many) =
        if stage.arguments.is_quick { (16 << 20, 64 << 20, 50) } else { (1 << 30, 32 << 30, 1000) };
    let (small_text, large_text) = (size(small), size(large));
    let plain = Pool::new(small, false, 1)?;
    compare(stage, &plain, &Pool::new(small, true, 1)?, &format!("{small_text} fragmented / sequential"))?;
    compare(stage, &plain, &Pool::new(small, false, many)?, &format!("{many} / 1 snapshots"))?;
    compare(
        stage,
        &plain,
        &Pool::new(large, true, 1)?,
        &format!("{large_text} fragmented / {small_text} sequential"),
    )
}

fn size(bytes: u64) -> String {
    if bytes >= 1 << 30 { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes >> 20) }
}

/// Round by round, in turn.
fn compare(stage: &mut Stage, plain: &Pool, other: &Pool, what: &str) -> Outcome {
    let mut ratios: [Rounds; 3] = Default::default();
    for round in 0..stage.arguments.rounds {
        let (base, mine) = (plain.verbs_us(round)?, other.verbs_us(round)?);
        for (ratio, (mine, base)) in ratios.iter_mut().zip(mine.into_iter().zip(base)) {
            ratio.push(mine / base);
        }
    }
    for (verb, ratio) in ["create", "restore", "delete call"].iter().zip(&ratios) {
        stage.targets.at_most(format!("{verb}, {what}"), ratio, 1.2);
    }
    Ok(())
}

impl Pool {
    fn new(bytes: u64, is_scattered: bool, snapshots: u64) -> Outcome<Self> {
        let store = Store::create_on(SparseDevice::new(), Options::default().background(false))?;
        let server = store.create_server("web")?;
        let disk = server.create_disk("vda", bytes)?;
        let (order, mut buf) = (Scatter::new(bytes / 4096, 1), vec![0; 4096]);
        for n in 0..bytes / 4096 {
            block(&mut buf, n);
            disk.write_at(&buf, if is_scattered { order.place(n) } else { n } * 4096)?;
        }
        for n in 0..snapshots {
            block(&mut buf, n);
            disk.write_at(&buf, order.place(n) * 4096)?;
            server.snapshot(&format!("kept-{n}"), "")?;
        }
        store.checkpoint()?;
        Ok(Self { store, server, disk })
    }

    /// Medians of create, restore and delete.
    fn verbs_us(&self, round: u64) -> Outcome<[f64; 3]> {
        let mut buf = vec![0; 4096];
        let mut ids = Vec::new();
        let mut timed = |verb: &mut dyn FnMut(u64) -> Outcome| -> Outcome<f64> {
            let mut times = Rounds::default();
            for n in 0..REPEATS {
                block(&mut buf, round << 32 | n);
                self.disk.write_at(&buf, 0)?;
                let start = Instant::now();
                verb(n)?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            Ok(times.median())
        };
        let create = timed(&mut |n| {
            ids.push(self.server.snapshot(&format!("verb-{round}-{n}"), "")?.id());
            Ok(())
        })?;
        let restore = timed(&mut |n| Ok(self.server.restore(ids[usize::try_from(n)?])?))?;
        let delete = timed(&mut |n| Ok(self.store.delete_snapshot(ids[usize::try_from(n)?])?))?;
        self.store.collect()?;
        Ok([create, restore, delete])
    }
}
