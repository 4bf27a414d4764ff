//! Server: listeners, connections, and who may connect when.

use crate::connection::{Greeted, Session, Socket, Stream, negotiate};
use crate::export::{DefaultExport, Export, StoreDirectory};
use crate::negotiation::{Directory, Exported, Listed, Refusal};
use crate::tls::TlsSettings;
use cowblk::{ServerId, Store};
use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a client that takes no replies is waited for when its connection is to end.
const GOODBYE_TIME: Duration = Duration::from_secs(5);
/// How long to wait after the system refused a new connection, for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Is told what happens in a server.
pub type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// How a server behaves.
#[derive(Clone)]
pub struct Settings {
    /// What the empty export name stands for.
    pub default_export: DefaultExport,
    /// Refuse all writes.
    pub is_read_only: bool,
    /// Connections at a time; further ones are closed at once.
    pub connections_max: usize,
    /// Threads of one connection: so many of its requests are at work on the store at once. Each takes up to
    /// 1 MiB for replies, and the connection another 33 MiB at most.
    pub threads_max: usize,
    /// How long a client may take to choose its export.
    pub negotiation_time: Duration,
    /// How long a client may say nothing, or take no replies; `None` for ever: guests may sleep.
    pub idle_time: Option<Duration>,
    /// TLS, which every client must use then.
    pub tls: Option<TlsSettings>,
    /// Is told what happens.
    pub observer: Option<Observer>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_export: DefaultExport::default(),
            is_read_only: false,
            connections_max: 256,
            threads_max: 16,
            negotiation_time: Duration::from_mins(1),
            idle_time: None,
            tls: None,
            observer: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("default_export", &self.default_export)
            .field("is_read_only", &self.is_read_only)
            .field("connections_max", &self.connections_max)
            .field("threads_max", &self.threads_max)
            .finish_non_exhaustive()
    }
}

/// What happens in a server. `Display` says it in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A client uses an export.
    Connected {
        /// The connection's number.
        connection: u64,
        /// The export's name.
        export: String,
    },
    /// A connection ended, before or after it came to an export.
    Ended {
        /// The connection's number.
        connection: u64,
        /// Why.
        why: String,
    },
    /// A connection was not taken.
    Turned {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { connection, export } => write!(f, "connection {connection} uses {export}"),
            Self::Ended { connection, why } => write!(f, "connection {connection} ended: {why}"),
            Self::Turned { why } => write!(f, "a connection was turned away: {why}"),
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// At a path.
    Unix(UnixListener),
    /// At a port.
    Tcp(TcpListener),
}

impl Listener {
    /// Whether only this machine can reach it.
    ///
    /// # Errors
    /// What the system says about the socket.
    pub fn is_local(&self) -> io::Result<bool> {
        match self {
            Self::Unix(_) => Ok(true),
            Self::Tcp(listener) => Ok(match listener.local_addr()?.ip() {
                IpAddr::V4(ip) => ip.is_loopback(),
                IpAddr::V6(ip) => ip.is_loopback(),
            }),
        }
    }

    fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Unix(listener) => listener.accept().map(|(stream, _)| Socket::Unix(stream)),
            Self::Tcp(listener) => listener.accept().map(|(stream, _)| Socket::Tcp(stream)),
        }
    }

    fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Unix(listener) => listener.try_clone().map(OwnedFd::from),
            Self::Tcp(listener) => listener.try_clone().map(OwnedFd::from),
        }
    }
}

/// Serves a store over NBD, in threads of its own. Dropping it ends all connections.
pub struct Server {
    shared: Arc<Shared>,
    accepting: Mutex<Vec<(OwnedFd, JoinHandle<()>)>>,
}

struct Shared {
    directory: StoreDirectory,
    settings: Settings,
    registry: Mutex<Registry>,
    changed: Condvar,
}

