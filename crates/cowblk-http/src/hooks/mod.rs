//! Hooks: what is done to a server's guest before and after. Commands with arguments, never a shell; QMP; the QEMU guest agent.

mod command;
mod qemu;

use crate::refusal::{Code, Refusal};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use utoipa::ToSchema;

/// Seconds that a hook may take unless told otherwise.
const SECONDS_DEFAULT: u64 = 60;
/// Seconds that a hook may be given.
const SECONDS_MAX: u64 = 3600;
const ARGUMENTS_MAX: usize = 64;
const ARGUMENT_BYTES_MAX: usize = 4096;

/// How one hook is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum HookSpec {
    /// A program and its arguments, in which `{server}` and `{id}` stand for the server's name and id.
    Command {
        /// The program, as an absolute path, and its arguments.
        command: Vec<String>,
        /// Seconds that it may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// A QMP socket of QEMU: `stop` powers the guest down and waits until it is, `start` resets it and lets it run.
    Qmp {
        /// The socket's path.
        #[schema(value_type = String)]
        qmp: PathBuf,
        /// Seconds that it may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// A socket of the QEMU guest agent: `freeze` and `thaw` its file systems.
    GuestAgent {
        /// The socket's path.
        #[schema(value_type = String)]
        guest_agent: PathBuf,
        /// Seconds that it may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
}

/// The hooks of a server, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HookSettings {
    /// Before a restore of an active server, and when it is stopped or suspended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<HookSpec>,
    /// When a server is started, and after a restore with `?start=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<HookSpec>,
    /// Before a snapshot of an active server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze: Option<HookSpec>,
    /// After it, whatever happens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thaw: Option<HookSpec>,
}

/// What hooks that come with a request may use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    pub(crate) commands: Vec<PathBuf>,
    pub(crate) socket_folders: Vec<PathBuf>,
}

/// The moments at which a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Stop,
    Start,
    Freeze,
    Thaw,
}

impl Moment {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
        }
    }
}

/// Whom a hook is about.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) id: u64,
    pub(crate) name: String,
}

impl HookSettings {
    /// The hook of a moment: the server's own, or else that for all.
    pub(crate) fn hook<'a>(&'a self, all: &'a Self, moment: Moment) -> Option<&'a HookSpec> {
        let (own, general) = match moment {
            Moment::Stop => (&self.stop, &all.stop),
            Moment::Start => (&self.start, &all.start),
            Moment::Freeze => (&self.freeze, &all.freeze),
            Moment::Thaw => (&self.thaw, &all.thaw),
        };
        own.as_ref().or(general.as_ref())
    }

    /// Refuses what a hook cannot be, wherever it comes from.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let all =
            [("stop", &self.stop), ("start", &self.start), ("freeze", &self.freeze), ("thaw", &self.thaw)];
        for (word, spec) in all.into_iter().filter_map(|(word, spec)| Some((word, spec.as_ref()?))) {
            spec.check(word).map_err(|sentence| format!("hook `{word}`: {sentence}"))?;
        }
        if self.freeze.is_some() != self.thaw.is_some() {
            return Err("`freeze` and `thaw` come as a pair: give both or none".into());
        }
        Ok(())
    }

    /// Refuses what the operator did not allow requests to use.
    pub(crate) fn check_allowed(&self, allowed: &Allowed) -> Result<(), Refusal> {
        self.check().map_err(Refusal::invalid)?;
        let specs = [&self.stop, &self.start, &self.freeze, &self.thaw];
        match specs.into_iter().flatten().find(|spec| !spec.is_allowed(allowed)) {
            Some(spec) => Err(Refusal::new(
                Code::HookNotAllowed,
                format!(
                    "{} is not allowed in hooks of requests; the operator allows programs with --allow-hook-command and folders of sockets with --allow-hook-sockets",
                    spec.path().display()
                ),
            )),
            None => Ok(()),
        }
    }
}

impl HookSpec {
    fn path(&self) -> &Path {
        match self {
            Self::Command { command, .. } => Path::new(command.first().map_or("", String::as_str)),
            Self::Qmp { qmp, .. } => qmp,
            Self::GuestAgent { guest_agent, .. } => guest_agent,
        }
    }

