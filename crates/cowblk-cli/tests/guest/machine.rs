//! A guest: QEMU as a process, without KVM, and a line to the guest's first process.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How long one line to the guest may take: this is for what hangs, and not for what is slow.
pub(crate) const HANGS: Duration = Duration::from_mins(20);

/// A running guest with one disk, and a monitor at a socket.
pub(crate) struct Machine {
    qemu: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// What the kernel says.
    console: PathBuf,
}

/// How a guest is started.
pub(crate) struct Start<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initial: &'a Path,
    /// A folder for what the kernel says.
    pub(crate) folder: &'a Path,
    /// More of QEMU's arguments.
    pub(crate) arguments: &'a [&'a str],
}

impl Machine {
    /// Starts QEMU. The guest says when it is ready: [`Machine::is_ready`].
    pub(crate) fn start(start: &Start<'_>) -> Machine {
        let console = start.folder.join("console");
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-accel", "tcg", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none"]);
        command.arg("-kernel").arg(start.kernel).arg("-initrd").arg(start.initial);
        // On a busy machine an emulated timer looks as if it did not work.
        command.args(["-append", "console=ttyS0 loglevel=4 panic=-1 no_timer_check"]);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        command.args(["-serial", "stdio"]).args(start.arguments);
        let mut qemu = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (qemu.stdin.take().unwrap(), qemu.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line.trim_end().to_owned());
            }
        });
        Machine { qemu, input, lines, console }
    }

    /// Waits until the guest has started.
    pub(crate) fn is_ready(&mut self) {
        while self.line() != "@@ ready" {}
    }

    /// Has the guest do a line of shell; its exit code, and what it said.
    pub(crate) fn run(&mut self, line: &str) -> (i32, String) {
        assert!(line.len() < 4000 && !line.contains('\n'), "a line, as a terminal takes it");
        writeln!(self.input, "{line}").unwrap();
        let mut said = String::new();
        loop {
            let answer = self.line();
            if let Some(code) = answer.strip_prefix("@@ ") {
                assert_ne!(code, "ready", "the guest started again by itself");
                return (code.parse().unwrap(), said.trim().to_owned());
            }
            writeln!(said, "{answer}").unwrap();
        }
    }

    /// The same of a line that succeeds.
    pub(crate) fn does(&mut self, line: &str) -> String {
        let (code, said) = self.run(line);
        assert_eq!(code, 0, "{line}: {said}\nThe kernel said:\n{}", self.console());
        said
    }

    fn line(&mut self) -> String {
        match self.lines.recv_timeout(HANGS) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the guest hangs; the kernel said:\n{}", self.console()),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("QEMU ended, {:?}; the kernel said:\n{}", self.qemu.wait(), self.console())
            }
        }
    }

    /// What the kernel said.
    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.qemu.try_wait().unwrap().is_none()
    }

    /// Waits until QEMU has ended by itself.
    pub(crate) fn end(mut self) -> ExitStatus {
        while self.lines.recv_timeout(HANGS) != Err(RecvTimeoutError::Disconnected) {}
        self.qemu.wait().unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
