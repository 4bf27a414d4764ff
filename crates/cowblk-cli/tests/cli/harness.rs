//! Runs `cowblk` on a store in a temporary folder.

use std::ffi::OsStr;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A temporary folder with, usually, a store in it.
pub(crate) struct Bench {
    folder: TempDir,
}

/// How one run ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Bench {
    /// A folder without a store.
    pub(crate) fn empty() -> Bench {
        Bench { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A store without servers.
    pub(crate) fn new() -> Bench {
        let bench = Bench::empty();
        bench.ok(["init"]);
        bench
    }

    /// A store with server `web` and its disk `vda` of 8 MiB.
    pub(crate) fn with_disk() -> Bench {
        let bench = Bench::new();
        bench.ok(["server", "create", "web"]);
        bench.ok(["disk", "create", "web/vda", "8M"]);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("pool.cow")
    }

    /// Makes a file in the folder, and returns its name as an argument.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.path(name), content).expect("write a file");
        self.argument(name)
    }

    pub(crate) fn argument(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path in UTF-8").to_owned()
    }

    pub(crate) fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cowblk"));
        command.env_remove("COWBLK_STORE").env("TMPDIR", self.folder.path());
        command.arg("--store").arg(self.store()).args(arguments);
        command
    }

    pub(crate) fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Run {
        finished(&self.command(arguments).stdin(Stdio::null()).output().expect("run cowblk"))
    }

    /// Runs with bytes on standard input.
    pub(crate) fn run_with_input<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        arguments: I,
        input: &[u8],
    ) -> Run {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run cowblk");
        // A program that refuses the input closes the pipe early: its exit code is what counts.
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        finished(&child.wait_with_output().expect("wait for cowblk"))
    }

    /// Runs what must succeed, and returns its standard output as text.
    pub(crate) fn ok<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{run:?}");
        run.text()
    }

    /// Runs what must succeed with --json, and returns what it printed.
    pub(crate) fn json<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Value {
        let mut command = self.command(["--json"]);
        let run = finished(&command.args(arguments).stdin(Stdio::null()).output().expect("run cowblk"));
        assert_eq!(run.code, 0, "{run:?}");
        run.json()
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stdout: String = self.text().chars().take(2000).collect();
        write!(f, "exit code {}\nstdout: {stdout:?}\nstderr: {:?}", self.code, self.stderr)
    }
}

impl Run {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).expect("JSON on standard output")
    }
}

/// `len` bytes that no block size divides into zeros, and that differ with the seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn finished(output: &Output) -> Run {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{stderr}");
    let code = output.status.code().expect("an exit code, not a signal");
    Run { code, stdout: output.stdout.clone(), stderr }
}
