//! Exercise: uses a store that was opened in every way there is. Whatever is damaged may give an error, and nothing else.

use cowblk::device::Device;
use cowblk::{Extents, Result, Server, Store, check_device};
use std::sync::Arc;

use super::content::observe;
use super::image::options;
use super::input::Input;
use super::medium::Medium;

const PLACES_MAX: usize = 300;

/// Checks, opens, reads, changes, closes, and opens again. The input chooses the order of the changes.
pub(crate) fn exercise(image: Vec<u8>, input: &mut Input<'_>) {
    let device = Medium::new(image);
    let _ = check_device(&*device);
    let Ok(store) = Store::open_on(device.clone(), options()) else { return };
    read(&store);
    let mut steps = [0, 1, 2, 3, 4, 5];
    steps.rotate_left(input.below(6));
    for step in steps {
        for server in store.servers().into_iter().take(3) {
            let _ = change(&store, &server, step);
        }
    }
    read(&store);
    let _ = store.create_server("another").and_then(|server| {
        let disk = server.create_disk("vda", 1 << 20)?;
        disk.write_at(&[7; 9000], 100)?;
        server.snapshot("one", "")?;
        disk.flush()
    });
    if input.chance() {
        for server in store.servers().into_iter().take(3) {
            let _ = store.delete_server(server.id());
        }
    }
    let _ = store.collect();
    let _ = store.close();
    let _ = check_device(&*device);
    again(device);
}

fn again(device: Arc<dyn Device>) {
    if let Ok(store) = Store::open_on(device, options()) {
        read(&store);
        let _ = store.collect();
    }
}

fn read(store: &Store) {
    observe(store, false);
    let _ = (store.status(), store.stats(), store.snapshots());
    for server in store.servers().into_iter().take(3) {
        let _ = (server.id(), server.created_at(), server.disk_count());
        for disk in server.disks().into_iter().take(4) {
            let _ = (disk.parent(), disk.server(), disk.created_at());
            let _ = disk.mapped_bytes();
            walk(disk.extents(0..disk.size_bytes()));
        }
        for snapshot in server.snapshots().into_iter().chain(server.before_restore()).take(4) {
            let _ = (snapshot.parent(), snapshot.size_bytes(), snapshot.status(), snapshot.kind());
            for disk in snapshot.disks().into_iter().take(4) {
                let _ = (disk.parent(), disk.mapped_bytes(), disk.id());
                walk(disk.extents(0..disk.size_bytes()));
            }
        }
    }
}

fn walk(extents: Extents) {
    for extent in extents.take(PLACES_MAX) {
        if extent.is_err() {
            break;
        }
    }
}

fn change(store: &Store, server: &Server, step: usize) -> Result<()> {
    let disks = server.disks().into_iter().take(4);
    match step {
        0 => {
            for disk in disks {
                let size = disk.size_bytes();
                let _ = disk.write_at(&[1; 5000], size / 2 / 512 * 512);
                let _ = disk.write_at(&[2; 512], size.saturating_sub(512));
                let _ = disk.write_at(&[3; 8192], 0);
            }
            store.flush()
        }
        1 => {
            server.snapshot("fuzz", "made by a fuzzer")?;
            store.checkpoint()
        }
        2 => {
            for disk in disks {
                let size = disk.size_bytes();
                let _ = disk.discard(4096, size.saturating_sub(8192));
                let _ = disk.resize(size.saturating_add(1 << 20) / 512 * 512);
                let _ = disk.resize(size / 2 / 512 * 512);
            }
            store.checkpoint()
        }
        3 => {
            let Some(oldest) = server.snapshots().pop() else { return Ok(()) };
            let restored = server.restore(oldest.id());
            if let Some(before) = server.before_restore() {
                server.restore(before.id())?;
            }
            restored
        }
        4 => {
            for snapshot in server.snapshots().into_iter().take(4) {
                let _ = store.delete_snapshot(snapshot.id());
            }
            store.collect()
        }
        _ => {
            if let Some(disk) = disks.last() {
                server.delete_disk(&disk.name())?;
            }
            store.collect()
        }
    }
}
