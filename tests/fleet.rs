//! Fleets: a thousand clones whose template was deleted. What one of them does costs the others nothing, and their sizes are exact when
//! somebody asks.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use cowblk::device::MemoryDevice;
use cowblk::{ErrorKind, Options, Server, Store, recount_sizes};
use std::sync::Arc;

const BLOCK: u64 = 4096;
/// More than are counted unasked.
const CLONES: u64 = 1100;

fn options() -> Options {
    Options::default().zone_blocks(4096).journal_bytes(4 << 20).background(false).clock(|| 1_000)
}

fn write(server: &Server, block: u64, stamp: u64) {
    let mut bytes = [7; 4096];
    bytes[..8].copy_from_slice(&stamp.to_le_bytes());
    server.disk("vda").unwrap().write_at(&bytes, block * BLOCK).unwrap();
}

/// Blocks that a clone alone refers to; `None` until they are counted.
fn alone(server: &Server) -> Option<u64> {
    server.space().exclusive_bytes.map(|bytes| bytes / BLOCK)
}

fn nodes_looked_at(store: &Store) -> u64 {
    let stats = store.stats();
    stats.cache_hits + stats.cache_misses
}

/// Clones of a template of 600 blocks, each with a block of its own; block 0 of the template is left to the first one alone. The template is
/// deleted.
fn fleet(store: &Store) -> Vec<Server> {
    let web = store.create_server("template").unwrap();
    web.create_disk("vda", 4096 * BLOCK).unwrap();
    for block in 0..600 {
        write(&web, block, block);
    }
    let template = web.snapshot("template", "").unwrap();
    let clones = (0..CLONES).map(|n| template.clone_server(&format!("vm-{n}")).unwrap());
    let clones: Vec<Server> = clones.collect();
    for (n, clone) in (0..).zip(&clones) {
        write(clone, 1000 + n, n);
        if n > 0 {
            write(clone, 0, n);
        }
    }
    store.delete_server(web.id()).unwrap();
    store.collect().unwrap();
    clones
}

#[test]
fn sizes_of_a_large_fleet_are_exact_and_counted_when_somebody_asks() {
    let device = Arc::new(MemoryDevice::new(0));
    let store = Store::create_on(device.clone(), options()).unwrap();
    let clones = fleet(&store);
    let (first, other) = (&clones[0], &clones[7]);

    assert_eq!(alone(first), None, "nobody asked before");
    let before = nodes_looked_at(&store);
    store.collect().unwrap();
    let looked_at = nodes_looked_at(&store) - before;
    assert_eq!(
        alone(first),
        Some(2),
        "its own block, and the one of the template that only it did not write to"
    );
    assert!(looked_at < 4 * CLONES, "{looked_at} nodes: each clone is asked for one block of the template");

    assert_eq!(alone(other), None);
    let before = nodes_looked_at(&store);
    store.collect().unwrap();
    let looked_at = nodes_looked_at(&store) - before;
    assert_eq!(alone(other), Some(2), "its own blocks");
    assert!(
        looked_at < 100,
        "{looked_at} nodes: what the first of its neighbours holds, too, nobody else is asked for"
    );

    for clone in &clones {
        alone(clone);
    }
    store.collect().unwrap();
    assert!(clones.iter().all(|clone| alone(clone) == Some(2)));
    let recounted = recount_sizes(&*device).unwrap();
    assert!(recounted.is_clean(), "{recounted:?}");
}

/// A write to one clone may leave another one alone with a block: all counts are doubtful. They are forgotten once, and not counted again for
/// nobody, so that checkpoints write no more than what changed.
#[test]
fn a_write_to_one_clone_costs_the_others_nothing() {
    let device = Arc::new(MemoryDevice::new(0));
    let store = Store::create_on(device.clone(), options()).unwrap();
    let clones = fleet(&store);
    store.collect().unwrap();
    for stamp in 0..3 {
        write(&clones[3], 5, stamp);
        let (nodes, bytes) = (nodes_looked_at(&store), store.stats().device_bytes_written);
        store.collect().unwrap();
        let nodes = nodes_looked_at(&store) - nodes;
        let blocks = (store.stats().device_bytes_written - bytes) / BLOCK;
        assert!(nodes < 100 && blocks < 40, "{nodes} nodes, {blocks} blocks for one block written");
    }
    drop(clones);
    let clones = store.servers();
    let before = clones.len();
    for clone in clones.iter().take(500) {
        store.delete_server(clone.id()).unwrap();
    }
    store.collect().unwrap();
    assert_eq!(store.servers().len(), before - 500);
    let recounted = recount_sizes(&*device).unwrap();
    assert!(recounted.is_clean(), "{recounted:?}");
    store.close().unwrap();
    assert!(cowblk::check_device(&*device).unwrap().is_clean());
}

/// Each would be looked at beside all others, while the store is held.
#[test]
fn what_would_go_with_a_server_is_counted_for_a_thousand_snapshots_and_refused_for_more() {
    let store = Store::create_on(Arc::new(MemoryDevice::new(0)), options()).unwrap();
    let web = store.create_server("web").unwrap();
    web.create_disk("vda", 4096 * BLOCK).unwrap();
    for n in 0..1023 {
        write(&web, n % 7, n);
        web.snapshot(&format!("s{n}"), "").unwrap();
    }
    assert_eq!(web.would_free().unwrap().data_bytes, 1023 * BLOCK);
    let last = web.snapshot("last", "").unwrap();
    let refused = web.would_free().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Limit);
    assert!(refused.to_string().contains("1025 disks and snapshots"), "{refused}");
    store.delete_snapshot(last.id()).unwrap();
    assert!(web.would_free().is_ok());
}
