//! One command's hold on the store: opened for reading or writing, closed before anything is printed;
//! and the look-ups by name, whose errors list the names that do exist.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use cowblk::{Disk, ErrorKind, Options, Server, Snapshot, SnapshotId, Store};

use crate::args::{DiskPath, SnapshotPath};
use crate::failure::{Failure, Kind};
use crate::output::Output;

/// How many existing names an error lists.
const NAMES_LISTED_MAX: usize = 12;

/// The store that is served if none is named.
const STORE_SERVED: &str = "pool.cow";

/// Whether a daemon leaves what it has in memory to the next one.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct HandoverArguments {
    /// Keep no handover file: if the process is killed, what clients have not flushed is lost, as in a power cut
    #[arg(long, conflicts_with = "handover")]
    pub(crate) no_handover: bool,
}

/// What the global options say.
pub(crate) struct Session {
    store: Option<PathBuf>,
    handover: Option<PathBuf>,
    size_limit: Option<u64>,
    pub(crate) output: Output,
}

impl Session {
    pub(crate) fn new(
        store: Option<PathBuf>,
        handover: Option<PathBuf>,
        size_limit: Option<u64>,
        output: Output,
    ) -> Session {
        Session { store, handover, size_limit, output }
    }

    /// What the store is created and opened with.
    pub(crate) fn options(&self) -> Options {
        let options = Options::default().handover(self.handover.clone());
        match self.size_limit {
            Some(bytes) => options.max_bytes(bytes),
            None => options,
        }
    }

    /// The store's path, or what to do about its absence.
    pub(crate) fn path(&self) -> Result<&Path, Failure> {
        self.store.as_deref().ok_or_else(|| {
            Failure::new(Kind::Usage, "no store was named: give --store PATH or set COWBLK_STORE")
        })
    }

    /// The store's path for a daemon and its tokens, which do without being told one.
    pub(crate) fn path_for_serving(&self) -> PathBuf {
        self.store.clone().unwrap_or_else(|| PathBuf::from(STORE_SERVED))
    }

    /// What a daemon opens the store at `path` with: its clients outlive it.
    pub(crate) fn options_for_serving(&self, path: &Path, handover: HandoverArguments) -> Options {
        let file = self.handover.clone().unwrap_or_else(|| Store::handover_path(path));
        let is_wanted = !handover.no_handover;
        self.options().handover(is_wanted.then_some(file))
    }

    /// What a daemon says if it took over from one that was killed.
    pub(crate) fn tell_of_takeover(store: &Store) {
        let bytes = store.stats().taken_over_bytes;
        if bytes > 0 {
            eprintln!(
                "took over {bytes} bytes of writes that the last process had in memory when it was killed"
            );
        }
    }

    /// Refuses the store's own file or device as the target of an export: it would be destroyed.
    pub(crate) fn refuse_as_target(&self, target: &Path) -> Result<(), Failure> {
        let store = self.path()?;
        let identity =
            |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino(), found.rdev()));
        let is_same_device =
            |(_, _, device): (u64, u64, u64), other: (u64, u64, u64)| device != 0 && device == other.2;
        match (identity(store), identity(target)) {
            (Some(a), Some(b)) if a == b || is_same_device(a, b) => {
                Err(Failure::new(Kind::Invalid, format!("{} is the store itself", target.display())))
            }
            _ => Ok(()),
        }
    }

    /// Opens the store without the right to change it, and closes it after `act`.
    pub(crate) fn read<T>(&self, act: impl FnOnce(&Store) -> Result<T, Failure>) -> Result<T, Failure> {
        let opened = Store::open_read_only(self.path()?, self.options());
        run(opened.map_err(|error| self.explain(error))?, act)
    }

    /// As [`read`](Self::read), for what needs everything in the maps: a process that was killed left something in the journal, for which the
    /// store is opened to change it.
    pub(crate) fn count<T>(&self, act: impl Fn(&Store) -> Result<T, Failure>) -> Result<T, Failure> {
        match self.read(&act) {
            Err(failure) if failure.kind() == Kind::ReadOnly => self.write(act),
            counted => counted,
        }
    }

    /// Opens the store to change it, and closes it after `act`: what `act` did is durable on return.
    pub(crate) fn write<T>(&self, act: impl FnOnce(&Store) -> Result<T, Failure>) -> Result<T, Failure> {
        self.write_with(|options| options, act)
    }

    /// The same, with options of the job's own.
    pub(crate) fn write_with<T>(
        &self,
        adapt: impl FnOnce(Options) -> Options,
        act: impl FnOnce(&Store) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let opened = Store::open(self.path()?, adapt(self.options()));
        run(opened.map_err(|error| self.explain(error))?, act)
    }

    /// The failure to open the store, with what to do if a daemon holds it.
    fn explain(&self, error: cowblk::Error) -> Failure {
        let busy = error.kind() == ErrorKind::Busy;
        let failure = Failure::from(error);
        let addresses =
            self.store.as_deref().map(|path| cowblk_http::serving_at(&cowblk_http::state_folder(path)));
        match addresses.as_deref() {
            Some([address, ..]) if busy => {
                let sentence = format!(
                    "{failure}; `cowblk serve` has it: ask that daemon instead, with --url {address} and --token"
                );
                Failure::new(Kind::Busy, sentence)
            }
            _ => failure,
        }
    }
}