#[derive(Default)]
struct Registry {
    next: u64,
    connections: BTreeMap<u64, Entry>,
    /// Servers whose disks must not be used now, and how many ask for that.
    held: BTreeMap<ServerId, usize>,
    is_stopping: bool,
}

struct Entry {
    socket: Arc<Socket>,
    /// The server whose disk it uses, once it does.
    server: Option<ServerId>,
    /// Set when the server ends it.
    why: Option<String>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("connections", &self.connection_count()).finish_non_exhaustive()
    }
}

impl Server {
    /// A server that listens nowhere yet.
    pub fn new(store: Store, settings: Settings) -> Self {
        let directory = StoreDirectory::new(store, settings.default_export.clone(), settings.is_read_only);
        let shared = Shared { directory, settings, registry: Mutex::default(), changed: Condvar::new() };
        Self { shared: Arc::new(shared), accepting: Mutex::default() }
    }

    /// Takes connections from a listening socket, too.
    ///
    /// # Errors
    /// What the system says where there is no thread to be had.
    pub fn listen(&self, listener: Listener) -> io::Result<()> {
        let fd = listener.try_clone_fd()?;
        let shared = self.shared.clone();
        let accept = move || shared.accept_all(&listener);
        let thread = std::thread::Builder::new().name("cowblk-nbd".into()).spawn(accept)?;
        self.accepting.lock().push((fd, thread));
        Ok(())
    }

    /// How many connections there are.
    pub fn connection_count(&self) -> usize {
        self.shared.registry.lock().connections.len()
    }

    /// Ends the connections that use disks and snapshots of a server, after what they asked for so far is
    /// done, and lets new ones wait until the guard is dropped. For a restore, or whatever else changes
    /// disks under those who use them: their clients see a connection that ended, and connect again.
    #[must_use = "connections are let in again when the guard is dropped"]
    pub fn hold(&self, server: ServerId, why: &str) -> Hold {
        *self.shared.registry.lock().held.entry(server).or_default() += 1;
        let hold = Hold { shared: self.shared.clone(), server };
        self.shared.end_connections(why, |entry| entry.server == Some(server));
        hold
    }

    /// Stops listening, and ends all connections, after what they asked for so far is done.
    pub fn stop(&self) {
        self.shared.registry.lock().is_stopping = true;
        self.shared.changed.notify_all();
        for (fd, thread) in self.accepting.lock().drain(..) {
            let _ = shutdown(fd.as_raw_fd(), Shutdown::Both); // wakes the thread that accepts
            drop(thread.join()); // a panic there has been printed
        }
        self.shared.end_connections("the server is going down", |_| true);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Keeps the disks of a server out of use.
pub struct Hold {
    shared: Arc<Shared>,
    server: ServerId,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut registry = self.shared.registry.lock();
        if let Some(count) = registry.held.get_mut(&self.server) {
            *count -= 1;
            if *count == 0 {
                registry.held.remove(&self.server);
            }
        }
        self.shared.changed.notify_all();
    }
}

/// A connection's place in the registry.
struct Registration {
    shared: Arc<Shared>,
    id: u64,
}

impl Registration {
    /// The connection ended, for this reason unless the server had one of its own.
    fn end(self, why: String) {
        let own =
            self.shared.registry.lock().connections.get_mut(&self.id).and_then(|entry| entry.why.take());
        self.shared.tell(&Event::Ended { connection: self.id, why: own.unwrap_or(why) });
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.registry.lock().connections.remove(&self.id);
        self.shared.changed.notify_all();
    }
}

impl Directory for Shared {
    type Export = Export;

    fn list(&self) -> Vec<Listed> {
        self.directory.list()
    }

    /// Waits while the export's disk is held.
    fn find(&self, name: &str) -> Result<Export, Refusal> {
        loop {
            let export = self.directory.find(name)?;
            let mut registry = self.registry.lock();
            if registry.is_stopping {
                return Err(Refusal::Shutdown);
            }
            if !registry.held.contains_key(&export.server()) {
                return Ok(export);
            }
            self.changed.wait(&mut registry);
        }
    }
}

impl Shared {
    fn tell(&self, event: &Event) {
        if let Some(observer) = &self.settings.observer {
            observer(event);
        }
    }

