//! Medium: small file systems and block devices that fill up or fail, for those who may make them.
//!
//! Each constructor returns `None`, and says so, where this user or machine cannot have it.

#![allow(dead_code, reason = "every test file compiles its own copy and uses only a part of it")]
#![allow(unreachable_pub, reason = "a test crate has no outside")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a program quietly: what it printed, or `None` if it is missing or failed.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Makes a file of so many bytes that takes no space yet.
pub fn make_sparse(path: &Path, bytes: u64) {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
}

/// A small file system, gone when this is dropped.
pub struct SmallFileSystem {
    mount_point: PathBuf,
    /// Keeps the image of the file system, where it has one.
    _loop_device: Option<LoopDevice>,
    dir: tempfile::TempDir,
}

impl SmallFileSystem {
    /// One in memory.
    pub fn tmpfs(bytes: u64) -> Option<SmallFileSystem> {
        let (dir, mount_point) = place();
        let size = format!("size={bytes}");
        if run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", text(&mount_point)]).is_none() {
            println!("SKIPPED: this user cannot mount a small file system");
            return None;
        }
        Some(SmallFileSystem { mount_point, _loop_device: None, dir })
    }

    /// An ext4 in a file.
    pub fn ext4(bytes: u64) -> Option<SmallFileSystem> {
        let (dir, mount_point) = place();
        let image = dir.path().join("ext4.img");
        make_sparse(&image, bytes);
        let made = ["mkfs.ext4", "/sbin/mkfs.ext4"]
            .iter()
            .find_map(|mkfs| run(mkfs, &["-q", "-F", "-b", "4096", "-m", "0", text(&image)]));
        if made.is_none() {
            println!("SKIPPED: there is no mkfs.ext4 here");
            return None;
        }
        let loop_device = LoopDevice::over(&image)?;
        if run("mount", &["-t", "ext4", text(loop_device.path()), text(&mount_point)]).is_none() {
            println!("SKIPPED: this user cannot mount an ext4");
            return None;
        }
        Some(SmallFileSystem { mount_point, _loop_device: Some(loop_device), dir })
    }

    /// Where a file of it is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.mount_point.join(name)
    }

    /// Fills what is free with a file of this name, to the last byte. Removing it makes room again.
    pub fn fill_up(&self, name: &str) {
        let mut balloon = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        for piece in [1 << 20, 4096, 1] {
            while balloon.write_all(&vec![1; piece]).is_ok() {}
        }
        drop(balloon.sync_all());
    }

    /// Makes a file system in memory larger.
    pub fn enlarge(&self, bytes: u64) {
        let options = format!("remount,size={bytes}");
        assert!(run("mount", &["-o", &options, text(&self.mount_point)]).is_some(), "it was mounted before");
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        run("umount", &[text(&self.mount_point)]);
    }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let mount_point = dir.path().join("mounted");
    fs::create_dir(&mount_point).unwrap();
    (dir, mount_point)
}

/// A block device over a file, gone when this is dropped.
pub struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// A block device as long as the file is now.
    pub fn over(file: &Path) -> Option<LoopDevice> {
        let found = ["losetup", "/sbin/losetup"]
            .iter()
            .find_map(|losetup| run(losetup, &["--find", "--show", text(file)]));
        let Some(path) = found else {
            println!("SKIPPED: this user cannot make a loop device");
            return None;
        };
        Some(LoopDevice { path: path.into() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the operating system forget what it keeps of the device in memory.
    pub fn forget_pages(&self) {
        self.block_device("--flushbufs");
    }

    /// From now on the operating system refuses to write to it.
    pub fn refuse_writes(&self) {
        self.block_device("--setro");
    }

    /// And now it does not any more.
    pub fn accept_writes(&self) {
        self.block_device("--setrw");
    }

    fn block_device(&self, what: &str) {
        let done =
            ["blockdev", "/sbin/blockdev"].iter().find_map(|program| run(program, &[what, text(&self.path)]));
        assert!(done.is_some(), "blockdev {what}");
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // What it refuses, it would still refuse to whoever gets it next.
        let _ = ["blockdev", "/sbin/blockdev"]
            .iter()
            .find_map(|program| run(program, &["--setrw", text(&self.path)]));
        let detached = ["losetup", "/sbin/losetup"]
            .iter()
            .find_map(|losetup| run(losetup, &["--detach", text(&self.path)]));
        if detached.is_none() {
            println!("{} could not be detached", self.path.display());
        }
    }
}