/// The failure of the act is the one to report; closing may only add one where the act succeeded.
fn run<T>(store: Store, act: impl FnOnce(&Store) -> Result<T, Failure>) -> Result<T, Failure> {
    let outcome = act(&store);
    let closed = store.close();
    let value = outcome?;
    closed?;
    Ok(value)
}

pub(crate) fn server(store: &Store, name: &str) -> Result<Server, Failure> {
    known(store.server(name), || {
        let names = store.servers().iter().map(Server::name).collect();
        missing(&format!("there is no server `{name}`"), "servers here", names)
    })
}

pub(crate) fn disk(store: &Store, path: &DiskPath) -> Result<Disk, Failure> {
    let server = server(store, &path.server)?;
    known(server.disk(&path.disk), || {
        let names = server.disks().iter().map(Disk::name).collect();
        missing(&format!("server `{}` has no disk `{}`", path.server, path.disk), "its disks", names)
    })
}

/// The snapshot of `server` with this name, or else with this number as its id.
pub(crate) fn snapshot(server: &Server, name: &str) -> Result<Snapshot, Failure> {
    let mut snapshots = all_snapshots(server);
    let id = name.parse().ok().map(SnapshotId);
    let position = snapshots
        .iter()
        .position(|snapshot| snapshot.name() == name)
        .or_else(|| snapshots.iter().position(|snapshot| Some(snapshot.id()) == id));
    position.map(|at| snapshots.swap_remove(at)).ok_or_else(|| {
        let names =
            snapshots.iter().map(|snapshot| format!("{} (id {})", snapshot.name(), snapshot.id())).collect();
        missing(&format!("server `{}` has no snapshot `{name}`", server.name()), "its snapshots", names)
    })
}

/// The disk as it was at the snapshot.
pub(crate) fn snapshot_disk(store: &Store, path: &SnapshotPath) -> Result<cowblk::SnapshotDisk, Failure> {
    let snapshot = snapshot(&server(store, &path.disk.server)?, &path.snapshot)?;
    known(snapshot.disk(&path.disk.disk), || {
        let names = snapshot.disks().iter().map(cowblk::SnapshotDisk::name).collect();
        let problem = format!("snapshot `{}` holds no disk `{}`", path.snapshot, path.disk.disk);
        missing(&problem, "its disks", names)
    })
}

/// The server's snapshots, newest first, with the automatic one that the last restore left.
pub(crate) fn all_snapshots(server: &Server) -> Vec<Snapshot> {
    let mut snapshots = server.snapshots();
    if let Some(automatic) = server.before_restore()
        && !snapshots.iter().any(|snapshot| snapshot.id() == automatic.id())
    {
        snapshots.push(automatic);
        snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.id()));
    }
    snapshots
}

/// Replaces a plain "not found" with a sentence that lists what exists.
fn known<T>(found: cowblk::Result<T>, sentence: impl FnOnce() -> Failure) -> Result<T, Failure> {
    found.map_err(|error| if error.kind() == ErrorKind::NotFound { sentence() } else { error.into() })
}

/// What was asked for does not exist, and what does.
pub(crate) fn missing(problem: &str, what: &str, names: Vec<String>) -> Failure {
    let rest = names.len().saturating_sub(NAMES_LISTED_MAX);
    let mut list = names.into_iter().take(NAMES_LISTED_MAX).collect::<Vec<_>>().join(", ");
    if list.is_empty() {
        list = "none".into();
    }
    if rest > 0 {
        list = format!("{list}, and {rest} more");
    }
    Failure::new(Kind::NotFound, format!("{problem} ({what}: {list})"))
}