    fn accept_all(self: &Arc<Self>, listener: &Listener) {
        loop {
            let accepted = listener.accept();
            if self.registry.lock().is_stopping {
                return;
            }
            match accepted {
                Ok(socket) => self.take_in(Arc::new(socket)),
                Err(error) => {
                    self.tell(&Event::Turned { why: error.to_string() });
                    std::thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn take_in(self: &Arc<Self>, socket: Arc<Socket>) {
        let registration = {
            let mut registry = self.registry.lock();
            if registry.connections.len() >= self.settings.connections_max {
                drop(registry);
                let why = format!("there are {} connections already", self.settings.connections_max);
                return self.tell(&Event::Turned { why });
            }
            let id = registry.next;
            registry.next += 1;
            let entry = Entry { socket: socket.clone(), server: None, why: None };
            registry.connections.insert(id, entry);
            Registration { shared: self.clone(), id }
        };
        let id = registration.id;
        let shared = self.clone();
        let serve = move || shared.serve(socket, registration);
        if let Err(error) = std::thread::Builder::new().name("cowblk-nbd".into()).spawn(serve) {
            self.tell(&Event::Ended { connection: id, why: format!("no thread for it: {error}") });
        }
    }

    fn serve(self: &Arc<Self>, socket: Arc<Socket>, registration: Registration) {
        let id = registration.id;
        socket.prepare();
        let mut stream = Stream::new(socket);
        let terms = (self.settings.negotiation_time, self.settings.tls.as_ref());
        let (mut agreed, input) = match negotiate(&mut stream, &**self, terms) {
            Ok(Greeted::Agreed(agreed, input)) => (agreed, input),
            Ok(Greeted::Over(why)) => return registration.end(why),
            Err(error) => return registration.end(format!("the client cannot be reached: {error}")),
        };
        {
            let mut registry = self.registry.lock();
            let server = agreed.export.server();
            // Between finding its export and now, somebody may have asked to keep connections out.
            if registry.is_stopping || registry.held.contains_key(&server) {
                drop(registry);
                return registration.end("its disk is out of use now".into());
            }
            if let Some(entry) = registry.connections.get_mut(&id) {
                entry.server = Some(server);
            }
        }
        if let Err(error) = stream.socket().set_patience(self.settings.idle_time) {
            return registration.end(format!("the client cannot be reached: {error}"));
        }
        self.tell(&Event::Connected { connection: id, export: agreed.export.name().to_owned() });
        let scratch = match agreed.export.begin(self.directory.store()) {
            Ok(scratch) => scratch,
            Err(error) => return registration.end(format!("there is no scratch disk: {error}")),
        };
        let on_end = Box::new(move |why| {
            drop(scratch);
            registration.end(why);
        });
        let session = Session::new(stream, agreed, input, self.settings.threads_max, on_end);
        Arc::new(session).serve();
    }

    /// Ends the connections that `is_meant` picks, and waits until they are gone.
    fn end_connections(&self, why: &str, is_meant: impl Fn(&Entry) -> bool) {
        let mut registry = self.registry.lock();
        let deadline = Instant::now() + GOODBYE_TIME;
        loop {
            let is_late = Instant::now() >= deadline;
            let mut any = false;
            for entry in registry.connections.values_mut().filter(|entry| is_meant(entry)) {
                entry.why.get_or_insert_with(|| why.to_owned());
                entry.socket.stop_receiving();
                if is_late {
                    entry.socket.cut();
                }
                any = true;
            }
            if !any {
                return;
            }
            self.changed.wait_for(&mut registry, ACCEPT_PAUSE);
        }
    }
}
