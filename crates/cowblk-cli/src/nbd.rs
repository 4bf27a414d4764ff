//! `cowblk nbd`: serves disks and snapshots to hypervisors, kernels and backup tools until it is told to stop.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use cowblk::{Options, Store};
use cowblk_nbd::{DefaultExport, Event, Listener, Server, Settings, TlsSettings};
use listenfd::ListenFd;
use nix::sys::signal::{SigSet, Signal};
use serde::Serialize;

use crate::args::ServerSnapshot;
use crate::failure::{Failure, Kind};
use crate::session::{self, HandoverArguments, Session};
use crate::sizes::parse_nonzero;
use crate::transfer::Progress;
use crate::upkeep::UpkeepArguments;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store pool.cow nbd --unix pool.sock
  cowblk --store pool.cow nbd --tcp 127.0.0.1:10809 --read-only
  qemu-img info 'nbd+unix:///web-1/vda?socket=pool.sock'
  nbdcopy 'nbd+unix:///web-1/vda@before-upgrade?socket=pool.sock' vda.raw")]
pub(crate) struct Arguments {
    /// Listen at a path; a socket that nobody listens at any more is replaced
    #[arg(long, value_name = "PATH")]
    unix: Vec<PathBuf>,
    /// Listen at an address and port, as in 127.0.0.1:10809
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcp: Vec<SocketAddr>,
    /// Speak TLS only, with server-cert.pem and server-key.pem of this folder; where ca-cert.pem is there, too,
    /// clients must show a certificate that it signed
    #[arg(long, value_name = "FOLDER")]
    tls: Option<PathBuf>,
    /// Let whoever reaches a TCP port beyond this machine read and write without TLS
    #[arg(long)]
    without_tls: bool,
    /// What the empty export name means [default: the only disk]
    #[arg(long, value_name = "SERVER/DISK[@SNAPSHOT]")]
    export: Option<String>,
    /// Open the store read-only, and refuse all writes
    #[arg(long)]
    read_only: bool,
    /// Do not store again what this snapshot holds: writes of the same bytes share its blocks. It is read before
    /// serving begins; can be given several times
    #[arg(long, value_name = "SERVER@SNAPSHOT", conflicts_with = "read_only")]
    template: Vec<ServerSnapshot>,
    /// Memory for the blocks of templates, 32 bytes each
    #[arg(long, value_name = "SIZE", value_parser = parse_nonzero, default_value = "64M", requires = "template")]
    template_memory: u64,
    /// Connections at a time
    #[arg(long, value_name = "COUNT", default_value = "256")]
    connections: usize,
    /// Requests of one connection that are at work at a time; each takes up to 1 MiB of memory
    #[arg(long, value_name = "COUNT", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Seconds that a client may take to choose its export
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..))]
    negotiation_time: u64,
    /// Seconds that a client may say nothing or take no replies [default: for ever]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    idle_time: Option<u64>,
    #[command(flatten)]
    upkeep: UpkeepArguments,
    #[command(flatten)]
    handover: HandoverArguments,
    /// Do not log connections on standard error
    #[arg(long)]
    quiet: bool,
}

/// Where it listens, as JSON.
#[derive(Serialize)]
struct Listening {
    listening: Vec<String>,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    // Before any thread starts: all of them leave these signals to the one that waits below.
    let mut stop = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        stop.add(signal);
    }
    stop.thread_block().map_err(|cause| failed("block signals", &cause.into()))?;

    let serve = |store: &Store| {
        // After the store is open: only one process holds it, so that nobody else replaces our socket.
        let (listeners, names) = listeners(arguments)?;
        if !arguments.read_only {
            cowblk_nbd::clear_scratch(store)?;
        }
        if !arguments.quiet {
            Session::tell_of_takeover(store);
        }
        register(session, store, &arguments.template)?;
        let server = Server::new(store.clone(), settings(arguments)?);
        for listener in listeners {
            server.listen(listener).map_err(|cause| failed("listen", &cause))?;
        }
        let text = format!("serving {} at {}", session.path()?.display(), names.join(" and "));
        session.output.item(&Listening { listening: names }, &text)?;
        stop.wait().map_err(|cause| failed("wait for a signal", &cause.into()))?;
        server.stop();
        Ok(())
    };
    if arguments.read_only {
        return session.read(serve);
    }
    let memory = if arguments.template.is_empty() { 0 } else { arguments.template_memory };
    let options = session.options_for_serving(session.path()?, arguments.handover);
    let adapt = |_: Options| arguments.upkeep.adapt(options).dedup_memory_bytes(memory);
    session.write_with(adapt, serve)
}

