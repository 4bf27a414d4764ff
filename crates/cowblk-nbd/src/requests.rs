//! Requests: which ones an export can be asked, and what each comes to.
//!
//! No I/O. What is refused here reaches no disk.

use crate::codec::{Command, NbdError, PAYLOAD_BYTES_MAX, Request, Style, command};

/// What requests of one connection are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Bytes that the export has.
    pub size_bytes: u64,
    /// Whether writes are refused.
    pub is_read_only: bool,
    /// What was negotiated.
    pub style: Style,
    /// Whether any metadata context was chosen.
    pub has_contexts: bool,
}

/// A refusal: the protocol's number, and a sentence.
pub type Refused = (NbdError, &'static str);

impl Rules {
    /// Whether a request may be carried out.
    ///
    /// # Errors
    /// What to tell the client. Writes beyond the end are [`Invalid`](NbdError::Invalid), too, where the
    /// protocol suggests "no space": a hypervisor takes "no space" for a full store, and stops its guest.
    pub fn check(&self, request: &Request) -> Result<(), Refused> {
        let Some(known) = self.flags_of(request.command) else {
            return Err((NbdError::Invalid, "this command is not known"));
        };
        if request.flags & !known != 0 {
            return Err((NbdError::Invalid, "a flag is not allowed with this command"));
        }
        let changes = matches!(request.command, Command::Write | Command::Trim | Command::WriteZeroes);
        if changes && self.is_read_only {
            return Err((NbdError::Permission, "the export is read-only"));
        }
        let carries = matches!(request.command, Command::Read | Command::Write | Command::Cache);
        if carries && request.len > u64::from(PAYLOAD_BYTES_MAX) {
            return Err((NbdError::Invalid, "the request is longer than 32 MiB"));
        }
        match request.command {
            Command::Flush if (request.offset, request.len) != (0, 0) => {
                Err((NbdError::Invalid, "a flush has no range"))
            }
            Command::BlockStatus if !self.has_contexts => {
                Err((NbdError::Invalid, "no metadata context was chosen"))
            }
            // Its range is in the payload.
            Command::BlockStatus if request.has(command::PAYLOAD_LEN) => Ok(()),
            Command::BlockStatus if request.len == 0 => {
                Err((NbdError::Invalid, "the status of nothing was asked for"))
            }
            _ => self.check_range(request.offset, request.len),
        }
    }

    /// Whether a range lies within the export.
    ///
    /// # Errors
    /// What to tell the client.
    pub fn check_range(&self, offset: u64, len: u64) -> Result<(), Refused> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size_bytes => Ok(()),
            _ => Err((NbdError::Invalid, "the range reaches past the end of the export")),
        }
    }

    /// The flags that a command may carry; `None` if there is no such command. FUA is allowed with all.
    fn flags_of(&self, command: Command) -> Option<u16> {
        let payload = if self.style == Style::Extended { command::PAYLOAD_LEN } else { 0 };
        let df = if self.style == Style::Simple { 0 } else { command::DF };
        let own = match command {
            Command::Read => df,
            Command::Write => payload,
            Command::WriteZeroes => command::NO_HOLE | command::FAST_ZERO,
            Command::BlockStatus => command::REQ_ONE | payload,
            Command::Flush | Command::Trim | Command::Cache => 0,
            Command::Disconnect | Command::Unknown(_) => return None,
        };
        Some(own | command::FUA)
    }
}