    fn seconds(&self) -> Option<u64> {
        match self {
            Self::Command { seconds, .. } | Self::Qmp { seconds, .. } | Self::GuestAgent { seconds, .. } => {
                *seconds
            }
        }
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.seconds().unwrap_or(SECONDS_DEFAULT))
    }

    fn check(&self, word: &str) -> Result<(), String> {
        let path = self.path();
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(format!("`{}` is no absolute path without `..`", path.display()));
        }
        if self.seconds().is_some_and(|seconds| seconds == 0 || seconds > SECONDS_MAX) {
            return Err(format!("`seconds` is from 1 to {SECONDS_MAX}"));
        }
        match self {
            Self::Command { command, .. } => {
                let is_long =
                    |argument: &String| argument.len() > ARGUMENT_BYTES_MAX || argument.contains('\0');
                if command.len() > ARGUMENTS_MAX || command.iter().any(is_long) {
                    return Err(format!(
                        "at most {ARGUMENTS_MAX} arguments of {ARGUMENT_BYTES_MAX} bytes, without NUL"
                    ));
                }
            }
            Self::Qmp { .. } if !matches!(word, "stop" | "start") => {
                return Err("QMP can stop and start; freezing needs the guest agent".into());
            }
            Self::GuestAgent { .. } if !matches!(word, "freeze" | "thaw") => {
                return Err("the guest agent can freeze and thaw; stopping needs QMP".into());
            }
            Self::Qmp { .. } | Self::GuestAgent { .. } => {}
        }
        Ok(())
    }

    fn is_allowed(&self, allowed: &Allowed) -> bool {
        let path = self.path();
        match self {
            Self::Command { .. } => allowed.commands.iter().any(|one| one == path),
            Self::Qmp { .. } | Self::GuestAgent { .. } => {
                allowed.socket_folders.iter().any(|folder| path.parent() == Some(folder))
            }
        }
    }

    /// Runs the hook, within its time.
    pub(crate) async fn run(&self, moment: Moment, subject: &Subject) -> Result<(), Refusal> {
        let work = async {
            match self {
                Self::Command { command, .. } => command::run(command, moment, subject).await,
                Self::Qmp { qmp, .. } => qemu::monitor(qmp, moment).await,
                Self::GuestAgent { guest_agent, .. } => qemu::agent(guest_agent, moment).await,
            }
        };
        let limit = self.limit();
        let sentence = match tokio::time::timeout(limit, work).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(sentence)) => sentence,
            Err(_) => format!("it took longer than {} seconds, and was given up", limit.as_secs()),
        };
        let detail = format!("the {} hook of server {:?} failed: {sentence}", moment.word(), subject.name);
        Err(Refusal::new(Code::HookFailed, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(text: &str) -> HookSettings {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn hooks_of_requests_are_those_that_the_operator_allowed() {
        let allowed =
            Allowed { commands: vec!["/usr/bin/virsh".into()], socket_folders: vec!["/run/qemu".into()] };
        for fine in [
            r#"{"stop": {"command": ["/usr/bin/virsh", "shutdown", "{server}"], "seconds": 5}}"#,
            r#"{"stop": {"qmp": "/run/qemu/web.sock"}}"#,
            r#"{"freeze": {"guest_agent": "/run/qemu/a"}, "thaw": {"guest_agent": "/run/qemu/a"}}"#,
        ] {
            assert!(hooks(fine).check_allowed(&allowed).is_ok(), "{fine}");
        }
        for wrong in [
            r#"{"stop": {"command": ["/bin/sh", "-c", "virsh"]}}"#,
            r#"{"stop": {"command": ["/usr/bin/../bin/virsh"]}}"#,
            r#"{"stop": {"command": ["virsh"]}}"#,
            r#"{"stop": {"command": []}}"#,
            r#"{"stop": {"qmp": "/run/qemu/../x"}}"#,
            r#"{"stop": {"qmp": "/run/other/web.sock"}}"#,
            r#"{"stop": {"guest_agent": "/run/qemu/a"}}"#,
            r#"{"stop": {"qmp": "/run/qemu/a", "seconds": 0}}"#,
            r#"{"freeze": {"guest_agent": "/run/qemu/a"}}"#,
        ] {
            assert!(hooks(wrong).check_allowed(&allowed).is_err(), "{wrong}");
        }
    }
}
