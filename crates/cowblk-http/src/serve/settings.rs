//! Settings: how a daemon behaves.

use crate::hooks::HookSettings;
use crate::times::system_clock;
use cowblk::Store;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and port.
    Tcp(SocketAddr),
    /// A path.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("write a path behind `unix:`".into()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!("`{text}` is no address: write 127.0.0.1:8780, [::1]:8780 or unix:/run/cowblk.sock")
            }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The certificate of a daemon that speaks TLS: files in PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate, and those between it and its authority.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// How a daemon behaves.
#[derive(Clone)]
pub struct Settings {
    /// The folder of what is kept beside the store.
    pub state: PathBuf,
    /// Where to listen.
    pub addresses: Vec<Address>,
    /// TLS on TCP addresses.
    pub certificate: Option<Certificate>,
    /// Let tokens cross a network in the open.
    pub is_plain_http_fine: bool,
    /// Calls of the store at a time.
    pub threads: usize,
    /// Snapshots that a server may have, unless it has a limit of its own.
    pub snapshot_limit: u32,
    /// Bytes in the body of a request, at most.
    pub body_bytes_max: usize,
    /// How long a request may take.
    pub request_time: Duration,
    /// How long a guest stays frozen, at most.
    pub frozen_time: Duration,
    /// Hooks of all servers that have none of their own.
    pub hooks: HookSettings,
    /// Programs that hooks of requests may use.
    pub hook_commands: Vec<PathBuf>,
    /// Folders of sockets that hooks of requests may use.
    pub hook_socket_folders: Vec<PathBuf>,
    /// Folders of images that requests may use.
    pub image_folders: Vec<PathBuf>,
    /// Where the time comes from: UTC seconds since 1970. The stores have clocks of their own
    /// ([`Options::clock`](cowblk::Options::clock)), which should agree.
    pub clock: fn() -> u64,
    /// How often that clock is looked at for snapshots and backups that are due.
    pub look_every: Duration,
    /// The separate store of backups.
    pub backups: Option<Store>,
    /// The NBD server of the same store.
    pub nbd: Option<Arc<cowblk_nbd::Server>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("state", &self.state)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// The defaults, with what has none.
    pub fn new(state: PathBuf) -> Self {
        Self {
            state,
            addresses: Vec::new(),
            certificate: None,
            is_plain_http_fine: false,
            threads: 8,
            snapshot_limit: 5,
            body_bytes_max: 64 << 10,
            request_time: Duration::from_mins(2),
            frozen_time: Duration::from_secs(10),
            hooks: HookSettings::default(),
            hook_commands: Vec::new(),
            hook_socket_folders: Vec::new(),
            image_folders: Vec::new(),
            clock: system_clock,
            look_every: Duration::from_secs(5),
            backups: None,
            nbd: None,
        }
    }

    pub(super) fn check(&self) -> io::Result<()> {
        let wrong = |sentence: String| Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
        let is_open =
            |address: &&Address| matches!(address, Address::Tcp(address) if !address.ip().is_loopback());
        if let Some(address) = self.addresses.iter().find(is_open)
            && self.certificate.is_none()
            && !self.is_plain_http_fine
        {
            return wrong(format!(
                "{address} is reached from other machines, and tokens would cross the network in the open: give --tls-cert and --tls-key, or --insecure-http if its network is trusted"
            ));
        }
        if self.addresses.is_empty() {
            return wrong("say where to listen".into());
        }
        self.hooks.check().or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine_unless_told_otherwise() {
        let settings = |address: &str| {
            let mut settings = Settings::new("state".into());
            settings.addresses = vec![address.parse().unwrap()];
            settings
        };
        assert!(settings("127.0.0.1:1").check().is_ok());
        assert!(settings("[::1]:1").check().is_ok());
        assert!(settings("unix:/x").check().is_ok());
        for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            assert!(settings(open).check().is_err(), "{open}");
            assert!(Settings { is_plain_http_fine: true, ..settings(open) }.check().is_ok());
        }
        assert!("unix:".parse::<Address>().is_err() && "localhost".parse::<Address>().is_err());
    }
}
