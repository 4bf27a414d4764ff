//! `cowblk serve`: the REST API, beside NBD if wanted, over one store, until it is told to stop.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use cowblk::Store;
use cowblk_http::{Address, Certificate, HookSettings, Outcome, Settings, Tokens};
use serde::Serialize;

use crate::failure::{Failure, Kind};
use crate::nbd;
use crate::serving::ServingArguments;
use crate::session::Session;
use crate::times;
use crate::token::StateArguments;

/// Bytes in the journal of the store of backups.
const BACKUP_JOURNAL_BYTES: u64 = 16 << 20;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk serve
  cowblk --store pool.cow serve --listen 127.0.0.1:8780 --nbd unix:pool.sock
  cowblk --store pool.cow serve --listen 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem
  cowblk --store pool.cow serve --listen unix:/run/cowblk/http.sock --hooks /etc/cowblk/hooks.json")]
pub(crate) struct Arguments {
    /// Listen at ADDRESS:PORT, or at unix:PATH
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8780")]
    listen: Vec<Address>,
    /// Speak TLS on TCP addresses, with this certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let tokens cross a network in the open
    #[arg(long)]
    insecure_http: bool,
    #[command(flatten)]
    state: StateArguments,
    #[command(flatten)]
    serving: ServingArguments,
    /// How long what a restore replaced can be brought back, if no other restore comes first: 12h, 7d, 4w
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = times::parse_duration)]
    keep_replaced: u64,
    /// Serve NBD, too, at ADDRESS:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    nbd: Vec<Address>,
    /// TLS for NBD: a folder with server-cert.pem and server-key.pem, as for `cowblk nbd`
    #[arg(long, value_name = "FOLDER")]
    nbd_tls: Option<PathBuf>,
    /// Let whoever reaches an NBD port beyond this machine read and write without TLS
    #[arg(long)]
    nbd_without_tls: bool,
    /// Snapshots that a server may have, unless it has a limit of its own
    #[arg(long, value_name = "COUNT", default_value = "5")]
    snapshot_limit: u32,
    /// The separate store of backups, better on another disk [default: backups.cow in the daemon's folder]
    #[arg(long, value_name = "PATH")]
    backups: Option<PathBuf>,
    /// Calls of the store at a time
    #[arg(long, value_name = "COUNT", default_value = "8", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Seconds that a request may take
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = clap::value_parser!(u64).range(1..=86400))]
    request_time: u64,
    /// Seconds that a guest stays frozen, at most
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=600))]
    frozen_time: u64,
    /// A file of hooks for all servers (JSON): stop, start, freeze, thaw
    #[arg(long, value_name = "FILE")]
    hooks: Option<PathBuf>,
    /// A program that hooks of requests may run; give it once for each
    #[arg(long, value_name = "PROGRAM")]
    allow_hook_command: Vec<PathBuf>,
    /// A folder whose sockets hooks of requests may use
    #[arg(long, value_name = "FOLDER")]
    allow_hook_sockets: Vec<PathBuf>,
    /// A folder whose images requests may make disks of
    #[arg(long, value_name = "FOLDER")]
    allow_images: Vec<PathBuf>,
}

/// Where it listens, as JSON.
#[derive(Serialize)]
struct Serving {
    listening: Vec<String>,
    nbd: Vec<String>,
    state: String,
    has_tokens: bool,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let path = session.path_for_serving();
    let folder = arguments.state.folder(session)?;
    let mut settings = settings(arguments, folder.clone())?;
    let options = arguments.serving.options(session, &path).keep_replaced(Some(arguments.keep_replaced));
    let store = Store::open_or_create(&path, options)?;
    Session::tell_of_takeover(&store);
    let backups = open_backups(arguments, &folder)?;
    settings.backups = Some(backups.clone());
    let outcome = serve(session, arguments, &store, settings);
    let closed = store.close();
    let backups_closed = backups.close();
    outcome?;
    closed?;
    Ok(backups_closed?)
}

fn serve(
    session: &Session,
    arguments: &Arguments,
    store: &Store,
    mut settings: Settings,
) -> Result<(), Failure> {
    arguments.serving.register(session, store)?;
    // After the store is open: only one process holds it, so that nobody else replaces our sockets.
    let (server, nbd_names) = serve_nbd(arguments, store)?;
    settings.nbd = server;
    let path = session.path_for_serving();
    let folder = settings.state.display().to_string();
    let on_ready = |outcome: &Outcome| {
        let text = welcome(&path, outcome, &nbd_names);
        let serving = Serving {
            listening: outcome.addresses.clone(),
            nbd: nbd_names.clone(),
            state: folder.clone(),
            has_tokens: outcome.has_tokens,
        };
        session.output.item(&serving, &text).map_err(|failure| io::Error::other(failure.to_string()))
    };
    cowblk_http::serve(store, settings, on_ready).map_err(|cause| {
        let kind = if cause.kind() == io::ErrorKind::InvalidInput { Kind::Usage } else { Kind::Io };
        Failure::new(kind, cause.to_string())
    })
}

