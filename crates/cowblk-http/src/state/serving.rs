//! Serving: where a daemon listens, for those who find its store in use.

use super::files;
use std::io;
use std::path::{Path, PathBuf};

/// Says where a daemon listens, until dropped.
pub(crate) struct Serving(PathBuf);

impl Serving {
    /// Writes it down.
    pub(crate) fn at(folder: &Path, addresses: &[String]) -> io::Result<Self> {
        let path = path_in(folder);
        files::replace(&path, &serde_json::to_vec(addresses)?)?;
        Ok(Self(path))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // One that stays is believed only while the store is in use.
        let _ = files::remove(&self.0);
    }
}

/// Where the daemon with that state folder listens, or did when it was killed: URLs, or `unix:` and a path.
pub fn serving_at(folder: &Path) -> Vec<String> {
    let text = std::fs::read(path_in(folder)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn path_in(folder: &Path) -> PathBuf {
    folder.join("serving.json")
}