/// Reads the templates.
fn register(session: &Session, store: &Store, templates: &[ServerSnapshot]) -> Result<(), Failure> {
    for ServerSnapshot { server, snapshot } in templates {
        let id = session::snapshot(&session::server(store, server)?, snapshot)?.id();
        let progress = Progress::new(session.output, "reading", 0);
        let registered = store.register_template(id, |done, total| {
            progress.set(done, total);
            ControlFlow::Continue(())
        })?;
        drop(progress);
        if registered.left_out_blocks > 0 {
            let blocks = registered.left_out_blocks;
            let text = format!(
                "{blocks} blocks of {server}@{snapshot} found no memory: give more with --template-memory"
            );
            // Nothing is left to do when even standard error is closed.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
    Ok(())
}

fn settings(arguments: &Arguments) -> Result<Settings, Failure> {
    let log = |event: &Event| {
        // Nothing is left to do when even standard error is closed.
        let _ = writeln!(io::stderr(), "{event}");
    };
    let tls = arguments.tls.as_deref().map(TlsSettings::from_folder).transpose();
    Ok(Settings {
        default_export: arguments.export.clone().map_or(DefaultExport::OnlyDisk, DefaultExport::Named),
        is_read_only: arguments.read_only,
        connections_max: arguments.connections,
        threads_max: arguments.threads.into(),
        negotiation_time: Duration::from_secs(arguments.negotiation_time),
        idle_time: arguments.idle_time.map(Duration::from_secs),
        tls: tls.map_err(|cause| Failure::new(Kind::Usage, format!("read the certificates: {cause}")))?,
        observer: if arguments.quiet { None } else { Some(Arc::new(log)) },
    })
}

/// The sockets to listen at, and what they are called.
fn listeners(arguments: &Arguments) -> Result<(Vec<Listener>, Vec<String>), Failure> {
    let mut listeners = Vec::new();
    let mut names = Vec::new();
    let is_secret = arguments.tls.is_some();
    for path in &arguments.unix {
        let (listener, name) = listener_at(path, is_secret)?;
        listeners.push(listener);
        names.push(name);
    }
    for address in &arguments.tcp {
        let (listener, name) = listener_on(*address, is_secret)?;
        listeners.push(listener);
        names.push(name);
    }
    for listener in inherited()? {
        names.push("a socket of systemd".into());
        listeners.push(listener);
    }
    if listeners.is_empty() {
        return Err(Failure::new(Kind::Usage, "say where to listen: --unix PATH or --tcp ADDRESS:PORT"));
    }
    for listener in &listeners {
        refuse_open(listener, is_secret || arguments.without_tls, ("--tls FOLDER", "--without-tls"))?;
    }
    Ok((listeners, names))
}

/// A listening socket at a path, and its URI.
pub(crate) fn listener_at(path: &Path, is_secret: bool) -> Result<(Listener, String), Failure> {
    let scheme = if is_secret { "nbds+unix" } else { "nbd+unix" };
    let name = format!("{scheme}:///?socket={}", path.display());
    Ok((Listener::Unix(listen_at(path)?), name))
}

/// A listening socket at a port, and its URI.
pub(crate) fn listener_on(address: SocketAddr, is_secret: bool) -> Result<(Listener, String), Failure> {
    let listener =
        TcpListener::bind(address).map_err(|cause| failed(&format!("listen at {address}"), &cause))?;
    let bound = listener.local_addr().map_err(|cause| failed("listen", &cause))?;
    let scheme = if is_secret { "nbds" } else { "nbd" };
    Ok((Listener::Tcp(listener), format!("{scheme}://{bound}")))
}

/// Refuses a port beyond this machine, unless it `may` be. `options` would allow it.
pub(crate) fn refuse_open(listener: &Listener, may: bool, options: (&str, &str)) -> Result<(), Failure> {
    if may || listener.is_local().map_err(|cause| failed("listen", &cause))? {
        return Ok(());
    }
    let (secret, open) = options;
    let sentence =
        format!("a TCP port beyond this machine needs {secret}, or {open} if its network is trusted");
    Err(Failure::new(Kind::Usage, sentence))
}

/// Binds a socket, in place of one that a process left behind which is gone.
fn listen_at(path: &Path) -> Result<UnixListener, Failure> {
    let bound = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(path) => {
            std::fs::remove_file(path).and_then(|()| UnixListener::bind(path))
        }
        bound => bound,
    };
    bound.map_err(|cause| match cause.kind() {
        io::ErrorKind::AddrInUse => {
            Failure::new(Kind::Exists, format!("{} is there, and somebody uses it", path.display()))
        }
        _ => Failure::io("listen at", path, &cause),
    })
}

fn is_left_behind(path: &Path) -> bool {
    let refused = UnixStream::connect(path).err().map(|error| error.kind());
    refused == Some(io::ErrorKind::ConnectionRefused)
        && path.symlink_metadata().is_ok_and(|found| {
            use std::os::unix::fs::FileTypeExt;
            found.file_type().is_socket()
        })
}

/// The sockets that systemd, or a client that starts its own server, handed over.
fn inherited() -> Result<Vec<Listener>, Failure> {
    let mut fds = ListenFd::from_env();
    let mut found = Vec::new();
    for at in 0..fds.len() {
        if let Ok(Some(listener)) = fds.take_unix_listener(at) {
            found.push(Listener::Unix(listener));
        } else if let Ok(Some(listener)) = fds.take_tcp_listener(at) {
            found.push(Listener::Tcp(listener));
        } else {
            let sentence = format!("inherited socket {at} is no listening stream socket");
            return Err(Failure::new(Kind::Usage, sentence));
        }
    }
    Ok(found)
}

fn failed(doing: &str, cause: &io::Error) -> Failure {
    Failure::new(Kind::Io, format!("{doing}: {cause}"))
}
