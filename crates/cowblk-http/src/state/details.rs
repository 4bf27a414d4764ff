//! Details: what a block store cannot know of a server. One small file each, replaced as a whole.

use super::files;
use crate::hooks::HookSettings;
use crate::model::{RetentionView, ScheduleView};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is kept of a server beside the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Details {
    pub(crate) hostname: Option<String>,
    pub(crate) plan: Map<String, Value>,
    pub(crate) ip_address: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) os: Option<String>,
    pub(crate) snapshot_limit: Option<u32>,
    pub(crate) hooks: HookSettings,
    pub(crate) retention: Option<RetentionView>,
    pub(crate) schedule: Option<ScheduleView>,
    pub(crate) automatic_backups: bool,
}

/// The details of all servers that have any.
pub(crate) struct DetailsBook {
    folder: PathBuf,
    known: RwLock<BTreeMap<u64, Arc<Details>>>,
}

impl DetailsBook {
    /// Reads what is in a state folder.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join("servers");
        files::make_folder(&folder)?;
        let mut known = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).map_err(|cause| files::said("read", &folder, &cause))? {
            let path = entry?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            let (Some(id), Some("json")) = (id, path.extension().and_then(|end| end.to_str())) else {
                continue;
            };
            let bytes = std::fs::read(&path).map_err(|cause| files::said("read", &path, &cause))?;
            let details = serde_json::from_slice(&bytes).map_err(|cause| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {cause}", path.display()))
            })?;
            known.insert(id, Arc::new(details));
        }
        Ok(Self { folder, known: RwLock::new(known) })
    }

    /// What is known of a server; nothing, if there is no file.
    pub(crate) fn of(&self, server: u64) -> Arc<Details> {
        self.known.read().get(&server).cloned().unwrap_or_default()
    }

    /// The servers with details.
    pub(crate) fn servers(&self) -> Vec<u64> {
        self.known.read().keys().copied().collect()
    }

    /// Sets what is known of a server. Durable when this returns.
    pub(crate) fn set(&self, server: u64, details: Details) -> io::Result<()> {
        if details == Details::default() {
            return self.forget(server);
        }
        files::replace(&self.path(server), &serde_json::to_vec_pretty(&details)?)?;
        self.known.write().insert(server, Arc::new(details));
        Ok(())
    }

    /// Forgets a server.
    pub(crate) fn forget(&self, server: u64) -> io::Result<()> {
        if self.known.write().remove(&server).is_some() { files::remove(&self.path(server)) } else { Ok(()) }
    }

    fn path(&self, server: u64) -> PathBuf {
        self.folder.join(format!("{server}.json"))
    }
}
