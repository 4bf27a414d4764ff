//! The file system of the demo: FAT on a disk of the store, with files whose content follows from a number.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use cowblk::Disk;
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, ReadWriteSeek};

use super::cache::PageCache;

/// Files written at first.
pub(super) const FILE_COUNT: u64 = 320;
const FOLDER_COUNT: u64 = 8;
const FILE_BYTES_MAX: u64 = 384 * 1024;

/// Each file by its path, with the BLAKE3 of its content.
pub(super) type Manifest = BTreeMap<String, blake3::Hash>;

/// Formats the disk and writes the first files.
pub(super) fn fill(disk: &Disk) -> io::Result<Manifest> {
    let mut cache = PageCache::new(disk.io())?;
    fatfs::format_volume(&mut cache, FormatVolumeOptions::new().volume_label(*b"COWBLK DEMO"))?;
    cache.flush()?;
    drop(cache);
    let mut manifest = Manifest::new();
    mounted(disk, |root| {
        (0..FOLDER_COUNT).try_for_each(|number| root.create_dir(&folder(number)).map(drop))?;
        for number in 0..FILE_COUNT {
            let content = content(number, "first");
            write(root, &path(number), &content)?;
            manifest.insert(path(number), blake3::hash(&content));
        }
        Ok(())
    })?;
    Ok(manifest)
}

/// Overwrites a third of the files with garbage and deletes another third; returns what is left.
pub(super) fn ruin(disk: &Disk, manifest: &Manifest) -> io::Result<Manifest> {
    let mut ruined = manifest.clone();
    mounted(disk, |root| {
        for number in 0..FILE_COUNT {
            let path = path(number);
            match number % 3 {
                0 => {
                    let garbage = content(number, "garbage");
                    write(root, &path, &garbage)?;
                    ruined.insert(path, blake3::hash(&garbage));
                }
                1 => {
                    root.remove(&path)?;
                    ruined.remove(&path);
                }
                _ => {}
            }
        }
        Ok(())
    })?;
    Ok(ruined)
}

/// Reads every file of the disk.
pub(super) fn read(disk: &Disk) -> io::Result<Manifest> {
    let mut manifest = Manifest::new();
    mounted(disk, |root| {
        for number in 0..FOLDER_COUNT {
            let folder = folder(number);
            for entry in root.open_dir(&folder)?.iter() {
                let entry = entry?;
                if entry.is_file() {
                    let mut content = Vec::new();
                    entry.to_file().read_to_end(&mut content)?;
                    manifest.insert(format!("{folder}/{}", entry.file_name()), blake3::hash(&content));
                }
            }
        }
        Ok(())
    })?;
    Ok(manifest)
}

/// Mounts the file system afresh, so that nothing is remembered from before, and unmounts it cleanly.
fn mounted(disk: &Disk, act: impl FnOnce(&Dir<'_, '_>) -> io::Result<()>) -> io::Result<()> {
    let mut cache = PageCache::new(disk.io())?;
    let volume = FileSystem::new(&mut cache, FsOptions::new())?;
    act(&volume.root_dir())?;
    volume.unmount()?;
    cache.flush()
}

type Dir<'fs, 'cache> = fatfs::Dir<'fs, &'cache mut PageCache<cowblk::DiskIo>>;

fn write<D: ReadWriteSeek>(root: &fatfs::Dir<'_, D>, path: &str, content: &[u8]) -> io::Result<()> {
    let mut file = root.create_file(path)?;
    file.truncate()?;
    file.write_all(content)?;
    file.flush()
}

fn folder(number: u64) -> String {
    format!("folder-{}", number % FOLDER_COUNT)
}

fn path(number: u64) -> String {
    format!("{}/file-{number:03}.dat", folder(number))
}

/// Bytes that follow from the file's number and a word: noise, text, or noise among zeros.
fn content(number: u64, word: &str) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(word.as_bytes());
    hasher.update(&number.to_le_bytes());
    let mut noise = hasher.finalize_xof();
    let mut seed = [0; 8];
    noise.fill(&mut seed);
    let len = usize::try_from(u64::from_le_bytes(seed) % FILE_BYTES_MAX).unwrap_or(0);
    match number % 4 {
        0 => format!("This is {word} file {number} of the demo.\n")
            .into_bytes()
            .into_iter()
            .cycle()
            .take(len)
            .collect(),
        1 => {
            let mut bytes = vec![0; len];
            bytes.chunks_mut(16 * 1024).step_by(4).for_each(|piece| noise.fill(piece));
            bytes
        }
        _ => {
            let mut bytes = vec![0; len];
            noise.fill(&mut bytes);
            bytes
        }
    }
}
