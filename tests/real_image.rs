//! Real image: an ext4 file system of a gibibyte goes through import, snapshots, changes and restores, byte for byte.
//!
//! Needs mkfs.ext4, debugfs and e2fsck (package e2fsprogs), and says so when it skips. The files in the image are those of
//! the Rust toolchain that runs the test, topped up with generated ones.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod fixture;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cowblk::{Disk, ExtentKind, Options, SnapshotDisk, Store};
use fixture::{Dice, assert_clean};

const IMAGE_BYTES: u64 = 1 << 30;
const FILES_MIN: usize = 3_000;
const FILES_MAX: usize = 6_000;
const TREE_BYTES_MAX: u64 = 350 << 20;
const PIECE: usize = 1 << 20;
const BLOCK: usize = 4096;

/// Runs a tool and returns whether it succeeded, and what it said.
fn tool(program: &str, args: &[&str]) -> Option<(bool, String)> {
    let sbin = std::env::join_paths(
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .chain(["/sbin", "/usr/sbin"].map(PathBuf::from)),
    );
    let output =
        Command::new(program).args(args).env("PATH", sbin.unwrap()).stdin(Stdio::null()).output().ok()?;
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Some((output.status.success(), said))
}

fn must(program: &str, args: &[&str]) -> String {
    let (success, said) = tool(program, args).unwrap();
    assert!(success, "{program} {args:?}: {said}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Fills `tree` with files of the toolchain, then with generated ones until there are enough.
fn plant(tree: &Path) {
    let (mut count, mut bytes) = (0, 0);
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    if let Ok(output) = sysroot {
        let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        for part in ["share/doc", "etc", "lib/rustlib"] {
            copy_tree(&sysroot.join(part), &tree.join(part), &mut count, &mut bytes);
        }
    }
    let mut dice = Dice::new(1);
    while count < FILES_MIN {
        let dir = tree.join(format!("generated/{}", count % 40));
        fs::create_dir_all(&dir).unwrap();
        let mut content = vec![0; 1 + dice.index(30_000)];
        let text = dice.chance(50);
        content.fill_with(|| {
            if text { b'a' + dice.next().to_le_bytes()[0] % 26 } else { dice.next().to_le_bytes()[0] }
        });
        fs::write(dir.join(format!("file-{count}")), content).unwrap();
        count += 1;
    }
}

fn copy_tree(source: &Path, target: &Path, count: &mut usize, bytes: &mut u64) {
    let Ok(entries) = fs::read_dir(source) else { return };
    fs::create_dir_all(target).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let name = path.file_name().unwrap();
        if metadata.is_dir() {
            copy_tree(&path, &target.join(name), count, bytes);
        } else if metadata.is_file() && *count < FILES_MAX && *bytes + metadata.len() < TREE_BYTES_MAX {
            fs::copy(&path, target.join(name)).unwrap();
            *count += 1;
            *bytes += metadata.len();
        }
    }
}

/// Anything that can be exported.
trait Source {
    fn read(&self, buf: &mut [u8], offset: u64);
    fn data_bytes(&self) -> u64;
}

macro_rules! source {
    ($($disk:ty),*) => { $(
        impl Source for $disk {
            fn read(&self, buf: &mut [u8], offset: u64) {
                self.read_at(buf, offset).unwrap();
            }
            fn data_bytes(&self) -> u64 {
                let extents = self.extents(0..self.size_bytes()).map(Result::unwrap);
                extents.filter(|e| matches!(e.kind, ExtentKind::Data { .. })).map(|e| e.len).sum()
            }
        }
    )* };
}

source!(Disk, SnapshotDisk);

/// Writes the disk to a sparse file.
fn export(disk: &impl Source, path: &Path) {
    let file = File::options().write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(IMAGE_BYTES).unwrap();
    let mut buf = vec![0; PIECE];
    for offset in (0..IMAGE_BYTES).step_by(PIECE) {
        disk.read(&mut buf, offset);
        if buf.iter().any(|byte| *byte != 0) {
            file.write_all_at(&buf, offset).unwrap();
        }
    }
}

/// Calls `visit` with each piece of the image file.
fn pieces(path: &Path, mut visit: impl FnMut(&[u8], u64)) {
    let file = File::options().read(true).open(path).unwrap();
    let mut buf = vec![0; PIECE];
    for offset in (0..IMAGE_BYTES).step_by(PIECE) {
        file.read_exact_at(&mut buf, offset).unwrap();
        visit(&buf, offset);
    }
}

fn import(path: &Path, disk: &Disk) {
    pieces(path, |bytes, offset| disk.write_at(bytes, offset).unwrap());
    disk.flush().unwrap();
}

/// Writes only the blocks that differ from what the disk holds: how many.
fn import_changes(path: &Path, disk: &Disk) -> u64 {
    let (mut held, mut changed) = (vec![0; PIECE], 0);
    pieces(path, |bytes, offset| {
        disk.read_at(&mut held, offset).unwrap();
        for (i, (new, old)) in bytes.chunks(BLOCK).zip(held.chunks(BLOCK)).enumerate() {
            if new != old {
                disk.write_at(new, offset + (i * BLOCK) as u64).unwrap();
                changed += 1;
            }
        }
    });
    disk.flush().unwrap();
    changed
}

/// `cmp` and `e2fsck -fn`: the disk is this image, and the image is a sound file system.
fn assert_same(disk: &impl Source, image: &Path, when: &str) {
    let exported = image.with_extension("exported");
    export(disk, &exported);
    must("cmp", &[text(&exported), text(image)]);
    let said = must("e2fsck", &["-fn", text(&exported)]);
    assert!(!said.contains("WARNING"), "{when}: {said}");
    fs::remove_file(exported).unwrap();
}

/// Changes the file system from inside: a large file comes, a tree goes, files are renamed and truncated.
fn mutate(image: &Path, dir: &Path) {
    let big = dir.join("big.bin");
    let mut dice = Dice::new(2);
    let mut content = vec![0; 24 << 20];
    content.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&dice.next().to_le_bytes()));
    fs::write(&big, content).unwrap();
    let script = dir.join("changes.debugfs");
    let commands = format!(
        "mkdir /added\nwrite {} /added/big.bin\nwrite {} /added/script\nsymlink /added/link big.bin\n\
         rm /marker-1\nrm /marker-2\nln /marker-3 /added/hard\nset_inode_field /marker-3 mode 0100600\n",
        text(&big),
        text(&script)
    );
    fs::write(&script, commands).unwrap();
    must("debugfs", &["-w", "-f", text(&script), text(image)]);
    let (_, listing) = tool("debugfs", &["-R", "ls /added", text(image)]).unwrap();
    assert!(
        listing.contains("big.bin") && listing.contains("link"),
        "debugfs did not change the image: {listing}"
    );
    // Hard links made by debugfs leave the link count to the checker.
    tool("e2fsck", &["-fy", text(image)]).unwrap();
}