/// The store of backups, with a journal that suits what is written in long pieces.
fn open_backups(arguments: &Arguments, folder: &Path) -> Result<Store, Failure> {
    let path = arguments.backups.clone().unwrap_or_else(|| folder.join("backups.cow"));
    // Makes the folder, if it is missing.
    drop(Tokens::open(folder).map_err(|cause| Failure::new(Kind::Io, cause.to_string()))?);
    let options = cowblk::Options::default().journal_bytes(BACKUP_JOURNAL_BYTES);
    let store = Store::open_or_create(&path, options.cache_bytes(16 << 20).dirty_bytes(32 << 20))?;
    if arguments.backups.is_none() {
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, owner_only).map_err(|cause| Failure::io("protect", &path, &cause))?;
    }
    Ok(store)
}

fn settings(arguments: &Arguments, folder: PathBuf) -> Result<Settings, Failure> {
    let mut settings = Settings::new(folder);
    settings.addresses.clone_from(&arguments.listen);
    settings.certificate = arguments
        .tls_cert
        .clone()
        .zip(arguments.tls_key.clone())
        .map(|(chain, key)| Certificate { chain, key });
    settings.is_plain_http_fine = arguments.insecure_http;
    settings.threads = arguments.threads.into();
    settings.snapshot_limit = arguments.snapshot_limit;
    settings.request_time = Duration::from_secs(arguments.request_time);
    settings.frozen_time = Duration::from_secs(arguments.frozen_time);
    settings.hooks = arguments.hooks.as_deref().map(read_hooks).transpose()?.unwrap_or_default();
    settings.hook_commands.clone_from(&arguments.allow_hook_command);
    settings.hook_socket_folders.clone_from(&arguments.allow_hook_sockets);
    settings.image_folders.clone_from(&arguments.allow_images);
    Ok(settings)
}

fn read_hooks(path: &Path) -> Result<HookSettings, Failure> {
    let text = std::fs::read(path).map_err(|cause| Failure::io("read", path, &cause))?;
    let wrong = |sentence: String| Failure::new(Kind::Usage, format!("{}: {sentence}", path.display()));
    let hooks: HookSettings = serde_json::from_slice(&text).map_err(|cause| wrong(cause.to_string()))?;
    hooks.check().map_err(wrong)?;
    Ok(hooks)
}

type Nbd = (Option<Arc<cowblk_nbd::Server>>, Vec<String>);

/// The NBD server of the same store, if one is wanted, and where it listens.
fn serve_nbd(arguments: &Arguments, store: &Store) -> Result<Nbd, Failure> {
    if arguments.nbd.is_empty() {
        return Ok((None, Vec::new()));
    }
    let tls = arguments.nbd_tls.as_deref().map(cowblk_nbd::TlsSettings::from_folder).transpose();
    let tls = tls.map_err(|cause| Failure::new(Kind::Usage, format!("read the certificates: {cause}")))?;
    let is_secret = tls.is_some();
    cowblk_nbd::clear_scratch(store)?;
    let server = cowblk_nbd::Server::new(store.clone(), cowblk_nbd::Settings { tls, ..Default::default() });
    let mut names = Vec::new();
    for address in &arguments.nbd {
        let (listener, name) = match address {
            Address::Unix(path) => nbd::listener_at(path, is_secret)?,
            Address::Tcp(address) => nbd::listener_on(*address, is_secret)?,
        };
        nbd::refuse_open(
            &listener,
            is_secret || arguments.nbd_without_tls,
            ("--nbd-tls FOLDER", "--nbd-without-tls"),
        )?;
        server.listen(listener).map_err(|cause| Failure::new(Kind::Io, format!("listen: {cause}")))?;
        names.push(name);
    }
    Ok((Some(Arc::new(server)), names))
}

/// What to do next, for whoever starts it for the first time.
fn welcome(store: &Path, outcome: &Outcome, nbd: &[String]) -> String {
    let places = outcome.addresses.iter().chain(nbd).cloned().collect::<Vec<_>>().join(" and ");
    let first = outcome.addresses.first().map_or("", String::as_str);
    let (option, base) = match first.strip_prefix("unix:") {
        Some(path) => (format!("--unix-socket {path} "), "http://localhost"),
        None => (String::new(), first),
    };
    let store = store.display();
    let token = if outcome.has_tokens {
        String::new()
    } else {
        format!(
            "\nNobody can come in yet. In another terminal, make a token:\n  TOKEN=$(cowblk --store {store} token create admin --quiet)\n"
        )
    };
    format!(
        "serving {store} at {places}\n{token}\nThen ask for something:\n  curl {option}-H \"Authorization: Bearer $TOKEN\" {base}/api/v1/servers/\n\nThe documentation is at {base}/docs, a page to look at is at {base}/. Ctrl-C stops it."
    )
}
