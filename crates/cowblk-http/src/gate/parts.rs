//! Parts: what the listeners know of a connection.

use std::fmt;
use std::net::IpAddr;

/// The other end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A process of this machine, at a unix socket.
    #[default]
    Local,
    /// An address.
    Address(IpAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("unix"),
            Self::Address(address) => address.fmt(f),
        }
    }
}
