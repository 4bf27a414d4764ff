//! Audit: a line for every request that changes something, or tried to. Tokens are named by number and name.

use super::files;
use parking_lot::Mutex;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes after which the log is put aside as `audit.log.1`.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// One request.
#[derive(Debug, Serialize)]
pub(crate) struct AuditLine<'a> {
    pub(crate) time: String,
    pub(crate) token_id: Option<u64>,
    pub(crate) token_name: Option<&'a str>,
    pub(crate) peer: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) milliseconds: u64,
}

/// The log.
pub(crate) struct Audit {
    path: PathBuf,
    file: Mutex<(File, u64)>,
}

impl Audit {
    /// The log in a state folder.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("audit.log");
        let file = files::append(&path)?;
        let length = file.metadata()?.len();
        Ok(Self { path, file: Mutex::new((file, length)) })
    }

    /// Writes a line. A log that cannot be written does not stop the daemon; it says so on standard error.
    pub(crate) fn write(&self, line: &AuditLine<'_>) {
        let written = serde_json::to_vec(line).map_err(io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            let mut file = self.file.lock();
            if file.1 > LOG_BYTES_MAX {
                std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
                *file = (files::append(&self.path)?, 0);
            }
            file.1 += u64::try_from(bytes.len()).unwrap_or(0);
            file.0.write_all(&bytes)
        });
        if let Err(cause) = written {
            // Nothing is left to do when even standard error is closed.
            let _ = writeln!(io::stderr(), "audit log: {cause}");
        }
    }
}
