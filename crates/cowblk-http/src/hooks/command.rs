//! Command: a hook that is a program. It gets arguments and a few variables, no shell and no input.

use super::{Moment, Subject};
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// Bytes of what it says that are kept for the error.
const SAID_BYTES_MAX: usize = 2048;

/// A program and all that it started: ends with us.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Known only while it runs; a program that ended by itself may leave others behind on purpose.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id {
            // It may have ended this very moment.
            let _ =
                nix::sys::signal::killpg(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

pub(super) async fn run(command: &[String], moment: Moment, subject: &Subject) -> Result<(), String> {
    let (program, arguments) = command.split_first().ok_or("there is no program")?;
    let id = subject.id.to_string();
    let filled = arguments.iter().map(|text| text.replace("{server}", &subject.name).replace("{id}", &id));
    let mut child = Command::new(program);
    child
        .args(filled)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    child.env("COWBLK_SERVER", &subject.name).env("COWBLK_SERVER_ID", &id).env("COWBLK_HOOK", moment.word());
    child
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let spawned = child.spawn().map_err(|cause| format!("start {program}: {cause}"))?;
    let mut group = Group(spawned);
    let mut errors = group.0.stderr.take();
    let mut said = Vec::new();
    let listen = async {
        if let Some(stream) = errors.as_mut() {
            let mut part = [0; 512];
            while let Ok(length @ 1..) = stream.read(&mut part).await {
                let room = SAID_BYTES_MAX.saturating_sub(said.len());
                said.extend(part.iter().take(length.min(room)));
            }
        }
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        status = group.0.wait() => status.map_err(|cause| format!("wait for {program}: {cause}"))?,
        () = listen => unreachable!("it listens for ever"),
    };
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let said: String = said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let separator = if said.is_empty() { "" } else { ": " };
    Err(format!("{program} ended with {status}{separator}{said}"))
}