fn make_image(dir: &Path) -> PathBuf {
    let (tree, image) = (dir.join("tree"), dir.join("pristine.img"));
    fs::create_dir(&tree).unwrap();
    for n in 1..=3 {
        fs::write(tree.join(format!("marker-{n}")), format!("marker {n}\n").repeat(3000)).unwrap();
    }
    plant(&tree);
    File::create_new(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
    must("mkfs.ext4", &["-q", "-F", "-b", "4096", "-d", text(&tree), text(&image)]);
    fs::remove_dir_all(tree).unwrap();
    image
}

#[test]
fn an_ext4_image_survives_import_snapshot_change_and_restore() {
    let missing: Vec<&str> = ["mkfs.ext4", "debugfs", "e2fsck", "cmp"]
        .into_iter()
        .filter(|t| tool(t, &["-V"]).is_none())
        .collect();
    if !missing.is_empty() {
        eprintln!("skipped: {missing:?} are missing (package e2fsprogs)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pristine = make_image(dir.path());
    let path = dir.path().join("pool.cow");
    let store = Store::create(&path, Options::default()).unwrap();
    let server = store.create_server("web").unwrap();
    let disk = server.create_disk("vda", IMAGE_BYTES).unwrap();
    import(&pristine, &disk);
    let first = server.snapshot("pristine", "as mkfs left it").unwrap();
    assert_same(&disk, &pristine, "after the import");
    assert!(disk.data_bytes() < IMAGE_BYTES, "blocks of zeroes are holes");

    let changed = dir.path().join("changed.img");
    export(&disk, &changed);
    mutate(&changed, dir.path());
    let blocks = import_changes(&changed, &disk);
    assert!(blocks * (BLOCK as u64) > 20 << 20, "only {blocks} blocks changed");
    let second = server.snapshot("changed", "after debugfs").unwrap();
    assert_same(&disk, &changed, "after the change");
    assert_same(&first.disk("vda").unwrap(), &pristine, "the first snapshot beside the change");

    server.restore(first.id()).unwrap();
    assert_same(&disk, &pristine, "after the restore");
    store.checkpoint().unwrap();
    server.restore(server.before_restore().unwrap().id()).unwrap();
    assert_same(&disk, &changed, "after the restore was undone");
    server.restore(first.id()).unwrap();
    store.delete_snapshot(first.id()).unwrap();
    store.collect().unwrap();
    assert_same(&disk, &pristine, "after the snapshot under it was deleted");
    drop((disk, server, first, second));
    store.close().unwrap();
    assert_clean(&path, "after the image's life");

    let store = Store::open(&path, Options::default()).unwrap();
    let server = store.server("web").unwrap();
    assert_same(&server.disk("vda").unwrap(), &pristine, "after reopening");
    let second = server.snapshots().remove(0);
    assert_same(&second.disk("vda").unwrap(), &changed, "the second snapshot after reopening");
    server.restore(second.id()).unwrap();
    assert_same(&server.disk("vda").unwrap(), &changed, "after going forward again");
    fixture::empty(&store);
    drop((second, server));
    store.close().unwrap();
    assert_clean(&path, "when all is deleted");
}
