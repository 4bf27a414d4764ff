//! Command: a hook that is a program. It gets arguments and a few variables, no shell and no input.

use super::{Moment, Subject};
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};

/// Bytes of what it says that are kept for the error.
const SAID_BYTES_MAX: usize = 2048;

/// How long its last words are waited for where a program that failed left others behind that can still speak.
const LAST_WORDS: Duration = Duration::from_secs(2);

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
    let status = {
        let mut listen = pin!(listen(errors.as_mut(), &mut said));
        let status = tokio::select! {
            status = group.0.wait() => status,
            () = &mut listen => group.0.wait().await,
        };
        let status = status.map_err(|cause| format!("wait for {program}: {cause}"))?;
        if status.success() {
            return Ok(());
        }
        status
    };
    // Its end may be noticed before its last words; what it left behind may hold the pipe for ever.
    let _ = tokio::time::timeout(LAST_WORDS, listen(errors.as_mut(), &mut said)).await;
    let said = String::from_utf8_lossy(&said);
    let said: String = said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let separator = if said.is_empty() { "" } else { ": " };
    Err(format!("{program} ended with {status}{separator}{said}"))
}

/// Hears the beginning of what it says, until nobody is left that could say more.
async fn listen(errors: Option<&mut ChildStderr>, said: &mut Vec<u8>) {
    let Some(stream) = errors else { return };
    let mut part = [0; 512];
    while let Ok(length @ 1..) = stream.read(&mut part).await {
        let room = SAID_BYTES_MAX.saturating_sub(said.len());
        said.extend(part.iter().take(length.min(room)));
    }
}

#[cfg(test)]
mod tests {
    use super::{Moment, Subject, run};

    /// Which of its end and its last words comes first is a matter of luck: so it is tried often.
    #[tokio::test]
    async fn the_last_words_are_heard() {
        let subject = Subject { name: "web".into(), id: 1 };
        let command = ["/bin/sh", "-c", "{ echo no such domain >&2; } & exit 3"].map(str::to_owned);
        for _ in 0..300 {
            let refused = run(&command, Moment::Stop, &subject).await.unwrap_err();
            assert!(refused.ends_with("3: no such domain"), "{refused}");
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_what_is_left_behind() {
        let subject = Subject { name: "web".into(), id: 1 };
        let command = ["/bin/sh", "-c", "sleep 1000 & echo $! >&2; exit 3"].map(str::to_owned);
        let refused = run(&command, Moment::Stop, &subject).await.unwrap_err();
        let left: i32 = refused.rsplit(' ').next().unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(left), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}
