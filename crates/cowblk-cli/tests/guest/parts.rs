//! What a guest is made of: a kernel and an agent that `fetch.sh` brought, and an initial file system around busybox.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Modules that a guest loads; what they depend on is found in them.
const MODULES: [&str; 7] =
    ["virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "nbd", "evdev", "button"];
/// Programs beside busybox, which knows no ext4.
const PROGRAMS: [&str; 2] = ["/sbin/mkfs.ext4", "/sbin/e2fsck"];

const REGULAR: u32 = 0o100_755;
const FOLDER: u32 = 0o040_755;

/// Where things are on this machine.
pub(crate) struct Parts {
    pub(crate) kernel: PathBuf,
    pub(crate) agent: PathBuf,
    modules: PathBuf,
    busybox: PathBuf,
}

impl Parts {
    /// Looks for them; says what is missing, and that the test is skipped.
    pub(crate) fn find() -> Option<Parts> {
        Self::look().map_err(|missing| println!("SKIPPED: {missing}")).ok()
    }

    fn look() -> Result<Parts, String> {
        program("qemu-system-x86_64")?;
        for program in PROGRAMS {
            self::program(program)?;
        }
        let busybox = program("busybox")?;
        if !libraries(&busybox).is_empty() {
            return Err("busybox is not linked statically (Debian: busybox-static)".into());
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest");
        let folder = std::env::var_os("COWBLK_GUEST").map_or(root, PathBuf::from);
        let missing =
            || "there is no kernel or agent for a guest; crates/cowblk-cli/tests/guest/fetch.sh brings them";
        let kernel = starting(&folder.join("boot"), "vmlinuz-").ok_or_else(missing)?;
        let modules = starting(&folder.join("lib/modules"), "").ok_or_else(missing)?;
        let agent = folder.join("usr/sbin/qemu-ga");
        if !agent.exists() {
            return Err(missing().into());
        }
        Ok(Parts { kernel, agent, modules, busybox })
    }

    /// Writes an initial file system for the kernel, with these programs beside the usual ones.
    pub(crate) fn write_initial(&self, path: &Path, programs: &[&Path]) {
        let mut archive = Archive::default();
        archive.file("init", include_bytes!("init.sh"));
        archive.file("etc/acpi/PWRF/00000080", include_bytes!("power_button.sh"));
        archive.file("bin/busybox", &fs::read(&self.busybox).unwrap());
        archive.link("bin/sh", "busybox");
        let mut order = Vec::new();
        for module in MODULES {
            self.add_module(&mut archive, &mut order, module);
        }
        archive.file("modules/order", (order.join("\n") + "\n").as_bytes());
        for found in PROGRAMS.iter().map(Path::new).chain(programs.iter().copied()) {
            let name = found.file_name().unwrap().to_str().unwrap();
            archive.file(&format!("usr/bin/{name}"), &fs::read(found).unwrap());
            for library in libraries(found) {
                archive.file(library.trim_start_matches('/'), &fs::read(&library).unwrap());
            }
        }
        fs::write(path, archive.end()).unwrap();
    }

    /// Adds a module behind those that it needs.
    fn add_module(&self, archive: &mut Archive, order: &mut Vec<String>, name: &str) {
        if order.iter().any(|one| one == name) {
            return;
        }
        let file = below(&self.modules, &format!("{name}.ko"));
        let Some(bytes) = file.map(|file| fs::read(file).unwrap()) else { return }; // It is part of the kernel.
        for needed in needs(&bytes) {
            self.add_module(archive, order, &needed);
        }
        archive.file(&format!("modules/{name}.ko"), &bytes);
        order.push(name.to_owned());
    }
}

/// A program's file, wherever it is.
pub(crate) fn program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/sbin".into(), "/usr/sbin".into()]);
    let mut files = folders.map(|folder| folder.join(name)); // An absolute name stays as it is.
    files.find(|file| file.is_file()).ok_or_else(|| format!("{name} is not installed"))
}

fn starting(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.file_name().to_str().unwrap().starts_with(name))
        .map(|entry| entry.path())
        .max()
}

/// The file of this name, anywhere below a folder.
fn below(folder: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).find_map(|entry| {
        if entry.file_type().unwrap().is_dir() {
            return below(&entry.path(), name);
        }
        (entry.file_name() == name).then(|| entry.path())
    })
}

/// The modules that a module says it depends on.
fn needs(module: &[u8]) -> Vec<String> {
    let word = b"\0depends=";
    let at = module.windows(word.len()).position(|window| window == word).unwrap() + word.len();
    let list = module[at..].split(|byte| *byte == 0).next().unwrap();
    let list = String::from_utf8(list.to_vec()).unwrap();
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The shared libraries that a program is loaded with; none if it is linked statically.
fn libraries(program: &Path) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

/// A cpio archive of the kind that the kernel unpacks ("newc").
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Archive {
    fn file(&mut self, name: &str, content: &[u8]) {
        self.folders_of(name);
        self.entry(name, REGULAR, content);
    }

    fn link(&mut self, name: &str, target: &str) {
        self.folders_of(name);
        self.entry(name, 0o120_777, target.as_bytes());
    }

    fn folders_of(&mut self, name: &str) {
        for (at, _) in name.match_indices('/') {
            self.entry(&name[..at], FOLDER, &[]);
        }
    }

    /// The whole archive.
    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        if !self.names.insert(name.to_owned()) {
            return;
        }
        let (number, links) = (self.names.len(), 1 + usize::from(mode == FOLDER));
        let mode = usize::try_from(mode).unwrap();
        // number, mode, owner, group, links, time, length, device, its device, length of the name, sum
        let fields = [number, mode, 0, 0, links, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
